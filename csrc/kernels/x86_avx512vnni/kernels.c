/* kernels.c - the table of kernels for AVX-512 with VNNI. */
#include "vectors.h"

#include "../x86_vnni/gemm_tile.h"

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(avx512vnni);

const pq_kernels pq_kernels_avx512vnni =
    PQ_AVX512_KERNELS(avx512vnni, PRODUCTS, 0, 128 << 20,
                      "AVX-512 with VNNI: sixteen float32 or 64 products of int8 at a time");
