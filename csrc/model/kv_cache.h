/* kv_cache.h - keys and values of several sequences, in blocks of PQ_KV_BLOCK positions.
 *
 * A block holds its positions for all layers and KV heads and is allocated when the first of them is needed.
 * Sequences that begin alike share their whole blocks (counted references, copied before a write). A block can
 * be kept under a number (kv_kept.c) while no sequence has it.
 *
 * What integer types store of a key or value x, by head:
 *   values  H x           H: the Walsh-Hadamard transform. It spreads what a few channels have over all of them, so that
 *                         one scale per position is enough; attention's output is transformed back.
 *   keys    H (x - c)     Queries are transformed, too, which leaves products as they are.
 * c is the constant part of the keys of a block, where their projection has a bias. Qwen2.5's is many times as large as
 * what changes from token to token, and rounding that is relative to the whole would drown what matters. It is rotated
 * by position, and nearly all of it is in the slowest pairs: c is its mean over the block's positions, which depends
 * on nothing but the block's number, and scores get it back exactly, as one number per query and block. (As one vector
 * for all positions softmax would not see it, but over thousands of positions slow pairs turn, too.)
 */
#ifndef PQ_KV_CACHE_H
#define PQ_KV_CACHE_H

#include "../base/status.h"
#include "../kernels/kernels.h"
#include "model.h"

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
    pq_kv_type key_type, value_type;
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
    /* (max_blocks, head_dim / 2) means over a block of the rotation's cosines and sines; NULL: keys are stored with
     * their constant */
    float *mean_cosines, *mean_sines;
    char format[96]; /* see pq_session_kv_format */
} pq_kv_cache;

pq_status pq_kv_open(pq_kv_cache *cache, const pq_model *model, pq_kv_type key_type,
                     pq_kv_type value_type, uint32_t context, uint32_t sequences, pq_error *err);
void pq_kv_close(pq_kv_cache *cache);

/* Bytes of one block of all layers; and of the tables for a context, where key_bias: keys have one. */
uint64_t pq_kv_block_bytes(const pq_config *config, pq_kv_type key_type, pq_kv_type value_type);
uint64_t pq_kv_table_bytes(const pq_config *config, pq_kv_type key_type, int key_bias,
                           uint32_t context);

/* H c of a block, layer and KV head (head_dim); 0 if there is none. */
int pq_kv_key_constant(const pq_kv_cache *cache, const pq_model *model, uint32_t layer,
                       uint32_t head, uint32_t block, float *out);
/* Stores the rotated key and the value (head_dim each, both overwritten) of a position of which there is room. */
void pq_kv_store(const pq_kv_cache *cache, const pq_model *model, uint32_t sequence,
                 uint32_t position, uint32_t layer, uint32_t head, float *key, float *value);

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
