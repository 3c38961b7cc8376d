/* quantize_activations.c - activations to int8: the specification. */
#include "scalar.h"

#include <math.h>
#include <string.h>

static void quantize_block(const float *x, int8_t *q, float *d) {
    const float max = pq_largest_magnitude(x, 32);
    const float inverse = 127.0f / max;
    if (!isfinite(max) || !isfinite(inverse)) { /* damaged, or too small to matter */
        *d = isfinite(max) ? 0.0f : max;
        memset(q, 0, 32);
        return;
    }
    *d = max / 127.0f;
    for (size_t i = 0; i < 32; i++)
        q[i] = (int8_t)lrintf(x[i] * inverse);
}

static int sum_16(const int8_t *q) {
    int sum = 0;
    for (size_t i = 0; i < 16; i++)
        sum += q[i];
    return sum;
}

void pq_quantize_activations_scalar(const float *x, size_t n, int8_t *q, float *d, int16_t *sums,
                                    float *s) {
    for (size_t b = 0; b < n / 32; b++) {
        quantize_block(x + 32 * b, q + 32 * b, &d[b]);
        const int low = sum_16(q + 32 * b), high = sum_16(q + 32 * b + 16);
        sums[2 * b] = (int16_t)low;
        sums[2 * b + 1] = (int16_t)high;
        s[b] = d[b] * (float)(low + high);
    }
}
