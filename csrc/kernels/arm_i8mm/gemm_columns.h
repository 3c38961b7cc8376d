/* gemm_columns.h - 16 columns of 4 rows times the tokens of a tile, two of them at a time: a template as
 * arm_neon/gemm_columns.h is. chain_of(type) is not needed: sums are 32 bits wide from the start.
 */
#ifndef PQ_I8MM_GEMM_COLUMNS_H
#define PQ_I8MM_GEMM_COLUMNS_H

#include "../arm_neon/quants_all.h"

/* 8 neighboring columns: low of rows 0 and 1, high of rows 2 and 3. */
typedef struct row_pairs {
    int8x16_t low, high;
} row_pairs;

/* From columns 0 .. 3 and 4 .. 7 of 4 rows. */
PQ_INLINE row_pairs pair_rows(int8x16_t columns, int8x16_t next) {
    const int32x4_t a = vreinterpretq_s32_s8(columns), b = vreinterpretq_s32_s8(next);
    return (row_pairs){vreinterpretq_s8_s32(vzip1q_s32(a, b)),
                       vreinterpretq_s8_s32(vzip2q_s32(a, b))};
}

/* Columns 0 .. 3 of 4 rows again, or 4 .. 7. */
PQ_INLINE int8x16_t four_rows(row_pairs w, const int next) {
    const int32x4_t a = vreinterpretq_s32_s8(w.low), b = vreinterpretq_s32_s8(w.high);
    return vreinterpretq_s8_s32(next ? vuzp2q_s32(a, b) : vuzp1q_s32(a, b));
}

/* Unpacked panels hold their rows in pairs already. */
PQ_INLINE void store_pair(int8_t *out, int8x16_t columns, int8x16_t next) {
    const row_pairs w = pair_rows(columns, next);
    vst1q_s8(out, w.low);
    vst1q_s8(out + 32, w.high);
}

/* Columns 0 .. 7 (or 8 .. 15) of two tokens. */
PQ_INLINE int8x16_t pair_tokens(int8x16_t x, int8x16_t y, const int high) {
    const int64x2_t a = vreinterpretq_s64_s8(x), b = vreinterpretq_s64_s8(y);
    return vreinterpretq_s8_s64(high ? vzip2q_s64(a, b) : vzip1q_s64(a, b));
}

/* dot (tokens t, t + 1) += the products of 8 columns. */
PQ_INLINE void multiply_pairs(row_pairs w, int8x16_t x, pq_dot *dot) {
    dot[0].sums = vmmlaq_s32(dot[0].sums, w.low, x);
    dot[1].sums = vmmlaq_s32(dot[1].sums, w.high, x);
}

/* Adds the products of columns 128 h + 32 s + 16 u .. + 15 to dot (tokens). q[t] + k: the
 * activations of the first of these columns. */
PQ_INLINE void multiply_16(const uint32_t type, const int unpacked, const int n,
                           const uint8_t *group, size_t h, const int s, const int u,
                           const int8_t *const *q, size_t k, pq_dot *dot) {
    int8x16_t x[PQ_MAX_TILE];
    PQ_EACH(t, n, { x[t] = pq_load_activations(q[t] + k); });
    PQ_EACH(half, 2, {
        const int8x16_t first = quants(type, unpacked, group, h, s, 4 * u + 2 * half);
        const int8x16_t second = quants(type, unpacked, group, h, s, 4 * u + 2 * half + 1);
        const row_pairs w = unpacked ? (row_pairs){first, second} : pair_rows(first, second);
        if (n >= 2)
            multiply_pairs(w, pair_tokens(x[0], x[1], half), dot);
        if (n >= 4)
            multiply_pairs(w, pair_tokens(x[2], x[3], half), dot + 2);
        if (n % 2) {
            const int8x16_t a = unpacked ? four_rows(w, 0) : first;
            const int8x16_t b = unpacked ? four_rows(w, 1) : second;
            int32x4_t *sums = &dot[n - 1].sums;
            *sums = vdotq_laneq_s32(*sums, a, x[n - 1], 2 * half);
            *sums = vdotq_laneq_s32(*sums, b, x[n - 1], 2 * half + 1);
        }
    });
}

PQ_INLINE void clear(const int n, pq_dot *dot) {
    PQ_EACH(t, n, { dot[t] = pq_dot_zero(); });
}

#endif
