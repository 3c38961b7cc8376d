/* scales_super.h - the scales of the types with super-blocks of 256, as float32: for products whose sums leave the
 * integers before they are scaled. x86_avx2/scales_super.h has them as 16-bit numbers.
 */
#include "quants_super.h"

/* The scales of a super-block of all rows. */
typedef struct super_scales {
    pq_vec factor[16]; /* of the sub-blocks */
    pq_ints min[8];    /* of each 32: the minimum as float; Q2_K: those of both 16s, 16-bit */
    pq_vec d, dmin;
} super_scales;

/* Byte i of every lane. */
PQ_INLINE pq_ints byte_at(pq_ints x, const int i) {
    return pq_and(pq_right(x, 8 * i), pq_all_ints(255));
}

PQ_INLINE pq_ints signed_byte_at(pq_ints x, const int i) {
    return pq_right_signed(pq_left(x, 24 - 8 * i), 24);
}

PQ_INLINE void scales_q2_k(const uint8_t *group, super_scales *out) {
    out->d = v_load_halves(MEMBER(group, pq_block_q2_k, d));
    out->dmin = v_load_halves(MEMBER(group, pq_block_q2_k, dmin));
    PQ_UNROLL
    for (int i = 0; i < 4; i++) {
        const pq_ints both = vector_at(MEMBER(group, pq_block_q2_k, scales), (size_t)i);
        const pq_ints min = low_bits(pq_right(both, 4), 4), low = pq_all_ints(15),
                      high = pq_all_ints(15 << 16);
        PQ_UNROLL
        for (int k = 0; k < 4; k++)
            out->factor[4 * i + k] = pq_to_float(byte_at(low_bits(both, 4), k));
        out->min[2 * i] = pq_or(pq_and(min, low), pq_and(pq_left(min, 8), high));
        out->min[2 * i + 1] = pq_or(pq_and(pq_right(min, 16), low), pq_and(pq_right(min, 8), high));
    }
}

PQ_INLINE void scales_q3_k(const uint8_t *group, super_scales *out) {
    const uint8_t *packed = MEMBER(group, pq_block_q3_k, scales);
    const pq_ints high = vector_at(packed, 2);
    out->d = v_load_halves(MEMBER(group, pq_block_q3_k, d));
    PQ_UNROLL
    for (int i = 0; i < 4; i++) {
        const pq_ints four = low_bits(pq_right(vector_at(packed, (size_t)i % 2), i / 2 * 4), 4);
        const pq_ints two = low_bits(pq_right(high, i * 2), 2);
        const pq_ints six = pq_or(four, pq_left(two, 4));
        PQ_UNROLL
        for (int k = 0; k < 4; k++)
            out->factor[4 * i + k] = pq_to_float(pq_subtract(byte_at(six, k), pq_all_ints(32)));
    }
}

/* Also of Q5_K, whose block begins alike. */
PQ_INLINE void scales_q4_k(const uint8_t *group, super_scales *out) {
    const uint8_t *packed = MEMBER(group, pq_block_q4_k, scales);
    const pq_ints a = vector_at(packed, 0), b = vector_at(packed, 1), low = vector_at(packed, 2);
    const pq_ints top = pq_all_bytes(0x30);
    const pq_ints scale[2] = {low_bits(a, 6), pq_or(low_bits(low, 4), pq_and(pq_right(a, 2), top))};
    const pq_ints min[2] = {low_bits(b, 6),
                            pq_or(low_bits(pq_right(low, 4), 4), pq_and(pq_right(b, 2), top))};
    out->d = v_load_halves(MEMBER(group, pq_block_q4_k, d));
    out->dmin = v_load_halves(MEMBER(group, pq_block_q4_k, dmin));
    PQ_UNROLL
    for (int i = 0; i < 8; i++) {
        out->factor[i] = pq_to_float(byte_at(scale[i / 4], i % 4));
        out->min[i] = pq_as_ints(pq_to_float(byte_at(min[i / 4], i % 4)));
    }
}

PQ_INLINE void scales_q6_k(const uint8_t *group, super_scales *out) {
    out->d = v_load_halves(MEMBER(group, pq_block_q6_k, d));
    PQ_UNROLL
    for (int i = 0; i < 16; i++) {
        const pq_ints four = vector_at(MEMBER(group, pq_block_q6_k, scales), (size_t)i / 4);
        out->factor[i] = pq_to_float(signed_byte_at(four, i % 4));
    }
}

PQ_INLINE void scales_iq4_xs(const uint8_t *group, super_scales *out) {
    const pq_ints low = pq_load_ints(MEMBER(group, pq_block_iq4_xs, scales_low));
    const pq_ints high = pq_load_words(MEMBER(group, pq_block_iq4_xs, scales_high));
    out->d = v_load_halves(MEMBER(group, pq_block_iq4_xs, d));
    PQ_UNROLL
    for (int i = 0; i < 8; i++) {
        const pq_ints four = pq_and(pq_right(low, 4 * i), pq_all_ints(15));
        const pq_ints two = pq_and(pq_right(high, 2 * i), pq_all_ints(3));
        out->factor[i] = pq_to_float(pq_subtract(pq_or(four, pq_left(two, 4)), pq_all_ints(32)));
    }
}

#include "../super_scales.h"
