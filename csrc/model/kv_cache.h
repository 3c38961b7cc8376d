/* kv_cache.h - keys and values of several sequences, in blocks of PQ_KV_BLOCK positions.
 *
 * A block holds its positions for all layers and KV heads and is allocated when the first of them is needed.
 * Sequences that begin alike share their whole blocks (counted references, copied before a write). A block can
 * be kept under a number (kv_kept.c) while no sequence has it.
 */
#ifndef PQ_KV_CACHE_H
#define PQ_KV_CACHE_H

#include "../base/status.h"
#include "../kernels/kernels.h"

typedef struct pq_kv_block {
    uint32_t references;
    uint8_t *data; /* [layer][kv head]{ keys, values } */
} pq_kv_block;

typedef struct pq_kv_sequence {
    uint32_t length;      /* positions held */
    uint32_t n_blocks;    /* allocated, >= what length needs */
    pq_kv_block **blocks; /* (max_blocks) */
} pq_kv_sequence;

/* A number under which a block is kept, or, while it keeps none, a link of the list of free numbers. */
typedef struct pq_kv_kept {
    pq_kv_block *block; /* NULL: free */
    uint32_t next_free;
} pq_kv_kept;

typedef struct pq_kv_cache {
    pq_kv_type type;
    uint32_t layers, kv_heads, head_dim;
    uint32_t context; /* longest sequence */
    uint32_t max_blocks;
    uint32_t n_sequences;
    size_t key_bytes, value_bytes; /* of one block, layer and head */
    size_t block_bytes;            /* of one block, all layers and heads */
    uint64_t allocated;            /* bytes of blocks now */
    pq_kv_sequence *sequences;
    pq_kv_kept *kept; /* (n_kept) see kv_kept.c */
    uint32_t n_kept, first_free;
} pq_kv_cache;

pq_status pq_kv_open(pq_kv_cache *cache, const pq_config *config, pq_kv_type type, uint32_t context,
                     uint32_t sequences, pq_error *err);
void pq_kv_close(pq_kv_cache *cache);

/* Bytes of one block of all layers. */
uint64_t pq_kv_block_bytes(const pq_config *config, pq_kv_type type);

/* Makes room for n positions beyond the sequence's length and makes the blocks they fall into its own.
 * PQ_ERR_CONTEXT when the context is too short, PQ_ERR_MEMORY; the cached positions stay as they are. */
pq_status pq_kv_reserve(pq_kv_cache *cache, uint32_t sequence, uint32_t n, pq_error *err);
/* Forgets positions from `length` on and frees the blocks that only they used. */
void pq_kv_truncate(pq_kv_cache *cache, uint32_t sequence, uint32_t length);
/* See pq_session_fork. */
pq_status pq_kv_fork(pq_kv_cache *cache, uint32_t from, uint32_t to, uint32_t length,
                     pq_error *err);

/* Blocks that hold so many positions. */
static inline uint32_t pq_kv_blocks_for(uint32_t positions) {
    return positions / PQ_KV_BLOCK + (positions % PQ_KV_BLOCK != 0);
}

/* A block of zeros with one reference, or NULL. */
pq_kv_block *pq_kv_new_block(pq_kv_cache *cache, pq_error *err);
/* Gives up a reference. */
void pq_kv_drop_block(pq_kv_cache *cache, pq_kv_block *block);

/* Blocks under numbers; the public functions of the same names say what they do. */
pq_status pq_kv_keep(pq_kv_cache *cache, uint32_t sequence, uint32_t block, uint32_t *kept,
                     pq_error *err);
void pq_kv_drop(pq_kv_cache *cache, uint32_t kept);
void pq_kv_drop_all(pq_kv_cache *cache);
pq_status pq_kv_adopt(pq_kv_cache *cache, uint32_t sequence, const uint32_t *kept, uint32_t n,
                      uint32_t length, pq_error *err);
pq_status pq_kv_read(const pq_kv_cache *cache, const pq_kernels *kernels, uint32_t kept,
                     uint32_t positions, void *dst, pq_error *err);
pq_status pq_kv_write(pq_kv_cache *cache, const void *src, uint32_t *kept, pq_error *err);

/* The keys (and behind them the values) of one block for one layer and head. */
static inline uint8_t *pq_kv_at(const pq_kv_cache *cache, uint32_t sequence, uint32_t block,
                                uint32_t layer, uint32_t head) {
    return cache->sequences[sequence].blocks[block]->data +
           ((size_t)layer * cache->kv_heads + head) * (cache->key_bytes + cache->value_bytes);
}

#endif
