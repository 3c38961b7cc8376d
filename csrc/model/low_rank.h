/* low_rank.h - adapters beside the matrix products of a batch: which rows have which, and the arithmetic.
 *
 * A job of linear.c begins with chunks that multiply A; its other chunks, when they are done with a piece of W,
 * add B to it while it is in the cache. They wait for the first ones, which were claimed before them and so are
 * done or running: no job more, and nobody waits for what was not begun. Rows of a batch that follow each other
 * with the same adapters share the pass over A and B.
 *
 * The order of one element y, for every instruction set, number of threads and grouping of rows; the products as
 * for F16 in kernels.h:
 *   a    = the product of A's row and x, over columns 0 .. PQ_ADAPTER_SEGMENT - 1; for the segments that follow,
 *          ascending, a = a + that of the segment
 *   u    = a * s, s = the scale of the adapter times that of the sequence, rounded to float32
 *   y    = y + the product of B's row and u, y with its bias; one adapter of the sequence after the other
 */
#ifndef PQ_LOW_RANK_H
#define PQ_LOW_RANK_H

#include <stdatomic.h>

#include "adapter.h"
#include "attention.h"
#include "linear.h"

/* What one sequence is run with, in this order. */
typedef struct pq_sequence_adapters {
    uint32_t n;
    const pq_adapter *adapter[PQ_MAX_SEQUENCE_ADAPTERS];
    float scale[PQ_MAX_SEQUENCE_ADAPTERS];
} pq_sequence_adapters;

/* One adapter and rows of a batch that follow each other. */
typedef struct pq_application {
    const pq_adapter *adapter;
    float scale;
    uint32_t row, rows;
    /* of the products that run now */
    const pq_low_rank *changes[PQ_MAX_PRODUCTS]; /* or NULL */
    float
        *low[PQ_MAX_PRODUCTS]; /* (parts, rows, rank): A x of each segment; then u, (rows, rank) */
    size_t first_chunk;
} pq_application;

/* The adapters of a session. Zeroed: none. */
typedef struct pq_adapter_room {
    pq_sequence_adapters *sequences; /* (sequences of the session), or NULL */
    pq_application *applications;    /* (most) */
    size_t most;
    float *low; /* (batch, width) */
    size_t width;
    size_t n; /* applications in this batch */
} pq_adapter_room;

/* Chooses the adapters of a sequence from now on, and takes the memory that its rows need. On failure all is as
 * before. */
pq_status pq_adapter_room_set(pq_adapter_room *room, const pq_model *model, uint32_t sequences,
                              uint32_t batch, uint32_t sequence, const pq_adapter *const *adapters,
                              const float *scales, uint32_t n, pq_error *err);
void pq_adapter_room_close(pq_adapter_room *room);
/* Finds out which rows of a batch have which adapters. */
void pq_adapter_room_begin(pq_adapter_room *room, const pq_span *spans, size_t n_spans);

/* What adapters do beside up to PQ_MAX_PRODUCTS products of one input. */
typedef struct pq_low_rank_job {
    pq_application *applications;
    size_t n;
    const pq_acts *inputs;
    const pq_workers *workers;
    pq_gemm_fn gemm;
    size_t most_macs; /* of a chunk */
    size_t chunks;    /* that multiply A; 0: there is nothing to do */
    atomic_size_t done;
    atomic_int ready; /* 1: all u are there */
} pq_low_rank_job;

/* `products` are of matrices in model->layers[layer]. */
void pq_low_rank_plan(pq_low_rank_job *job, pq_adapter_room *room, const pq_model *model,
                      const pq_workers *workers, uint32_t layer, const pq_product *products,
                      size_t n_products, const pq_acts *inputs);
/* One of the chunks that multiply A. */
void pq_low_rank_chunk(pq_low_rank_job *job, size_t chunk, unsigned thread);
/* Adds to rows row0 .. row1 - 1 (row0 at the beginning of a panel) of product number `product`, for some tokens. */
void pq_low_rank_add(pq_low_rank_job *job, size_t product, const pq_product *to, size_t row0,
                     size_t row1, size_t token0, size_t token1, unsigned thread);

#endif
