/* gemm.c - matrix products of all quantized types: the templates of templates/x86, with 16-bit chains. */
#include "vectors.h"

/* Six tokens share the unpacking of packed quants; of unpacked ones, four times two panels
 * share the broadcasts: one of a single panel is a load for each product, and two loads per cycle are the limit. */
#define PQ_MAX_TILE 6
#define PQ_MAX_UNPACKED_TILE 4
#define PQ_PANELS 2
#define PQ_SIGNED_OFFSET 0

#include "dot_chains.h"

#include "../templates/gemm_driver.h"
#include "../templates/x86/gemm_block.h"
#include "../templates/x86/gemm_super.h"
