/* gemm.c - matrix products of all quantized types: the templates of arm_neon. */
#include "gemm_products.h"

#include "gemm_columns.h"

#include "../arm_neon/gemm_block.h"
#include "../arm_neon/gemm_super.h"

PQ_BLOCK_GEMMS(i8mm)
PQ_SUPER_GEMMS(i8mm)
