/* kernels.c - the table of kernels for AVX2. */
#include "avx2.h"
#include "gemm_tile.h"

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = {
    [PQ_F32] = pq_gemm_f32_avx2,       [PQ_F16] = pq_gemm_f16_avx2,
    [PQ_BF16] = pq_gemm_bf16_avx2,     [PQ_Q4_0] = pq_gemm_q4_0_avx2,
    [PQ_Q4_1] = pq_gemm_q4_1_avx2,     [PQ_Q5_0] = pq_gemm_q5_0_avx2,
    [PQ_Q5_1] = pq_gemm_q5_1_avx2,     [PQ_Q8_0] = pq_gemm_q8_0_avx2,
    [PQ_Q2_K] = pq_gemm_q2_k_avx2,     [PQ_Q3_K] = pq_gemm_q3_k_avx2,
    [PQ_Q4_K] = pq_gemm_q4_k_avx2,     [PQ_Q5_K] = pq_gemm_q5_k_avx2,
    [PQ_Q6_K] = pq_gemm_q6_k_avx2,     [PQ_IQ4_NL] = pq_gemm_iq4_nl_avx2,
    [PQ_IQ4_XS] = pq_gemm_iq4_xs_avx2,
};

const pq_kernels pq_kernels_avx2 =
    PQ_AVX2_KERNELS(avx2, PRODUCTS, "AVX2, FMA and F16C: eight float32 or 32 int8 at a time");
