/* int8_ceiling_arm_neon.c - as many products of int8 as there can be: smlal, in chains that may wrap. */
#include <arm_neon.h>

#include "int8_ceiling.h"

enum { VECTOR = 16, STEP = PQ_CEILING_SUMS / 2 * VECTOR };

size_t pq_int8_products_neon(const int8_t *operands, size_t rounds, int32_t *sink) {
    const int8x16_t x = vdupq_n_s8(1);
    int16x8_t sums[PQ_CEILING_SUMS];
    for (int k = 0; k < PQ_CEILING_SUMS; k++)
        sums[k] = vdupq_n_s16(0);
    for (size_t round = 0; round < rounds; round++)
        for (const int8_t *w = operands; w < operands + PQ_CEILING_BYTES; w += STEP)
            for (int k = 0; k < PQ_CEILING_SUMS / 2; k++) {
                const int8x16_t v = vld1q_s8(w + (size_t)k * VECTOR);
                sums[2 * k] = vmlal_s8(sums[2 * k], vget_low_s8(v), vget_low_s8(x));
                sums[2 * k + 1] = vmlal_high_s8(sums[2 * k + 1], v, x);
            }
    for (int k = 0; k < PQ_CEILING_SUMS; k++)
        *sink += vgetq_lane_s16(sums[k], 0);
    return PQ_CEILING_BYTES;
}
