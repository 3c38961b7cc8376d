/* lanes_scalar.c - the search of the quantizer, compiled for plain C: one group at a time. */
#include "../kernels/scalar/lane_vectors.h"

#include "lane_blocks.h"
#include "lane_feedback.h"

const pq_lane_search pq_lane_search_scalar = {quantize_weights, quantize_panel};
