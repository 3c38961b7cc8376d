/* gemm.c - matrix products of all quantized types: the templates of this folder. */
#include "gemm_products.h"

#include "gemm_columns.h"

#include "../templates/gemm_driver.h"
#include "gemm_block.h"
#include "gemm_super.h"
