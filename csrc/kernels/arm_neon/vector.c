/* vector.c - norms, activation functions, rotary positions and conversions, four at a time. What
 * is left over at the end goes through the scalar functions, or through padded vectors where lanes
 * are summed. */
#include "neon.h"

#include "../scalar/scalar.h"
#include "exp.h"

enum { WIDTH = 4, LANES = 16 };

void pq_rms_norm_neon(const float *x, const float *w, float eps, size_t n, float *y) {
    float32x4_t lanes[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    for (size_t i = 0; i < n; i += LANES) {
        for (int l = 0; l < 4; l++) {
            const float32x4_t v = vld1q_f32(x + i + l * WIDTH);
            lanes[l] = vfmaq_f32(lanes[l], v, v);
        }
    }
    const float r = 1.0f / sqrtf(pq_sum16_neon(lanes) / (float)n + eps);
    for (size_t i = 0; i < n; i += WIDTH)
        vst1q_f32(y + i, vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), r), vld1q_f32(w + i)));
}

void pq_add_neon(const float *x, size_t n, float *y) {
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        vst1q_f32(y + i, vaddq_f32(vld1q_f32(y + i), vld1q_f32(x + i)));
    pq_add_scalar(x + i, n - i, y + i);
}

void pq_silu_mul_neon(const float *gate, const float *up, size_t n, float *y) {
    const float32x4_t one = vdupq_n_f32(1.0f);
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const float32x4_t g = vld1q_f32(gate + i);
        const float32x4_t silu = vdivq_f32(g, vaddq_f32(one, pq_exp4(vnegq_f32(g))));
        vst1q_f32(y + i, vmulq_f32(silu, vld1q_f32(up + i)));
    }
    pq_silu_mul_scalar(gate + i, up + i, n - i, y + i);
}

/* a' = fmaf(a, c, -(b * s)), b' = fmaf(a, s, b * c) */
static inline void rotate(float32x4_t *a, float32x4_t *b, float32x4_t c, float32x4_t s,
                          float scale) {
    const float32x4_t first = vfmaq_f32(vnegq_f32(vmulq_f32(*b, s)), *a, c);
    const float32x4_t second = vfmaq_f32(vmulq_f32(*b, c), *a, s);
    *a = vmulq_n_f32(first, scale);
    *b = vmulq_n_f32(second, scale);
}

static void rope_halves(float *x, const float *c, const float *s, size_t half, float scale) {
    for (size_t i = 0; i < half; i += WIDTH) {
        float32x4_t a = vld1q_f32(x + i), b = vld1q_f32(x + i + half);
        rotate(&a, &b, vld1q_f32(c + i), vld1q_f32(s + i), scale);
        vst1q_f32(x + i, a);
        vst1q_f32(x + i + half, b);
    }
}

static void rope_pairs(float *x, const float *c, const float *s, size_t half, float scale) {
    for (size_t i = 0; i < half; i += WIDTH) {
        float32x4x2_t pair = vld2q_f32(x + 2 * i);
        rotate(&pair.val[0], &pair.val[1], vld1q_f32(c + i), vld1q_f32(s + i), scale);
        vst2q_f32(x + 2 * i, pair);
    }
}

void pq_rope_neon(float *x, const float *c, const float *s, size_t dim, int neox, float scale) {
    if (dim % (2 * WIDTH))
        pq_rope_scalar(x, c, s, dim, neox, scale);
    else if (neox)
        rope_halves(x, c, s, dim / 2, scale);
    else
        rope_pairs(x, c, s, dim / 2, scale);
}

void pq_exp_neon(const float *x, size_t n, float *y) {
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        vst1q_f32(y + i, pq_exp4(vld1q_f32(x + i)));
    pq_exp_scalar(x + i, n - i, y + i);
}

/* As the scalar comparison does, leaves NaN out (fmaxnm); the exponentials bring it back. */
static float largest(const float *x, size_t n) {
    float32x4_t lanes = vdupq_n_f32(-INFINITY);
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        lanes = vmaxnmq_f32(lanes, vld1q_f32(x + i));
    float max = vmaxnmvq_f32(lanes);
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

float pq_logsumexp_neon(const float *x, size_t n) {
    const float max = largest(x, n);
    const float32x4_t maxes = vdupq_n_f32(max);
    float32x4_t lanes[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < 4; l++) {
            const float32x4_t v = vsubq_f32(vld1q_f32(x + i + l * WIDTH), maxes);
            lanes[l] = vaddq_f32(lanes[l], pq_exp4(v));
        }
    }
    if (i < n) {
        float rest[LANES] = {0}; /* of the exponentials: lanes without a number add 0 */
        for (size_t l = 0; i + l < n; l++)
            rest[l] = pq_exp(x[i + l] - max);
        for (int l = 0; l < 4; l++)
            lanes[l] = vaddq_f32(lanes[l], vld1q_f32(rest + l * WIDTH));
    }
    return max + logf(pq_sum16_neon(lanes));
}

void pq_to_f16_neon(const float *x, size_t n, uint16_t *y) {
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        vst1_u16(y + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
    pq_to_f16_scalar(x + i, n - i, y + i);
}

void pq_from_f16_neon(const uint16_t *x, size_t n, float *y) {
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        vst1q_f32(y + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x + i))));
    pq_from_f16_scalar(x + i, n - i, y + i);
}
