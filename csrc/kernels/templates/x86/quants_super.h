/* quants_super.h - what the types with super-blocks of 256 are made of: Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS.
 * Quants of a group of blocks, out of a packed panel (pack.c). For the files that include vectors.h.
 */
#ifndef PQ_X86_QUANTS_SUPER_H
#define PQ_X86_QUANTS_SUPER_H

#include "quants.h"

enum { SUPER_VECTORS = 64, VECTORS_32 = 8 };

/* Vectors in a sub-block with a scale of its own. */
PQ_INLINE int sub_vectors(const uint32_t type) {
    return has_scales_of_16(type) ? 4 : 8;
}

/* The places of the quants of element 128 h + 32 s + 4 j, see formats/bits.h; h need not be a constant.
 * Shifts are of 32-bit lanes and let in bits of the neighboring byte, to be masked. */

PQ_INLINE pq_ints low_bits(pq_ints x, const int bits) {
    return pq_and(x, pq_all_bytes((1 << bits) - 1));
}

PQ_INLINE pq_ints vector_at(const uint8_t *member, size_t i) {
    return pq_load_ints(member + i * PQ_VECTOR_BYTES);
}

PQ_INLINE pq_ints two_bits(const uint8_t *q, size_t h, const int s, const int j) {
    return low_bits(pq_right(vector_at(q, h * 8 + (size_t)j), s * 2), 2);
}

PQ_INLINE pq_ints four_bits(const uint8_t *q, size_t h, const int s, const int j) {
    return low_bits(pq_right(vector_at(q, h * 16 + (size_t)(s / 2 * 8 + j)), s % 2 * 4), 4);
}

/* Bit 4 h + s of the bytes of `high`, at the place of bit `bit`. */
PQ_INLINE pq_ints one_bit(const uint8_t *high, size_t h, const int s, const int j, const int bit) {
    const pq_ints bits = pq_right(vector_at(high, (size_t)j), (int)h * 4);
    return pq_and(s < bit ? pq_left(bits, bit - s) : pq_right(bits, s - bit),
                  pq_all_bytes(1 << bit));
}

PQ_INLINE pq_ints six_bits(const uint8_t *low, const uint8_t *high, size_t h, const int s,
                           const int j) {
    const pq_ints four =
        low_bits(pq_right(vector_at(low, h * 16 + (size_t)(s % 2 * 8 + j)), s / 2 * 4), 4);
    return pq_or(four, pq_left(two_bits(high, h, s, j), 4));
}

/* 16 bytes hold 32 elements, the first 16 in the low halves. */
PQ_INLINE pq_ints iq4_values(const uint8_t *q, size_t h, const int s, const int j) {
    const pq_ints bytes = vector_at(q, h * 16 + (size_t)(s * 4 + j % 4));
    return nonlinear_quants(low_bits(pq_right(bytes, j / 4 * 4), 4));
}

/* Columns 128 h + 32 s + 4 j .. + 3 of all rows, from a packed group of super-blocks. */
PQ_INLINE pq_ints super_quants(const uint32_t type, const uint8_t *group, size_t h, const int s,
                               const int j) {
    switch (type) {
    case PQ_Q2_K:
        return two_bits(MEMBER(group, pq_block_q2_k, q), h, s, j);
    case PQ_Q3_K:
        return pq_or(two_bits(MEMBER(group, pq_block_q3_k, q), h, s, j),
                     one_bit(MEMBER(group, pq_block_q3_k, high), h, s, j, 2));
    case PQ_Q4_K:
        return four_bits(MEMBER(group, pq_block_q4_k, q), h, s, j);
    case PQ_Q5_K:
        return pq_or(four_bits(MEMBER(group, pq_block_q5_k, q), h, s, j),
                     one_bit(MEMBER(group, pq_block_q5_k, high), h, s, j, 4));
    case PQ_Q6_K:
        return six_bits(MEMBER(group, pq_block_q6_k, low), MEMBER(group, pq_block_q6_k, high), h, s,
                        j);
    default:
        return iq4_values(MEMBER(group, pq_block_iq4_xs, q), h, s, j);
    }
}

#endif
