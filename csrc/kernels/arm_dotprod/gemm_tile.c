/* gemm_tile.c - the table of matrix products; arm_neon/gemm_tile.c cuts them into tiles. */
#include "dotprod.h"

const pq_gemm_fn pq_gemm_table_dotprod[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(dotprod);
