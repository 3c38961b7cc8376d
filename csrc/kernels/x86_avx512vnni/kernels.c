/* kernels.c - the table of kernels for AVX-512 (F BW VL DQ) with VNNI: Ice Lake, Zen 4 and later. */
#include "vectors.h"

#include "../templates/table.h"

PQ_DECLARE_VECTOR_KERNELS(avx512vnni);
PQ_DECLARE_QUANTIZED_GEMMS(avx512vnni);

/* Up to 24 accumulators, of 32 registers. */
#define PQ_ATTEND_ROWS 12
#define PQ_ATTEND_VECTORS(rows) ((rows) <= 2 ? 8 : (rows) <= 6 ? 4 : 2)
#define PQ_ATTEND_AHEAD 16
#define PQ_FLOAT_SINGLE 8
#define PQ_FLOAT_DOUBLE 6
#define PQ_FLOAT_TWO 1

#include "../templates/attention.h"
#include "../templates/gemm_float.h"
#include "../templates/quantize_activations.h"
#include "../templates/vector.h"

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(avx512vnni, avx512vnni);

const pq_kernels pq_kernels_avx512vnni = {
    .isa = "avx512vnni",
    .summary = "AVX-512 with VNNI: sixteen float32 or 64 products of int8 at a time",
    .lanes = PQ_LANES,
    .chunk_macs = 128 << 20,
    .gemm = PRODUCTS,
    PQ_VECTOR_KERNELS(avx512vnni),
};
