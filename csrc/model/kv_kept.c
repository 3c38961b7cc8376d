/* kv_kept.c - blocks of the KV cache that are kept under numbers, whatever becomes of the sequence that filled
 * them: other sequences adopt them, and their bytes go to session files and come from there.
 */
#include <stdlib.h>
#include <string.h>

#include "kv_cache.h"

enum { MOST_KEPT = 1 << 27 };

static const uint32_t NO_NUMBER = UINT32_MAX;

static pq_status grow(pq_kv_cache *cache, pq_error *err) {
    const uint32_t n = cache->n_kept < 64 ? 64 : 2 * cache->n_kept;
    pq_kv_kept *kept = n <= MOST_KEPT ? realloc(cache->kept, n * sizeof *kept) : NULL;
    if (!kept)
        return pq_fail_memory(err, "the table of kept blocks", (uint64_t)n * sizeof *kept);
    for (uint32_t i = cache->n_kept; i < n; i++)
        kept[i] = (pq_kv_kept){NULL, i + 1 < n ? i + 1 : NO_NUMBER};
    cache->first_free = cache->n_kept;
    cache->kept = kept;
    cache->n_kept = n;
    return PQ_OK;
}

/* A free number, which stays free until a block is put there. */
static pq_status free_number(pq_kv_cache *cache, pq_error *err) {
    return cache->n_kept > 0 && cache->first_free != NO_NUMBER ? PQ_OK : grow(cache, err);
}

static uint32_t put(pq_kv_cache *cache, pq_kv_block *block) {
    const uint32_t number = cache->first_free;
    cache->first_free = cache->kept[number].next_free;
    cache->kept[number].block = block;
    return number;
}

static pq_kv_block *block_of(const pq_kv_cache *cache, uint32_t kept) {
    return kept < cache->n_kept ? cache->kept[kept].block : NULL;
}

static pq_status fail_unknown(pq_error *err, uint32_t kept) {
    return pq_fail(err, PQ_ERR_ARGUMENT, "no block is kept under number %u", kept);
}

pq_status pq_kv_keep(pq_kv_cache *cache, uint32_t sequence, uint32_t block, uint32_t *kept,
                     pq_error *err) {
    const pq_kv_sequence *s = &cache->sequences[sequence];
    if (block >= pq_kv_blocks_for(s->length))
        return pq_fail(err, PQ_ERR_ARGUMENT, "sequence %u holds %u positions: no block %u",
                       sequence, s->length, block);
    const pq_status st = free_number(cache, err);
    if (st != PQ_OK)
        return st;
    s->blocks[block]->references++;
    *kept = put(cache, s->blocks[block]);
    return PQ_OK;
}

void pq_kv_drop(pq_kv_cache *cache, uint32_t kept) {
    pq_kv_block *block = block_of(cache, kept);
    if (!block)
        return;
    cache->kept[kept] = (pq_kv_kept){NULL, cache->first_free};
    cache->first_free = kept;
    pq_kv_drop_block(cache, block);
}

void pq_kv_drop_all(pq_kv_cache *cache) {
    for (uint32_t i = 0; i < cache->n_kept; i++)
        pq_kv_drop(cache, i);
    free(cache->kept);
    cache->kept = NULL;
    cache->n_kept = 0;
}

pq_status pq_kv_adopt(pq_kv_cache *cache, uint32_t sequence, const uint32_t *kept, uint32_t n,
                      uint32_t length, pq_error *err) {
    pq_kv_sequence *s = &cache->sequences[sequence];
    if (length > cache->context || n != pq_kv_blocks_for(length))
        return pq_fail(err, PQ_ERR_ARGUMENT, "%u blocks cannot hold %u of %u positions", n, length,
                       cache->context);
    for (uint32_t i = 0; i < n; i++)
        if (!block_of(cache, kept[i]))
            return fail_unknown(err, kept[i]);
    pq_kv_truncate(cache, sequence, 0);
    for (; s->n_blocks < n; s->n_blocks++) {
        s->blocks[s->n_blocks] = block_of(cache, kept[s->n_blocks]);
        s->blocks[s->n_blocks]->references++;
    }
    s->length = length;
    return PQ_OK;
}

/* Writes zeros where positions from `first` on stand: what was there is of a text that was given up. */
static void clear_from(const pq_kv_cache *cache, const pq_kernels *kernels, uint32_t first,
                       uint8_t *data) {
    static const float zeros[PQ_MAX_HEAD_DIM];
    const size_t step = cache->key_bytes + cache->value_bytes;
    for (size_t i = 0; i < (size_t)cache->layers * cache->kv_heads; i++)
        for (uint32_t slot = first; slot < PQ_KV_BLOCK; slot++) {
            kernels->kv_store_key(cache->key_type, cache->head_dim, slot, zeros, data + i * step);
            kernels->kv_store_value(cache->value_type, cache->head_dim, slot, zeros,
                                    data + i * step + cache->key_bytes);
        }
}

pq_status pq_kv_read(const pq_kv_cache *cache, const pq_kernels *kernels, uint32_t kept,
                     uint32_t positions, void *dst, pq_error *err) {
    const pq_kv_block *block = block_of(cache, kept);
    if (!block)
        return fail_unknown(err, kept);
    if (positions > PQ_KV_BLOCK)
        return pq_fail(err, PQ_ERR_ARGUMENT, "%u positions of a block of %d", positions,
                       PQ_KV_BLOCK);
    memcpy(dst, block->data, cache->block_bytes);
    clear_from(cache, kernels, positions, dst);
    return PQ_OK;
}

pq_status pq_kv_write(pq_kv_cache *cache, const void *src, uint32_t *kept, pq_error *err) {
    const pq_status st = free_number(cache, err);
    pq_kv_block *block = st == PQ_OK ? pq_kv_new_block(cache, err) : NULL;
    if (!block)
        return PQ_ERR_MEMORY;
    memcpy(block->data, src, cache->block_bytes);
    *kept = put(cache, block);
    return PQ_OK;
}
