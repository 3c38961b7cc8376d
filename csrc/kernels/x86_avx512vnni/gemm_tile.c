/* gemm_tile.c - cuts products of quantized types into tiles, and lists the products of all types. */
#include "vectors.h"

#include "../x86_vnni/gemm_driver.h"

const pq_gemm_fn pq_gemm_table_avx512vnni[PQ_TYPE_COUNT] = PQ_GEMM_TABLE;
