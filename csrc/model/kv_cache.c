/* kv_cache.c - see kv_cache.h. */
#include "kv_cache.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/memory.h"

uint64_t pq_kv_block_bytes(const pq_config *c, pq_kv_type key_type, pq_kv_type value_type) {
    return (uint64_t)c->layers * c->kv_heads *
           (pq_kv_block_part(key_type, c->head_dim) + pq_kv_block_part(value_type, c->head_dim));
}

uint64_t pq_kv_table_bytes(const pq_config *c, pq_kv_type key_type, int key_bias,
                           uint32_t context) {
    const uint64_t blocks = pq_kv_blocks_for(context);
    return key_bias && pq_kv_is_integer(key_type) ? blocks * c->head_dim * sizeof(float) : 0;
}

/* The mean of exp(i angle p) over a block's n positions is sin(n angle / 2) / (n sin(angle / 2)) times that at their
 * middle. */
static void fill_means(pq_kv_cache *cache, const pq_model *model) {
    const uint32_t pairs = cache->head_dim / 2;
    for (uint32_t i = 0; i < pairs; i++) {
        const double half = model->rope_freqs[i] / 2, least = 1e-9;
        const double mean =
            model->rope_scale *
            (half < least ? 1 : sin(PQ_KV_BLOCK * half) / (PQ_KV_BLOCK * sin(half)));
        for (uint32_t block = 0; block < cache->max_blocks; block++) {
            const double middle = ((double)block + 0.5) * PQ_KV_BLOCK - 0.5;
            cache->mean_cosines[(size_t)block * pairs + i] = (float)(mean * cos(2 * half * middle));
            cache->mean_sines[(size_t)block * pairs + i] = (float)(mean * sin(2 * half * middle));
        }
    }
}

static int has_key_bias(const pq_model *model) {
    int found = 0;
    for (uint32_t i = 0; i < model->config.layers; i++)
        found |= model->layers[i].k_bias != NULL;
    return found;
}

/* Whoever reads stored blocks must know all of this. A change of kv_layout.h or of what is stored needs another number
 * in front. */
static void describe(pq_kv_cache *cache) {
    snprintf(cache->format, sizeof cache->format, "1 %u %u %u %d %s%s %s", (unsigned)cache->layers,
             (unsigned)cache->kv_heads, (unsigned)cache->head_dim, PQ_KV_BLOCK,
             pq_kv_type_name((uint32_t)cache->key_type), cache->mean_cosines ? "-centered" : "",
             pq_kv_type_name((uint32_t)cache->value_type));
}

pq_status pq_kv_open(pq_kv_cache *cache, const pq_model *model, pq_kv_type key_type,
                     pq_kv_type value_type, uint32_t context, uint32_t sequences, pq_error *err) {
    const pq_config *c = &model->config;
    const uint64_t block_bytes = pq_kv_block_bytes(c, key_type, value_type);
    const uint64_t table_bytes = pq_kv_table_bytes(c, key_type, has_key_bias(model), context);
    if (block_bytes > PTRDIFF_MAX)
        return pq_fail_memory(err, "a block of the KV cache", block_bytes);
    *cache = (pq_kv_cache){.key_type = key_type,
                           .value_type = value_type,
                           .layers = c->layers,
                           .kv_heads = c->kv_heads,
                           .head_dim = c->head_dim,
                           .context = context,
                           .max_blocks = pq_kv_blocks_for(context),
                           .n_sequences = sequences,
                           .key_bytes = pq_kv_block_part(key_type, c->head_dim),
                           .value_bytes = pq_kv_block_part(value_type, c->head_dim),
                           .block_bytes = (size_t)block_bytes};
    if (table_bytes > 0) {
        cache->mean_cosines = table_bytes < SIZE_MAX ? malloc((size_t)table_bytes) : NULL;
        if (!cache->mean_cosines)
            return pq_fail_memory(err, "the tables of the KV cache", table_bytes);
        cache->mean_sines = cache->mean_cosines + (size_t)cache->max_blocks * c->head_dim / 2;
        fill_means(cache, model);
    }
    describe(cache);
    cache->sequences = calloc(sequences, sizeof *cache->sequences);
    for (uint32_t i = 0; cache->sequences && i < sequences; i++) {
        cache->sequences[i].blocks = calloc(cache->max_blocks, sizeof(pq_kv_block *));
        if (!cache->sequences[i].blocks)
            break;
        if (i + 1 == sequences)
            return PQ_OK;
    }
    pq_kv_close(cache);
    return pq_fail_memory(err, "the table of the KV cache",
                          (uint64_t)sequences * cache->max_blocks * sizeof(pq_kv_block *));
}

pq_kv_block *pq_kv_new_block(pq_kv_cache *cache, pq_error *err) {
    pq_kv_block *block = malloc(sizeof *block);
    uint8_t *data = block ? pq_large_calloc(cache->block_bytes) : NULL;
    if (!data) {
        free(block);
        pq_fail_memory(err, "a block of the KV cache", cache->block_bytes);
        return NULL;
    }
    block->references = 1;
    block->data = data;
    cache->allocated += cache->block_bytes;
    return block;
}

