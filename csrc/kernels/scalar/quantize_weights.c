/* quantize_weights.c - weights to tensor types: the template of quant/lane_blocks.h. */
#include "scalar.h"

#include "lane_vectors.h"

#include "../../quant/lane_blocks.h"

void pq_quantize_weights_scalar(uint32_t type, const pq_levels *levels, const float *x,
                                size_t x_stride, const float *w, size_t w_stride, size_t count,
                                pq_decoded *out) {
    quantize_weights(type, levels, x, x_stride, w, w_stride, count, out);
}
