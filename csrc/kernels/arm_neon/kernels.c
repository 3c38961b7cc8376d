/* kernels.c - the table of kernels for AArch64's Advanced SIMD (NEON), which every 64-bit Arm processor has. */
#include "vectors.h"

#include "../templates/table.h"

PQ_DECLARE_VECTOR_KERNELS(neon);
PQ_DECLARE_QUANTIZED_GEMMS(neon);

/* Eight to 24 accumulators, of 32 registers. */
#define PQ_ATTEND_ROWS 6
#define PQ_ATTEND_VECTORS(rows) ((rows) <= 2 ? 8 : 4)
#define PQ_ATTEND_AHEAD 0
#define PQ_FLOAT_SINGLE 4
#define PQ_FLOAT_DOUBLE 2
#define PQ_FLOAT_TWO 0

#include "../templates/attention.h"
#include "../templates/gemm_float.h"
#include "../templates/quantize_activations.h"
#include "../templates/vector.h"

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = PQ_GEMM_TABLE(neon, neon);

const pq_kernels pq_kernels_neon = {
    .isa = "neon",
    .summary = "NEON: four float32 or 16 int8 at a time; so far run under qemu only",
    .lanes = PQ_LANES,
    .chunk_macs = 64 << 20,
    .gemm = PRODUCTS,
    PQ_VECTOR_KERNELS(neon),
};
