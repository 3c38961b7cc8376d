/* exp.h - pq_exp4 and pq_sum16_neon: scalar/exp.h and scalar/sum16.h in vectors, bit for bit. */
#ifndef PQ_NEON_EXP_H
#define PQ_NEON_EXP_H

#include <arm_neon.h>

#include "../scalar/exp.h"

static inline float32x4_t pq_exp4(float32x4_t x) {
    const float32x4_t round = vdupq_n_f32(PQ_EXP_ROUND), one = vdupq_n_f32(1.0f);
    const float32x4_t t = vfmaq_f32(round, x, vdupq_n_f32(PQ_EXP_LOG2E));
    const float32x4_t n = vsubq_f32(t, round);
    float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(PQ_EXP_LN2_HIGH));
    r = vfmsq_f32(r, n, vdupq_n_f32(PQ_EXP_LN2_LOW));
    float32x4_t p = vfmaq_f32(vdupq_n_f32(PQ_EXP_C5), vdupq_n_f32(PQ_EXP_C6), r);
    p = vfmaq_f32(vdupq_n_f32(PQ_EXP_C4), p, r);
    p = vfmaq_f32(vdupq_n_f32(PQ_EXP_C3), p, r);
    p = vfmaq_f32(vdupq_n_f32(PQ_EXP_C2), p, r);
    p = vfmaq_f32(one, p, r);
    p = vfmaq_f32(one, p, r);
    const uint32x4_t scale = vshlq_n_u32(vreinterpretq_u32_f32(t), 23);
    const uint32x4_t bits = vaddq_u32(vreinterpretq_u32_f32(p), scale);
    const uint32x4_t zero = vcltq_f32(x, vdupq_n_f32(PQ_EXP_LOWEST));
    const uint32x4_t ordinary = vcleq_f32(x, vdupq_n_f32(PQ_EXP_HIGHEST)); /* not NaN */
    p = vreinterpretq_f32_u32(vbicq_u32(bits, zero));
    return vbslq_f32(ordinary, p, vmulq_f32(x, vdupq_n_f32(INFINITY)));
}

/* Lanes 4 i .. 4 i + 3 in lanes[i]. */
static inline float pq_sum16_neon(const float32x4_t lanes[4]) {
    const float32x4_t l4 = vaddq_f32(vaddq_f32(lanes[0], lanes[2]), vaddq_f32(lanes[1], lanes[3]));
    const float32x2_t l2 = vadd_f32(vget_low_f32(l4), vget_high_f32(l4));
    return vget_lane_f32(l2, 0) + vget_lane_f32(l2, 1);
}

#endif
