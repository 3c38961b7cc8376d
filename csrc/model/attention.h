/* attention.h - attention of a batch over the KV cache, spread over the threads. */
#ifndef PQ_ATTENTION_H
#define PQ_ATTENTION_H

#include "kv_cache.h"
#include "linear.h"

/* Neighboring rows of a batch that belong to one sequence. */
typedef struct pq_span {
    uint32_t sequence;
    uint32_t row;   /* first row in the batch */
    uint32_t rows;  /* how many */
    uint32_t start; /* position of the first */
} pq_span;

/* Bytes of scratch per thread, and of the buffer for partial results of blocks. */
size_t pq_attention_scratch(const pq_config *config);
size_t pq_attention_partials(const pq_config *config, uint32_t context);

/* out (rows, heads * head_dim) = attention of q (like out, scaled and rotated) over keys and values of `layer`,
 * which hold the batch's own positions already. Row i sees every position up to its own. */
pq_status pq_attention(const pq_model *model, const pq_workers *workers, const pq_kv_cache *cache,
                       uint32_t layer, const pq_span *spans, size_t n_spans, const float *q,
                       float *out, void *partials, size_t partials_bytes, pq_error *err);

#endif
