/* vector.c - norms, activation functions, rotary positions and conversions, sixteen at a time. What
 * is left over at the end is one more vector, whose missing lanes are masked out. */
#include "avx512vnni.h"

#include "../scalar/scalar.h"
#include "exp.h"

enum { WIDTH = 16 };

/* The lanes of the vector at i that are among n numbers. */
static inline __mmask16 lanes_at(size_t i, size_t n) {
    return n - i >= WIDTH ? (__mmask16)0xFFFF : (__mmask16)((1u << (n - i)) - 1);
}

void pq_rms_norm_avx512vnni(const float *x, const float *w, float eps, size_t n, float *y) {
    __m512 lanes = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += WIDTH) {
        const __m512 a = _mm512_loadu_ps(x + i);
        lanes = _mm512_fmadd_ps(a, a, lanes);
    }
    const float r = 1.0f / sqrtf(pq_sum16_avx512(lanes) / (float)n + eps);
    const __m512 scale = _mm512_set1_ps(r);
    for (size_t i = 0; i < n; i += WIDTH) {
        const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x + i), scale);
        _mm512_storeu_ps(y + i, _mm512_mul_ps(scaled, _mm512_loadu_ps(w + i)));
    }
}

void pq_add_avx512vnni(const float *x, size_t n, float *y) {
    for (size_t i = 0; i < n; i += WIDTH) {
        const __mmask16 m = lanes_at(i, n);
        const __m512 a = _mm512_maskz_loadu_ps(m, y + i), b = _mm512_maskz_loadu_ps(m, x + i);
        _mm512_mask_storeu_ps(y + i, m, _mm512_add_ps(a, b));
    }
}

void pq_silu_mul_avx512vnni(const float *gate, const float *up, size_t n, float *y) {
    const __m512 one = _mm512_set1_ps(1.0f), minus = _mm512_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += WIDTH) {
        const __mmask16 m = lanes_at(i, n);
        const __m512 g = _mm512_maskz_loadu_ps(m, gate + i), u = _mm512_maskz_loadu_ps(m, up + i);
        const __m512 below = _mm512_add_ps(one, pq_exp16(_mm512_xor_ps(g, minus)));
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(_mm512_div_ps(g, below), u));
    }
}

/* a' = fmaf(a, c, -(b * s)), b' = fmaf(a, s, b * c) */
static inline void rotate(__m512 *a, __m512 *b, __m512 c, __m512 s, __m512 scale) {
    const __m512 first = _mm512_fmsub_ps(*a, c, _mm512_mul_ps(*b, s));
    const __m512 second = _mm512_fmadd_ps(*a, s, _mm512_mul_ps(*b, c));
    *a = _mm512_mul_ps(first, scale);
    *b = _mm512_mul_ps(second, scale);
}

static void rope_halves(float *x, const float *c, const float *s, size_t half, __m512 scale) {
    for (size_t i = 0; i < half; i += WIDTH) {
        const __mmask16 m = lanes_at(i, half);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i), b = _mm512_maskz_loadu_ps(m, x + i + half);
        rotate(&a, &b, _mm512_maskz_loadu_ps(m, c + i), _mm512_maskz_loadu_ps(m, s + i), scale);
        _mm512_mask_storeu_ps(x + i, m, a);
        _mm512_mask_storeu_ps(x + i + half, m, b);
    }
}

/* half is a multiple of 16. */
static void rope_pairs(float *x, const float *c, const float *s, size_t half, __m512 scale) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i even = _mm512_slli_epi32(lane, 1),
                  odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
    /* lane i comes from lane i / 2 of a if i is even, else of b; b's lanes are numbered from 16 */
    const __m512i low =
        _mm512_or_si512(_mm512_srli_epi32(lane, 1),
                        _mm512_slli_epi32(_mm512_and_si512(lane, _mm512_set1_epi32(1)), 4));
    const __m512i high = _mm512_or_si512(low, _mm512_set1_epi32(8));
    for (size_t i = 0; i < half; i += WIDTH) {
        const __m512 u = _mm512_loadu_ps(x + 2 * i), v = _mm512_loadu_ps(x + 2 * i + WIDTH);
        __m512 a = _mm512_permutex2var_ps(u, even, v), b = _mm512_permutex2var_ps(u, odd, v);
        rotate(&a, &b, _mm512_loadu_ps(c + i), _mm512_loadu_ps(s + i), scale);
        _mm512_storeu_ps(x + 2 * i, _mm512_permutex2var_ps(a, low, b));
        _mm512_storeu_ps(x + 2 * i + WIDTH, _mm512_permutex2var_ps(a, high, b));
    }
}

void pq_rope_avx512vnni(float *x, const float *c, const float *s, size_t dim, int neox,
                        float scale) {
    if (neox)
        rope_halves(x, c, s, dim / 2, _mm512_set1_ps(scale));
    else if (dim % (2 * WIDTH) == 0)
        rope_pairs(x, c, s, dim / 2, _mm512_set1_ps(scale));
    else
        pq_rope_scalar(x, c, s, dim, neox, scale);
}

void pq_exp_avx512vnni(const float *x, size_t n, float *y) {
    for (size_t i = 0; i < n; i += WIDTH) {
        const __mmask16 m = lanes_at(i, n);
        _mm512_mask_storeu_ps(y + i, m, pq_exp16(_mm512_maskz_loadu_ps(m, x + i)));
    }
}

/* As the scalar comparison does, leaves NaN out; the exponentials bring it back. */
static float largest(const float *x, size_t n) {
    const __m512 nothing = _mm512_set1_ps(-INFINITY);
    __m512 lanes = nothing;
    for (size_t i = 0; i < n; i += WIDTH)
        lanes = _mm512_max_ps(_mm512_mask_loadu_ps(nothing, lanes_at(i, n), x + i), lanes);
    return _mm512_reduce_max_ps(lanes);
}

float pq_logsumexp_avx512vnni(const float *x, size_t n) {
    const float max = largest(x, n);
    const __m512 maxes = _mm512_set1_ps(max);
    __m512 lanes = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += WIDTH) {
        const __mmask16 m = lanes_at(i, n);
        const __m512 e = pq_exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), maxes));
        lanes = _mm512_mask_add_ps(lanes, m, lanes, e);
    }
    return max + logf(pq_sum16_avx512(lanes));
}

void pq_to_f16_avx512vnni(const float *x, size_t n, uint16_t *y) {
    for (size_t i = 0; i < n; i += WIDTH) {
        const __mmask16 m = lanes_at(i, n);
        const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        _mm256_mask_storeu_epi16(y + i, m, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
}

void pq_from_f16_avx512vnni(const uint16_t *x, size_t n, float *y) {
    for (size_t i = 0; i < n; i += WIDTH) {
        const __mmask16 m = lanes_at(i, n);
        _mm512_mask_storeu_ps(y + i, m, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, x + i)));
    }
}
