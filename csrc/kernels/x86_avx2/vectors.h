/* vectors.h - what the templates of kernels and the search of the quantizer are made of, for AVX2: eight float32. See
 * templates/x86/vectors.h. */
#ifndef PQ_AVX2_VECTORS_H
#define PQ_AVX2_VECTORS_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../inline.h"

#ifndef PQ_NAME /* AVX-VNNI has its own */
#define PQ_NAME(name) pq_##name##_avx2
#endif

enum { PQ_VEC = 8, PQ_LANES = 8 }; /* LANES: rows of a panel */

typedef __m256 pq_vec;
typedef __m256i pq_ints;
typedef __m256 pq_mask;

#define PQ_X86(op) _mm256_##op
#define PQ_X86_INTS(op) _mm256_##op##_si256

/* The same bits. */
PQ_INLINE pq_vec pq_as_floats(pq_ints x) {
    return _mm256_castsi256_ps(x);
}

#include "../templates/x86/vectors.h"

/* float16 to float32. */
PQ_INLINE pq_vec v_load_halves(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* bfloat16, the upper half of a float32. */
PQ_INLINE pq_vec v_load_upper(const void *p) {
    const __m256i upper = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(upper, 16));
}

/* To float16, to nearest even. */
PQ_INLINE void v_store_halves(void *p, pq_vec x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

/* The first `count` lanes, 1 .. PQ_VEC. */
PQ_INLINE void v_store_first(float *p, size_t count, pq_vec x) {
    if (count >= PQ_VEC) {
        _mm256_storeu_ps(p, x);
    } else {
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), lane), x);
    }
}

/* To the nearest integer, ties to even. */
PQ_INLINE pq_vec v_round(pq_vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

PQ_INLINE pq_mask v_greater(pq_vec a, pq_vec b) {
    return _mm256_cmp_ps(a, b, _CMP_GT_OQ);
}

/* False for NaN, as > is. */
PQ_INLINE pq_mask v_at_least(pq_vec a, pq_vec b) {
    return _mm256_cmp_ps(a, b, _CMP_GE_OQ);
}

/* 0 where not. */
PQ_INLINE pq_vec v_where(pq_mask mask, pq_vec x) {
    return _mm256_and_ps(mask, x);
}

PQ_INLINE pq_vec v_select(pq_mask mask, pq_vec yes, pq_vec no) {
    return _mm256_blendv_ps(no, yes, mask);
}

PQ_INLINE int v_any(pq_mask mask) {
    return _mm256_movemask_ps(mask) != 0;
}

/* Of all lanes, none of which is NaN. */
PQ_INLINE float v_largest(pq_vec x) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_movehdup_ps(m));
    return _mm_cvtss_f32(m);
}

/* scalar/sum16.h. */
PQ_INLINE float v_sum16(const pq_vec lanes[16 / PQ_VEC]) {
    const __m256 l8 = _mm256_add_ps(lanes[0], lanes[1]);
    return pq_sum8(l8);
}

/* Pairs of neighbors in two vectors, to their first and their second numbers, and back. In between, the lanes are in
 * the order in which v_as_unzipped puts those of another vector. */
PQ_INLINE pq_vec v_unzip_first(pq_vec a, pq_vec b) {
    return _mm256_shuffle_ps(a, b, 0x88);
}

PQ_INLINE pq_vec v_unzip_second(pq_vec a, pq_vec b) {
    return _mm256_shuffle_ps(a, b, 0xDD);
}

PQ_INLINE pq_vec v_as_unzipped(pq_vec x) {
    return _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7));
}

PQ_INLINE pq_vec v_zip_low(pq_vec first, pq_vec second) {
    return _mm256_unpacklo_ps(first, second);
}

PQ_INLINE pq_vec v_zip_high(pq_vec first, pq_vec second) {
    return _mm256_unpackhi_ps(first, second);
}

/* The largest magnitude of 32 numbers, compared as bits: NaN is above infinity is above every number. */
PQ_INLINE float v_largest_magnitude(const pq_vec x[32 / PQ_VEC]) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256i m = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++)
        m = _mm256_max_epu32(m, _mm256_castps_si256(_mm256_andnot_ps(sign, x[i])));
    __m128i h = _mm_max_epu32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0x4E));
    h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0xB1));
    return _mm_cvtss_f32(_mm_castsi128_ps(h));
}

/* 32 numbers to the nearest integers, ties to even. The packs interleave 128-bit halves, which the permutation puts in
 * order. */
PQ_INLINE pq_bytes32 v_to_bytes(const pq_vec x[32 / PQ_VEC]) {
    const __m256i low = _mm256_packs_epi32(_mm256_cvtps_epi32(x[0]), _mm256_cvtps_epi32(x[1]));
    const __m256i high = _mm256_packs_epi32(_mm256_cvtps_epi32(x[2]), _mm256_cvtps_epi32(x[3]));
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high),
                                       _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* Lanes `distance` apart change places; distance is 1, 2 or 4, and bit `distance` tells the two apart. */
PQ_INLINE pq_vec v_swap_neighbors(pq_vec x, const int distance) {
    return distance == 1   ? _mm256_permute_ps(x, 0xB1)
           : distance == 2 ? _mm256_permute_ps(x, 0x4E)
                           : _mm256_permute2f128_ps(x, x, 0x01);
}

/* `bit` in the lanes where x is at or above the border. */
PQ_INLINE __m256i v_bit_above(pq_vec x, __m256 border, int bit) {
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
    __m256i index = v_bit_above(x, eights, 1);
    index = _mm256_or_si256(index, v_bit_above(x, _mm256_permutevar8x32_ps(fours, index), 2));
    index = _mm256_or_si256(index, v_bit_above(x, _mm256_permutevar8x32_ps(twos, index), 4));
    const __m256 last = _mm256_cmp_ps(x, _mm256_permutevar8x32_ps(ones, index), _CMP_GE_OQ);
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(lower, index),
                            _mm256_permutevar8x32_ps(upper, index), last);
}

/* --------------------------------------------- pairs of 16-bit numbers, for attention over integers */

/* Two numbers in each lane of 32 bits, of bytes; unsigned. */
PQ_INLINE pq_pairs v_load_byte_pairs(const void *p) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
}

/* Of int8. */
PQ_INLINE pq_pairs v_load_pairs(const void *p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
}

/* sum + both products. */
PQ_INLINE pq_ints v_dot_pairs(pq_ints sum, pq_pairs a, pq_pairs b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

/* 16 numbers to the nearest integers, ties to even. The pack interleaves 128-bit halves. */
PQ_INLINE void v_store_words(int16_t *p, const pq_vec x[16 / PQ_VEC]) {
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x[0]), _mm256_cvtps_epi32(x[1]));
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(words, 0xD8));
}

/* ----------------------------------------------------- for products of quantized matrices: templates/x86 */

/* 16-bit numbers, one per lane, zero-extended. */
PQ_INLINE pq_ints pq_load_words(const void *p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}

/* table[index] of every byte, 16 entries. */
PQ_INLINE pq_ints pq_look_up(const void *table, pq_ints index) {
    const __m256i all = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    return _mm256_shuffle_epi8(all, index);
}

#endif
