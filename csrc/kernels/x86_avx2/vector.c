/* vector.c - norms, activation functions, rotary positions and conversions, eight at a time. What
 * is left over at the end goes through the scalar functions, or through a padded vector where lanes
 * are summed. */
#include "avx2.h"

#include "../scalar/scalar.h"
#include "exp.h"

enum { WIDTH = 8 };

void pq_rms_norm_avx2(const float *x, const float *w, float eps, size_t n, float *y) {
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 2 * WIDTH) {
        const __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + WIDTH);
        low = _mm256_fmadd_ps(a, a, low);
        high = _mm256_fmadd_ps(b, b, high);
    }
    const float r = 1.0f / sqrtf(pq_sum16_avx2(low, high) / (float)n + eps);
    const __m256 scale = _mm256_set1_ps(r);
    for (size_t i = 0; i < n; i += WIDTH) {
        const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i), scale);
        _mm256_storeu_ps(y + i, _mm256_mul_ps(scaled, _mm256_loadu_ps(w + i)));
    }
}

void pq_add_avx2(const float *x, size_t n, float *y) {
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), _mm256_loadu_ps(x + i)));
    pq_add_scalar(x + i, n - i, y + i);
}

void pq_silu_mul_avx2(const float *gate, const float *up, size_t n, float *y) {
    const __m256 one = _mm256_set1_ps(1.0f), minus = _mm256_set1_ps(-0.0f);
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const __m256 g = _mm256_loadu_ps(gate + i);
        const __m256 below = _mm256_add_ps(one, pq_exp8(_mm256_xor_ps(g, minus)));
        const __m256 silu = _mm256_div_ps(g, below);
        _mm256_storeu_ps(y + i, _mm256_mul_ps(silu, _mm256_loadu_ps(up + i)));
    }
    pq_silu_mul_scalar(gate + i, up + i, n - i, y + i);
}

/* a' = fmaf(a, c, -(b * s)), b' = fmaf(a, s, b * c) */
static inline void rotate(__m256 *a, __m256 *b, __m256 c, __m256 s, __m256 scale) {
    const __m256 first = _mm256_fmsub_ps(*a, c, _mm256_mul_ps(*b, s));
    const __m256 second = _mm256_fmadd_ps(*a, s, _mm256_mul_ps(*b, c));
    *a = _mm256_mul_ps(first, scale);
    *b = _mm256_mul_ps(second, scale);
}

static void rope_halves(float *x, const float *c, const float *s, size_t half, __m256 scale) {
    for (size_t i = 0; i < half; i += WIDTH) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + half);
        rotate(&a, &b, _mm256_loadu_ps(c + i), _mm256_loadu_ps(s + i), scale);
        _mm256_storeu_ps(x + i, a);
        _mm256_storeu_ps(x + i + half, b);
    }
}

/* The lanes of a and b are in the order 0 1 4 5 2 3 6 7, and so must the angles be. */
static void rope_pairs(float *x, const float *c, const float *s, size_t half, __m256 scale) {
    const __m256i order = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
    for (size_t i = 0; i < half; i += WIDTH) {
        const __m256 u = _mm256_loadu_ps(x + 2 * i), v = _mm256_loadu_ps(x + 2 * i + WIDTH);
        __m256 a = _mm256_shuffle_ps(u, v, 0x88), b = _mm256_shuffle_ps(u, v, 0xDD);
        rotate(&a, &b, _mm256_permutevar8x32_ps(_mm256_loadu_ps(c + i), order),
               _mm256_permutevar8x32_ps(_mm256_loadu_ps(s + i), order), scale);
        _mm256_storeu_ps(x + 2 * i, _mm256_unpacklo_ps(a, b));
        _mm256_storeu_ps(x + 2 * i + WIDTH, _mm256_unpackhi_ps(a, b));
    }
}

void pq_rope_avx2(float *x, const float *c, const float *s, size_t dim, int neox, float scale) {
    if (dim % (2 * WIDTH))
        pq_rope_scalar(x, c, s, dim, neox, scale);
    else if (neox)
        rope_halves(x, c, s, dim / 2, _mm256_set1_ps(scale));
    else
        rope_pairs(x, c, s, dim / 2, _mm256_set1_ps(scale));
}

void pq_exp_avx2(const float *x, size_t n, float *y) {
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        _mm256_storeu_ps(y + i, pq_exp8(_mm256_loadu_ps(x + i)));
    pq_exp_scalar(x + i, n - i, y + i);
}

/* As the scalar comparison does, leaves NaN out; the exponentials bring it back. */
static float largest(const float *x, size_t n) {
    __m256 lanes = _mm256_set1_ps(-INFINITY);
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        lanes = _mm256_max_ps(_mm256_loadu_ps(x + i), lanes);
    float max = -INFINITY, lane[WIDTH];
    _mm256_storeu_ps(lane, lanes);
    for (size_t l = 0; l < WIDTH; l++)
        max = lane[l] > max ? lane[l] : max;
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

float pq_logsumexp_avx2(const float *x, size_t n) {
    const float max = largest(x, n);
    const __m256 maxes = _mm256_set1_ps(max);
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 2 * WIDTH <= n; i += 2 * WIDTH) {
        low = _mm256_add_ps(low, pq_exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i), maxes)));
        high = _mm256_add_ps(high, pq_exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i + WIDTH), maxes)));
    }
    if (i < n) {
        float rest[2 * WIDTH] = {0}; /* of the exponentials: lanes without a number add 0 */
        for (size_t l = 0; i + l < n; l++)
            rest[l] = pq_exp(x[i + l] - max);
        low = _mm256_add_ps(low, _mm256_loadu_ps(rest));
        high = _mm256_add_ps(high, _mm256_loadu_ps(rest + WIDTH));
    }
    return max + logf(pq_sum16_avx2(low, high));
}

void pq_to_f16_avx2(const float *x, size_t n, uint16_t *y) {
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const __m256 v = _mm256_loadu_ps(x + i);
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
    pq_to_f16_scalar(x + i, n - i, y + i);
}

void pq_from_f16_avx2(const uint16_t *x, size_t n, float *y) {
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
    pq_from_f16_scalar(x + i, n - i, y + i);
}
