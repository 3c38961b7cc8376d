/* dotprod.h - the matrix products for AArch64 processors with the dot product instructions (optional
 * in Armv8.2, always there from Armv8.4 on). All else is as in arm_neon. */
#ifndef PQ_DOTPROD_H
#define PQ_DOTPROD_H

#include "../arm_neon/gemm_tile.h"

PQ_QUANTIZED_GEMMS(dotprod);
extern const pq_gemm_fn pq_gemm_table_dotprod[PQ_TYPE_COUNT];

#endif
