/* quantize_activations.c - activations to int8, 32 at a time. */
#include "avx2.h"

#include <immintrin.h>
#include <math.h>

typedef struct block {
    __m256 x[4];
} block;

static block load_block(const float *x) {
    return (block){{_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8), _mm256_loadu_ps(x + 16),
                    _mm256_loadu_ps(x + 24)}};
}

/* The largest magnitude, compared as bits: NaN is above infinity is above every number. */
static float largest_magnitude(block b) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256i m = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++)
        m = _mm256_max_epu32(m, _mm256_castps_si256(_mm256_andnot_ps(sign, b.x[i])));
    __m128i h = _mm_max_epu32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0x4E));
    h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0xB1));
    return _mm_cvtss_f32(_mm_castsi128_ps(h));
}

/* The packs interleave 128-bit halves, which the permutation puts in order. */
static __m256i round_block(block b, __m256 inverse) {
    __m256i r[4];
    for (int i = 0; i < 4; i++)
        r[i] = _mm256_cvtps_epi32(_mm256_mul_ps(b.x[i], inverse));
    const __m256i packed =
        _mm256_packs_epi16(_mm256_packs_epi32(r[0], r[1]), _mm256_packs_epi32(r[2], r[3]));
    return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* Of the lower and the upper 16. */
static void sum_halves(__m256i q, int *low, int *high) {
    __m256i s = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    s = _mm256_madd_epi16(s, _mm256_set1_epi16(1));
    s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0x4E));
    s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0xB1));
    *low = _mm_cvtsi128_si32(_mm256_castsi256_si128(s));
    *high = _mm_cvtsi128_si32(_mm256_extracti128_si256(s, 1));
}

void pq_quantize_activations_avx2(const float *x, size_t n, int8_t *q, float *d, int16_t *sums,
                                  float *s) {
    for (size_t b = 0; b < n / 32; b++) {
        const block values = load_block(x + 32 * b);
        const float max = largest_magnitude(values), inverse = 127.0f / max;
        __m256i rounded = _mm256_setzero_si256();
        if (isfinite(max) && isfinite(inverse)) {
            d[b] = max / 127.0f;
            rounded = round_block(values, _mm256_set1_ps(inverse));
        } else { /* damaged, or too small to matter */
            d[b] = isfinite(max) ? 0.0f : max;
        }
        int low, high;
        sum_halves(rounded, &low, &high);
        _mm256_storeu_si256((__m256i *)(void *)(q + 32 * b), rounded);
        sums[2 * b] = (int16_t)low;
        sums[2 * b + 1] = (int16_t)high;
        s[b] = d[b] * (float)(low + high);
    }
}
