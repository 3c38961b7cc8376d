/* amx.h - the matrix kernels for AMX with int8 tiles (Sapphire Rapids and later). All else is as in
 * AVX-512 with VNNI, whose functions and panels this table shares. */
#ifndef PQ_AMX_H
#define PQ_AMX_H

#include "../kernels.h"

extern const pq_gemm_fn pq_gemm_table_amx[PQ_TYPE_COUNT];

#endif
