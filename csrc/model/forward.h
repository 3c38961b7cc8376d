/* forward.h - the transformer: one batch of rows, from token ids to final hidden states. */
#ifndef PQ_FORWARD_H
#define PQ_FORWARD_H

#include "attention.h"
#include "imatrix.h"
#include "low_rank.h"

/* The arrays a batch passes through; `batch` is the most rows, hd = head_dim. One allocation. */
typedef struct pq_workspace {
    uint32_t batch;
    float *x;               /* (batch, hidden) the residual stream */
    float *h;               /* (batch, hidden) normalized: input of q/k/v and of gate/up */
    float *q, *att;         /* (batch, heads * hd) */
    float *k, *v;           /* (batch, kv_heads * hd) */
    float *gate, *up;       /* (batch, ffn) */
    float *cosines, *sines; /* (batch, hd / 2) */
    float *outputs;         /* (batch, hidden) final hidden states of the rows that want logits */
    int8_t *q8;             /* (batch, widest input) quantized activations, see pq_acts */
    float *d8, *s8;
    int16_t *sums8;
    uint8_t *row_blocks; /* (threads, one row in a file's blocks) for embedding look-ups */
    size_t row_blocks_bytes;
    void *partials; /* of attention */
    size_t partials_bytes;
    uint8_t *scratch; /* (threads, scratch_bytes) of kernels */
    size_t scratch_bytes;
} pq_workspace;

/* The bytes of a workspace, without making one; scratch as pq_workspace_scratch says. */
size_t pq_workspace_bytes(const pq_config *config, uint32_t batch, uint32_t threads,
                          uint32_t context, size_t row_blocks_bytes, size_t scratch_bytes);
/* Places the arrays in `base` (that many bytes, 64-byte aligned, zeroed). */
void pq_workspace_place(pq_workspace *ws, void *base, const pq_config *config, uint32_t batch,
                        uint32_t threads, uint32_t context, size_t row_blocks_bytes,
                        size_t scratch_bytes);

/* Activations `x` (rows, cols) with the workspace's room for their quantized form. */
pq_acts pq_workspace_inputs(const pq_workspace *ws, const float *x, size_t rows, size_t cols);

/* Runs the spans of `rows` (n of them) whose cache blocks are reserved, and leaves the final hidden states
 * of rows with `output` in ws->outputs. Lengths of sequences are the caller's to advance. `adapters` are those of
 * the session; `imatrix` sees the inputs of all matrices, or is NULL. */
pq_status pq_forward(const pq_model *model, const pq_workers *workers, pq_kv_cache *cache,
                     pq_workspace *ws, const pq_row *rows, uint32_t n, const pq_span *spans,
                     size_t n_spans, pq_adapter_room *adapters, pq_imatrix *imatrix, pq_error *err);

#endif
