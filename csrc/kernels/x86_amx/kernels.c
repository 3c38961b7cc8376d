/* kernels.c - the table of kernels for AMX with int8 tiles (Sapphire Rapids and later): AVX-512's, but for the products
 * of quantized matrices. */
#include "gemm_tile.h"

PQ_DECLARE_VECTOR_KERNELS(avx512vnni);

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(amx, avx512vnni);

const pq_kernels pq_kernels_amx = {
    .isa = "amx",
    .summary = "AVX-512 and AMX: tiles of 8,192 products of int8 for prompts",
    .lanes = PQ_LANES,
    .least_scratch = PQ_AMX_SCRATCH,
    .chunk_macs = 768 << 20,
    .gemm = PRODUCTS,
    PQ_VECTOR_KERNELS(avx512vnni),
};
