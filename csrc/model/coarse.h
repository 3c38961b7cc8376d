/* coarse.h - activations quantized as coarsely as llama.cpp does for its types with blocks of 256. */
#ifndef PQ_COARSE_H
#define PQ_COARSE_H

#include <stddef.h>
#include <stdint.h>

/* As pq_quantize_activations_fn, but 256 neighbors share one d, which stands in the place of each of their eight; n is
 * a multiple of 256. */
void pq_quantize_coarse(const float *x, size_t n, int8_t *q, float *d, int16_t *sums, float *s);

#endif
