/* exp.h - pq_exp8 and pq_sum16_avx2: scalar/exp.h and scalar/sum16.h in vectors, bit for bit. */
#ifndef PQ_AVX2_EXP_H
#define PQ_AVX2_EXP_H

#include <immintrin.h>

#include "../scalar/exp.h"

static inline __m256 pq_exp8(__m256 x) {
    const __m256 round = _mm256_set1_ps(PQ_EXP_ROUND), one = _mm256_set1_ps(1.0f);
    const __m256 t = _mm256_fmadd_ps(x, _mm256_set1_ps(PQ_EXP_LOG2E), round);
    const __m256 n = _mm256_sub_ps(t, round);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(PQ_EXP_LN2_HIGH), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(PQ_EXP_LN2_LOW), r);
    __m256 p = _mm256_set1_ps(PQ_EXP_C6);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(PQ_EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(PQ_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(PQ_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(PQ_EXP_C2));
    p = _mm256_fmadd_ps(p, r, one);
    p = _mm256_fmadd_ps(p, r, one);
    const __m256i scale = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), scale));
    const __m256 zero = _mm256_cmp_ps(x, _mm256_set1_ps(PQ_EXP_LOWEST), _CMP_LT_OQ);
    const __m256 special = _mm256_cmp_ps(x, _mm256_set1_ps(PQ_EXP_HIGHEST), _CMP_NLE_UQ);
    p = _mm256_andnot_ps(zero, p);
    return _mm256_blendv_ps(p, _mm256_mul_ps(x, _mm256_set1_ps(INFINITY)), special);
}

/* Lanes 0..7 in low, 8..15 in high. */
static inline float pq_sum16_avx2(__m256 low, __m256 high) {
    const __m256 l8 = _mm256_add_ps(low, high);
    const __m128 l4 = _mm_add_ps(_mm256_castps256_ps128(l8), _mm256_extractf128_ps(l8, 1));
    const __m128 l2 = _mm_add_ps(l4, _mm_movehl_ps(l4, l4));
    return _mm_cvtss_f32(_mm_add_ss(l2, _mm_movehdup_ps(l2)));
}

#endif
