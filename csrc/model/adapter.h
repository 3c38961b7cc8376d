/* adapter.h - a low-rank adapter in memory (LoRA: Hu et al. 2021, arXiv 2106.09685).
 *
 * To what a matrix W (rows, cols) makes of a row x, an adapter adds  B (s (A x)):  A (rank, cols), B (rows, rank).
 * It holds A and B of the matrices it changes, in the layout that the model's kernels stream, float16 or in exact
 * mode float32. Immutable once filled. What is computed with it: low_rank.h.
 */
#ifndef PQ_ADAPTER_H
#define PQ_ADAPTER_H

#include "model.h"

/* Columns of A that are multiplied at once: several threads share the longest product of one token. Even, so that
 * columns keep their accumulator. */
enum { PQ_ADAPTER_SEGMENT = 2048 };

typedef struct pq_low_rank {
    uint32_t rank;  /* 0: the matrix is left as it is */
    uint32_t parts; /* segments of A's columns */
    double
        scale; /* of the product; float16 is kept near the top of its range, and this makes up for that */
    pq_matrix a; /* (rank, cols) */
    pq_matrix b; /* (rows, rank) */
} pq_low_rank;

/* A model has at most so many matrices in each layer. */
enum { PQ_LAYER_MATRICES = 8 };

struct pq_adapter {
    const pq_model *model;
    uint32_t n;                        /* matrices that it changes */
    uint32_t *places;                  /* (n) their indices in `changes` */
    uint8_t *filled;                   /* (n) 1: its values are there */
    pq_low_rank *changes;              /* (layers, PQ_LAYER_MATRICES) */
    uint32_t n_members;                /* matrices of a layer, and */
    size_t members[PQ_LAYER_MATRICES]; /* their offsets in pq_layer */
    size_t width;   /* floats that one row of a batch takes while a product runs */
    uint8_t *image; /* (image_bytes) what the matrices point into */
    size_t image_bytes;
};

/* What it does to the matrix at offset `member` of pq_layer, or NULL. */
const pq_low_rank *pq_adapter_change(const pq_adapter *adapter, uint32_t layer, size_t member);

/* PQ_ERR_ARGUMENT if it is of another model, or some values were never given. */
pq_status pq_adapter_check(const pq_adapter *adapter, const pq_model *model, pq_error *err);

#endif
