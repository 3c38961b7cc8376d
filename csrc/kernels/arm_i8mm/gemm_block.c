/* gemm_block.c - matrix products of the types with blocks of 32, see arm_neon/gemm_block.h. */
#include "gemm_products.h"
#include "i8mm.h"

#include "../arm_neon/gemm_block.h"

PQ_BLOCK_GEMMS(i8mm)
