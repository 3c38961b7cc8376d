/* coarse.c - see coarse.h. A model is measured with it so that the result can be compared with
 * llama.cpp's: one outlier among 256 blurs all of them, and the divergence of a Q4_K_M file of
 * Qwen2.5-Coder-1.5B grows by a tenth. (Source: quantize_row_q8_K_ref in ggml-quants.c of llama.cpp; here the sign of d is
 * positive.) Running a model never uses it.
 */
#include "coarse.h"

#include <math.h>

enum { BLOCK = 256 };

static float largest_magnitude(const float *x) {
    float largest = 0.0f;
    for (size_t i = 0; i < BLOCK; i++) {
        const float magnitude = fabsf(x[i]);
        if (!(magnitude <= largest)) /* NaN stays: nothing is above it */
            largest = magnitude;
        if (isnan(largest))
            break;
    }
    return largest;
}

void pq_quantize_coarse(const float *x, size_t n, int8_t *q, float *d, int16_t *sums, float *s) {
    for (size_t begin = 0; begin < n; begin += BLOCK) {
        const float max = largest_magnitude(x + begin), inverse = 127.0f / max;
        const int is_fine = isfinite(max) && isfinite(inverse);
        const float scale = is_fine ? max / 127.0f : isfinite(max) ? 0.0f : max;
        for (size_t i = begin; i < begin + BLOCK; i++)
            q[i] = is_fine ? (int8_t)lrintf(x[i] * inverse) : 0;
        for (size_t half = begin / 16; half < (begin + BLOCK) / 16; half++) {
            int sum = 0;
            for (size_t i = 0; i < 16; i++)
                sum += q[16 * half + i];
            sums[half] = (int16_t)sum;
        }
        for (size_t b = begin / 32; b < (begin + BLOCK) / 32; b++) {
            d[b] = scale;
            s[b] = scale * (float)(sums[2 * b] + sums[2 * b + 1]);
        }
    }
}
