/* quantize.c - activations to int8: the specification. */
#include "scalar.h"

#include <math.h>
#include <string.h>

static float largest_magnitude(const float *x, size_t n) {
    uint32_t largest = 0; /* as bits, where NaN is above infinity is above every number */
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7FFFFFFF;
        largest = bits > largest ? bits : largest;
    }
    float out;
    memcpy(&out, &largest, sizeof out);
    return out;
}

static void quantize_block(const float *x, size_t n, int8_t *q, float *d) {
    const float max = largest_magnitude(x, n);
    const float inverse = 127.0f / max;
    if (!isfinite(max) || !isfinite(inverse)) { /* damaged, or too small to matter */
        *d = isfinite(max) ? 0.0f : max;
        memset(q, 0, n);
        return;
    }
    *d = max / 127.0f;
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)lrintf(x[i] * inverse);
}

void pq_quantize_scalar(const float *x, size_t n, size_t block, int8_t *q, float *d,
                        int16_t *sums) {
    for (size_t i = 0; i < n; i += block)
        quantize_block(x + i, block, q + i, d + i / block);
    for (size_t i = 0; i < n; i += 16) {
        int sum = 0;
        for (size_t j = i; j < i + 16; j++)
            sum += q[j];
        sums[i / 16] = (int16_t)sum;
    }
}
