/* int8_ceiling.c - as many products of int8 as there can be: smlal, in chains that may wrap. */
#include <arm_neon.h>

#include "../int8_ceiling.h"

enum { VECTOR = 16, STEP = PQ_CEILING_SUMS / 2 * VECTOR };

/* Even sums take the lower halves of a vector, odd ones the upper halves. */
size_t pq_int8_products_neon(const int8_t *operands, size_t rounds, int32_t *sink) {
    int8x16_t x = vdupq_n_s8(1);
#define ZERO(k) int16x8_t sum##k = vdupq_n_s16(0);
#define MULTIPLY(k)                                                                                \
    sum##k = (k) % 2 ? vmlal_high_s8(sum##k, vld1q_s8(w + (k) / 2 * VECTOR), x)                    \
                     : vmlal_s8(sum##k, vld1_s8(w + (k) / 2 * VECTOR), vget_low_s8(x));            \
    PQ_CHANGED_SUM(sum##k);
#define ADD(k) *sink += vgetq_lane_s16(sum##k, 0);
    PQ_EACH_SUM(ZERO)
    for (size_t round = 0; round < rounds; round++)
        for (const int8_t *w = operands; w < operands + PQ_CEILING_BYTES; w += STEP) {
            PQ_CHANGED(x);
            PQ_EACH_SUM(MULTIPLY)
        }
    PQ_EACH_SUM(ADD)
    return PQ_CEILING_BYTES;
}
