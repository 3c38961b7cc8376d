/* gemm_block.c - matrix products of the types with blocks of 32: see ../x86_vnni/gemm_block.h. */
#include "vectors.h"

#include "../x86_vnni/gemm_block.h"
