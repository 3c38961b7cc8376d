/* gemm_super.c - matrix products of the types with super-blocks of 256, see gemm_super.h. */
#include "gemm_products.h"

#include "gemm_super.h"

PQ_SUPER_GEMMS(neon)
