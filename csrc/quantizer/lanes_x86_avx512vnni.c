/* lanes_x86_avx512vnni.c - the search of the quantizer, compiled for AVX-512: all sixteen groups at a time. */
#include "../kernels/x86_avx512vnni/vectors.h"

#include "lane_blocks.h"
#include "lane_gptq.h"

const pq_lane_search pq_lane_search_avx512vnni = {search_blocks, gptq_panel};
