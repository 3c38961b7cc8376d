/* gemm_block.c - matrix products of the types with blocks of 32: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL.
 *
 * One template, tile(), whose type, form and number of tokens are constants where it is used; what
 * differs between the types is in quants() and scales().
 */
#include "gemm_tile.h"

#include "../../formats/blocks.h"

/* What follows the quants of an unpacked block. */
typedef struct block_scales {
    __m256 d, m;
} block_scales;

enum { VECTORS = 8, UNPACKED_BLOCK = VECTORS * 32 + sizeof(block_scales) };

/* ----------------------------------------------------------------------- what a type is made of */

PQ_INLINE int is_signed(const uint32_t type) {
    return type == PQ_Q8_0 || type == PQ_IQ4_NL;
}

PQ_INLINE int has_min(const uint32_t type) {
    return type == PQ_Q4_1 || type == PQ_Q5_1;
}

/* What was added to the values to make unsigned quants of them. */
PQ_INLINE int offset_of(const uint32_t type) {
    return type == PQ_Q4_0 ? 8 : type == PQ_Q5_0 ? 16 : 0;
}

/* How many results of vpmaddubsw fit a 16-bit sum: 8 * 2 * 15 * 127 and 4 * 2 * 31 * 127 do. Of
 * signed quants only one: 2 * 128 * 127. */
PQ_INLINE int chain_of(const uint32_t type) {
    return is_signed(type) ? 1 : type == PQ_Q5_0 || type == PQ_Q5_1 ? 4 : 8;
}

PQ_INLINE __m256i nibbles(const uint8_t *q, const int j) {
    const __m256i bytes = pq_load_32(q + j % 4 * 32);
    return _mm256_and_si256(j < 4 ? bytes : _mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(15));
}

/* Bit j of the bytes of `high`, at the place of bit 4. */
PQ_INLINE __m256i fifth_bits(__m256i high, const int j) {
    const __m256i moved = j < 4 ? _mm256_slli_epi16(high, 4 - j) : _mm256_srli_epi16(high, j - 4);
    return _mm256_and_si256(moved, _mm256_set1_epi8(16));
}

/* Columns 4 j .. 4 j + 3 of 8 rows, from a packed group of blocks. */
PQ_INLINE __m256i packed_quants(const uint32_t type, const uint8_t *group, const int j) {
    switch (type) {
    case PQ_Q4_0:
        return nibbles(group + 8 * offsetof(pq_block_q4_0, q), j);
    case PQ_Q4_1:
        return nibbles(group + 8 * offsetof(pq_block_q4_1, q), j);
    case PQ_Q5_0:
        return _mm256_or_si256(
            nibbles(group + 8 * offsetof(pq_block_q5_0, q), j),
            fifth_bits(pq_load_32(group + 8 * offsetof(pq_block_q5_0, high)), j));
    case PQ_Q5_1:
        return _mm256_or_si256(
            nibbles(group + 8 * offsetof(pq_block_q5_1, q), j),
            fifth_bits(pq_load_32(group + 8 * offsetof(pq_block_q5_1, high)), j));
    case PQ_Q8_0:
        return pq_load_32(group + 8 * offsetof(pq_block_q8_0, q) + j * 32);
    default: { /* PQ_IQ4_NL */
        static const int8_t values[16] = PQ_IQ4_VALUES;
        const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)values));
        return _mm256_shuffle_epi8(table, nibbles(group + 8 * offsetof(pq_block_iq4_nl, q), j));
    }
    }
}

/* Where the templates of gemm_products.h look for columns; a block is the first 32 of 256. */
PQ_INLINE __m256i quants(const uint32_t type, const int unpacked, const uint8_t *group, size_t h,
                         const int s, const int j) {
    (void)h;
    (void)s;
    return unpacked ? pq_load_32(group + j * 32) : packed_quants(type, group, j);
}

PQ_INLINE int sub_vectors(const uint32_t type) {
    (void)type;
    return VECTORS;
}

/* d comes first in every type, m second in those that have it. */
PQ_INLINE block_scales scales(const uint32_t type, const uint8_t *group) {
    const __m256 d = v_load_halves(group);
    return (block_scales){d, has_min(type) ? v_load_halves(group + 16) : d};
}

PQ_INLINE block_scales unpacked_scales(const uint32_t type, const uint8_t *group) {
    const float *s = (const float *)(const void *)(group + VECTORS * 32);
    const __m256 d = _mm256_load_ps(s);
    return (block_scales){d, has_min(type) ? _mm256_load_ps(s + PQ_LANES) : d};
}

/* --------------------------------------------------------------------------------- the template */

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

#include "gemm_products.h"

PQ_INLINE void tile(const uint32_t type, const int unpacked, const int n, const pq_tile *a) {
    const size_t group_bytes = unpacked ? UNPACKED_BLOCK : PQ_LANES * block_bytes(type);
    const __m256i ones = _mm256_set1_epi16(1),
                  offset = _mm256_set1_epi16((int16_t)-offset_of(type));
    const uint8_t *group = a->panel;
    const int8_t *q[PQ_MAX_TILE];
    __m256 acc[PQ_MAX_TILE];
    PQ_EACH(t, n, {
        q[t] = a->q + t * a->cols;
        acc[t] = _mm256_setzero_ps();
    });
    for (size_t b = 0; b < a->blocks; b++, group += group_bytes) {
        __m256i sum[PQ_MAX_TILE];
        if (!unpacked)
            pq_prefetch_stream(group, group_bytes);
        PQ_EACH(t, n, {
            sum[t] = _mm256_setzero_si256();
            if (offset_of(type))
                sum[t] =
                    _mm256_madd_epi16(pq_broadcast4(a->sums + t * (a->cols / 16) + 2 * b), offset);
        });
        multiply_32(type, unpacked, n, group, 0, 0, &ones, q, b * 32, sum);
        const block_scales s = unpacked ? unpacked_scales(type, group) : scales(type, group);
        PQ_EACH(t, n, {
            const __m256 d = _mm256_mul_ps(s.d, _mm256_broadcast_ss(a->d + t * (a->cols / 32) + b));
            acc[t] = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(sum[t]), acc[t]);
            if (has_min(type))
                acc[t] = _mm256_fmadd_ps(s.m, _mm256_broadcast_ss(a->s + t * (a->cols / 32) + b),
                                         acc[t]);
        });
    }
    PQ_EACH(t, n, { v_store_first(a->y + t * a->y_stride, a->rows, acc[t]); });
}

PQ_INLINE void unpack(const uint32_t type, const uint8_t *group, size_t blocks, uint8_t *out) {
    for (size_t b = 0; b < blocks; b++) {
        PQ_UNROLL
        for (int j = 0; j < VECTORS; j++)
            _mm256_store_si256((__m256i *)(void *)(out + j * 32), packed_quants(type, group, j));
        *(block_scales *)(void *)(out + VECTORS * 32) = scales(type, group);
        group += PQ_LANES * block_bytes(type);
        out += UNPACKED_BLOCK;
    }
}

/* -------------------------------------------------------------------------------- its instances */

PQ_TILES(q4_0, PQ_Q4_0, 16)
PQ_TILES(q4_1, PQ_Q4_1, 16)
PQ_TILES(q5_0, PQ_Q5_0, 6)
PQ_TILES(q5_1, PQ_Q5_1, 6)
PQ_TILES(q8_0, PQ_Q8_0, 16)
PQ_TILES(iq4_nl, PQ_IQ4_NL, 6)
