/* vectors.h - what the templates of kernels and the search of the quantizer are made of, for NEON: four float32.
 *
 * v_max(a, b) is a where a > b, else b; v_min(a, b) is a where a < b, else b. Addresses need no alignment. */
#ifndef PQ_NEON_VECTORS_H
#define PQ_NEON_VECTORS_H

#include <arm_neon.h>
#include <stddef.h>
#include <string.h>

#include "../../formats/blocks.h"
#include "../inline.h"

#define PQ_NAME(name) pq_##name##_neon

enum { PQ_VEC = 4, PQ_LANES = 8 }; /* LANES: rows of a panel */
#define PQ_EACH_MOST 4             /* repeated statements have lane numbers, 0 .. 3 */

typedef float32x4_t pq_vec;
typedef uint32x4_t pq_mask;

PQ_INLINE pq_vec v_load(const float *p) {
    return vld1q_f32(p);
}

PQ_INLINE void v_store(float *p, pq_vec x) {
    vst1q_f32(p, x);
}

/* float16 to float32. */
PQ_INLINE pq_vec v_load_halves(const void *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t *)p)));
}

/* bfloat16, the upper half of a float32. */
PQ_INLINE pq_vec v_load_upper(const void *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8((const uint8_t *)p)), 16));
}

/* To float16, to nearest even. */
PQ_INLINE void v_store_halves(void *p, pq_vec x) {
    vst1_u8((uint8_t *)p, vreinterpret_u8_f16(vcvt_f16_f32(x)));
}

/* The first `count` lanes, 1 .. PQ_VEC. */
PQ_INLINE void v_store_first(float *p, size_t count, pq_vec x) {
    if (count >= PQ_VEC) {
        vst1q_f32(p, x);
    } else {
        float all[PQ_VEC];
        vst1q_f32(all, x);
        memcpy(p, all, count * sizeof *p);
    }
}

/* Arm's processors were not measured: nothing is asked for ahead. */
PQ_INLINE void v_prefetch(const void *p) {
    (void)p;
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

/* a * b + c, a * b - c and c - a * b, rounded once. */
PQ_INLINE pq_vec v_fma(pq_vec a, pq_vec b, pq_vec c) {
    return vfmaq_f32(c, a, b);
}

PQ_INLINE pq_vec v_fms(pq_vec a, pq_vec b, pq_vec c) {
    return vfmaq_f32(vnegq_f32(c), a, b);
}

PQ_INLINE pq_vec v_fnma(pq_vec a, pq_vec b, pq_vec c) {
    return vfmsq_f32(c, a, b);
}

PQ_INLINE pq_vec v_negate(pq_vec x) {
    return vnegq_f32(x);
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

/* False for NaN, as > is. */
PQ_INLINE pq_mask v_at_least(pq_vec a, pq_vec b) {
    return vcgeq_f32(a, b);
}

/* 0 where not. */
PQ_INLINE pq_vec v_where(pq_mask mask, pq_vec x) {
    return vreinterpretq_f32_u32(vandq_u32(mask, vreinterpretq_u32_f32(x)));
}

PQ_INLINE pq_vec v_select(pq_mask mask, pq_vec yes, pq_vec no) {
    return vbslq_f32(mask, yes, no);
}

PQ_INLINE int v_any(pq_mask mask) {
    return vmaxvq_u32(mask) != 0;
}

/* x with the integer in the low bits of n added to its exponent. */
PQ_INLINE pq_vec v_scale_exponent(pq_vec x, pq_vec n) {
    const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(n), 23);
    return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(x), exponent));
}

/* Of all lanes, none of which is NaN. */
PQ_INLINE float v_largest(pq_vec x) {
    return vmaxnmvq_f32(x);
}

/* scalar/sum16.h. */
PQ_INLINE float v_sum16(const pq_vec lanes[16 / PQ_VEC]) {
    const float32x4_t l4 = vaddq_f32(vaddq_f32(lanes[0], lanes[2]), vaddq_f32(lanes[1], lanes[3]));
    const float32x2_t l2 = vadd_f32(vget_low_f32(l4), vget_high_f32(l4));
    return vget_lane_f32(l2, 0) + vget_lane_f32(l2, 1);
}

/* Pairs of neighbors in two vectors, to their first and their second numbers, and back. In between, the lanes are in
 * the order in which v_as_unzipped puts those of another vector. */
PQ_INLINE pq_vec v_unzip_first(pq_vec a, pq_vec b) {
    return vuzp1q_f32(a, b);
}

PQ_INLINE pq_vec v_unzip_second(pq_vec a, pq_vec b) {
    return vuzp2q_f32(a, b);
}

PQ_INLINE pq_vec v_as_unzipped(pq_vec x) {
    return x;
}

PQ_INLINE pq_vec v_zip_low(pq_vec first, pq_vec second) {
    return vzip1q_f32(first, second);
}

PQ_INLINE pq_vec v_zip_high(pq_vec first, pq_vec second) {
    return vzip2q_f32(first, second);
}

/* The largest magnitude of 32 numbers, compared as bits: NaN is above infinity is above every number. */
PQ_INLINE float v_largest_magnitude(const pq_vec x[32 / PQ_VEC]) {
    uint32x4_t m = vdupq_n_u32(0);
    for (int i = 0; i < 8; i++)
        m = vmaxq_u32(m, vreinterpretq_u32_f32(vabsq_f32(x[i])));
    return vgetq_lane_f32(vreinterpretq_f32_u32(vdupq_n_u32(vmaxvq_u32(m))), 0);
}

