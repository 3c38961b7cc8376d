/* kernels.c - the table of kernels for AArch64 processors with the int8 matrix instructions (optional from Armv8.2, always
 * there from Armv8.6 on) and dot products: NEON's, but for the products of quantized matrices. */
#include "../templates/table.h"

PQ_DECLARE_VECTOR_KERNELS(neon);
PQ_DECLARE_QUANTIZED_GEMMS(i8mm);

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(i8mm, neon);

const pq_kernels pq_kernels_i8mm = {
    .isa = "i8mm",
    .summary = "NEON with int8 matrix products; so far run under qemu only",
    .lanes = 8,
    .chunk_macs = 64 << 20,
    .gemm = PRODUCTS,
    PQ_VECTOR_KERNELS(neon),
};
