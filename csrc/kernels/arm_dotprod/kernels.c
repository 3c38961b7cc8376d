/* kernels.c - the table of kernels for AArch64 processors with the dot product instructions (optional in Armv8.2, always
 * there from Armv8.4 on): NEON's, but for the products of quantized matrices. */
#include "../arm_neon/gemm_tile.h"
#include "../arm_neon/neon.h"

PQ_QUANTIZED_GEMMS(dotprod);

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(dotprod);

const pq_kernels pq_kernels_dotprod =
    PQ_ARM_KERNELS(dotprod, PRODUCTS, "NEON with int8 dot products; so far run under qemu only");