/* 32 bytes. */
typedef int8x16x2_t pq_bytes32;

PQ_INLINE pq_bytes32 v_zero_bytes(void) {
    return (pq_bytes32){{vdupq_n_s8(0), vdupq_n_s8(0)}};
}

/* 32 numbers to the nearest integers, ties to even. */
PQ_INLINE pq_bytes32 v_to_bytes(const pq_vec x[32 / PQ_VEC]) {
    pq_bytes32 out;
    for (int i = 0; i < 2; i++) {
        int16x4_t four[4];
        for (int k = 0; k < 4; k++)
            four[k] = vqmovn_s32(vcvtnq_s32_f32(x[4 * i + k]));
        out.val[i] = vcombine_s8(vqmovn_s16(vcombine_s16(four[0], four[1])),
                                 vqmovn_s16(vcombine_s16(four[2], four[3])));
    }
    return out;
}

PQ_INLINE void v_store_bytes(void *p, pq_bytes32 x) {
    vst1q_s8((int8_t *)p, x.val[0]);
    vst1q_s8((int8_t *)p + 16, x.val[1]);
}

/* The sums of the lower and the upper 16. */
PQ_INLINE void v_sum_bytes(pq_bytes32 x, int sums[2]) {
    sums[0] = vaddlvq_s8(x.val[0]);
    sums[1] = vaddlvq_s8(x.val[1]);
}

/* Lanes `distance` apart change places; distance is 1 or 2, and bit `distance` tells the two apart. */
PQ_INLINE pq_vec v_swap_neighbors(pq_vec x, const int distance) {
    return distance == 1 ? vrev64q_f32(x) : vextq_f32(x, x, 2);
}

/* ------------------------------------------- integers and pairs of them, for attention over integers */

typedef int32x4_t pq_ints;

PQ_INLINE pq_ints pq_zero(void) {
    return vdupq_n_s32(0);
}

PQ_INLINE pq_ints pq_all_ints(const int value) {
    return vdupq_n_s32(value);
}

PQ_INLINE pq_ints pq_load_ints(const void *p) {
    return vld1q_s32((const int32_t *)p);
}

PQ_INLINE void v_store_ints(void *p, pq_ints x) {
    vst1q_s32((int32_t *)p, x);
}

PQ_INLINE pq_ints pq_subtract(pq_ints a, pq_ints b) {
    return vsubq_s32(a, b);
}

PQ_INLINE pq_vec pq_to_float(pq_ints x) {
    return vcvtq_f32_s32(x);
}

/* The first and the second number of each lane's pair. */
typedef struct pq_pairs {
    int16x4_t first, second;
} pq_pairs;

PQ_INLINE pq_pairs v_split_pairs(int16x8_t x) {
    return (pq_pairs){vget_low_s16(vuzp1q_s16(x, x)), vget_low_s16(vuzp2q_s16(x, x))};
}

PQ_INLINE pq_pairs v_load_pairs(const void *p) {
    return v_split_pairs(vmovl_s8(vld1_s8((const int8_t *)p)));
}

PQ_INLINE pq_pairs v_load_words(const int16_t *p) {
    return v_split_pairs(vld1q_s16(p));
}

/* Two neighboring numbers in every lane. */
PQ_INLINE pq_pairs v_all_pair(const int16_t *p) {
    return (pq_pairs){vdup_n_s16(p[0]), vdup_n_s16(p[1])};
}

PQ_INLINE pq_pairs v_load_low_nibbles(const void *p) {
    const uint8x8_t low = vand_u8(vld1_u8((const uint8_t *)p), vdup_n_u8(15));
    return v_split_pairs(vreinterpretq_s16_u16(vmovl_u8(low)));
}

PQ_INLINE pq_pairs v_load_high_nibbles(const void *p) {
    const uint8x8_t high = vshr_n_u8(vld1_u8((const uint8_t *)p), 4);
    return v_split_pairs(vreinterpretq_s16_u16(vmovl_u8(high)));
}

/* Bit `bit` of every byte becomes bit 4 of x's number. */
PQ_INLINE pq_pairs v_add_fifth_bit(pq_pairs x, const void *line, const int bit) {
    const uint8x8_t set = vtst_u8(vld1_u8((const uint8_t *)line), vdup_n_u8((uint8_t)(1 << bit)));
    const uint8x8_t sixteen = vand_u8(set, vdup_n_u8(16));
    const pq_pairs high = v_split_pairs(vreinterpretq_s16_u16(vmovl_u8(sixteen)));
    return (pq_pairs){vorr_s16(x.first, high.first), vorr_s16(x.second, high.second)};
}

/* sum + both products. */
PQ_INLINE pq_ints v_dot_pairs(pq_ints sum, pq_pairs a, pq_pairs b) {
    return vmlal_s16(vmlal_s16(sum, a.first, b.first), a.second, b.second);
}

/* 16 numbers to the nearest integers, ties to even. */
PQ_INLINE void v_store_words(int16_t *p, const pq_vec x[16 / PQ_VEC]) {
    for (int i = 0; i < 4; i++)
        vst1_s16(p + 4 * i, vqmovn_s32(vcvtnq_s32_f32(x[i])));
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
