/* scales_super.h - the scales of the types with super-blocks of 256, as 16-bit numbers: dot_chains.h multiplies the sums
 * of a sub-block with them before it widens them.
 */
#include "../templates/x86/quants_super.h"

/* The scales of a super-block of all rows. */
typedef struct super_scales {
    pq_ints factor[16]; /* 16-bit lanes: the scales of the sub-blocks, twice */
    pq_ints min
        [8]; /* of each 32: the minimum as float; of both 16s, 16-bit: Q2_K the minima, Q3_K and Q6_K the
                           scales times the negated offset */
    pq_vec d, dmin;
} super_scales;

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
    out->d = v_load_halves(MEMBER(group, pq_block_q2_k, d));
    out->dmin = v_load_halves(MEMBER(group, pq_block_q2_k, dmin));
    PQ_UNROLL
    for (int i = 0; i < 4; i++) {
        const __m256i both = pq_load_ints(MEMBER(group, pq_block_q2_k, scales) + i * 32);
        const __m256i min = low_bits(_mm256_srli_epi16(both, 4), 4);
        unsigned_scales(low_bits(both, 4), 0, 4 * i, 1, out);
        out->min[2 * i] = unsigned_pair(min, 0, 1);
        out->min[2 * i + 1] = unsigned_pair(min, 2, 3);
    }
}

/* -4 (scale - 32) of both 16s. */
PQ_INLINE __m256i q3_k_offset(__m256i x, const int a, const int b) {
    const __m256i negated = _mm256_sub_epi16(_mm256_set1_epi16(32), unsigned_pair(x, a, b));
    return _mm256_slli_epi16(negated, 2);
}

PQ_INLINE void scales_q3_k(const uint8_t *group, super_scales *out) {
    const uint8_t *packed = MEMBER(group, pq_block_q3_k, scales);
    const __m256i low[2] = {pq_load_ints(packed), pq_load_ints(packed + 32)},
                  high = pq_load_ints(packed + 64);
    out->d = v_load_halves(MEMBER(group, pq_block_q3_k, d));
    PQ_UNROLL
    for (int i = 0; i < 4; i++) {
        const __m256i four = low_bits(pq_right(low[i % 2], i / 2 * 4), 4);
        const __m256i six = _mm256_or_si256(four, times_16(low_bits(pq_right(high, i * 2), 2)));
        unsigned_scales(six, 32, 4 * i, 1, out);
        out->min[2 * i] = q3_k_offset(six, 0, 1);
        out->min[2 * i + 1] = q3_k_offset(six, 2, 3);
    }
}

/* Q4_K and Q5_K begin alike. */
PQ_INLINE void scales_q4_k(const uint8_t *group, super_scales *out) {
    const uint8_t *packed = MEMBER(group, pq_block_q4_k, scales);
    const __m256i a = pq_load_ints(packed), b = pq_load_ints(packed + 32),
                  low = pq_load_ints(packed + 64);
    const __m256i top = _mm256_set1_epi8(0x30);
    const __m256i scale[2] = {
        low_bits(a, 6), _mm256_or_si256(low_bits(low, 4), _mm256_and_si256(pq_right(a, 2), top))};
    const __m256i min[2] = {low_bits(b, 6), _mm256_or_si256(low_bits(pq_right(low, 4), 4),
                                                            _mm256_and_si256(pq_right(b, 2), top))};
    out->d = v_load_halves(MEMBER(group, pq_block_q4_k, d));
    out->dmin = v_load_halves(MEMBER(group, pq_block_q4_k, dmin));
    PQ_UNROLL
    for (int i = 0; i < 8; i++) {
        out->factor[i] = unsigned_pair(scale[i / 4], i % 4, i % 4);
        const __m256i byte = _mm256_srli_epi32(min[i / 4], i % 4 * 8);
        const __m256 m = _mm256_cvtepi32_ps(_mm256_and_si256(byte, _mm256_set1_epi32(255)));
        out->min[i] = _mm256_castps_si256(m);
    }
}

/* -32 scale of both 16s. */
PQ_INLINE __m256i q6_k_offset(__m256i x, const int a, const int b) {
    const __m256i scale = signed_pair(x, a, b);
    return _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_slli_epi16(scale, 5));
}

PQ_INLINE void scales_q6_k(const uint8_t *group, super_scales *out) {
    out->d = v_load_halves(MEMBER(group, pq_block_q6_k, d));
    PQ_UNROLL
    for (int i = 0; i < 4; i++) {
        const __m256i scales = pq_load_ints(MEMBER(group, pq_block_q6_k, scales) + i * 32);
        PQ_UNROLL
        for (int k = 0; k < 4; k++)
            out->factor[4 * i + k] = signed_pair(scales, k, k);
        out->min[2 * i] = q6_k_offset(scales, 0, 1);
        out->min[2 * i + 1] = q6_k_offset(scales, 2, 3);
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
    const __m256i low = pq_load_ints(MEMBER(group, pq_block_iq4_xs, scales_low));
    const __m256i high = _mm256_cvtepu16_epi32(
        _mm_loadu_si128((const __m128i *)(MEMBER(group, pq_block_iq4_xs, scales_high))));
    const __m128i twice = _mm_setr_epi8(0, 0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13);
    const __m256i spread = _mm256_shuffle_epi8(high, _mm256_broadcastsi128_si256(twice));
    const __m256i even = _mm256_or_si256(low_bits(low, 4), iq4_xs_high(spread));
    const __m256i odd =
        _mm256_or_si256(low_bits(pq_right(low, 4), 4), iq4_xs_high(_mm256_srli_epi16(spread, 2)));
    out->d = v_load_halves(MEMBER(group, pq_block_iq4_xs, d));
    unsigned_scales(even, 32, 0, 2, out);
    unsigned_scales(odd, 32, 1, 2, out);
}

#include "../templates/super_scales.h"
