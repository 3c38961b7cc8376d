/* quantize.c - activations to int8, 32 at a time. */
#include "avx2.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

/* The largest magnitude, compared as bits: NaN is above infinity is above every number. */
static float largest_magnitude(const float *x, size_t n) {
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i largest = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += 8) {
        const __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        largest = _mm256_max_epu32(largest, _mm256_and_si256(bits, magnitude));
    }
    __m128i m =
        _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4E));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xB1));
    return _mm_cvtss_f32(_mm_castsi128_ps(m));
}

static __m256i round_8(const float *x, __m256 inverse) {
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
}

/* 32 values; the packs interleave 128-bit halves, which the permutation puts in order. */
static __m256i round_32(const float *x, __m256 inverse) {
    const __m256i low = _mm256_packs_epi32(round_8(x, inverse), round_8(x + 8, inverse));
    const __m256i high = _mm256_packs_epi32(round_8(x + 16, inverse), round_8(x + 24, inverse));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
}

static void store_sums(__m256i q, int16_t *sums) {
    __m256i s = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    s = _mm256_madd_epi16(s, _mm256_set1_epi16(1));
    s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0x4E));
    s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0xB1));
    sums[0] = (int16_t)_mm_cvtsi128_si32(_mm256_castsi256_si128(s));
    sums[1] = (int16_t)_mm_cvtsi128_si32(_mm256_extracti128_si256(s, 1));
}

static void quantize_block(const float *x, size_t n, int8_t *q, float *d, int16_t *sums) {
    const float max = largest_magnitude(x, n);
    const float inverse = 127.0f / max;
    if (!isfinite(max) || !isfinite(inverse)) { /* damaged, or too small to matter */
        *d = isfinite(max) ? 0.0f : max;
        memset(q, 0, n);
        memset(sums, 0, n / 16 * sizeof *sums);
        return;
    }
    *d = max / 127.0f;
    for (size_t i = 0; i < n; i += 32) {
        const __m256i values = round_32(x + i, _mm256_set1_ps(inverse));
        _mm256_storeu_si256((__m256i *)(void *)(q + i), values);
        store_sums(values, sums + i / 16);
    }
}

void pq_quantize_avx2(const float *x, size_t n, size_t block, int8_t *q, float *d, int16_t *sums) {
    for (size_t i = 0; i < n; i += block)
        quantize_block(x + i, block, q + i, d + i / block, sums + i / 16);
}
