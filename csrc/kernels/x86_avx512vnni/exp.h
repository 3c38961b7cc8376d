/* exp.h - pq_exp16 and pq_sum16_avx512: scalar/exp.h and scalar/sum16.h in vectors, bit for bit. */
#ifndef PQ_AVX512VNNI_EXP_H
#define PQ_AVX512VNNI_EXP_H

#include <immintrin.h>

#include "../scalar/exp.h"

static inline __m512 pq_exp16(__m512 x) {
    const __m512 round = _mm512_set1_ps(PQ_EXP_ROUND), one = _mm512_set1_ps(1.0f);
    const __m512 t = _mm512_fmadd_ps(x, _mm512_set1_ps(PQ_EXP_LOG2E), round);
    const __m512 n = _mm512_sub_ps(t, round);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(PQ_EXP_LN2_HIGH), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(PQ_EXP_LN2_LOW), r);
    __m512 p = _mm512_set1_ps(PQ_EXP_C6);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(PQ_EXP_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(PQ_EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(PQ_EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(PQ_EXP_C2));
    p = _mm512_fmadd_ps(p, r, one);
    p = _mm512_fmadd_ps(p, r, one);
    const __m512i scale = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    const __m512i scaled = _mm512_add_epi32(_mm512_castps_si512(p), scale);
    const __mmask16 above = _mm512_cmp_ps_mask(x, _mm512_set1_ps(PQ_EXP_LOWEST), _CMP_NLT_UQ);
    const __mmask16 special = _mm512_cmp_ps_mask(x, _mm512_set1_ps(PQ_EXP_HIGHEST), _CMP_NLE_UQ);
    p = _mm512_castsi512_ps(_mm512_maskz_mov_epi32(above, scaled));
    return _mm512_mask_mul_ps(p, special, x, _mm512_set1_ps(INFINITY));
}

static inline float pq_sum16_avx512(__m512 lanes) {
    const __m256 l8 =
        _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    const __m128 l4 = _mm_add_ps(_mm256_castps256_ps128(l8), _mm256_extractf128_ps(l8, 1));
    const __m128 l2 = _mm_add_ps(l4, _mm_movehl_ps(l4, l4));
    return _mm_cvtss_f32(_mm_add_ss(l2, _mm_movehdup_ps(l2)));
}

#endif
