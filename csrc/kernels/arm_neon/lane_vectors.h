/* lane_vectors.h - what the block search (quantizer/lane_search.h) is made of, for NEON: four groups at a time.
 *
 * v_max(a, b) is a where a > b, else b; v_min(a, b) is a where a < b, else b. */
#ifndef PQ_NEON_LANE_VECTORS_H
#define PQ_NEON_LANE_VECTORS_H

#include <arm_neon.h>

#include "../../formats/blocks.h"

#if defined(_MSC_VER)
#define PQ_INLINE static __forceinline
#else
#define PQ_INLINE static inline __attribute__((always_inline))
#endif

enum { PQ_VEC = 4 };

typedef float32x4_t pq_vec;
typedef uint32x4_t pq_mask;

PQ_INLINE pq_vec v_load(const float *p) {
    return vld1q_f32(p);
}

PQ_INLINE void v_store(float *p, pq_vec x) {
    vst1q_f32(p, x);
}

PQ_INLINE pq_vec v_all(float x) {
    return vdupq_n_f32(x);
}

PQ_INLINE pq_vec v_add(pq_vec a, pq_vec b) {
    return vaddq_f32(a, b);
}

PQ_INLINE pq_vec v_sub(pq_vec a, pq_vec b) {
    return vsubq_f32(a, b);
}

PQ_INLINE pq_vec v_mul(pq_vec a, pq_vec b) {
    return vmulq_f32(a, b);
}

PQ_INLINE pq_vec v_div(pq_vec a, pq_vec b) {
    return vdivq_f32(a, b);
}

PQ_INLINE pq_vec v_min(pq_vec a, pq_vec b) {
    return vbslq_f32(vcltq_f32(a, b), a, b);
}

PQ_INLINE pq_vec v_max(pq_vec a, pq_vec b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

/* To the nearest integer, ties to even. */
PQ_INLINE pq_vec v_round(pq_vec x) {
    return vrndnq_f32(x);
}

PQ_INLINE pq_mask v_greater(pq_vec a, pq_vec b) {
    return vcgtq_f32(a, b);
}

PQ_INLINE pq_vec v_select(pq_mask mask, pq_vec yes, pq_vec no) {
    return vbslq_f32(mask, yes, no);
}

PQ_INLINE int v_any(pq_mask mask) {
    return vmaxvq_u32(mask) != 0;
}

/* The value of the non-linear types nearest to x; two values' border is half their sum. */
PQ_INLINE pq_vec v_nonlinear(pq_vec x) {
    static const int8_t VALUES[16] = PQ_IQ4_VALUES;
    float lane[4];
    vst1q_f32(lane, x);
    for (int i = 0; i < 4; i++) {
        int k = 0;
        for (int step = 8; step > 0; step /= 2) {
            const int border = VALUES[k + step - 1] + VALUES[k + step];
            k += 2.0f * lane[i] >= (float)border ? step : 0;
        }
        lane[i] = VALUES[k];
    }
    return vld1q_f32(lane);
}

#endif
