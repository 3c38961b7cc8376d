/* gemm_products.h - 32 columns of 8 rows times the tokens of a tile: the heart of the quantized kernels.
 *
 * A template. The file that includes it defines before, for its types:
 *   is_signed(type)    1: quants are signed bytes
 *   chain_of(type)     how many vpmaddubsw results are added up in 16 bits, 2 to 8; 1 for signed quants
 *   sub_vectors(type)  vectors of 4 columns that share a factor: 4 or 8
 *   quants(type, unpacked, group, h, s, j)
 *                      columns 128 h + 32 s + 4 j .. + 3 of 8 rows
 */
#ifndef PQ_AVX2_GEMM_PRODUCTS_H
#define PQ_AVX2_GEMM_PRODUCTS_H

PQ_INLINE void multiply_unsigned(const uint32_t type, const int unpacked, const int n,
                                 const uint8_t *group, size_t h, const int s,
                                 const __m256i *factors, const int8_t *const *q, size_t k,
                                 __m256i *sum) {
    const int chain = chain_of(type), per_factor = sub_vectors(type);
    __m256i partial[PQ_MAX_TILE];
    PQ_UNROLL
    for (int j = 0; j < 8; j++) {
        const __m256i w = quants(type, unpacked, group, h, s, j);
        PQ_EACH(t, n, {
            const __m256i product = _mm256_maddubs_epi16(w, pq_broadcast4(q[t] + k + j * 4));
            partial[t] =
                j % chain == 0 ? product : pq_in_order(_mm256_add_epi16(partial[t], product));
            if (j % chain == chain - 1) {
                const __m256i wide = _mm256_madd_epi16(partial[t], factors[j / per_factor]);
                sum[t] = pq_in_order(_mm256_add_epi32(sum[t], wide));
            }
        });
    }
}

/* Products of the magnitudes of the weights with activations that took over the signs. */
PQ_INLINE void multiply_signed(const uint32_t type, const int unpacked, const int n,
                               const uint8_t *group, size_t h, const int s, const __m256i *factors,
                               const int8_t *const *q, size_t k, __m256i *sum) {
    const int per_factor = sub_vectors(type);
    PQ_UNROLL
    for (int j = 0; j < 8; j++) {
        const __m256i w = quants(type, unpacked, group, h, s, j);
        const __m256i magnitude = _mm256_abs_epi8(w), factor = factors[j / per_factor];
        PQ_EACH(t, n, {
            const __m256i a = _mm256_sign_epi8(pq_broadcast4(q[t] + k + j * 4), w);
            const __m256i product = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, a), factor);
            sum[t] = pq_in_order(_mm256_add_epi32(sum[t], product));
        });
    }
}

/* Adds the products of columns 128 h + 32 s .. + 31 to the integer sums of n tokens, times the
 * factors (16-bit lanes) of their sub-blocks. q[t] + k: the activations of the first column. */
PQ_INLINE void multiply_32(const uint32_t type, const int unpacked, const int n,
                           const uint8_t *group, size_t h, const int s, const __m256i *factors,
                           const int8_t *const *q, size_t k, __m256i *sum) {
    if (is_signed(type))
        multiply_signed(type, unpacked, n, group, h, s, factors, q, k, sum);
    else
        multiply_unsigned(type, unpacked, n, group, h, s, factors, q, k, sum);
}

#endif
