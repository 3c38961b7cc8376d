/* gemm_block.h - matrix products of the types with blocks of 32: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL.
 *
 * One template, tile(), whose type, form and number of tokens are constants where it is used; what
 * differs between the types is in packed_quants() and scales(). See gemm_tile.h.
 */
#include "gemm_tile.h"

#include "../../quant/blocks.h"

/* What follows the quants of an unpacked block. */
typedef struct block_scales {
    pq_floats d, m;
} block_scales;

enum { VECTORS = 8, UNPACKED_BLOCK = VECTORS * PQ_VECTOR_BYTES + sizeof(block_scales) };

/* ------------------------------------------------------------------- what a type is made of */

PQ_INLINE int has_min(const uint32_t type) {
    return type == PQ_Q4_1 || type == PQ_Q5_1;
}

/* What was added to the values to make unsigned quants of them. */
PQ_INLINE int offset_of(const uint32_t type) {
    return has_min(type) ? 0 : type == PQ_Q4_0 ? 8 : type == PQ_Q5_0 ? 16 : 128;
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

/* Where a member of a block begins in a group of blocks. */
#define MEMBER(group, block, name) ((group) + PQ_LANES * offsetof(block, name))

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
PQ_INLINE pq_ints packed_quants(const uint32_t type, const uint8_t *group, const int j) {
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
        return pq_xor(pq_load_ints(MEMBER(group, pq_block_q8_0, q) + j * PQ_VECTOR_BYTES),
                      pq_all_bytes(128));
    default: { /* PQ_IQ4_NL */
        static const uint8_t values[16] = PQ_IQ4_UNSIGNED;
        return pq_look_up(values, nibbles(MEMBER(group, pq_block_iq4_nl, q), j));
    }
    }
}

/* d comes first in every type, m second in those that have it. */
PQ_INLINE block_scales packed_scales(const uint32_t type, const uint8_t *group) {
    const pq_floats d = pq_load_halves(group);
    return (block_scales){d, has_min(type) ? pq_load_halves(group + 2 * PQ_LANES) : d};
}

PQ_INLINE block_scales unpacked_scales(const uint32_t type, const uint8_t *group) {
    const float *s = (const float *)(const void *)(group + VECTORS * PQ_VECTOR_BYTES);
    const pq_floats d = pq_load_floats(s);
    return (block_scales){d, has_min(type) ? pq_load_floats(s + PQ_LANES) : d};
}

/* ------------------------------------------------------------------------------ the template */

PQ_INLINE void tile(const uint32_t type, const int unpacked, const int n, const pq_vnni_tile *a) {
    const size_t group_bytes = unpacked ? UNPACKED_BLOCK : PQ_LANES * block_bytes(type);
    const pq_ints offset = pq_all_words(-offset_of(type));
    const uint8_t *group = a->panel;
    const int8_t *q[PQ_EACH_MOST];
    pq_floats acc[PQ_EACH_MOST];
    PQ_EACH(t, n, {
        q[t] = a->q + t * a->cols;
        acc[t] = pq_float_zero();
    });
    for (size_t b = 0; b < a->blocks; b++, group += group_bytes) {
        pq_ints sum[PQ_EACH_MOST];
        if (!unpacked)
            pq_prefetch_stream(group, group_bytes);
        PQ_EACH(t, n, {
            sum[t] = pq_zero();
            if (offset_of(type))
                sum[t] = pq_dot_words(sum[t], offset,
                                      pq_broadcast(a->sums + t * (a->cols / 16) + 2 * b));
        });
        PQ_UNROLL
        for (int j = 0; j < VECTORS; j++) {
            const pq_ints w = unpacked ? pq_load_ints(group + j * PQ_VECTOR_BYTES)
                                       : packed_quants(type, group, j);
            PQ_EACH(t, n,
                    { sum[t] = pq_dot_bytes(sum[t], w, pq_broadcast(q[t] + b * 32 + j * 4)); });
        }
        const block_scales s = unpacked ? unpacked_scales(type, group) : packed_scales(type, group);
        PQ_EACH(t, n, {
            const size_t at = t * (a->cols / 32) + b;
            const pq_floats d = pq_multiply(s.d, pq_all_floats(a->d + at));
            acc[t] = pq_fma(d, pq_to_float(sum[t]), acc[t]);
            if (has_min(type))
                acc[t] = pq_fma(s.m, pq_all_floats(a->s + at), acc[t]);
        });
    }
    PQ_EACH(t, n, { pq_store_rows(a->y + t * a->y_stride, a->rows, acc[t]); });
}

PQ_INLINE void unpack(const uint32_t type, const uint8_t *group, size_t blocks, uint8_t *out) {
    for (size_t b = 0; b < blocks; b++) {
        PQ_UNROLL
        for (int j = 0; j < VECTORS; j++)
            pq_store_ints(out + j * PQ_VECTOR_BYTES, packed_quants(type, group, j));
        *(block_scales *)(void *)(out + VECTORS * PQ_VECTOR_BYTES) = packed_scales(type, group);
        group += PQ_LANES * block_bytes(type);
        out += UNPACKED_BLOCK;
    }
}

/* ----------------------------------------------------------------------------- its instances */

PQ_TILES(q4_0, PQ_Q4_0, PQ_DIRECT_CHEAP)
PQ_TILES(q4_1, PQ_Q4_1, PQ_DIRECT_CHEAP)
PQ_TILES(q5_0, PQ_Q5_0, PQ_DIRECT_COSTLY)
PQ_TILES(q5_1, PQ_Q5_1, PQ_DIRECT_COSTLY)
PQ_TILES(q8_0, PQ_Q8_0, PQ_DIRECT_CHEAP)
PQ_TILES(iq4_nl, PQ_IQ4_NL, PQ_DIRECT_COSTLY)
