/* gemm.c - matrix products of all quantized types: the templates of templates/x86, with vpdpbusd. */
#include "vectors.h"

#include "../templates/x86/dot_bytes.h"

#include "../templates/gemm_driver.h"
#include "../templates/x86/gemm_block.h"
#include "../templates/x86/gemm_super.h"
