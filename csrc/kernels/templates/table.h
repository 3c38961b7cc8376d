/* table.h - the table of an instruction set (kernels.c of a folder) out of functions whose names end in that of the
 * folder which compiled the template. Instruction sets that add products of quantized matrices only take the rest
 * from another folder. */
#ifndef PQ_TEMPLATES_TABLE_H
#define PQ_TEMPLATES_TABLE_H

#include "../kernels.h"

/* Declares what vector.h, attention.h, quantize_activations.h and gemm_float.h define. */
#define PQ_DECLARE_VECTOR_KERNELS(isa)                                                             \
    void pq_kv_store_key_##isa(pq_kv_type type, size_t head_dim, size_t slot, const float *x,      \
                               void *numbers);                                                     \
    void pq_kv_store_value_##isa(pq_kv_type type, size_t head_dim, size_t slot, const float *x,    \
                                 void *numbers);                                                   \
    void pq_attend_##isa(const pq_kv_view *block, const float *q, size_t q_stride, size_t n,       \
                         const uint32_t *visible, pq_softmax *state, float *out,                   \
                         size_t out_stride, void *scratch);                                        \
    void pq_hadamard_##isa(float *x, size_t n);                                                    \
    void pq_attend_merge_##isa(size_t head_dim, pq_softmax *into, float *into_out,                 \
                               const pq_softmax *block, const float *block_out);                   \
    void pq_rms_norm_##isa(const float *x, const float *w, float eps, size_t n, float *y);         \
    void pq_add_##isa(const float *x, size_t n, float *y);                                         \
    void pq_silu_mul_##isa(const float *gate, const float *up, size_t n, float *y);                \
    void pq_rope_##isa(float *x, const float *c, const float *s, size_t dim, int neox,             \
                       float scale);                                                               \
    void pq_exp_##isa(const float *x, size_t n, float *y);                                         \
    float pq_logsumexp_##isa(const float *x, size_t n);                                            \
    void pq_to_f16_##isa(const float *x, size_t n, uint16_t *y);                                   \
    void pq_from_f16_##isa(const uint16_t *x, size_t n, float *y);                                 \
    void pq_quantize_activations_##isa(const float *x, size_t n, int8_t *q, float *d,              \
                                       int16_t *sums, float *s);                                   \
    PQ_GEMM_HEAD(pq_gemm_f32_##isa);                                                               \
    PQ_GEMM_HEAD(pq_gemm_f16_##isa);                                                               \
    PQ_GEMM_HEAD(pq_gemm_bf16_##isa);                                                              \
    PQ_GEMM_HEAD(pq_gemm_exact_##isa)

/* Their members of a pq_kernels. */
#define PQ_VECTOR_KERNELS(isa)                                                                     \
    .quantize_activations = pq_quantize_activations_##isa, .gemm_exact = pq_gemm_exact_##isa,      \
    .kv_store_key = pq_kv_store_key_##isa, .kv_store_value = pq_kv_store_value_##isa,              \
    .attend = pq_attend_##isa, .hadamard = pq_hadamard_##isa,                                      \
    .attend_merge = pq_attend_merge_##isa, .rms_norm = pq_rms_norm_##isa, .add = pq_add_##isa,     \
    .silu_mul = pq_silu_mul_##isa, .rope = pq_rope_##isa, .exp = pq_exp_##isa,                     \
    .logsumexp = pq_logsumexp_##isa, .to_f16 = pq_to_f16_##isa, .from_f16 = pq_from_f16_##isa

/* Declares the products of all quantized types. */
#define PQ_DECLARE_QUANTIZED_GEMMS(isa)                                                            \
    PQ_GEMM_HEAD(pq_gemm_q4_0_##isa);                                                              \
    PQ_GEMM_HEAD(pq_gemm_q4_1_##isa);                                                              \
    PQ_GEMM_HEAD(pq_gemm_q5_0_##isa);                                                              \
    PQ_GEMM_HEAD(pq_gemm_q5_1_##isa);                                                              \
    PQ_GEMM_HEAD(pq_gemm_q8_0_##isa);                                                              \
    PQ_GEMM_HEAD(pq_gemm_iq4_nl_##isa);                                                            \
    PQ_GEMM_HEAD(pq_gemm_q2_k_##isa);                                                              \
    PQ_GEMM_HEAD(pq_gemm_q3_k_##isa);                                                              \
    PQ_GEMM_HEAD(pq_gemm_q4_k_##isa);                                                              \
    PQ_GEMM_HEAD(pq_gemm_q5_k_##isa);                                                              \
    PQ_GEMM_HEAD(pq_gemm_q6_k_##isa);                                                              \
    PQ_GEMM_HEAD(pq_gemm_iq4_xs_##isa)

/* The products of a table: those of float types as `floats` has them. */
#define PQ_GEMM_TABLE(isa, floats)                                                                 \
    {                                                                                              \
        [PQ_F32] = pq_gemm_f32_##floats,    [PQ_F16] = pq_gemm_f16_##floats,                       \
        [PQ_BF16] = pq_gemm_bf16_##floats,  [PQ_Q4_0] = pq_gemm_q4_0_##isa,                        \
        [PQ_Q4_1] = pq_gemm_q4_1_##isa,     [PQ_Q5_0] = pq_gemm_q5_0_##isa,                        \
        [PQ_Q5_1] = pq_gemm_q5_1_##isa,     [PQ_Q8_0] = pq_gemm_q8_0_##isa,                        \
        [PQ_Q2_K] = pq_gemm_q2_k_##isa,     [PQ_Q3_K] = pq_gemm_q3_k_##isa,                        \
        [PQ_Q4_K] = pq_gemm_q4_k_##isa,     [PQ_Q5_K] = pq_gemm_q5_k_##isa,                        \
        [PQ_Q6_K] = pq_gemm_q6_k_##isa,     [PQ_IQ4_NL] = pq_gemm_iq4_nl_##isa,                    \
        [PQ_IQ4_XS] = pq_gemm_iq4_xs_##isa,                                                        \
    }

#endif
