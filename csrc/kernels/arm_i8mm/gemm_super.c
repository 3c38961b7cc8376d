/* gemm_super.c - matrix products of the types with super-blocks of 256, see arm_neon/gemm_super.h. */
#include "gemm_products.h"
#include "i8mm.h"

#include "../arm_neon/gemm_super.h"

PQ_SUPER_GEMMS(i8mm)
