/* gemm_super.h - matrix products of the types with super-blocks of 256: Q2_K Q3_K Q4_K Q5_K Q6_K
 * IQ4_XS.
 *
 * As gemm_block.h; scales of sub-blocks multiply the integer sums, those of 32 activations and of
 * the super-block the float sums.
 */
#ifndef PQ_NEON_GEMM_SUPER_H
#define PQ_NEON_GEMM_SUPER_H

#include "gemm_bits.h"

enum { VECTORS = 64, VECTORS_32 = 8 };

/* The scales of a super-block of 8 rows; what follows its quants when it is unpacked. */
typedef struct super_scales {
    int32x4_t factor[16][PQ_HALVES]; /* of the sub-blocks of 16, or the first 8 of those of 32 */
    union {
        int16x8_t of_16[16]; /* Q2_K: 8 rows */
        float32x4_t of_32[8][PQ_HALVES];
    } min;
    float32x4_t d[PQ_HALVES], dmin[PQ_HALVES];
} super_scales;

enum { UNPACKED_BLOCK = VECTORS * 32 + sizeof(super_scales) };

/* ----------------------------------------------------------------------- what a type is made of */

/* Minima of 32, Q2_K those of 16. */
PQ_INLINE int has_min(const uint32_t type) {
    return type == PQ_Q2_K || type == PQ_Q4_K || type == PQ_Q5_K;
}

/* Scales of 16 columns, not of 32. */
PQ_INLINE int has_scales_of_16(const uint32_t type) {
    return type == PQ_Q2_K || type == PQ_Q3_K || type == PQ_Q6_K;
}

/* How many products fit a 16-bit sum: 8 * 31 * 127 do, and 2 * 127 * 127; as far as the scale goes. */
PQ_INLINE int chain_of(const uint32_t type) {
    return type == PQ_IQ4_XS ? 2 : has_scales_of_16(type) ? 4 : 8;
}

PQ_INLINE size_t block_bytes(const uint32_t type) {
    switch (type) {
    case PQ_Q2_K:
        return sizeof(pq_block_q2_k);
    case PQ_Q3_K:
        return sizeof(pq_block_q3_k);
    case PQ_Q4_K:
        return sizeof(pq_block_q4_k);
    case PQ_Q5_K:
        return sizeof(pq_block_q5_k);
    case PQ_Q6_K:
        return sizeof(pq_block_q6_k);
    default: /* IQ4_XS */
        return sizeof(pq_block_iq4_xs);
    }
}

/* The places of the quants of element 128 h + 32 s + 4 j, see decode.c; h need not be a constant. */

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
PQ_INLINE int8x16_t packed_quants(const uint32_t type, const uint8_t *group, size_t h, const int s,
                                  const int j) {
    switch (type) {
    case PQ_Q2_K:
        return minus(two_bits(group + PQ_LANES * offsetof(pq_block_q2_k, q), h, s, j), 0);
    case PQ_Q3_K: {
        const uint8x16_t two = two_bits(group + PQ_LANES * offsetof(pq_block_q3_k, q), h, s, j);
        const uint8_t *high = group + PQ_LANES * offsetof(pq_block_q3_k, high);
        return minus(vorrq_u8(two, one_bit(high, h, s, j, 2)), 4);
    }
    case PQ_Q4_K:
        return minus(four_bits(group + PQ_LANES * offsetof(pq_block_q4_k, q), h, s, j), 0);
    case PQ_Q5_K: {
        const uint8x16_t four = four_bits(group + PQ_LANES * offsetof(pq_block_q5_k, q), h, s, j);
        const uint8_t *high = group + PQ_LANES * offsetof(pq_block_q5_k, high);
        return minus(vorrq_u8(four, one_bit(high, h, s, j, 4)), 0);
    }
    case PQ_Q6_K:
        return minus(six_bits(group + PQ_LANES * offsetof(pq_block_q6_k, low),
                              group + PQ_LANES * offsetof(pq_block_q6_k, high), h, s, j),
                     32);
    default:
        return iq4_values(iq4_indices(group + PQ_LANES * offsetof(pq_block_iq4_xs, q), h, s, j));
    }
}

PQ_INLINE int8x16_t quants(const uint32_t type, const int unpacked, const uint8_t *group, size_t h,
                           const int s, const int j) {
    return unpacked ? minus(vld1q_u8(group + h * 1024 + s * 256 + j * 32), 0)
                    : packed_quants(type, group, h, s, j);
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
    out[0] = pq_load_halves(group + PQ_LANES * offset);
    out[1] = pq_load_halves(group + PQ_LANES * offset + 8);
}

