/* avx2.h - the kernels for AVX2 with FMA and F16C (x86-64-v3 processors). */
#ifndef PQ_AVX2_H
#define PQ_AVX2_H

#include "../kernels.h"

/* ----------------------------------------------------------------------- attention.c, vector.c */

void pq_kv_store_avx2(pq_kv_type type, size_t head_dim, size_t slot, const float *key,
                      const float *value, void *keys, void *values);
void pq_attend_avx2(pq_kv_type type, size_t head_dim, const float *q, size_t q_stride, size_t n,
                    const uint32_t *visible, const void *keys, const void *values,
                    const void *next_keys, pq_softmax *state, float *out, size_t out_stride,
                    void *scratch);
void pq_attend_merge_avx2(size_t head_dim, pq_softmax *into, float *into_out,
                          const pq_softmax *block, const float *block_out);

void pq_rms_norm_avx2(const float *x, const float *w, float eps, size_t n, float *y);
void pq_add_avx2(const float *x, size_t n, float *y);
void pq_silu_mul_avx2(const float *gate, const float *up, size_t n, float *y);
void pq_rope_avx2(float *x, const float *c, const float *s, size_t dim, int neox, float scale);
void pq_exp_avx2(const float *x, size_t n, float *y);
float pq_logsumexp_avx2(const float *x, size_t n);
void pq_to_f16_avx2(const float *x, size_t n, uint16_t *y);
void pq_from_f16_avx2(const uint16_t *x, size_t n, float *y);

/* --------------------------------------------------------------- quantize_activations.c, gemm.c */

void pq_quantize_activations_avx2(const float *x, size_t n, int8_t *q, float *d, int16_t *sums,
                                  float *s);
PQ_GEMM_HEAD(pq_gemm_f32_avx2);
PQ_GEMM_HEAD(pq_gemm_f16_avx2);
PQ_GEMM_HEAD(pq_gemm_bf16_avx2);
void pq_gemm_exact_avx2(const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x,
                        size_t token0, size_t token1, float *y, size_t y_stride, void *scratch);

/* ------------------------------------------------------------------------------------ kernels.c */

/* A table of kernels. AVX-VNNI's differs in the products of quantized matrices only. */
#define PQ_AVX2_KERNELS(name, products, text)                                                      \
    {                                                                                              \
        .isa = #name,                                                                              \
        .summary = text,                                                                           \
        .lanes = 8,                                                                                \
        .chunk_macs = 64 << 20,                                                                    \
        .quantize_activations = pq_quantize_activations_avx2,                                      \
        .gemm = products,                                                                          \
        .gemm_exact = pq_gemm_exact_avx2,                                                          \
        .kv_store = pq_kv_store_avx2,                                                              \
        .attend = pq_attend_avx2,                                                                  \
        .attend_merge = pq_attend_merge_avx2,                                                      \
        .rms_norm = pq_rms_norm_avx2,                                                              \
        .add = pq_add_avx2,                                                                        \
        .silu_mul = pq_silu_mul_avx2,                                                              \
        .rope = pq_rope_avx2,                                                                      \
        .exp = pq_exp_avx2,                                                                        \
        .logsumexp = pq_logsumexp_avx2,                                                            \
        .to_f16 = pq_to_f16_avx2,                                                                  \
        .from_f16 = pq_from_f16_avx2,                                                              \
    }

#endif
