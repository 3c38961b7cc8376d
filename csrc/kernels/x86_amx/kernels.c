/* kernels.c - the table of kernels for AMX with int8 tiles (Sapphire Rapids and later): AVX-512's, but for the products
 * of quantized matrices. */
#include "gemm_tile.h"

static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = {
    [PQ_F32] = pq_gemm_f32_avx512vnni,   [PQ_F16] = pq_gemm_f16_avx512vnni,
    [PQ_BF16] = pq_gemm_bf16_avx512vnni, [PQ_Q4_0] = pq_gemm_q4_0_amx,
    [PQ_Q4_1] = pq_gemm_q4_1_amx,        [PQ_Q5_0] = pq_gemm_q5_0_amx,
    [PQ_Q5_1] = pq_gemm_q5_1_amx,        [PQ_Q8_0] = pq_gemm_q8_0_amx,
    [PQ_Q2_K] = pq_gemm_q2_k_amx,        [PQ_Q3_K] = pq_gemm_q3_k_amx,
    [PQ_Q4_K] = pq_gemm_q4_k_amx,        [PQ_Q5_K] = pq_gemm_q5_k_amx,
    [PQ_Q6_K] = pq_gemm_q6_k_amx,        [PQ_IQ4_NL] = pq_gemm_iq4_nl_amx,
    [PQ_IQ4_XS] = pq_gemm_iq4_xs_amx,
};

const pq_kernels pq_kernels_amx =
    PQ_AVX512_KERNELS(amx, PRODUCTS, PQ_AMX_SCRATCH, 768 << 20,
                      "AVX-512 and AMX: tiles of 8,192 products of int8 for prompts");
