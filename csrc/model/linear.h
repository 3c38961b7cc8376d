/* linear.h - matrix products of a batch, spread over the threads. */
#ifndef PQ_LINEAR_H
#define PQ_LINEAR_H

#include <stdatomic.h>

#include "model.h"

/* What a call may use: threads, each with its own scratch memory, and the flag that stops it. */
typedef struct pq_workers {
    unsigned threads;
    uint8_t *scratch; /* (threads, scratch_bytes), 64-byte aligned */
    size_t scratch_bytes;
    const atomic_int *cancel;
} pq_workers;

/* How many activations share a scale when the model multiplies w: 32, 256, or 0 if they are not quantized. */
int pq_matrix_quantizes(const pq_model *model, const pq_matrix *w);
/* The same for matrices that share an input: the finest of theirs. */
int pq_matrices_quantize(const pq_model *model, const pq_matrix *const *w, size_t n);

/* Quantizes row `row` of inputs->x into the inputs' own arrays, `block` of them by one scale. */
void pq_quantize_activations(const pq_model *model, const pq_acts *inputs, int block, size_t row);

/* y (rows of inputs, w->rows) with y_stride floats between rows; bias (w->rows) or NULL. */
typedef struct pq_product {
    const pq_matrix *w;
    const float *bias;
    float *y;
    size_t y_stride;
} pq_product;

enum { PQ_MAX_PRODUCTS = 3 };

struct pq_low_rank_job; /* of low_rank.h: what adapters add */

/* Computes up to PQ_MAX_PRODUCTS products of the first `rows` rows of one input, as one job. `low_rank` is of these
 * products and has something to do, or is NULL. */
pq_status pq_linear(const pq_model *model, const pq_workers *workers, const pq_acts *inputs,
                    size_t rows, const pq_product *products, size_t n_products,
                    struct pq_low_rank_job *low_rank, pq_error *err);

#endif
