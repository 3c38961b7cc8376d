/* observer.h - adds up the squares of what the matrices are multiplied with, column by column. */
#ifndef PQ_OBSERVER_H
#define PQ_OBSERVER_H

#include "linear.h"

typedef struct pq_observer pq_observer;

/* Nothing is added up yet. The config must outlive it. */
pq_status pq_observer_open(pq_observer **out, const pq_config *config, pq_error *err);
void pq_observer_close(pq_observer *observer);

/* Around an evaluation: what was added since _begin stays if `keep`, else it is taken back. */
void pq_observer_begin(pq_observer *observer);
void pq_observer_end(pq_observer *observer, int keep);

/* Adds x (rows, columns of that input): the square of each element in float64, rows ascending, whatever the
 * threads do. `layer` is 0 for PQ_OBSERVED_OUTPUT. */
pq_status pq_observer_add(pq_observer *observer, const pq_workers *workers, pq_observed input,
                          uint32_t layer, const float *x, size_t rows, pq_error *err);

/* The sums of one input, how many columns it has, and how many rows were added. NULL where there is no such
 * input. */
const double *pq_observer_sums(const pq_observer *observer, pq_observed input, uint32_t layer,
                               size_t *columns, uint64_t *rows);

#endif
