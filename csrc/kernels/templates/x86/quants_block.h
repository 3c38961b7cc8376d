/* quants_block.h - what the types with blocks of 32 are made of: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL. Quants and
 * scales of a group of blocks, out of a packed panel (pack.c). For the files that include vectors.h.
 */
#ifndef PQ_X86_QUANTS_BLOCK_H
#define PQ_X86_QUANTS_BLOCK_H

#include "quants.h"

/* The scales of a block of all rows. */
typedef struct block_scales {
    pq_vec d, m;
} block_scales;

/* A block of all rows, unpacked. */
enum { BLOCK_VECTORS = 8 };

typedef struct block_unpacked {
    pq_ints quants[BLOCK_VECTORS];
    block_scales scales;
} block_unpacked;

/* Shifts are of 32-bit lanes and let in bits of the neighboring byte, to be masked. */
PQ_INLINE pq_ints nibbles(const uint8_t *q, const int j) {
    return pq_and(pq_right(pq_load_ints(q + j % 4 * PQ_VECTOR_BYTES), j / 4 * 4), pq_all_bytes(15));
}

/* Bit j of the bytes of `high`, at the place of bit 4. */
PQ_INLINE pq_ints fifth_bits(const uint8_t *high, const int j) {
    const pq_ints bits = pq_load_ints(high);
    return pq_and(j < 4 ? pq_left(bits, 4 - j) : pq_right(bits, j - 4), pq_all_bytes(16));
}

/* Columns 4 j .. 4 j + 3 of all rows, from a packed group of blocks. */
PQ_INLINE pq_ints block_quants(const uint32_t type, const uint8_t *group, const int j) {
    switch (type) {
    case PQ_Q4_0:
        return nibbles(MEMBER(group, pq_block_q4_0, q), j);
    case PQ_Q4_1:
        return nibbles(MEMBER(group, pq_block_q4_1, q), j);
    case PQ_Q5_0:
        return pq_or(nibbles(MEMBER(group, pq_block_q5_0, q), j),
                     fifth_bits(MEMBER(group, pq_block_q5_0, high), j));
    case PQ_Q5_1:
        return pq_or(nibbles(MEMBER(group, pq_block_q5_1, q), j),
                     fifth_bits(MEMBER(group, pq_block_q5_1, high), j));
    case PQ_Q8_0:
        return signed_quants(pq_load_ints(MEMBER(group, pq_block_q8_0, q) + j * PQ_VECTOR_BYTES));
    default: /* PQ_IQ4_NL */
        return nonlinear_quants(nibbles(MEMBER(group, pq_block_iq4_nl, q), j));
    }
}

/* d comes first in every type, m second in those that have it. */
PQ_INLINE block_scales block_scales_of(const uint32_t type, const uint8_t *group) {
    const pq_vec d = v_load_halves(group);
    return (block_scales){d, has_min(type) ? v_load_halves(group + 2 * PQ_LANES) : d};
}

#endif
