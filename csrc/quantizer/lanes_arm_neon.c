/* lanes_arm_neon.c - the search of the quantizer, compiled for NEON: four groups at a time. */
#include "../kernels/arm_neon/vectors.h"

#include "lane_blocks.h"
#include "lane_gptq.h"

const pq_lane_search pq_lane_search_neon = {search_blocks, gptq_panel};
