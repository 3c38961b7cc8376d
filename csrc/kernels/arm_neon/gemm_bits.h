/* gemm_bits.h - taking the bits of quants out of bytes. */
#ifndef PQ_NEON_GEMM_BITS_H
#define PQ_NEON_GEMM_BITS_H

#include "gemm_tile.h"

/* To the left, or to the right if negative; a count need not be a constant. */
PQ_INLINE uint8x16_t shifted(uint8x16_t x, const int left) {
    return vshlq_u8(x, vdupq_n_s8((int8_t)left));
}

/* `count` bits from bit `first` on. */
PQ_INLINE uint8x16_t bits_at(uint8x16_t x, const int first, const int count) {
    const uint8x16_t low = first ? shifted(x, -first) : x;
    return first + count == 8 ? low : vandq_u8(low, vdupq_n_u8((uint8_t)((1 << count) - 1)));
}

/* Bit `from` of every byte at the place of bit `to`, nothing else. */
PQ_INLINE uint8x16_t moved_bit(uint8x16_t x, const int from, const int to) {
    return vandq_u8(shifted(x, to - from), vdupq_n_u8((uint8_t)(1 << to)));
}

PQ_INLINE int8x16_t minus(uint8x16_t x, const int offset) {
    const int8x16_t value = vreinterpretq_s8_u8(x);
    return offset ? vsubq_s8(value, vdupq_n_s8((int8_t)offset)) : value;
}

/* The values that indices 0 .. 15 of the non-linear types stand for. */
PQ_INLINE int8x16_t iq4_values(uint8x16_t indices) {
    static const int8_t values[16] = PQ_IQ4_VALUES;
    return vqtbl1q_s8(vld1q_s8(values), indices);
}

#endif
