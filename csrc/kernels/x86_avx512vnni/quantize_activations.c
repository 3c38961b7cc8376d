/* quantize_activations.c - activations to int8, 32 at a time. */
#include "avx512vnni.h"

#include <immintrin.h>
#include <math.h>

/* The largest magnitude, compared as bits: NaN is above infinity is above every number. */
static inline float largest_magnitude(__m512 a, __m512 b) {
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    const __m512i m = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a), magnitude),
                                       _mm512_and_si512(_mm512_castps_si512(b), magnitude));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((int)_mm512_reduce_max_epu32(m))));
}

static inline __m128i round_16(__m512 x, __m512 inverse) {
    return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)));
}

static inline int sum_16(__m128i q) {
    return _mm512_reduce_add_epi32(_mm512_cvtepi8_epi32(q));
}

void pq_quantize_activations_avx512vnni(const float *x, size_t n, int8_t *q, float *d,
                                        int16_t *sums, float *s) {
    for (size_t b = 0; b < n / 32; b++) {
        const __m512 low = _mm512_loadu_ps(x + 32 * b), high = _mm512_loadu_ps(x + 32 * b + 16);
        const float max = largest_magnitude(low, high), inverse = 127.0f / max;
        __m128i q_low = _mm_setzero_si128(), q_high = _mm_setzero_si128();
        if (isfinite(max) && isfinite(inverse)) {
            d[b] = max / 127.0f;
            q_low = round_16(low, _mm512_set1_ps(inverse));
            q_high = round_16(high, _mm512_set1_ps(inverse));
        } else { /* damaged, or too small to matter */
            d[b] = isfinite(max) ? 0.0f : max;
        }
        _mm_storeu_si128((__m128i *)(void *)(q + 32 * b), q_low);
        _mm_storeu_si128((__m128i *)(void *)(q + 32 * b + 16), q_high);
        const int sum_low = sum_16(q_low), sum_high = sum_16(q_high);
        sums[2 * b] = (int16_t)sum_low;
        sums[2 * b + 1] = (int16_t)sum_high;
        s[b] = d[b] * (float)(sum_low + sum_high);
    }
}
