/* gemm_block.c - matrix products of the types with blocks of 32, see gemm_block.h. */
#include "gemm_products.h"

#include "gemm_block.h"

PQ_BLOCK_GEMMS(neon)
