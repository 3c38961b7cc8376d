/* kernels.c - the table of kernels for AArch64 processors with the dot product instructions (optional in Armv8.2, always
 * there from Armv8.4 on): NEON's, but for the products of quantized matrices. */
#include "../templates/table.h"

PQ_DECLARE_VECTOR_KERNELS(neon);
PQ_DECLARE_QUANTIZED_GEMMS(dotprod);

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(dotprod, neon);

const pq_kernels pq_kernels_dotprod = {
    .isa = "dotprod",
    .summary = "NEON with int8 dot products; so far run under qemu only",
    .lanes = 8,
    .chunk_macs = 64 << 20,
    .gemm = PRODUCTS,
    PQ_VECTOR_KERNELS(neon),
};
