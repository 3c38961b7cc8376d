/* kernels.c - the table of kernels in plain C. */
#include "scalar.h"

/* Quantized types: gemm_any.c. */
static const pq_gemm_fn PRODUCTS[PQ_TYPE_COUNT] = {
    [PQ_F32] = pq_gemm_exact_scalar,
    [PQ_F16] = pq_gemm_exact_scalar,
    [PQ_BF16] = pq_gemm_exact_scalar,
};

const pq_kernels pq_kernels_scalar = {
    .isa = "scalar",
    .summary = "plain C, runs everywhere",
    .lanes = 1,
    .chunk_macs = 2 << 20,
    .quantize_activations = pq_quantize_activations_scalar,
    .gemm = PRODUCTS,
    .gemm_exact = pq_gemm_exact_scalar,
    .kv_store_key = pq_kv_store_key_scalar,
    .kv_store_value = pq_kv_store_value_scalar,
    .attend = pq_attend_scalar,
    .attend_merge = pq_attend_merge_scalar,
    .rms_norm = pq_rms_norm_scalar,
    .add = pq_add_scalar,
    .silu_mul = pq_silu_mul_scalar,
    .rope = pq_rope_scalar,
    .hadamard = pq_hadamard_scalar,
    .exp = pq_exp_scalar,
    .logsumexp = pq_logsumexp_scalar,
    .to_f16 = pq_to_f16_scalar,
    .from_f16 = pq_from_f16_scalar,
};
