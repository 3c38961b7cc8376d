/* gemm_tile.c - the table of matrix products; arm_neon/gemm_tile.c cuts them into tiles. */
#include "i8mm.h"

const pq_gemm_fn pq_gemm_table_i8mm[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(i8mm);
