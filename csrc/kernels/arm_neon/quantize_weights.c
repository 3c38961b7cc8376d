/* quantize_weights.c - weights to tensor types: the templates of quant/lane_blocks.h and lane_feedback.h. */
#include "neon.h"

#include "lane_vectors.h"

#include "../../quant/lane_blocks.h"
#include "../../quant/lane_feedback.h"

void pq_quantize_weights_neon(uint32_t type, const pq_levels *levels, const float *x,
                              size_t x_stride, const float *w, size_t w_stride, size_t count,
                              pq_decoded *out) {
    quantize_weights(type, levels, x, x_stride, w, w_stride, count, out);
}

void pq_quantize_panel_neon(const pq_feedback_panel *panel, const float *x, size_t x_stride,
                            size_t rows, float *errors, pq_decoded *out) {
    quantize_panel(panel, x, x_stride, rows, errors, out);
}
