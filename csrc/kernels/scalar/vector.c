/* vector.c - norms, activation functions, rotary positions and conversions: the specification. */
#include "scalar.h"

#include <math.h>

#include "../../formats/f16.h"
#include "exp.h"
#include "sum16.h"

void pq_rms_norm_scalar(const float *x, const float *w, float eps, size_t n, float *y) {
    float lanes[16] = {0};
    for (size_t i = 0; i < n; i++)
        lanes[i % 16] = fmaf(x[i], x[i], lanes[i % 16]);
    const float r = 1.0f / sqrtf(pq_sum16(lanes) / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * r * w[i];
}

void pq_add_scalar(const float *x, size_t n, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

void pq_silu_mul_scalar(const float *gate, const float *up, size_t n, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] = gate[i] / (1.0f + pq_exp(-gate[i])) * up[i];
}

void pq_rope_scalar(float *x, const float *c, const float *s, size_t dim, int neox, float scale) {
    const size_t half = dim / 2;
    for (size_t i = 0; i < half; i++) {
        float *first = neox ? &x[i] : &x[2 * i];
        float *second = neox ? &x[i + half] : &x[2 * i + 1];
        const float a = *first, b = *second;
        *first = fmaf(a, c[i], -(b * s[i])) * scale;
        *second = fmaf(a, s[i], b * c[i]) * scale;
    }
}

void pq_exp_scalar(const float *x, size_t n, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] = pq_exp(x[i]);
}

float pq_logsumexp_scalar(const float *x, size_t n) {
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    float lanes[16] = {0};
    for (size_t i = 0; i < n; i++)
        lanes[i % 16] += pq_exp(x[i] - max);
    return max + logf(pq_sum16(lanes));
}

void pq_to_f16_scalar(const float *x, size_t n, uint16_t *y) {
    for (size_t i = 0; i < n; i++)
        y[i] = pq_f32_to_f16(x[i]);
}

void pq_from_f16_scalar(const uint16_t *x, size_t n, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] = pq_f16_to_f32(x[i]);
}

void pq_hadamard_scalar(float *x, size_t n) {
    const size_t size = n & (~n + 1); /* the largest power of two in n */
    for (size_t h = 1; h < size; h *= 2) {
        for (size_t i = 0; i < n; i++) {
            if (i & h)
                continue;
            const float a = x[i], b = x[i + h];
            x[i] = a + b;
            x[i + h] = a - b;
        }
    }
    const float scale = (float)(1.0 / sqrt((double)size));
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
}
