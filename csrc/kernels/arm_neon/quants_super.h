/* quants_super.h - what the types with super-blocks of 256 are made of: Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS. Quants and
 * scales of a group of blocks, out of a packed panel (pack.c). */
#ifndef PQ_NEON_QUANTS_SUPER_H
#define PQ_NEON_QUANTS_SUPER_H

#include "quants.h"

enum { SUPER_VECTORS = 64, VECTORS_32 = 8 };

/* The scales of a super-block of 8 rows. */
typedef struct super_scales {
    int32x4_t factor[16][PQ_HALVES]; /* of the sub-blocks of 16, or the first 8 of those of 32 */
    union {
        int16x8_t of_16[16]; /* Q2_K: 8 rows */
        float32x4_t of_32[8][PQ_HALVES];
    } min;
    float32x4_t d[PQ_HALVES], dmin[PQ_HALVES];
} super_scales;

/* A super-block of 8 rows, unpacked. */
typedef struct super_unpacked {
    int8x16_t quants[SUPER_VECTORS][PQ_HALVES];
    super_scales scales;
} super_unpacked;

/* The places of the quants of element 128 h + 32 s + 4 j, see formats/bits.h; h need not be a constant. */

PQ_INLINE uint8x16_t two_bits(const uint8_t *q, size_t h, const int s, const int j) {
    return bits_at(vld1q_u8(q + h * 256 + j * 32), s * 2, 2);
}

PQ_INLINE uint8x16_t four_bits(const uint8_t *q, size_t h, const int s, const int j) {
    return bits_at(vld1q_u8(q + h * 512 + s / 2 * 256 + j * 32), s % 2 * 4, 4);
}

/* Bit 4 h + s of the bytes of `high`, at the place of bit `bit`. */
PQ_INLINE uint8x16_t one_bit(const uint8_t *high, size_t h, const int s, const int j,
                             const int bit) {
    return moved_bit(vld1q_u8(high + j * 32), (int)h * 4 + s, bit);
}

PQ_INLINE uint8x16_t six_bits(const uint8_t *low, const uint8_t *high, size_t h, const int s,
                              const int j) {
    const uint8x16_t four = bits_at(vld1q_u8(low + h * 512 + s % 2 * 256 + j * 32), s / 2 * 4, 4);
    return vorrq_u8(four, shifted(two_bits(high, h, s, j), 4));
}

/* 16 bytes hold 32 elements, the first 16 in the low halves. */
PQ_INLINE uint8x16_t iq4_indices(const uint8_t *q, size_t h, const int s, const int j) {
    return bits_at(vld1q_u8(q + h * 512 + s * 128 + j % 4 * 32), j / 4 * 4, 4);
}

/* Columns 128 h + 32 s + 4 j .. + 3 of 4 rows, from a packed group of super-blocks. */
PQ_INLINE int8x16_t super_quants(const uint32_t type, const uint8_t *group, size_t h, const int s,
                                 const int j) {
    switch (type) {
    case PQ_Q2_K:
        return minus(two_bits(MEMBER(group, pq_block_q2_k, q), h, s, j), 0);
    case PQ_Q3_K: {
        const uint8x16_t two = two_bits(MEMBER(group, pq_block_q3_k, q), h, s, j);
        const uint8_t *high = MEMBER(group, pq_block_q3_k, high);
        return minus(vorrq_u8(two, one_bit(high, h, s, j, 2)), stored_offset(type));
    }
    case PQ_Q4_K:
        return minus(four_bits(MEMBER(group, pq_block_q4_k, q), h, s, j), 0);
    case PQ_Q5_K: {
        const uint8x16_t four = four_bits(MEMBER(group, pq_block_q5_k, q), h, s, j);
        const uint8_t *high = MEMBER(group, pq_block_q5_k, high);
        return minus(vorrq_u8(four, one_bit(high, h, s, j, 4)), 0);
    }
    case PQ_Q6_K:
        return minus(six_bits(MEMBER(group, pq_block_q6_k, low), MEMBER(group, pq_block_q6_k, high),
                              h, s, j),
                     stored_offset(type));
    default:
        return iq4_values(iq4_indices(MEMBER(group, pq_block_iq4_xs, q), h, s, j));
    }
}

/* --------------------------------------------------------------------------------------- scales */

/* 4 bytes of each of 4 rows. */
PQ_INLINE uint8x16_t load_unit(const uint8_t *member, const int unit, const int r) {
    return vld1q_u8(member + unit * 32 + r * 16);
}

/* Byte i of every row's 4. */
PQ_INLINE int32x4_t signed_byte(uint8x16_t x, const int i) {
    const int32x4_t top = vshlq_s32(vreinterpretq_s32_u8(x), vdupq_n_s32(24 - 8 * i));
    return vshrq_n_s32(top, 24);
}

/* Bytes 0 .. 3 of every row, less `offset`, are the factors first, first + step, ... */
PQ_INLINE void set_factors(uint8x16_t x, const int offset, const int first, const int step,
                           const int r, super_scales *out) {
    const int8x16_t value = minus(x, offset);
    PQ_EACH(i, 4,
            { out->factor[first + i * step][r] = signed_byte(vreinterpretq_u8_s8(value), i); });
}

