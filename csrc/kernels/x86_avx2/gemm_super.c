/* gemm_super.c - matrix products of the types with super-blocks of 256: Q2_K Q3_K Q4_K Q5_K Q6_K
 * IQ4_XS.
 *
 * As gemm_block.c; scales of sub-blocks multiply the integer sums, those of 32 activations and of
 * the super-block the float sums.
 */
#include "gemm_tile.h"

#include "../../formats/blocks.h"

enum { VECTORS = 64, VECTORS_32 = 8 };

/* The scales of a super-block of 8 rows; what follows its quants when it is unpacked. */
typedef struct super_scales {
    __m256i factor[16]; /* 16-bit lanes: the scales of the sub-blocks, twice */
    __m256i pair[8];    /* of each 32. Q3_K Q6_K: 16-bit scales times the negated
                         offset, Q2_K: 16-bit minima, of both 16s; Q4_K Q5_K: the
                         minimum, as float */
    __m256 d, dmin;
} super_scales;

enum { UNPACKED_BLOCK = VECTORS * 32 + sizeof(super_scales) };

/* ----------------------------------------------------------------------- what a type is made of */

PQ_INLINE int is_signed(const uint32_t type) {
    return type == PQ_IQ4_XS;
}

/* Minima of 32, Q2_K those of 16. */
PQ_INLINE int has_min(const uint32_t type) {
    return type == PQ_Q2_K || type == PQ_Q4_K || type == PQ_Q5_K;
}

PQ_INLINE int has_offset(const uint32_t type) {
    return type == PQ_Q3_K || type == PQ_Q6_K;
}

/* Vectors in a sub-block with a scale of its own. */
PQ_INLINE int sub_vectors(const uint32_t type) {
    return type == PQ_Q4_K || type == PQ_Q5_K || type == PQ_IQ4_XS ? 8 : 4;
}

/* How many results of vpmaddubsw fit a 16-bit sum (quants up to 15, 31, 63 times 127, two each),
 * as far as the sub-block goes. Of signed quants only one. */
PQ_INLINE int chain_of(const uint32_t type) {
    switch (type) {
    case PQ_Q4_K:
        return 8;
    case PQ_Q6_K:
        return 2;
    case PQ_IQ4_XS:
        return 1;
    default: /* Q2_K and Q3_K by their sub-blocks, Q5_K by its quants */
        return 4;
    }
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

/* Byte-wise shifts do not exist; these let bits of the neighboring byte in, to be masked. */
PQ_INLINE __m256i right(__m256i x, const int bits) {
    return _mm256_srli_epi16(x, bits);
}

PQ_INLINE __m256i low_bits(__m256i x, const int bits) {
    return _mm256_and_si256(x, _mm256_set1_epi8((char)((1 << bits) - 1)));
}

/* The places of the quants of element 128 h + 32 s + 4 j, see formats/bits.h; h need not be a
 * constant. */

PQ_INLINE __m256i two_bits(const uint8_t *q, size_t h, const int s, const int j) {
    return low_bits(right(pq_load_32(q + h * 256 + j * 32), s * 2), 2);
}

PQ_INLINE __m256i four_bits(const uint8_t *q, size_t h, const int s, const int j) {
    return low_bits(right(pq_load_32(q + h * 512 + s / 2 * 256 + j * 32), s % 2 * 4), 4);
}

/* Bit 4 h + s of the bytes of `high`, at the place of bit `bit`. */
PQ_INLINE __m256i one_bit(const uint8_t *high, size_t h, const int s, const int j, const int bit) {
    const __m128i count = _mm_cvtsi32_si128((int)h * 4);
    const __m256i bits = _mm256_srl_epi16(pq_load_32(high + j * 32), count);
    const __m256i moved = s < bit ? _mm256_slli_epi16(bits, bit - s) : right(bits, s - bit);
    return _mm256_and_si256(moved, _mm256_set1_epi8((char)(1 << bit)));
}

PQ_INLINE __m256i six_bits(const uint8_t *low, const uint8_t *high, size_t h, const int s,
                           const int j) {
    const __m256i four = right(pq_load_32(low + h * 512 + s % 2 * 256 + j * 32), s / 2 * 4);
    const __m256i two = two_bits(high, h, s, j);
    return _mm256_or_si256(low_bits(four, 4), _mm256_slli_epi16(two, 4));
}

/* 16 bytes hold 32 elements, the first 16 in the low halves. */
PQ_INLINE __m256i iq4_values(const uint8_t *q, size_t h, const int s, const int j) {
    static const int8_t values[16] = PQ_IQ4_VALUES;
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)values));
    const __m256i bytes = pq_load_32(q + h * 512 + s * 128 + j % 4 * 32);
    return _mm256_shuffle_epi8(table, low_bits(right(bytes, j / 4 * 4), 4));
}

