/* lanes_x86_avx2.c - the search of the quantizer, compiled for AVX2: eight groups at a time. */
#include "../kernels/x86_avx2/vectors.h"

#include "lane_blocks.h"
#include "lane_gptq.h"

const pq_lane_search pq_lane_search_avx2 = {search_blocks, gptq_panel};