void pq_kv_drop_block(pq_kv_cache *cache, pq_kv_block *block) {
    if (--block->references > 0)
        return;
    cache->allocated -= cache->block_bytes;
    pq_large_free(block->data, cache->block_bytes);
    free(block);
}

void pq_kv_truncate(pq_kv_cache *cache, uint32_t sequence, uint32_t length) {
    pq_kv_sequence *s = &cache->sequences[sequence];
    const uint32_t keep = pq_kv_blocks_for(length);
    while (s->n_blocks > keep)
        pq_kv_drop_block(cache, s->blocks[--s->n_blocks]);
    s->length = length;
}

void pq_kv_close(pq_kv_cache *cache) {
    pq_kv_drop_all(cache);
    if (cache->sequences)
        for (uint32_t i = 0; i < cache->n_sequences; i++) {
            if (cache->sequences[i].blocks)
                pq_kv_truncate(cache, i, 0);
            free(cache->sequences[i].blocks);
        }
    free(cache->sequences);
    free(cache->mean_cosines);
    cache->sequences = NULL;
    cache->mean_cosines = NULL;
}

int pq_kv_key_constant(const pq_kv_cache *cache, const pq_model *model, uint32_t layer,
                       uint32_t head, uint32_t block, float *out) {
    const size_t dim = cache->head_dim, at = block * dim / 2;
    const float *bias = model->layers[layer].k_bias;
    if (!cache->mean_cosines || !bias)
        return 0;
    memcpy(out, bias + head * dim, dim * sizeof *out);
    model->kernels->rope(out, cache->mean_cosines + at, cache->mean_sines + at, dim,
                         (int)model->config.rope_neox, 1.0f);
    model->kernels->hadamard(out, dim);
    return 1;
}

void pq_kv_store(const pq_kv_cache *cache, const pq_model *model, uint32_t sequence,
                 uint32_t position, uint32_t layer, uint32_t head, float *key, float *value) {
    const size_t dim = cache->head_dim, slot = position % PQ_KV_BLOCK;
    const uint32_t block = position / PQ_KV_BLOCK;
    float constant[PQ_MAX_HEAD_DIM];
    uint8_t *keys = pq_kv_at(cache, sequence, block, layer, head);
    if (pq_kv_is_integer(cache->key_type)) {
        model->kernels->hadamard(key, dim);
        if (pq_kv_key_constant(cache, model, layer, head, block, constant))
            for (size_t d = 0; d < dim; d++)
                key[d] -= constant[d];
    }
    if (pq_kv_is_integer(cache->value_type))
        model->kernels->hadamard(value, dim);
    model->kernels->kv_store_key(cache->key_type, dim, slot, key, keys);
    model->kernels->kv_store_value(cache->value_type, dim, slot, value, keys + cache->key_bytes);
}

pq_status pq_kv_reserve(pq_kv_cache *cache, uint32_t sequence, uint32_t n, pq_error *err) {
    pq_kv_sequence *s = &cache->sequences[sequence];
    if (n > cache->context - s->length)
        return pq_fail(
            err, PQ_ERR_CONTEXT,
            "%u tokens after the %u already held do not fit the context of %u; shorten the "
            "prompt or open the model with a longer context",
            n, s->length, cache->context);
    const uint32_t first = s->length / PQ_KV_BLOCK;
    if (n > 0 && first < s->n_blocks && s->blocks[first]->references > 1) {
        pq_kv_block *mine = pq_kv_new_block(cache, err);
        if (!mine)
            return PQ_ERR_MEMORY;
        memcpy(mine->data, s->blocks[first]->data, cache->block_bytes);
        pq_kv_drop_block(cache, s->blocks[first]);
        s->blocks[first] = mine;
    }
    while (s->n_blocks < pq_kv_blocks_for(s->length + n)) {
        pq_kv_block *block = pq_kv_new_block(cache, err);
        if (!block)
            return PQ_ERR_MEMORY;
        s->blocks[s->n_blocks++] = block;
    }
    return PQ_OK;
}

pq_status pq_kv_fork(pq_kv_cache *cache, uint32_t from, uint32_t to, uint32_t length,
                     pq_error *err) {
    const pq_kv_sequence *source = &cache->sequences[from];
    pq_kv_sequence *target = &cache->sequences[to];
    const uint32_t whole = length / PQ_KV_BLOCK;
    pq_kv_block *rest = NULL;
    if (length % PQ_KV_BLOCK != 0) {
        if (!(rest = pq_kv_new_block(cache, err)))
            return PQ_ERR_MEMORY;
        memcpy(rest->data, source->blocks[whole]->data, cache->block_bytes);
    }
    pq_kv_truncate(cache, to, 0);
    for (; target->n_blocks < whole; target->n_blocks++) {
        pq_kv_block *shared = source->blocks[target->n_blocks];
        shared->references++;
        target->blocks[target->n_blocks] = shared;
    }
    if (rest)
        target->blocks[target->n_blocks++] = rest;
    target->length = length;
    return PQ_OK;
}
