/* lanes_arm_neon.c - the search of the quantizer, compiled for NEON: four groups at a time. */
#include "../kernels/arm_neon/lane_vectors.h"

#include "lane_blocks.h"
#include "lane_feedback.h"

const pq_lane_search pq_lane_search_neon = {quantize_weights, quantize_panel};