/* Columns 128 h + 32 s + 4 j .. + 3 of 8 rows, from a packed group of super-blocks. */
PQ_INLINE __m256i packed_quants(const uint32_t type, const uint8_t *group, size_t h, const int s,
                                const int j) {
    switch (type) {
    case PQ_Q2_K:
        return two_bits(group + 8 * offsetof(pq_block_q2_k, q), h, s, j);
    case PQ_Q3_K:
        return _mm256_or_si256(two_bits(group + 8 * offsetof(pq_block_q3_k, q), h, s, j),
                               one_bit(group + 8 * offsetof(pq_block_q3_k, high), h, s, j, 2));
    case PQ_Q4_K:
        return four_bits(group + 8 * offsetof(pq_block_q4_k, q), h, s, j);
    case PQ_Q5_K:
        return _mm256_or_si256(four_bits(group + 8 * offsetof(pq_block_q5_k, q), h, s, j),
                               one_bit(group + 8 * offsetof(pq_block_q5_k, high), h, s, j, 4));
    case PQ_Q6_K:
        return six_bits(group + 8 * offsetof(pq_block_q6_k, low),
                        group + 8 * offsetof(pq_block_q6_k, high), h, s, j);
    default:
        return iq4_values(group + 8 * offsetof(pq_block_iq4_xs, q), h, s, j);
    }
}

PQ_INLINE __m256i quants(const uint32_t type, const int unpacked, const uint8_t *group, size_t h,
                         const int s, const int j) {
    return unpacked ? pq_load_32(group + h * 1024 + s * 256 + j * 32)
                    : packed_quants(type, group, h, s, j);
}

/* --------------------------------------------------------------------------------------- scales */

/* Bytes a and b of every 32-bit lane as two 16-bit numbers. */
PQ_INLINE __m256i unsigned_pair(__m256i x, const int a, const int b) {
    const __m128i places =
        _mm_setr_epi8((char)a, -1, (char)b, -1, (char)(a + 4), -1, (char)(b + 4), -1, (char)(a + 8),
                      -1, (char)(b + 8), -1, (char)(a + 12), -1, (char)(b + 12), -1);
    return _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(places));
}

/* The same for signed bytes. */
PQ_INLINE __m256i signed_pair(__m256i x, const int a, const int b) {
    return _mm256_srai_epi16(_mm256_slli_epi16(unsigned_pair(x, a, b), 8), 8);
}

PQ_INLINE __m256i times_16(__m256i bits) {
    return _mm256_slli_epi16(bits, 4);
}

/* The scales that are bytes 0..3 of every lane of x belong to sub-blocks `first`, `first` +
 * step, ... */
PQ_INLINE void unsigned_scales(__m256i x, int offset, int first, int step, super_scales *out) {
    PQ_UNROLL
    for (int i = 0; i < 4; i++)
        out->factor[first + i * step] =
            _mm256_sub_epi16(unsigned_pair(x, i, i), _mm256_set1_epi16((int16_t)offset));
}

PQ_INLINE void scales_q2_k(const uint8_t *group, super_scales *out) {
    out->d = v_load_halves(group + 8 * offsetof(pq_block_q2_k, d));
    out->dmin = v_load_halves(group + 8 * offsetof(pq_block_q2_k, dmin));
    PQ_UNROLL
    for (int i = 0; i < 4; i++) {
        const __m256i both = pq_load_32(group + 8 * offsetof(pq_block_q2_k, scales) + i * 32);
        const __m256i min = low_bits(_mm256_srli_epi16(both, 4), 4);
        unsigned_scales(low_bits(both, 4), 0, 4 * i, 1, out);
        out->pair[2 * i] = unsigned_pair(min, 0, 1);
        out->pair[2 * i + 1] = unsigned_pair(min, 2, 3);
    }
}

/* -4 (scale - 32) of both 16s. */
PQ_INLINE __m256i q3_k_offset(__m256i x, const int a, const int b) {
    const __m256i negated = _mm256_sub_epi16(_mm256_set1_epi16(32), unsigned_pair(x, a, b));
    return _mm256_slli_epi16(negated, 2);
}

PQ_INLINE void scales_q3_k(const uint8_t *group, super_scales *out) {
    const uint8_t *packed = group + 8 * offsetof(pq_block_q3_k, scales);
    const __m256i low[2] = {pq_load_32(packed), pq_load_32(packed + 32)},
                  high = pq_load_32(packed + 64);
    out->d = v_load_halves(group + 8 * offsetof(pq_block_q3_k, d));
    PQ_UNROLL
    for (int i = 0; i < 4; i++) {
        const __m256i four = low_bits(right(low[i % 2], i / 2 * 4), 4);
        const __m256i six = _mm256_or_si256(four, times_16(low_bits(right(high, i * 2), 2)));
        unsigned_scales(six, 32, 4 * i, 1, out);
        out->pair[2 * i] = q3_k_offset(six, 0, 1);
        out->pair[2 * i + 1] = q3_k_offset(six, 2, 3);
    }
}

