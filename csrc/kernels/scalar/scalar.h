/* scalar.h - the kernels in plain C: the specification, and the table that runs everywhere. */
#ifndef PQ_SCALAR_H
#define PQ_SCALAR_H

#include <string.h>

#include "../kernels.h"

/* ----------------------------------------------------------------------- kv_store.c, attention.c, vector.c */

void pq_kv_store_key_scalar(pq_kv_type type, size_t head_dim, size_t slot, const float *x,
                            void *numbers);
void pq_kv_store_value_scalar(pq_kv_type type, size_t head_dim, size_t slot, const float *x,
                              void *numbers);
void pq_attend_scalar(const pq_kv_view *block, const float *q, size_t q_stride, size_t n,
                      const uint32_t *visible, pq_softmax *state, float *out, size_t out_stride,
                      void *scratch);
void pq_attend_merge_scalar(size_t head_dim, pq_softmax *into, float *into_out,
                            const pq_softmax *block, const float *block_out);

void pq_rms_norm_scalar(const float *x, const float *w, float eps, size_t n, float *y);
void pq_add_scalar(const float *x, size_t n, float *y);
void pq_silu_mul_scalar(const float *gate, const float *up, size_t n, float *y);
void pq_rope_scalar(float *x, const float *c, const float *s, size_t dim, int neox, float scale);
void pq_hadamard_scalar(float *x, size_t n);
void pq_exp_scalar(const float *x, size_t n, float *y);
float pq_logsumexp_scalar(const float *x, size_t n);
void pq_to_f16_scalar(const float *x, size_t n, uint16_t *y);
void pq_from_f16_scalar(const uint16_t *x, size_t n, float *y);

/* --------------------------------------------------------------- quantize_activations.c, gemm.c */

void pq_quantize_activations_scalar(const float *x, size_t n, int8_t *q, float *d, int16_t *sums,
                                    float *s);
/* Of every quantized type, and of every type in float32; lanes == 1. */
PQ_GEMM_HEAD(pq_gemm_scalar);
PQ_GEMM_HEAD(pq_gemm_exact_scalar);

/* The largest |x| of n numbers; NaN where one is NaN. */
static inline float pq_largest_magnitude(const float *x, size_t n) {
    uint32_t largest = 0; /* as bits, where NaN is above infinity is above every number */
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7FFFFFFF;
        largest = bits > largest ? bits : largest;
    }
    float out;
    memcpy(&out, &largest, sizeof out);
    return out;
}

#endif
