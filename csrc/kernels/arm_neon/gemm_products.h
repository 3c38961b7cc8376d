/* gemm_products.h - 4 columns of 4 rows times 4 activations: the heart of the quantized kernels.
 *
 * Products are added up in 16 bits while they cannot overflow (the chain length of a type), then in
 * 32 bits, two lanes for each row; sums of a row's lanes come last. arm_dotprod/gemm_products.h is
 * the same where one instruction does all of this.
 */
#ifndef PQ_NEON_GEMM_PRODUCTS_H
#define PQ_NEON_GEMM_PRODUCTS_H

#include "gemm_tile.h"

/* The sum so far for 4 rows. */
typedef struct pq_dot {
    int16x8_t chain[2]; /* rows 0 1 and 2 3, four lanes each */
    int32x4_t wide[2];  /* rows 0 1 and 2 3, two lanes each */
} pq_dot;

PQ_INLINE pq_dot pq_dot_zero(void) {
    const int32x4_t zero = vdupq_n_s32(0);
    return (pq_dot){{vdupq_n_s16(0), vdupq_n_s16(0)}, {zero, zero}};
}

/* Adds columns 4 j .. 4 j + 3 of the 16 whose activations are x; w has those of 4 rows, and is the
 * `place`-th of the sum. `count` is the chain length. A macro because lane numbers must be constants. */
#define pq_dot_add(dot, w, x, j, place, count)                                                     \
    do {                                                                                           \
        const int8x16_t x4 = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x), (j)));  \
        if ((place) % (count) == 0) {                                                              \
            (dot)->chain[0] = vmull_s8(vget_low_s8(w), vget_low_s8(x4));                           \
            (dot)->chain[1] = vmull_high_s8((w), x4);                                              \
        } else {                                                                                   \
            (dot)->chain[0] = vmlal_s8((dot)->chain[0], vget_low_s8(w), vget_low_s8(x4));          \
            (dot)->chain[1] = vmlal_high_s8((dot)->chain[1], (w), x4);                             \
        }                                                                                          \
        if ((place) % (count) == (count) - 1) {                                                    \
            (dot)->wide[0] = vpadalq_s16((dot)->wide[0], (dot)->chain[0]);                         \
            (dot)->wide[1] = vpadalq_s16((dot)->wide[1], (dot)->chain[1]);                         \
        }                                                                                          \
    } while (0)

/* Token t's sum for 4 rows, of the sums of n tokens. */
PQ_INLINE int32x4_t pq_dot_sum(const pq_dot *dot, const int n, const int t) {
    (void)n;
    return vpaddq_s32(dot[t].wide[0], dot[t].wide[1]);
}

#endif
