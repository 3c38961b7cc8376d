/* gemm_float.c - matrix products in float32: those of AVX2, whose panels are the same. */
#include "vectors.h"

#include "../x86_avx2/avx2.h"
#include "../x86_vnni/gemm_tile.h"

#define AS_AVX2(name, type)                                                                        \
    PQ_GEMM(name) {                                                                                \
        pq_gemm_table_avx2[type](w, panel0, panel1, x, token0, token1, y, y_stride, scratch);      \
    }

AS_AVX2(f32, PQ_F32)
AS_AVX2(f16, PQ_F16)
AS_AVX2(bf16, PQ_BF16)
