/* kernels.c - the table of kernels for AArch64 processors with the int8 matrix instructions (optional from Armv8.2, always
 * there from Armv8.6 on) and dot products: NEON's, but for the products of quantized matrices. */
#include "../arm_neon/gemm_tile.h"
#include "../arm_neon/neon.h"

PQ_QUANTIZED_GEMMS(i8mm);

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(i8mm);

const pq_kernels pq_kernels_i8mm =
    PQ_ARM_KERNELS(i8mm, PRODUCTS, "NEON with int8 matrix products; so far run under qemu only");
