/* lane_vectors.h - what the block search (quantizer/lane_search.h) is made of, for AVX-512: sixteen groups at a time.
 *
 * v_max(a, b) is a where a > b, else b; v_min(a, b) is a where a < b, else b. */
#ifndef PQ_AVX512VNNI_LANE_VECTORS_H
#define PQ_AVX512VNNI_LANE_VECTORS_H

#include <immintrin.h>

#if defined(_MSC_VER)
#define PQ_INLINE static __forceinline
#else
#define PQ_INLINE static inline __attribute__((always_inline))
#endif

enum { PQ_VEC = 16 };

typedef __m512 pq_vec;
typedef __mmask16 pq_mask;

PQ_INLINE pq_vec v_load(const float *p) {
    return _mm512_loadu_ps(p);
}

PQ_INLINE void v_store(float *p, pq_vec x) {
    _mm512_storeu_ps(p, x);
}

PQ_INLINE pq_vec v_all(float x) {
    return _mm512_set1_ps(x);
}

PQ_INLINE pq_vec v_add(pq_vec a, pq_vec b) {
    return _mm512_add_ps(a, b);
}

PQ_INLINE pq_vec v_sub(pq_vec a, pq_vec b) {
    return _mm512_sub_ps(a, b);
}

PQ_INLINE pq_vec v_mul(pq_vec a, pq_vec b) {
    return _mm512_mul_ps(a, b);
}

PQ_INLINE pq_vec v_div(pq_vec a, pq_vec b) {
    return _mm512_div_ps(a, b);
}

PQ_INLINE pq_vec v_min(pq_vec a, pq_vec b) {
    return _mm512_min_ps(a, b);
}

PQ_INLINE pq_vec v_max(pq_vec a, pq_vec b) {
    return _mm512_max_ps(a, b);
}

/* To the nearest integer, ties to even. */
PQ_INLINE pq_vec v_round(pq_vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

PQ_INLINE pq_mask v_greater(pq_vec a, pq_vec b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}

PQ_INLINE pq_vec v_select(pq_mask mask, pq_vec yes, pq_vec no) {
    return _mm512_mask_blend_ps(mask, no, yes);
}

PQ_INLINE int v_any(pq_mask mask) {
    return mask != 0;
}

/* The value of the non-linear types nearest to x: a binary search among the borders of the values. */
PQ_INLINE pq_vec v_nonlinear(pq_vec x) {
    const __m512 values =
        _mm512_setr_ps(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
    const __m512 borders = _mm512_setr_ps(-115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19,
                                          31.5f, 45.5f, 61, 79, 101, 0);
    __m512i index = _mm512_setzero_si512();
    for (int step = 8; step > 0; step /= 2) {
        const __m512i at = _mm512_add_epi32(index, _mm512_set1_epi32(step - 1));
        const __m512 border = _mm512_permutexvar_ps(at, borders);
        const __mmask16 above = _mm512_cmp_ps_mask(x, border, _CMP_GE_OQ);
        index = _mm512_mask_add_epi32(index, above, index, _mm512_set1_epi32(step));
    }
    return _mm512_permutexvar_ps(index, values);
}

#endif