/* Q4_K and Q5_K begin alike. */
PQ_INLINE void scales_q4_k(const uint8_t *group, super_scales *out) {
    const uint8_t *packed = group + 8 * offsetof(pq_block_q4_k, scales);
    const __m256i a = pq_load_32(packed), b = pq_load_32(packed + 32),
                  low = pq_load_32(packed + 64);
    const __m256i top = _mm256_set1_epi8(0x30);
    const __m256i scale[2] = {
        low_bits(a, 6), _mm256_or_si256(low_bits(low, 4), _mm256_and_si256(right(a, 2), top))};
    const __m256i min[2] = {low_bits(b, 6), _mm256_or_si256(low_bits(right(low, 4), 4),
                                                            _mm256_and_si256(right(b, 2), top))};
    out->d = v_load_halves(group + 8 * offsetof(pq_block_q4_k, d));
    out->dmin = v_load_halves(group + 8 * offsetof(pq_block_q4_k, dmin));
    PQ_UNROLL
    for (int i = 0; i < 8; i++) {
        out->factor[i] = unsigned_pair(scale[i / 4], i % 4, i % 4);
        const __m256i byte = _mm256_srli_epi32(min[i / 4], i % 4 * 8);
        const __m256 m = _mm256_cvtepi32_ps(_mm256_and_si256(byte, _mm256_set1_epi32(255)));
        out->pair[i] = _mm256_castps_si256(m);
    }
}

/* -32 scale of both 16s. */
PQ_INLINE __m256i q6_k_offset(__m256i x, const int a, const int b) {
    const __m256i scale = signed_pair(x, a, b);
    return _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_slli_epi16(scale, 5));
}

PQ_INLINE void scales_q6_k(const uint8_t *group, super_scales *out) {
    out->d = v_load_halves(group + 8 * offsetof(pq_block_q6_k, d));
    PQ_UNROLL
    for (int i = 0; i < 4; i++) {
        const __m256i scales = pq_load_32(group + 8 * offsetof(pq_block_q6_k, scales) + i * 32);
        PQ_UNROLL
        for (int k = 0; k < 4; k++)
            out->factor[4 * i + k] = signed_pair(scales, k, k);
        out->pair[2 * i] = q6_k_offset(scales, 0, 1);
        out->pair[2 * i + 1] = q6_k_offset(scales, 2, 3);
    }
}

/* The two high bits of the sub-blocks 0 2 4 6 (x >> 2: 1 3 5 7), at the places of bits 4 and 5
 * of bytes 0..3. `x` has the 16 bits of all sub-blocks as bytes 0 0 1 1. */
PQ_INLINE __m256i iq4_xs_high(__m256i x) {
    const __m256i even = _mm256_and_si256(x, _mm256_set1_epi32(0x00030003));
    const __m256i odd = _mm256_and_si256(x, _mm256_set1_epi32(0x30003000));
    return _mm256_or_si256(times_16(even), odd);
}

