/* vectors.h - the operations that AVX2 and AVX-512 spell alike but for the width. A folder's vectors.h defines pq_vec
 * and pq_ints (its vectors of float32 and of integers) and, before it includes this,
 *   PQ_X86(op)       the intrinsic `op` of its width: _mm256_op
 *   PQ_X86_INTS(op)  that of whole vectors of integers: _mm256_op_si256
 *
 * v_max(a, b) is a where a > b, else b; v_min(a, b) is a where a < b, else b. Addresses need no alignment. */
#ifndef PQ_X86_VECTORS_H
#define PQ_X86_VECTORS_H

/* ------------------------------------------------------------------------------------------- float32 */

PQ_INLINE pq_vec v_load(const float *p) {
    return PQ_X86(loadu_ps)(p);
}

PQ_INLINE void v_store(float *p, pq_vec x) {
    PQ_X86(storeu_ps)(p, x);
}

/* Asks for a line of memory, into the second-level cache. */
PQ_INLINE void v_prefetch(const void *p) {
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}

PQ_INLINE pq_vec v_all(float x) {
    return PQ_X86(set1_ps)(x);
}

PQ_INLINE pq_vec v_add(pq_vec a, pq_vec b) {
    return PQ_X86(add_ps)(a, b);
}

PQ_INLINE pq_vec v_sub(pq_vec a, pq_vec b) {
    return PQ_X86(sub_ps)(a, b);
}

PQ_INLINE pq_vec v_mul(pq_vec a, pq_vec b) {
    return PQ_X86(mul_ps)(a, b);
}

PQ_INLINE pq_vec v_div(pq_vec a, pq_vec b) {
    return PQ_X86(div_ps)(a, b);
}

/* a * b + c, a * b - c and c - a * b, rounded once. */
PQ_INLINE pq_vec v_fma(pq_vec a, pq_vec b, pq_vec c) {
    return PQ_X86(fmadd_ps)(a, b, c);
}

PQ_INLINE pq_vec v_fms(pq_vec a, pq_vec b, pq_vec c) {
    return PQ_X86(fmsub_ps)(a, b, c);
}

PQ_INLINE pq_vec v_fnma(pq_vec a, pq_vec b, pq_vec c) {
    return PQ_X86(fnmadd_ps)(a, b, c);
}

PQ_INLINE pq_vec v_negate(pq_vec x) {
    return PQ_X86(xor_ps)(x, PQ_X86(set1_ps)(-0.0f));
}

PQ_INLINE pq_vec v_min(pq_vec a, pq_vec b) {
    return PQ_X86(min_ps)(a, b);
}

PQ_INLINE pq_vec v_max(pq_vec a, pq_vec b) {
    return PQ_X86(max_ps)(a, b);
}

/* ------------------------------------------------------------------------------------------ integers */

PQ_INLINE pq_ints pq_load_ints(const void *p) {
    return PQ_X86_INTS(loadu)((const pq_ints *)p);
}

/* At a multiple of the vector's size. */
PQ_INLINE void pq_store_ints(void *p, pq_ints x) {
    PQ_X86_INTS(store)((pq_ints *)p, x);
}

PQ_INLINE pq_ints pq_zero(void) {
    return PQ_X86_INTS(setzero)();
}

PQ_INLINE pq_ints pq_all_bytes(const int value) {
    return PQ_X86(set1_epi8)((char)value);
}

PQ_INLINE pq_ints pq_all_words(const int value) {
    return PQ_X86(set1_epi16)((short)value);
}

PQ_INLINE pq_ints pq_all_ints(const int value) {
    return PQ_X86(set1_epi32)(value);
}

PQ_INLINE pq_ints pq_and(pq_ints a, pq_ints b) {
    return PQ_X86_INTS (and)(a, b);
}

PQ_INLINE pq_ints pq_or(pq_ints a, pq_ints b) {
    return PQ_X86_INTS(or)(a, b);
}

PQ_INLINE pq_ints pq_xor(pq_ints a, pq_ints b) {
    return PQ_X86_INTS(xor)(a, b);
}

PQ_INLINE pq_ints pq_subtract(pq_ints a, pq_ints b) {
    return PQ_X86(sub_epi32)(a, b);
}

/* Of the lanes of 32 bits. */
PQ_INLINE pq_ints pq_right(pq_ints x, const int bits) {
    return PQ_X86(srli_epi32)(x, (unsigned)bits);
}

