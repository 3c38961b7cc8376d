/* gemm_any.h - the matrix product of a type, whether or not an instruction set has a kernel for it. */
#ifndef PQ_GEMM_ANY_H
#define PQ_GEMM_ANY_H

#include "kernels.h"

/* Of any quantized type and any `lanes`: with scalar's bits, and as slow. */
PQ_GEMM_HEAD(pq_gemm_any);

/* What the table has for a type of weights, or pq_gemm_any. */
pq_gemm_fn pq_gemm_for(const pq_kernels *kernels, uint32_t type);

#endif