PQ_INLINE void scales_iq4_xs(const uint8_t *group, super_scales *out) {
    const __m256i low = pq_load_32(group + 8 * offsetof(pq_block_iq4_xs, scales_low));
    const __m256i high = _mm256_cvtepu16_epi32(
        _mm_loadu_si128((const __m128i *)(group + 8 * offsetof(pq_block_iq4_xs, scales_high))));
    const __m128i twice = _mm_setr_epi8(0, 0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13);
    const __m256i spread = _mm256_shuffle_epi8(high, _mm256_broadcastsi128_si256(twice));
    const __m256i even = _mm256_or_si256(low_bits(low, 4), iq4_xs_high(spread));
    const __m256i odd =
        _mm256_or_si256(low_bits(right(low, 4), 4), iq4_xs_high(_mm256_srli_epi16(spread, 2)));
    out->d = v_load_halves(group + 8 * offsetof(pq_block_iq4_xs, d));
    unsigned_scales(even, 32, 0, 2, out);
    unsigned_scales(odd, 32, 1, 2, out);
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

#include "gemm_products.h"

/* total[t] = the sum over the super-block's 32s of the activations' scale times the integer sum. */
PQ_INLINE void multiply_super(const uint32_t type, const int unpacked, const int n,
                              const uint8_t *group, const super_scales *scale, const pq_tile *a,
                              const int8_t *const *q, size_t b, __m256 *total) {
    const int per_32 = VECTORS_32 / sub_vectors(type);
    const size_t eighth = PQ_LANES * block_bytes(type) / 8;
    PQ_EACH(t, n, { total[t] = _mm256_setzero_ps(); });
    for (size_t h = 0; h < 2; h++) {
        PQ_EACH(s, 4, {
            const size_t i = 4 * h + s, block = 8 * b + i;
            __m256i sum[PQ_MAX_TILE];
            if (!unpacked)
                pq_prefetch_stream(group + i * eighth, eighth);
            PQ_EACH(t, n, {
                sum[t] = _mm256_setzero_si256();
                if (has_offset(type))
                    sum[t] = _mm256_madd_epi16(
                        scale->pair[i], pq_broadcast4(a->sums + t * (a->cols / 16) + 2 * block));
            });
            multiply_32(type, unpacked, n, group, h, s, scale->factor + i * per_32, q, block * 32,
                        sum);
            PQ_EACH(t, n, {
                const __m256 dx = _mm256_broadcast_ss(a->d + t * (a->cols / 32) + block);
                total[t] = _mm256_fmadd_ps(dx, _mm256_cvtepi32_ps(sum[t]), total[t]);
            });
        });
    }
}

/* minima[t] = the sum over the super-block's 32s of minimum times activations. */
PQ_INLINE void multiply_minima(const uint32_t type, const int n, const super_scales *scale,
                               const pq_tile *a, size_t b, __m256 *minima) {
    PQ_EACH(t, n, { minima[t] = _mm256_setzero_ps(); });
    for (size_t i = 0; i < 8; i++) {
        const size_t block = 8 * b + i;
        const __m256i pair = scale->pair[i];
        PQ_EACH(t, n, {
            __m256 min = _mm256_castsi256_ps(pair);
            const float *x = a->s;
            if (type == PQ_Q2_K) {
                const __m256i sums = pq_broadcast4(a->sums + t * (a->cols / 16) + 2 * block);
                min = _mm256_cvtepi32_ps(_mm256_madd_epi16(pair, sums));
                x = a->d;
            }
            minima[t] = _mm256_fmadd_ps(min, _mm256_broadcast_ss(x + t * (a->cols / 32) + block),
                                        minima[t]);
        });
    }
}

PQ_INLINE void tile(const uint32_t type, const int unpacked, const int n, const pq_tile *a) {
    const size_t group_bytes = unpacked ? UNPACKED_BLOCK : PQ_LANES * block_bytes(type);
    const uint8_t *group = a->panel;
    const int8_t *q[PQ_MAX_TILE];
    __m256 acc[PQ_MAX_TILE];
    PQ_EACH(t, n, {
        q[t] = a->q + t * a->cols;
        acc[t] = _mm256_setzero_ps();
    });
    for (size_t b = 0; b < a->blocks; b++, group += group_bytes) {
        super_scales local;
        const super_scales *scale = &local;
        if (unpacked)
            scale = (const super_scales *)(const void *)(group + VECTORS * 32);
        else
            scales(type, group, &local);
        __m256 total[PQ_MAX_TILE];
        multiply_super(type, unpacked, n, group, scale, a, q, b, total);
        PQ_EACH(t, n, { acc[t] = _mm256_fmadd_ps(scale->d, total[t], acc[t]); });
        if (has_min(type)) {
            multiply_minima(type, n, scale, a, b, total);
            PQ_EACH(t, n, { acc[t] = _mm256_fnmadd_ps(scale->dmin, total[t], acc[t]); });
        }
    }
    PQ_EACH(t, n, { v_store_first(a->y + t * a->y_stride, a->rows, acc[t]); });
}

PQ_INLINE void unpack(const uint32_t type, const uint8_t *group, size_t blocks, uint8_t *out) {
    for (size_t b = 0; b < blocks; b++) {
        for (size_t h = 0; h < 2; h++) {
            PQ_EACH(s, 4, {
                PQ_UNROLL
                for (int j = 0; j < VECTORS_32; j++)
                    _mm256_store_si256((__m256i *)(void *)(out + h * 1024 + s * 256 + j * 32),
                                       packed_quants(type, group, h, s, j));
            });
        }
        scales(type, group, (super_scales *)(void *)(out + VECTORS * 32));
        group += PQ_LANES * block_bytes(type);
        out += UNPACKED_BLOCK;
    }
}

/* -------------------------------------------------------------------------------- its instances */

PQ_TILES(q2_k, PQ_Q2_K, 16)
PQ_TILES(q3_k, PQ_Q3_K, 6)
PQ_TILES(q4_k, PQ_Q4_K, 16)
PQ_TILES(q5_k, PQ_Q5_K, 6)
PQ_TILES(q6_k, PQ_Q6_K, 6)
PQ_TILES(iq4_xs, PQ_IQ4_XS, 6)
