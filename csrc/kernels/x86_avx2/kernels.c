/* kernels.c - the table of kernels for AVX2 with FMA and F16C (x86-64-v3 processors), and those that are templates. */
#include "vectors.h"

#include "../templates/table.h"

PQ_DECLARE_VECTOR_KERNELS(avx2);
PQ_DECLARE_QUANTIZED_GEMMS(avx2);

/* Eight to twelve accumulators, of 16 registers. */
#define PQ_ATTEND_ROWS 6
#define PQ_ATTEND_VECTORS(rows) ((rows) <= 3 ? 4 : 2)
#define PQ_ATTEND_AHEAD 16
#define PQ_FLOAT_SINGLE 6
#define PQ_FLOAT_DOUBLE 3
#define PQ_FLOAT_TWO 1

#include "../templates/attention.h"
#include "../templates/gemm_float.h"
#include "../templates/quantize_activations.h"
#include "../templates/vector.h"

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(avx2, avx2);

const pq_kernels pq_kernels_avx2 = {
    .isa = "avx2",
    .summary = "AVX2, FMA and F16C: eight float32 or 32 int8 at a time",
    .lanes = PQ_LANES,
    .chunk_macs = 64 << 20,
    .gemm = PRODUCTS,
    PQ_VECTOR_KERNELS(avx2),
};
