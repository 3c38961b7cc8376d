/* quants_block.h - what the types with blocks of 32 are made of: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL. Quants and scales of a
 * group of blocks, out of a packed panel (pack.c). */
#ifndef PQ_NEON_QUANTS_BLOCK_H
#define PQ_NEON_QUANTS_BLOCK_H

#include "quants.h"

/* The scales of a block of 8 rows. */
typedef struct block_scales {
    float32x4_t d[PQ_HALVES], m[PQ_HALVES];
} block_scales;

enum { BLOCK_VECTORS = 8 };

/* A block of 8 rows, unpacked. */
typedef struct block_unpacked {
    int8x16_t quants[BLOCK_VECTORS][PQ_HALVES];
    block_scales scales;
} block_unpacked;

PQ_INLINE uint8x16_t nibbles(const uint8_t *q, const int j) {
    return bits_at(vld1q_u8(q + j % 4 * 32), j / 4 * 4, 4);
}

/* Bit j of the bytes of `high` is the fifth bit. */
PQ_INLINE uint8x16_t five_bits(const uint8_t *q, const uint8_t *high, const int j) {
    return vorrq_u8(nibbles(q, j), moved_bit(vld1q_u8(high), j, 4));
}

/* Columns 4 j .. 4 j + 3 of 4 rows, from a packed group of blocks. */
PQ_INLINE int8x16_t block_quants(const uint32_t type, const uint8_t *group, const int j) {
    switch (type) {
    case PQ_Q4_0:
        return minus(nibbles(MEMBER(group, pq_block_q4_0, q), j), stored_offset(type));
    case PQ_Q4_1:
        return minus(nibbles(MEMBER(group, pq_block_q4_1, q), j), 0);
    case PQ_Q5_0:
        return minus(
            five_bits(MEMBER(group, pq_block_q5_0, q), MEMBER(group, pq_block_q5_0, high), j),
            stored_offset(type));
    case PQ_Q5_1:
        return minus(
            five_bits(MEMBER(group, pq_block_q5_1, q), MEMBER(group, pq_block_q5_1, high), j), 0);
    case PQ_Q8_0:
        return minus(vld1q_u8(MEMBER(group, pq_block_q8_0, q) + j * 32), 0);
    default: /* PQ_IQ4_NL */
        return iq4_values(nibbles(MEMBER(group, pq_block_iq4_nl, q), j));
    }
}

/* d comes first in every type, m second in those that have it. */
PQ_INLINE block_scales block_scales_of(const uint32_t type, const uint8_t *group) {
    const uint8_t *m = has_min(type) ? group + 16 : group;
    return (block_scales){{v_load_halves(group), v_load_halves(group + 8)},
                          {v_load_halves(m), v_load_halves(m + 8)}};
}

#endif
