/* int8_products.h - as many products of int8 as there can be, in one instruction that adds into 32 bits: sdot
 * here, smmla in arm_i8mm. The includer defines it as pq_dot, and says how many products it does for each of 16 bytes. */
#ifndef PQ_DOTPROD_INT8_PRODUCTS_H
#define PQ_DOTPROD_INT8_PRODUCTS_H

#include <arm_neon.h>

#include "../int8_ceiling.h"

#define PQ_SUM_ZERO(k) int32x4_t sum##k = vdupq_n_s32(0);
#define PQ_SUM_MULTIPLY(k)                                                                         \
    sum##k = pq_dot(sum##k, vld1q_s8(w + (size_t)(k) * VECTOR), x);                                \
    PQ_CHANGED_SUM(sum##k);
#define PQ_SUM_ADD(k) *sink += vgetq_lane_s32(sum##k, 0);
#define PQ_INT8_PRODUCTS(isa, products_per_byte)                                                   \
    size_t pq_int8_products_##isa(const int8_t *operands, size_t rounds, int32_t *sink) {          \
        enum { VECTOR = 16, STEP = PQ_CEILING_SUMS * VECTOR };                                     \
        int8x16_t x = vdupq_n_s8(1);                                                               \
        PQ_EACH_SUM(PQ_SUM_ZERO)                                                                   \
        for (size_t round = 0; round < rounds; round++)                                            \
            for (const int8_t *w = operands; w < operands + PQ_CEILING_BYTES; w += STEP) {         \
                PQ_CHANGED(x);                                                                     \
                PQ_EACH_SUM(PQ_SUM_MULTIPLY)                                                       \
            }                                                                                      \
        PQ_EACH_SUM(PQ_SUM_ADD)                                                                    \
        return (size_t)PQ_CEILING_BYTES * (products_per_byte);                                     \
    }

#endif
