/* imatrix.h - adds up the squares of what the matrices are multiplied with, column by column. */
#ifndef PQ_IMATRIX_H
#define PQ_IMATRIX_H

#include "linear.h"

typedef struct pq_imatrix pq_imatrix;

/* Nothing is added up yet. The config must outlive it. */
pq_status pq_imatrix_open(pq_imatrix **out, const pq_config *config, pq_error *err);
void pq_imatrix_close(pq_imatrix *imatrix);

/* Around an evaluation: what was added since _begin stays if `keep`, else it is taken back. */
void pq_imatrix_begin(pq_imatrix *imatrix);
void pq_imatrix_end(pq_imatrix *imatrix, int keep);

/* Adds x (rows, columns of that input): the square of each element in float64, rows ascending, whatever the
 * threads do. `layer` is 0 for PQ_IMATRIX_OUTPUT. */
pq_status pq_imatrix_add(pq_imatrix *imatrix, const pq_workers *workers, pq_imatrix_input input,
                         uint32_t layer, const float *x, size_t rows, pq_error *err);

/* The sums of one input, how many columns it has, and how many rows were added. NULL where there is no such
 * input. */
const double *pq_imatrix_sums(const pq_imatrix *imatrix, pq_imatrix_input input, uint32_t layer,
                              size_t *columns, uint64_t *rows);

#endif
