/* kernels.c - the table of kernels for AVX-VNNI (Alder Lake, Zen 5 and later): AVX2's, but for the products of
 * quantized matrices, to which alone the instruction adds something. */
#include "vectors.h"

#include "../x86_avx2/avx2.h"
#include "../x86_vnni/gemm_tile.h"

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(avx2);

const pq_kernels pq_kernels_avxvnni =
    PQ_AVX2_KERNELS(avxvnni, PRODUCTS, "AVX2 with VNNI: 32 products of int8 in one instruction");
