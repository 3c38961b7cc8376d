/* gemm_block.h - matrix products of the types with blocks of 32: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL.
 *
 * One template, tile(), whose type, form and number of tokens are constants where it is used; what
 * differs between the types is in packed_quants() and scales(). The includer brings the products
 * (gemm_products.h) of its instruction set.
 */
#ifndef PQ_NEON_GEMM_BLOCK_H
#define PQ_NEON_GEMM_BLOCK_H

#include "gemm_bits.h"

/* What follows the quants of an unpacked block. */
typedef struct block_scales {
    float32x4_t d[PQ_HALVES], m[PQ_HALVES];
} block_scales;

enum { VECTORS = 8, UNPACKED_BLOCK = VECTORS * 32 + sizeof(block_scales) };

/* ----------------------------------------------------------------------- what a type is made of */

PQ_INLINE int has_min(const uint32_t type) {
    return type == PQ_Q4_1 || type == PQ_Q5_1;
}

/* How many products fit a 16-bit sum: 8 * 16 * 127 do, and 2 * 128 * 127. */
PQ_INLINE int chain_of(const uint32_t type) {
    return type == PQ_Q8_0 || type == PQ_IQ4_NL ? 2 : 8;
}

PQ_INLINE uint8x16_t nibbles(const uint8_t *q, const int j) {
    return bits_at(vld1q_u8(q + j % 4 * 32), j / 4 * 4, 4);
}

/* Bit j of the bytes of `high` is the fifth bit. */
PQ_INLINE uint8x16_t five_bits(const uint8_t *q, const uint8_t *high, const int j) {
    return vorrq_u8(nibbles(q, j), moved_bit(vld1q_u8(high), j, 4));
}

/* Columns 4 j .. 4 j + 3 of 4 rows, from a packed group of blocks. */
PQ_INLINE int8x16_t packed_quants(const uint32_t type, const uint8_t *group, const int j) {
    switch (type) {
    case PQ_Q4_0:
        return minus(nibbles(group + PQ_LANES * offsetof(pq_block_q4_0, q), j), 8);
    case PQ_Q4_1:
        return minus(nibbles(group + PQ_LANES * offsetof(pq_block_q4_1, q), j), 0);
    case PQ_Q5_0:
        return minus(five_bits(group + PQ_LANES * offsetof(pq_block_q5_0, q),
                               group + PQ_LANES * offsetof(pq_block_q5_0, high), j),
                     16);
    case PQ_Q5_1:
        return minus(five_bits(group + PQ_LANES * offsetof(pq_block_q5_1, q),
                               group + PQ_LANES * offsetof(pq_block_q5_1, high), j),
                     0);
    case PQ_Q8_0:
        return minus(vld1q_u8(group + PQ_LANES * offsetof(pq_block_q8_0, q) + j * 32), 0);
    default: /* PQ_IQ4_NL */
        return iq4_values(nibbles(group + PQ_LANES * offsetof(pq_block_iq4_nl, q), j));
    }
}

/* Where gemm_columns.h looks for columns; a block is the first 32 of 256. */
PQ_INLINE int8x16_t quants(const uint32_t type, const int unpacked, const uint8_t *group, size_t h,
                           const int s, const int j) {
    (void)h;
    (void)s;
    return unpacked ? minus(vld1q_u8(group + j * 32), 0) : packed_quants(type, group, j);
}

/* d comes first in every type, m second in those that have it. */
PQ_INLINE block_scales scales(const uint32_t type, const uint8_t *group) {
    const uint8_t *m = has_min(type) ? group + 16 : group;
    return (block_scales){{pq_load_halves(group), pq_load_halves(group + 8)},
                          {pq_load_halves(m), pq_load_halves(m + 8)}};
}

PQ_INLINE size_t block_bytes(const uint32_t type) {
    switch (type) {
    case PQ_Q4_1:
        return sizeof(pq_block_q4_1);
    case PQ_Q5_0:
        return sizeof(pq_block_q5_0);
    case PQ_Q5_1:
        return sizeof(pq_block_q5_1);
    case PQ_Q8_0:
        return sizeof(pq_block_q8_0);
    default: /* Q4_0, IQ4_NL */
        return sizeof(pq_block_q4_0);
    }
}

/* --------------------------------------------------------------------------------- the template */

#ifdef PQ_PAIRS_OF_ROWS
#include "../arm_i8mm/gemm_columns.h"
#else
#include "gemm_columns.h"
#endif

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
        const block_scales w = unpacked
                                   ? *(const block_scales *)(const void *)(group + VECTORS * 32)
                                   : scales(type, group);
        PQ_EACH(r, PQ_HALVES, {
            pq_dot dot[PQ_MAX_TILE];
            clear(n, dot);
            multiply_16(type, unpacked, n, group + 16 * r, 0, 0, 0, q, b * 32, dot);
            multiply_16(type, unpacked, n, group + 16 * r, 0, 0, 1, q, b * 32 + 16, dot);
            PQ_EACH(t, n, {
                const size_t block = t * (a->cols / 32) + b;
                const float32x4_t i = vcvtq_f32_s32(pq_dot_sum(dot, n, t));
                acc[t][r] = vfmaq_f32(acc[t][r], vmulq_n_f32(w.d[r], a->d[block]), i);
                if (has_min(type))
                    acc[t][r] = vfmaq_n_f32(acc[t][r], w.m[r], a->s[block]);
            });
        });
    }
    PQ_EACH(t, n, { pq_store_rows(a->y + t * a->y_stride, a->rows, acc[t]); });
}

PQ_INLINE void unpack(const uint32_t type, const uint8_t *group, size_t blocks, uint8_t *out) {
    for (size_t b = 0; b < blocks; b++) {
        for (int j = 0; j < VECTORS; j += 2) {
            PQ_EACH(r, PQ_HALVES, {
                const uint8_t *rows = group + 16 * r;
                store_pair((int8_t *)out + j * 32 + 16 * r, packed_quants(type, rows, j),
                           packed_quants(type, rows, j + 1));
            });
        }
        *(block_scales *)(void *)(out + VECTORS * 32) = scales(type, group);
        group += PQ_LANES * block_bytes(type);
        out += UNPACKED_BLOCK;
    }
}

/* The gemms of instruction set `isa`. */
#define PQ_BLOCK_GEMMS(isa)                                                                        \
    PQ_TILES(q4_0, PQ_Q4_0, isa)                                                                   \
    PQ_TILES(q4_1, PQ_Q4_1, isa)                                                                   \
    PQ_TILES(q5_0, PQ_Q5_0, isa)                                                                   \
    PQ_TILES(q5_1, PQ_Q5_1, isa)                                                                   \
    PQ_TILES(q8_0, PQ_Q8_0, isa)                                                                   \
    PQ_TILES(iq4_nl, PQ_IQ4_NL, isa)

#endif
