/* exp.h - pq_exp, the one definition of the exponential.
 *
 * x = n * ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite: ln 2 in two parts, the first exact when
 * multiplied by n), a polynomial for exp(r), and n added to the exponent bits. Each step is one
 * operation that SIMD has too, so that every instruction set gets the same bits; templates/exp.h
 * is this file in vectors. Measured over all floats: within 1 ulp of the true value for -87.3 <=
 * x <= 88.72283, 0 below, infinity above; NaN gives NaN.
 */
#ifndef PQ_SCALAR_EXP_H
#define PQ_SCALAR_EXP_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define PQ_EXP_LOWEST -87.3f
#define PQ_EXP_HIGHEST 88.72283f
#define PQ_EXP_LOG2E 0x1.715476p+0f
#define PQ_EXP_LN2_HIGH 0x1.62e400p-1f /* 15 bits: times |n| <= 128 it is exact */
#define PQ_EXP_LN2_LOW 0x1.7f7d1cp-20f
/* 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits. */
#define PQ_EXP_ROUND 0x1.8p+23f
/* exp(r) = 1 + r + r^2 * (C2 + C3 r + ... + C6 r^4), minimax in the relative error: 2^-28. */
#define PQ_EXP_C2 0x1.fffffcp-2f
#define PQ_EXP_C3 0x1.555492p-3f
#define PQ_EXP_C4 0x1.5558f2p-5f
#define PQ_EXP_C5 0x1.123a20p-7f
#define PQ_EXP_C6 0x1.6a23cep-10f

static inline float pq_exp(float x) {
    if (x < PQ_EXP_LOWEST)
        return 0.0f;
    if (!(x <= PQ_EXP_HIGHEST)) /* NaN too */
        return x * INFINITY;
    const float t = fmaf(x, PQ_EXP_LOG2E, PQ_EXP_ROUND);
    const float n = t - PQ_EXP_ROUND;
    const float r = fmaf(n, -PQ_EXP_LN2_LOW, fmaf(n, -PQ_EXP_LN2_HIGH, x));
    float p = fmaf(PQ_EXP_C6, r, PQ_EXP_C5);
    p = fmaf(p, r, PQ_EXP_C4);
    p = fmaf(p, r, PQ_EXP_C3);
    p = fmaf(p, r, PQ_EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    uint32_t scale, bits;
    memcpy(&scale, &t, sizeof scale);
    memcpy(&bits, &p, sizeof bits);
    bits += scale << 23;
    memcpy(&p, &bits, sizeof p);
    return p;
}

#endif
