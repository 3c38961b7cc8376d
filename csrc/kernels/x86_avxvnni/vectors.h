/* vectors.h - what the templates of x86_vnni/ are made of, for AVX-VNNI: 8 lanes of 32 bits. */
#ifndef PQ_AVXVNNI_VECTORS_H
#define PQ_AVXVNNI_VECTORS_H

#include <immintrin.h>
#include <string.h>

#include "../kernels.h"

#define PQ_NAME(name) pq_##name##_avxvnni

#if defined(_MSC_VER)
#define PQ_INLINE static __forceinline
#else
#define PQ_INLINE static inline __attribute__((always_inline))
#endif

enum { PQ_LANES = 8 }; /* rows of a panel */
#define PQ_MAX_TILE 6  /* tokens: their sums and totals fit the 16 registers */

typedef __m256i pq_ints;
typedef __m256 pq_floats;

PQ_INLINE pq_ints pq_load_ints(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

PQ_INLINE void pq_store_ints(void *p, pq_ints x) {
    _mm256_store_si256((__m256i *)p, x);
}

/* 16-bit numbers, one per lane, zero-extended. */
PQ_INLINE pq_ints pq_load_words(const void *p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}

PQ_INLINE pq_ints pq_zero(void) {
    return _mm256_setzero_si256();
}

PQ_INLINE pq_ints pq_all_bytes(const int value) {
    return _mm256_set1_epi8((char)value);
}

PQ_INLINE pq_ints pq_all_words(const int value) {
    return _mm256_set1_epi16((short)value);
}

PQ_INLINE pq_ints pq_all_ints(const int value) {
    return _mm256_set1_epi32(value);
}

PQ_INLINE pq_ints pq_and(pq_ints a, pq_ints b) {
    return _mm256_and_si256(a, b);
}

PQ_INLINE pq_ints pq_or(pq_ints a, pq_ints b) {
    return _mm256_or_si256(a, b);
}

PQ_INLINE pq_ints pq_xor(pq_ints a, pq_ints b) {
    return _mm256_xor_si256(a, b);
}

PQ_INLINE pq_ints pq_subtract(pq_ints a, pq_ints b) {
    return _mm256_sub_epi32(a, b);
}

/* Of the lanes of 32 bits. */
PQ_INLINE pq_ints pq_right(pq_ints x, const int bits) {
    return _mm256_srli_epi32(x, bits);
}

PQ_INLINE pq_ints pq_left(pq_ints x, const int bits) {
    return _mm256_slli_epi32(x, bits);
}

/* The same, with copies of the sign. */
PQ_INLINE pq_ints pq_right_signed(pq_ints x, const int bits) {
    return _mm256_srai_epi32(x, bits);
}

/* table[index] of every byte, 16 entries. */
PQ_INLINE pq_ints pq_look_up(const uint8_t *table, pq_ints index) {
    const __m256i all = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    return _mm256_shuffle_epi8(all, index);
}

/* Four neighboring activations, or two neighboring sums of them, in every lane. */
PQ_INLINE pq_ints pq_broadcast(const void *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
}

/* sum + the products of four unsigned bytes of w with four signed ones of x. */
PQ_INLINE pq_ints pq_dot_bytes(pq_ints sum, pq_ints w, pq_ints x) {
    return _mm256_dpbusd_avx_epi32(sum, w, x);
}

/* sum + the products of two 16-bit numbers. */
PQ_INLINE pq_ints pq_dot_words(pq_ints sum, pq_ints w, pq_ints x) {
    return _mm256_dpwssd_avx_epi32(sum, w, x);
}

PQ_INLINE pq_floats pq_to_float(pq_ints x) {
    return _mm256_cvtepi32_ps(x);
}

/* The same bits. */
PQ_INLINE pq_floats pq_as_floats(pq_ints x) {
    return _mm256_castsi256_ps(x);
}

PQ_INLINE pq_ints pq_as_ints(pq_floats x) {
    return _mm256_castps_si256(x);
}

PQ_INLINE pq_floats pq_float_zero(void) {
    return _mm256_setzero_ps();
}

PQ_INLINE pq_floats pq_load_floats(const float *p) {
    return _mm256_loadu_ps(p);
}

PQ_INLINE pq_floats pq_load_halves(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

PQ_INLINE pq_floats pq_all_floats(const float *p) {
    return _mm256_broadcast_ss(p);
}

PQ_INLINE pq_floats pq_multiply(pq_floats a, pq_floats b) {
    return _mm256_mul_ps(a, b);
}

/* a * b + c, and c - a * b, rounded once. */
PQ_INLINE pq_floats pq_fma(pq_floats a, pq_floats b, pq_floats c) {
    return _mm256_fmadd_ps(a, b, c);
}

PQ_INLINE pq_floats pq_fnma(pq_floats a, pq_floats b, pq_floats c) {
    return _mm256_fnmadd_ps(a, b, c);
}

/* One token's results: 8 rows, or what is left of them. */
PQ_INLINE void pq_store_rows(float *y, size_t rows, pq_floats acc) {
    if (rows >= PQ_LANES) {
        _mm256_storeu_ps(y, acc);
    } else {
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_maskstore_ps(y, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)rows), lane), acc);
    }
}

#endif
