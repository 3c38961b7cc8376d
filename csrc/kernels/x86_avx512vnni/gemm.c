/* gemm.c - matrix products of all quantized types: the templates of x86_vnni. */
#include "vectors.h"

#include "../x86_vnni/gemm_block.h"
#include "../x86_vnni/gemm_driver.h"
#include "../x86_vnni/gemm_super.h"
