/* neon.h - the kernels for AArch64's Advanced SIMD (NEON), which every 64-bit Arm processor has. */
#ifndef PQ_NEON_H
#define PQ_NEON_H

#include "../kernels.h"

/* ----------------------------------------------------------------------- attention.c, vector.c */

void pq_kv_store_neon(pq_kv_type type, size_t head_dim, size_t slot, const float *key,
                      const float *value, void *keys, void *values);
void pq_attend_neon(pq_kv_type type, size_t head_dim, const float *q, size_t q_stride, size_t n,
                    const uint32_t *visible, const void *keys, const void *values,
                    const void *next_keys, pq_softmax *state, float *out, size_t out_stride,
                    void *scratch);
void pq_attend_merge_neon(size_t head_dim, pq_softmax *into, float *into_out,
                          const pq_softmax *block, const float *block_out);

void pq_rms_norm_neon(const float *x, const float *w, float eps, size_t n, float *y);
void pq_add_neon(const float *x, size_t n, float *y);
void pq_silu_mul_neon(const float *gate, const float *up, size_t n, float *y);
void pq_rope_neon(float *x, const float *c, const float *s, size_t dim, int neox, float scale);
void pq_exp_neon(const float *x, size_t n, float *y);
float pq_logsumexp_neon(const float *x, size_t n);
void pq_to_f16_neon(const float *x, size_t n, uint16_t *y);
void pq_from_f16_neon(const uint16_t *x, size_t n, float *y);

/* ------------------------------------------------------------- quantize_activations.c, gemm_*.c */

void pq_quantize_activations_neon(const float *x, size_t n, int8_t *q, float *d, int16_t *sums,
                                  float *s);
PQ_GEMM_HEAD(pq_gemm_f32_neon);
PQ_GEMM_HEAD(pq_gemm_f16_neon);
PQ_GEMM_HEAD(pq_gemm_bf16_neon);
void pq_gemm_exact_neon(const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x,
                        size_t token0, size_t token1, float *y, size_t y_stride, void *scratch);

/* ------------------------------------------------------------------------------------ kernels.c */

/* A table of kernels. All of Arm differ in the products of quantized matrices only. */
#define PQ_ARM_KERNELS(name, products, text)                                                       \
    {                                                                                              \
        .isa = #name,                                                                              \
        .summary = text,                                                                           \
        .lanes = 8,                                                                                \
        .chunk_macs = 64 << 20,                                                                    \
        .quantize_activations = pq_quantize_activations_neon,                                      \
        .gemm = products,                                                                          \
        .gemm_exact = pq_gemm_exact_neon,                                                          \
        .kv_store = pq_kv_store_neon,                                                              \
        .attend = pq_attend_neon,                                                                  \
        .attend_merge = pq_attend_merge_neon,                                                      \
        .rms_norm = pq_rms_norm_neon,                                                              \
        .add = pq_add_neon,                                                                        \
        .silu_mul = pq_silu_mul_neon,                                                              \
        .rope = pq_rope_neon,                                                                      \
        .exp = pq_exp_neon,                                                                        \
        .logsumexp = pq_logsumexp_neon,                                                            \
        .to_f16 = pq_to_f16_neon,                                                                  \
        .from_f16 = pq_from_f16_neon,                                                              \
    }

#endif
