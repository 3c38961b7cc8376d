/* lanes_scalar.c - the search of the quantizer, compiled for plain C: one group at a time. */
#include "../kernels/scalar/vectors.h"

#include "lane_blocks.h"
#include "lane_gptq.h"

const pq_lane_search pq_lane_search_scalar = {search_blocks, gptq_panel};
