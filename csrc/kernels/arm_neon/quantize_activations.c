/* quantize_activations.c - activations to int8, 32 at a time. */
#include "neon.h"

#include <arm_neon.h>
#include <math.h>

typedef struct block {
    float32x4_t x[8];
} block;

static block load_block(const float *x) {
    block b;
    for (int i = 0; i < 8; i++)
        b.x[i] = vld1q_f32(x + 4 * i);
    return b;
}

/* The largest magnitude, compared as bits: NaN is above infinity is above every number. */
static float largest_magnitude(const block *b) {
    uint32x4_t m = vdupq_n_u32(0);
    for (int i = 0; i < 8; i++)
        m = vmaxq_u32(m, vreinterpretq_u32_f32(vabsq_f32(b->x[i])));
    return vgetq_lane_f32(vreinterpretq_f32_u32(vdupq_n_u32(vmaxvq_u32(m))), 0);
}

/* Eight of them, rounded to nearest even. */
static int8x8_t round_8(const float32x4_t x[2], float inverse) {
    const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(x[0], inverse));
    const int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(x[1], inverse));
    return vqmovn_s16(vcombine_s16(vqmovn_s32(low), vqmovn_s32(high)));
}

void pq_quantize_activations_neon(const float *x, size_t n, int8_t *q, float *d, int16_t *sums,
                                  float *s) {
    for (size_t b = 0; b < n / 32; b++) {
        const block values = load_block(x + 32 * b);
        const float max = largest_magnitude(&values), inverse = 127.0f / max;
        int8x16_t low = vdupq_n_s8(0), high = low;
        if (isfinite(max) && isfinite(inverse)) {
            d[b] = max / 127.0f;
            low = vcombine_s8(round_8(values.x, inverse), round_8(values.x + 2, inverse));
            high = vcombine_s8(round_8(values.x + 4, inverse), round_8(values.x + 6, inverse));
        } else { /* damaged, or too small to matter */
            d[b] = isfinite(max) ? 0.0f : max;
        }
        vst1q_s8(q + 32 * b, low);
        vst1q_s8(q + 32 * b + 16, high);
        sums[2 * b] = vaddlvq_s8(low);
        sums[2 * b + 1] = vaddlvq_s8(high);
        s[b] = d[b] * (float)(sums[2 * b] + sums[2 * b + 1]);
    }
}
