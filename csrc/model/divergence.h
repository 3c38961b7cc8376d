/* divergence.h - how far one distribution over the vocabulary is from another. */
#ifndef PQ_DIVERGENCE_H
#define PQ_DIVERGENCE_H

#include "../kernels/kernels.h"
#include "../pyqwen_quantize.h"

/* Compares the distributions that the logits `reference` and `logits` (n) give, by softmax; target < n. What
 * is not a number in them makes the result NaN. */
void pq_diverge(const pq_kernels *kernels, const float *reference, const float *logits, size_t n,
                int32_t target, pq_divergence *out);

#endif
