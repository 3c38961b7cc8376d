/* int8_ceiling_arm_dotprod.h - as many products of int8 as there can be, in one instruction that adds into 32 bits: sdot
 * here, smmla in arm_i8mm. The includer names it, and how many products it does for each of 16 bytes. */
#ifndef PQ_DOTPROD_INT8_CEILING_H
#define PQ_DOTPROD_INT8_CEILING_H

#include <arm_neon.h>

#include "int8_ceiling.h"

#define PQ_INT8_PRODUCTS(isa, instruction, products_per_byte)                                      \
    size_t pq_int8_products_##isa(const int8_t *operands, size_t rounds, int32_t *sink) {          \
        enum { VECTOR = 16, STEP = PQ_CEILING_SUMS * VECTOR };                                     \
        const int8x16_t x = vdupq_n_s8(1);                                                         \
        int32x4_t sums[PQ_CEILING_SUMS];                                                           \
        for (int k = 0; k < PQ_CEILING_SUMS; k++)                                                  \
            sums[k] = vdupq_n_s32(0);                                                              \
        for (size_t round = 0; round < rounds; round++)                                            \
            for (const int8_t *w = operands; w < operands + PQ_CEILING_BYTES; w += STEP)           \
                for (int k = 0; k < PQ_CEILING_SUMS; k++)                                          \
                    sums[k] = instruction(sums[k], vld1q_s8(w + (size_t)k * VECTOR), x);           \
        for (int k = 0; k < PQ_CEILING_SUMS; k++)                                                  \
            *sink += vgetq_lane_s32(sums[k], 0);                                                   \
        return (size_t)PQ_CEILING_BYTES * (products_per_byte);                                     \
    }

#endif
