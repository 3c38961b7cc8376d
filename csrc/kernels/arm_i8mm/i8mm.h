/* i8mm.h - the matrix products for AArch64 processors with the int8 matrix instructions (optional from
 * Armv8.2, always there from Armv8.6 on) and dot products. All else is as in arm_neon. */
#ifndef PQ_I8MM_H
#define PQ_I8MM_H

#include "../arm_neon/gemm_tile.h"

PQ_QUANTIZED_GEMMS(i8mm);
extern const pq_gemm_fn pq_gemm_table_i8mm[PQ_TYPE_COUNT];

#endif
