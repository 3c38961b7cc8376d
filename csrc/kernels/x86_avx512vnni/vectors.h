/* vectors.h - what the templates of kernels and the search of the quantizer are made of, for AVX-512 with VNNI: 16
 * lanes of 32 bits. See templates/x86/vectors.h. */
#ifndef PQ_AVX512VNNI_VECTORS_H
#define PQ_AVX512VNNI_VECTORS_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../inline.h"

#define PQ_NAME(name) pq_##name##_avx512vnni

enum { PQ_VEC = 16, PQ_LANES = 16 }; /* LANES: rows of a panel */
#define PQ_MAX_TILE 8                /* tokens: their sums and totals fit the 32 registers */

typedef __m512 pq_vec;
typedef __m512i pq_ints;
typedef __mmask16 pq_mask;

#define PQ_X86(op) _mm512_##op
#define PQ_X86_INTS(op) _mm512_##op##_si512

/* The same bits. */
PQ_INLINE pq_vec pq_as_floats(pq_ints x) {
    return _mm512_castsi512_ps(x);
}

#include "../templates/x86/vectors.h"

/* float16 to float32. */
PQ_INLINE pq_vec v_load_halves(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* bfloat16, the upper half of a float32. */
PQ_INLINE pq_vec v_load_upper(const void *p) {
    const __m512i upper = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(upper, 16));
}

/* To float16, to nearest even. */
PQ_INLINE void v_store_halves(void *p, pq_vec x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

/* The first `count` lanes, 1 .. PQ_VEC. */
PQ_INLINE void v_store_first(float *p, size_t count, pq_vec x) {
    _mm512_mask_storeu_ps(p, (__mmask16)(count >= PQ_VEC ? 0xFFFF : (1u << count) - 1), x);
}

/* To the nearest integer, ties to even. */
PQ_INLINE pq_vec v_round(pq_vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

PQ_INLINE pq_mask v_greater(pq_vec a, pq_vec b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}

/* False for NaN, as > is. */
PQ_INLINE pq_mask v_at_least(pq_vec a, pq_vec b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}

/* 0 where not. */
PQ_INLINE pq_vec v_where(pq_mask mask, pq_vec x) {
    return _mm512_maskz_mov_ps(mask, x);
}

PQ_INLINE pq_vec v_select(pq_mask mask, pq_vec yes, pq_vec no) {
    return _mm512_mask_blend_ps(mask, no, yes);
}

PQ_INLINE int v_any(pq_mask mask) {
    return mask != 0;
}

/* Of all lanes, none of which is NaN. */
PQ_INLINE float v_largest(pq_vec x) {
    return _mm512_reduce_max_ps(x);
}

/* scalar/sum16.h. */
PQ_INLINE float v_sum16(const pq_vec lanes[16 / PQ_VEC]) {
    const __m256 l8 =
        _mm256_add_ps(_mm512_castps512_ps256(lanes[0]), _mm512_extractf32x8_ps(lanes[0], 1));
    return pq_sum8(l8);
}

/* Pairs of neighbors in two vectors, to their first and their second numbers, and back. In between, the lanes are in
 * the order in which v_as_unzipped puts those of another vector. */
PQ_INLINE pq_vec v_unzip_first(pq_vec a, pq_vec b) {
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(a, even, b);
}

PQ_INLINE pq_vec v_unzip_second(pq_vec a, pq_vec b) {
    const __m512i odd =
        _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutex2var_ps(a, odd, b);
}

PQ_INLINE pq_vec v_as_unzipped(pq_vec x) {
    return x;
}

PQ_INLINE pq_vec v_zip_low(pq_vec first, pq_vec second) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(first, low, second);
}

PQ_INLINE pq_vec v_zip_high(pq_vec first, pq_vec second) {
    const __m512i high =
        _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(first, high, second);
}

/* The largest magnitude of 32 numbers, compared as bits: NaN is above infinity is above every number. */
PQ_INLINE float v_largest_magnitude(const pq_vec x[32 / PQ_VEC]) {
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    const __m512i m = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(x[0]), magnitude),
                                       _mm512_and_si512(_mm512_castps_si512(x[1]), magnitude));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((int)_mm512_reduce_max_epu32(m))));
}

/* 32 numbers to the nearest integers, ties to even. */
PQ_INLINE pq_bytes32 v_to_bytes(const pq_vec x[32 / PQ_VEC]) {
    const __m128i low = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x[0]));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low),
                                   _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x[1])), 1);
}

/* Lanes `distance` apart change places; distance is 1, 2, 4 or 8, and bit `distance` tells the two apart. */
PQ_INLINE pq_vec v_swap_neighbors(pq_vec x, const int distance) {
    return distance == 1   ? _mm512_permute_ps(x, 0xB1)
           : distance == 2 ? _mm512_permute_ps(x, 0x4E)
           : distance == 4 ? _mm512_shuffle_f32x4(x, x, 0xB1)
                           : _mm512_shuffle_f32x4(x, x, 0x4E);
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

/* --------------------------------------------- pairs of 16-bit numbers, for attention over integers */

/* Two numbers in each lane of 32 bits, of bytes; unsigned. */
PQ_INLINE pq_pairs v_load_byte_pairs(const void *p) {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)p));
}

/* Of int8. */
PQ_INLINE pq_pairs v_load_pairs(const void *p) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
}

/* sum + both products. */
PQ_INLINE pq_ints v_dot_pairs(pq_ints sum, pq_pairs a, pq_pairs b) {
    return _mm512_dpwssd_epi32(sum, a, b);
}

/* 16 numbers to the nearest integers, ties to even. */
PQ_INLINE void v_store_words(int16_t *p, const pq_vec x[16 / PQ_VEC]) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x[0])));
}

/* ---------------------------------------------------------- products of quantized matrices */

/* 16-bit numbers, one per lane, zero-extended. */
PQ_INLINE pq_ints pq_load_words(const void *p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}

/* table[index] of every byte, 16 entries. */
PQ_INLINE pq_ints pq_look_up(const void *table, pq_ints index) {
    const __m512i all = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
    return _mm512_shuffle_epi8(all, index);
}

/* sum + the products of four unsigned bytes of w with four signed ones of x. */
PQ_INLINE pq_ints pq_dot_bytes(pq_ints sum, pq_ints w, pq_ints x) {
    return _mm512_dpbusd_epi32(sum, w, x);
}

/* sum + the products of two 16-bit numbers. */
PQ_INLINE pq_ints pq_dot_words(pq_ints sum, pq_ints w, pq_ints x) {
    return _mm512_dpwssd_epi32(sum, w, x);
}

#endif
