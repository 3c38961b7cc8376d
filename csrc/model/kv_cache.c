/* kv_cache.c - see kv_cache.h. */
#include "kv_cache.h"

#include <stdlib.h>
#include <string.h>

#include "../base/memory.h"

uint64_t pq_kv_block_bytes(const pq_config *c, pq_kv_type type) {
    return (uint64_t)c->layers * c->kv_heads *
           (pq_kv_key_bytes(type, c->head_dim) + pq_kv_value_bytes(type, c->head_dim));
}

pq_status pq_kv_open(pq_kv_cache *cache, const pq_config *c, pq_kv_type type, uint32_t context,
                     uint32_t sequences, pq_error *err) {
    const uint64_t block_bytes = pq_kv_block_bytes(c, type);
    if (block_bytes > PTRDIFF_MAX)
        return pq_fail_memory(err, "a block of the KV cache", block_bytes);
    *cache = (pq_kv_cache){.type = type,
                           .layers = c->layers,
                           .kv_heads = c->kv_heads,
                           .head_dim = c->head_dim,
                           .context = context,
                           .max_blocks = pq_kv_blocks_for(context),
                           .n_sequences = sequences,
                           .key_bytes = pq_kv_key_bytes(type, c->head_dim),
                           .value_bytes = pq_kv_value_bytes(type, c->head_dim),
                           .block_bytes = (size_t)block_bytes};
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
    cache->sequences = NULL;
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
