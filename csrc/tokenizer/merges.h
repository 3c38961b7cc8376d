/* merges.h - which two tokens become one, and in which order: the heart of byte-pair encoding. */
#ifndef PQ_MERGES_H
#define PQ_MERGES_H

#include <stdatomic.h>

#include "vocabulary.h"

typedef struct pq_merge {
    uint32_t left, right; /* tokens */
    uint32_t rank;        /* lower ones go first; UINT32_MAX: this slot is free */
    uint32_t product;
} pq_merge;

typedef struct pq_merges {
    pq_merge *slots; /* (1 << bits) */
    unsigned bits;
    uint64_t factors[2];
    int32_t byte_tokens[256]; /* -1: the vocabulary has none, and the byte is dropped */
} pq_merges;

/* Of "left right" lists as GGUF has them; a pair that is there twice has its later rank, as in the reference.
 * PQ_ERR_FORMAT where a half or the product is no token that text can become. */
pq_status pq_merges_open(pq_merges *out, const pq_vocabulary *v, const pq_pieces *pieces,
                         pq_error *err);
void pq_merges_close(pq_merges *merges);

typedef struct pq_symbol {
    uint32_t token;
    uint32_t before, after; /* symbols, UINT32_MAX for none */
} pq_symbol;

/* Scratch of one caller; zero it, and free it after use. */
typedef struct pq_merger {
    pq_symbol *symbols;
    uint64_t *queue; /* a heap of rank << 32 | symbol */
    size_t symbols_room, queue_room;
} pq_merger;

typedef struct pq_ids {
    int32_t *items;
    size_t count, room;
} pq_ids;

/* Appends the tokens of one word: the lowest rank is merged first, of equal ones the leftmost. Takes n log n
 * steps and 30 n bytes of memory for n bytes, whatever they are. */
pq_status pq_merge_word(const pq_merges *merges, pq_merger *scratch, const uint8_t *word,
                        size_t bytes, pq_ids *out, const atomic_int *cancel, pq_error *err);
void pq_merger_free(pq_merger *merger);

#endif
