/* gemm.c - matrix products of all quantized types: the templates of arm_neon. */
#define PQ_GEMM_NAME(name) pq_gemm_##name##_i8mm
#include "gemm_products.h"

#include "gemm_columns.h"

#include "../arm_neon/gemm_block.h"
#include "../arm_neon/gemm_super.h"
