/* lane_vectors.h - what the block search (quantizer/lane_search.h) is made of, for AVX2: eight groups at a time.
 *
 * v_max(a, b) is a where a > b, else b; v_min(a, b) is a where a < b, else b. */
#ifndef PQ_AVX2_LANE_VECTORS_H
#define PQ_AVX2_LANE_VECTORS_H

#include <immintrin.h>

#if defined(_MSC_VER)
#define PQ_INLINE static __forceinline
#else
#define PQ_INLINE static inline __attribute__((always_inline))
#endif

enum { PQ_VEC = 8 };

typedef __m256 pq_vec;
typedef __m256 pq_mask;

PQ_INLINE pq_vec v_load(const float *p) {
    return _mm256_loadu_ps(p);
}

PQ_INLINE void v_store(float *p, pq_vec x) {
    _mm256_storeu_ps(p, x);
}

PQ_INLINE pq_vec v_all(float x) {
    return _mm256_set1_ps(x);
}

PQ_INLINE pq_vec v_add(pq_vec a, pq_vec b) {
    return _mm256_add_ps(a, b);
}

PQ_INLINE pq_vec v_sub(pq_vec a, pq_vec b) {
    return _mm256_sub_ps(a, b);
}

PQ_INLINE pq_vec v_mul(pq_vec a, pq_vec b) {
    return _mm256_mul_ps(a, b);
}

PQ_INLINE pq_vec v_div(pq_vec a, pq_vec b) {
    return _mm256_div_ps(a, b);
}

PQ_INLINE pq_vec v_min(pq_vec a, pq_vec b) {
    return _mm256_min_ps(a, b);
}

PQ_INLINE pq_vec v_max(pq_vec a, pq_vec b) {
    return _mm256_max_ps(a, b);
}

/* To the nearest integer, ties to even. */
PQ_INLINE pq_vec v_round(pq_vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

PQ_INLINE pq_mask v_greater(pq_vec a, pq_vec b) {
    return _mm256_cmp_ps(a, b, _CMP_GT_OQ);
}

PQ_INLINE pq_vec v_select(pq_mask mask, pq_vec yes, pq_vec no) {
    return _mm256_blendv_ps(no, yes, mask);
}

PQ_INLINE int v_any(pq_mask mask) {
    return _mm256_movemask_ps(mask) != 0;
}

/* `bit` in the lanes where x is at or above the border. */
PQ_INLINE __m256i above(pq_vec x, __m256 border, int bit) {
    const __m256 mask = _mm256_cmp_ps(x, border, _CMP_GE_OQ);
    return _mm256_and_si256(_mm256_castps_si256(mask), _mm256_set1_epi32(bit));
}

/* The value of the non-linear types nearest to x: a binary search among the borders of the values. `index` has bit 0
 * for the upper eight, bit 1 for the upper four of those, bit 2 for the upper two; tables are in that order. */
PQ_INLINE pq_vec v_nonlinear(pq_vec x) {
    const __m256 fours = _mm256_setr_ps(-57, 45.5f, -57, 45.5f, -57, 45.5f, -57, 45.5f);
    const __m256 twos = _mm256_setr_ps(-93.5f, 19, -28.5f, 79, -93.5f, 19, -28.5f, 79);
    const __m256 ones = _mm256_setr_ps(-115.5f, 7, -42, 61, -74, 31.5f, -16, 101);
    const __m256 lower = _mm256_setr_ps(-127, 1, -49, 53, -83, 25, -22, 89);
    const __m256 upper = _mm256_setr_ps(-104, 13, -35, 69, -65, 38, -10, 113);
    const __m256 eights = _mm256_set1_ps(-4.5f);
    __m256i index = above(x, eights, 1);
    index = _mm256_or_si256(index, above(x, _mm256_permutevar8x32_ps(fours, index), 2));
    index = _mm256_or_si256(index, above(x, _mm256_permutevar8x32_ps(twos, index), 4));
    const __m256 last = _mm256_cmp_ps(x, _mm256_permutevar8x32_ps(ones, index), _CMP_GE_OQ);
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(lower, index),
                            _mm256_permutevar8x32_ps(upper, index), last);
}

#endif