PQ_INLINE void scales_q2_k(const uint8_t *group, super_scales *out) {
    const uint8_t *both = group + PQ_LANES * offsetof(pq_block_q2_k, scales);
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
    const uint8_t *packed = group + PQ_LANES * offsetof(pq_block_q3_k, scales);
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
    const uint8_t *packed = group + PQ_LANES * offsetof(pq_block_q4_k, scales);
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
    const uint8_t *packed = group + PQ_LANES * offsetof(pq_block_q6_k, scales);
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
    const uint8_t *low = group + PQ_LANES * offsetof(pq_block_iq4_xs, scales_low);
    const uint8_t *high = group + PQ_LANES * offsetof(pq_block_iq4_xs, scales_high);
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

PQ_INLINE void scales(const uint32_t type, const uint8_t *group, super_scales *out) {
    switch (type) {
    case PQ_Q2_K:
        scales_q2_k(group, out);
        break;
    case PQ_Q3_K:
        scales_q3_k(group, out);
        break;
    case PQ_Q4_K:
    case PQ_Q5_K:
        scales_q4_k(group, out);
        break;
    case PQ_Q6_K:
        scales_q6_k(group, out);
        break;
    default:
        scales_iq4_xs(group, out);
        break;
    }
}

/* --------------------------------------------------------------------------------- the template */

#ifdef PQ_PAIRS_OF_ROWS
#include "../arm_i8mm/gemm_columns.h"
#else
#include "gemm_columns.h"
#endif

/* sum (tokens) = scale times the products of columns 32 i .. + 31, i = 4 h + s, for rows 4 r .. + 3. */
PQ_INLINE void multiply_32(const uint32_t type, const int unpacked, const int n,
                           const uint8_t *group, size_t h, const int s, const int r,
                           const super_scales *scale, const int8_t *const *q, size_t k,
                           int32x4_t *sum) {
    const size_t i = 4 * h + (size_t)s;
    const uint8_t *rows = group + 16 * r;
    pq_dot dot[PQ_MAX_TILE];
    clear(n, dot);
    multiply_16(type, unpacked, n, rows, h, s, 0, q, k, dot);
    if (!has_scales_of_16(type)) {
        multiply_16(type, unpacked, n, rows, h, s, 1, q, k + 16, dot);
        PQ_EACH(t, n, { sum[t] = vmulq_s32(pq_dot_sum(dot, n, t), scale->factor[i][r]); });
        return;
    }
    PQ_EACH(t, n, { sum[t] = vmulq_s32(pq_dot_sum(dot, n, t), scale->factor[2 * i][r]); });
    clear(n, dot);
    multiply_16(type, unpacked, n, rows, h, s, 1, q, k + 16, dot);
    PQ_EACH(t, n,
            { sum[t] = vmlaq_s32(sum[t], pq_dot_sum(dot, n, t), scale->factor[2 * i + 1][r]); });
}

/* total (tokens, halves) = the sum over the super-block's 32s of the activations' scale times the
 * integer sum. */
PQ_INLINE void multiply_super(const uint32_t type, const int unpacked, const int n,
                              const uint8_t *group, const super_scales *scale, const pq_tile *a,
                              const int8_t *const *q, size_t b, float32x4_t (*total)[PQ_HALVES]) {
    PQ_EACH(t, n, { total[t][0] = total[t][1] = vdupq_n_f32(0.0f); });
    for (size_t h = 0; h < 2; h++) {
        PQ_EACH(s, 4, {
            const size_t block = 8 * b + 4 * h + s;
            PQ_EACH(r, PQ_HALVES, {
                int32x4_t sum[PQ_MAX_TILE];
                multiply_32(type, unpacked, n, group, h, s, r, scale, q, block * 32, sum);
                PQ_EACH(t, n, {
                    const float dx = a->d[t * (a->cols / 32) + block];
                    total[t][r] = vfmaq_n_f32(total[t][r], vcvtq_f32_s32(sum[t]), dx);
                });
            });
        });
    }
}

/* The sums of a 32's minima of 16 times those of its activations. */
PQ_INLINE int32x4_t minima_of_16(int16x4_t low, int16x4_t high, const int16_t *sums) {
    return vmlal_n_s16(vmull_n_s16(low, sums[0]), high, sums[1]);
}

/* minima (tokens, halves) = the sum over the super-block's 32s of minimum times activations. */
PQ_INLINE void multiply_minima(const uint32_t type, const int n, const super_scales *scale,
                               const pq_tile *a, size_t b, float32x4_t (*minima)[PQ_HALVES]) {
    PQ_EACH(t, n, { minima[t][0] = minima[t][1] = vdupq_n_f32(0.0f); });
    for (size_t i = 0; i < 8; i++) {
        const size_t block = 8 * b + i;
        PQ_EACH(t, n, {
            float32x4_t min[PQ_HALVES];
            float x;
            if (type == PQ_Q2_K) {
                const int16_t *sums = a->sums + t * (a->cols / 16) + 2 * block;
                const int16x8_t m0 = scale->min.of_16[2 * i];
                const int16x8_t m1 = scale->min.of_16[2 * i + 1];
                x = a->d[t * (a->cols / 32) + block];
                min[0] = vcvtq_f32_s32(minima_of_16(vget_low_s16(m0), vget_low_s16(m1), sums));
                min[1] = vcvtq_f32_s32(minima_of_16(vget_high_s16(m0), vget_high_s16(m1), sums));
            } else {
                x = a->s[t * (a->cols / 32) + block];
                min[0] = scale->min.of_32[i][0];
                min[1] = scale->min.of_32[i][1];
            }
            minima[t][0] = vfmaq_n_f32(minima[t][0], min[0], x);
            minima[t][1] = vfmaq_n_f32(minima[t][1], min[1], x);
        });
    }
}

PQ_INLINE void tile(const uint32_t type, const int unpacked, const int n, const pq_tile *a) {
    const size_t group_bytes = unpacked ? UNPACKED_BLOCK : PQ_LANES * block_bytes(type);
    const uint8_t *group = a->panel;
    const int8_t *q[PQ_MAX_TILE];
    float32x4_t acc[PQ_MAX_TILE][PQ_HALVES];
    PQ_EACH(t, n, {
        q[t] = a->q + t * a->cols;
        acc[t][0] = acc[t][1] = vdupq_n_f32(0.0f);
    });
    for (size_t b = 0; b < a->blocks; b++, group += group_bytes) {
        super_scales local;
        const super_scales *w = &local;
        if (unpacked)
            w = (const super_scales *)(const void *)(group + VECTORS * 32);
        else
            scales(type, group, &local);
        float32x4_t total[PQ_MAX_TILE][PQ_HALVES];
        multiply_super(type, unpacked, n, group, w, a, q, b, total);
        PQ_EACH(t, n, {
            PQ_EACH(r, PQ_HALVES, { acc[t][r] = vfmaq_f32(acc[t][r], w->d[r], total[t][r]); });
        });
        if (has_min(type)) {
            multiply_minima(type, n, w, a, b, total);
            PQ_EACH(t, n, {
                PQ_EACH(r, PQ_HALVES,
                        { acc[t][r] = vfmsq_f32(acc[t][r], w->dmin[r], total[t][r]); });
            });
        }
    }
    PQ_EACH(t, n, { pq_store_rows(a->y + t * a->y_stride, a->rows, acc[t]); });
}

PQ_INLINE void unpack(const uint32_t type, const uint8_t *group, size_t blocks, uint8_t *out) {
    for (size_t b = 0; b < blocks; b++) {
        for (size_t h = 0; h < 2; h++) {
            PQ_EACH(s, 4, {
                for (int j = 0; j < VECTORS_32; j += 2) {
                    int8_t *at = (int8_t *)out + h * 1024 + s * 256 + j * 32;
                    store_pair(at, packed_quants(type, group, h, s, j),
                               packed_quants(type, group, h, s, j + 1));
                    store_pair(at + 16, packed_quants(type, group + 16, h, s, j),
                               packed_quants(type, group + 16, h, s, j + 1));
                }
            });
        }
        scales(type, group, (super_scales *)(void *)(out + VECTORS * 32));
        group += PQ_LANES * block_bytes(type);
        out += UNPACKED_BLOCK;
    }
}

/* The gemms of instruction set `isa`. */
#define PQ_SUPER_GEMMS(isa)                                                                        \
    PQ_TILES(q2_k, PQ_Q2_K, isa)                                                                   \
    PQ_TILES(q3_k, PQ_Q3_K, isa)                                                                   \
    PQ_TILES(q4_k, PQ_Q4_K, isa)                                                                   \
    PQ_TILES(q5_k, PQ_Q5_K, isa)                                                                   \
    PQ_TILES(q6_k, PQ_Q6_K, isa)                                                                   \
    PQ_TILES(iq4_xs, PQ_IQ4_XS, isa)

#endif
