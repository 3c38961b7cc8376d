/* gemm_super.c - matrix products of the types with super-blocks: see ../x86_vnni/gemm_super.h. */
#include "vectors.h"

#include "../x86_vnni/gemm_super.h"