PQ_INLINE void set_numbers(const uint8_t *group, size_t offset, float32x4_t out[PQ_HALVES]) {
    out[0] = v_load_halves(group + PQ_LANES * offset);
    out[1] = v_load_halves(group + PQ_LANES * offset + 8);
}

PQ_INLINE void scales_q2_k(const uint8_t *group, super_scales *out) {
    const uint8_t *both = MEMBER(group, pq_block_q2_k, scales);
    set_numbers(group, offsetof(pq_block_q2_k, d), out->d);
    set_numbers(group, offsetof(pq_block_q2_k, dmin), out->dmin);
    for (int unit = 0; unit < 4; unit++) {
        uint8x16_t min[PQ_HALVES];
        PQ_EACH(r, PQ_HALVES, {
            const uint8x16_t x = load_unit(both, unit, r);
            set_factors(bits_at(x, 0, 4), 0, 4 * unit, 1, r, out);
            min[r] = bits_at(x, 4, 4);
        });
        PQ_EACH(i, 4, {
            out->min.of_16[4 * unit + i] =
                vcombine_s16(vmovn_s32(signed_byte(min[0], i)), vmovn_s32(signed_byte(min[1], i)));
        });
    }
}

PQ_INLINE void scales_q3_k(const uint8_t *group, super_scales *out) {
    const uint8_t *packed = MEMBER(group, pq_block_q3_k, scales);
    set_numbers(group, offsetof(pq_block_q3_k, d), out->d);
    PQ_EACH(r, PQ_HALVES, {
        const uint8x16_t high = load_unit(packed, 2, r);
        PQ_EACH(unit, 4, {
            const uint8x16_t four = bits_at(load_unit(packed, unit % 2, r), unit / 2 * 4, 4);
            const uint8x16_t six = vorrq_u8(four, shifted(bits_at(high, unit * 2, 2), 4));
            set_factors(six, 32, 4 * unit, 1, r, out);
        });
    });
}

/* Four bits of `low` from bit `first` on, and above them the two highest of `top`. */
PQ_INLINE uint8x16_t with_top_bits(uint8x16_t low, const int first, uint8x16_t top) {
    return vorrq_u8(bits_at(low, first, 4), shifted(bits_at(top, 6, 2), 4));
}

/* Q4_K and Q5_K begin alike. */
PQ_INLINE void scales_q4_k(const uint8_t *group, super_scales *out) {
    const uint8_t *packed = MEMBER(group, pq_block_q4_k, scales);
    set_numbers(group, offsetof(pq_block_q4_k, d), out->d);
    set_numbers(group, offsetof(pq_block_q4_k, dmin), out->dmin);
    PQ_EACH(r, PQ_HALVES, {
        const uint8x16_t a = load_unit(packed, 0, r);
        const uint8x16_t b = load_unit(packed, 1, r);
        const uint8x16_t low = load_unit(packed, 2, r);
        const uint8x16_t min[2] = {bits_at(b, 0, 6), with_top_bits(low, 4, b)};
        set_factors(bits_at(a, 0, 6), 0, 0, 1, r, out);
        set_factors(with_top_bits(low, 0, a), 0, 4, 1, r, out);
        PQ_EACH(i, 4, {
            out->min.of_32[i][r] = vcvtq_f32_s32(signed_byte(min[0], i));
            out->min.of_32[4 + i][r] = vcvtq_f32_s32(signed_byte(min[1], i));
        });
    });
}

PQ_INLINE void scales_q6_k(const uint8_t *group, super_scales *out) {
    const uint8_t *packed = MEMBER(group, pq_block_q6_k, scales);
    set_numbers(group, offsetof(pq_block_q6_k, d), out->d);
    for (int unit = 0; unit < 4; unit++) {
        PQ_EACH(r, PQ_HALVES, { set_factors(load_unit(packed, unit, r), 0, 4 * unit, 1, r, out); });
    }
}

/* The two high bits of sub-block i of 4 rows are bits 2 i, 2 i + 1 of a 16-bit number. */
PQ_INLINE int32x4_t iq4_xs_high(uint32x4_t x, const int i) {
    const uint32x4_t low = vshlq_u32(x, vdupq_n_s32(-2 * i));
    return vreinterpretq_s32_u32(vshlq_n_u32(vandq_u32(low, vdupq_n_u32(3)), 4));
}

PQ_INLINE void scales_iq4_xs(const uint8_t *group, super_scales *out) {
    const uint8_t *low = MEMBER(group, pq_block_iq4_xs, scales_low);
    const uint8_t *high = MEMBER(group, pq_block_iq4_xs, scales_high);
    set_numbers(group, offsetof(pq_block_iq4_xs, d), out->d);
    PQ_EACH(r, PQ_HALVES, {
        const uint8x16_t four = load_unit(low, 0, r);
        const uint32x4_t two = vmovl_u16(vreinterpret_u16_u8(vld1_u8(high + 8 * r)));
        set_factors(bits_at(four, 0, 4), 32, 0, 2, r, out);
        set_factors(bits_at(four, 4, 4), 32, 1, 2, r, out);
        for (int i = 0; i < 8; i++)
            out->factor[i][r] = vaddq_s32(out->factor[i][r], iq4_xs_high(two, i));
    });
}

#include "../templates/super_scales.h"

#endif
