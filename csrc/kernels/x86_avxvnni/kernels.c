/* kernels.c - the table of kernels for AVX-VNNI (Alder Lake, Zen 5 and later): AVX2's, but for the products of
 * quantized matrices, to which alone the instruction adds something. */
#include "../templates/table.h"

PQ_DECLARE_VECTOR_KERNELS(avx2);
PQ_DECLARE_QUANTIZED_GEMMS(avxvnni);

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(avxvnni, avx2);

const pq_kernels pq_kernels_avxvnni = {
    .isa = "avxvnni",
    .summary = "AVX2 with VNNI: 32 products of int8 in one instruction",
    .lanes = 8,
    .chunk_macs = 64 << 20,
    .gemm = PRODUCTS,
    PQ_VECTOR_KERNELS(avx2),
};
