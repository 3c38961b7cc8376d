/* avx512vnni.h - the kernels for AVX-512 (F BW VL DQ) with VNNI: Ice Lake, Zen 4 and later. */
#ifndef PQ_AVX512VNNI_H
#define PQ_AVX512VNNI_H

#include "../kernels.h"

/* ----------------------------------------------------------------------- attention.c, vector.c */

void pq_kv_store_avx512vnni(pq_kv_type type, size_t head_dim, size_t slot, const float *key,
                            const float *value, void *keys, void *values);
void pq_attend_avx512vnni(pq_kv_type type, size_t head_dim, const float *q, size_t q_stride,
                          size_t n, const uint32_t *visible, const void *keys, const void *values,
                          const void *next_keys, pq_softmax *state, float *out, size_t out_stride,
                          void *scratch);
void pq_attend_merge_avx512vnni(size_t head_dim, pq_softmax *into, float *into_out,
                                const pq_softmax *block, const float *block_out);

void pq_rms_norm_avx512vnni(const float *x, const float *w, float eps, size_t n, float *y);
void pq_add_avx512vnni(const float *x, size_t n, float *y);
void pq_silu_mul_avx512vnni(const float *gate, const float *up, size_t n, float *y);
void pq_rope_avx512vnni(float *x, const float *c, const float *s, size_t dim, int neox,
                        float scale);
void pq_exp_avx512vnni(const float *x, size_t n, float *y);
float pq_logsumexp_avx512vnni(const float *x, size_t n);
void pq_to_f16_avx512vnni(const float *x, size_t n, uint16_t *y);
void pq_from_f16_avx512vnni(const uint16_t *x, size_t n, float *y);

/* ------------------------------------------------------------- quantize_activations.c, gemm_*.c */

void pq_quantize_activations_avx512vnni(const float *x, size_t n, int8_t *q, float *d,
                                        int16_t *sums, float *s);
PQ_GEMM_HEAD(pq_gemm_f32_avx512vnni);
PQ_GEMM_HEAD(pq_gemm_f16_avx512vnni);
PQ_GEMM_HEAD(pq_gemm_bf16_avx512vnni);
void pq_gemm_exact_avx512vnni(const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x,
                              size_t token0, size_t token1, float *y, size_t y_stride,
                              void *scratch);

/* ------------------------------------------------------------------------------------ kernels.c */

/* A table of kernels. AMX's differs in the products of quantized matrices only. */
#define PQ_AVX512_KERNELS(name, products, scratch, macs, text)                                     \
    {                                                                                              \
        .isa = #name,                                                                              \
        .summary = text,                                                                           \
        .lanes = 16,                                                                               \
        .least_scratch = scratch,                                                                  \
        .chunk_macs = macs,                                                                        \
        .quantize_activations = pq_quantize_activations_avx512vnni,                                \
        .gemm = products,                                                                          \
        .gemm_exact = pq_gemm_exact_avx512vnni,                                                    \
        .kv_store = pq_kv_store_avx512vnni,                                                        \
        .attend = pq_attend_avx512vnni,                                                            \
        .attend_merge = pq_attend_merge_avx512vnni,                                                \
        .rms_norm = pq_rms_norm_avx512vnni,                                                        \
        .add = pq_add_avx512vnni,                                                                  \
        .silu_mul = pq_silu_mul_avx512vnni,                                                        \
        .rope = pq_rope_avx512vnni,                                                                \
        .exp = pq_exp_avx512vnni,                                                                  \
        .logsumexp = pq_logsumexp_avx512vnni,                                                      \
        .to_f16 = pq_to_f16_avx512vnni,                                                            \
        .from_f16 = pq_from_f16_avx512vnni,                                                        \
    }

#endif
