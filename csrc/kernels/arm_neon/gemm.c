/* gemm.c - matrix products of all quantized types: the templates of this folder. */
#include "gemm_products.h"

#include "gemm_columns.h"

#include "gemm_block.h"
#include "gemm_super.h"

PQ_BLOCK_GEMMS(neon)
PQ_SUPER_GEMMS(neon)
