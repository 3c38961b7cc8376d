/* kernels.c - the table of kernels for NEON. */
#include "gemm_tile.h"
#include "neon.h"

PQ_QUANTIZED_GEMMS(neon);

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(neon);

const pq_kernels pq_kernels_neon = PQ_ARM_KERNELS(
    neon, PRODUCTS, "NEON: four float32 or 16 int8 at a time; so far run under qemu only");