PQ_INLINE pq_ints pq_left(pq_ints x, const int bits) {
    return PQ_X86(slli_epi32)(x, (unsigned)bits);
}

/* The same, with copies of the sign. */
PQ_INLINE pq_ints pq_right_signed(pq_ints x, const int bits) {
    return PQ_X86(srai_epi32)(x, (unsigned)bits);
}

/* Four neighboring activations, or two neighboring sums of them, in every lane. */
PQ_INLINE pq_ints pq_broadcast(const void *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return PQ_X86(set1_epi32)(v);
}

PQ_INLINE pq_vec pq_to_float(pq_ints x) {
    return PQ_X86(cvtepi32_ps)(x);
}

PQ_INLINE pq_ints pq_as_ints(pq_vec x) { /* the same bits */
    return PQ_X86_INTS(castps)(x);
}

/* At any address. */
PQ_INLINE void v_store_ints(void *p, pq_ints x) {
    PQ_X86_INTS(storeu)((pq_ints *)p, x);
}

/* Pairs of 16-bit numbers, for attention over integers: v_load_byte_pairs and v_dot_pairs are in each folder. */
typedef pq_ints pq_pairs;

PQ_INLINE pq_pairs v_load_byte_pairs(const void *p);

PQ_INLINE pq_pairs v_load_words(const int16_t *p) {
    return pq_load_ints(p);
}

/* Two neighboring numbers in every lane. */
PQ_INLINE pq_pairs v_all_pair(const int16_t *p) {
    return pq_broadcast(p);
}

PQ_INLINE pq_pairs v_load_low_nibbles(const void *p) {
    return pq_and(v_load_byte_pairs(p), pq_all_words(15));
}

PQ_INLINE pq_pairs v_load_high_nibbles(const void *p) {
    return PQ_X86(srli_epi16)(v_load_byte_pairs(p), 4);
}

/* Bit `bit` of every byte becomes bit 4 of x's number. */
PQ_INLINE pq_pairs v_add_fifth_bit(pq_pairs x, const void *line, const int bit) {
    const pq_pairs bits = v_load_byte_pairs(line);
    const pq_pairs moved = bit < 4 ? PQ_X86(slli_epi16)(bits, (unsigned)(bit < 4 ? 4 - bit : 0))
                                   : PQ_X86(srli_epi16)(bits, (unsigned)(bit < 4 ? 0 : bit - 4));
    return pq_or(x, pq_and(moved, pq_all_words(16)));
}

/* x with the integer in the low bits of n added to its exponent. */
PQ_INLINE pq_vec v_scale_exponent(pq_vec x, pq_vec n) {
    const pq_ints exponent = PQ_X86(slli_epi32)(pq_as_ints(n), 23);
    return pq_as_floats(PQ_X86(add_epi32)(pq_as_ints(x), exponent));
}

/* ------------------------------------------------------------------------------------------ 32 bytes */

typedef __m256i pq_bytes32;

PQ_INLINE pq_bytes32 v_zero_bytes(void) {
    return _mm256_setzero_si256();
}

PQ_INLINE void v_store_bytes(void *p, pq_bytes32 x) {
    _mm256_storeu_si256((__m256i *)p, x);
}

/* The sums of the lower and the upper 16. */
PQ_INLINE void v_sum_bytes(pq_bytes32 x, int sums[2]) {
    __m256i s = _mm256_maddubs_epi16(_mm256_set1_epi8(1), x);
    s = _mm256_madd_epi16(s, _mm256_set1_epi16(1));
    s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0x4E));
    s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0xB1));
    sums[0] = _mm_cvtsi128_si32(_mm256_castsi256_si128(s));
    sums[1] = _mm_cvtsi128_si32(_mm256_extracti128_si256(s, 1));
}

/* The rest of scalar/sum16.h, after its first step. */
PQ_INLINE float pq_sum8(__m256 l8) {
    const __m128 l4 = _mm_add_ps(_mm256_castps256_ps128(l8), _mm256_extractf128_ps(l8, 1));
    const __m128 l2 = _mm_add_ps(l4, _mm_movehl_ps(l4, l4));
    return _mm_cvtss_f32(_mm_add_ss(l2, _mm_movehdup_ps(l2)));
}

#endif
