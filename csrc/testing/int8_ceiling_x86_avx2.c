/* int8_ceiling_x86_avx2.c - as many products of int8 as there can be: vpmaddubsw, and one addition of 16 bits. */
#include <immintrin.h>

#include "int8_ceiling.h"

enum { VECTOR = 32, STEP = PQ_CEILING_SUMS * VECTOR };

size_t pq_int8_products_avx2(const int8_t *operands, size_t rounds, int32_t *sink) {
    const __m256i x = _mm256_set1_epi8(1);
    __m256i sums[PQ_CEILING_SUMS];
    for (int k = 0; k < PQ_CEILING_SUMS; k++)
        sums[k] = _mm256_setzero_si256();
    for (size_t round = 0; round < rounds; round++)
        for (const int8_t *w = operands; w < operands + PQ_CEILING_BYTES; w += STEP)
            for (int k = 0; k < PQ_CEILING_SUMS; k++) {
                const __m256i v = _mm256_load_si256((const __m256i *)(const void *)w + k);
                sums[k] = _mm256_add_epi16(sums[k], _mm256_maddubs_epi16(x, v));
            }
    for (int k = 0; k < PQ_CEILING_SUMS; k++)
        *sink += _mm256_extract_epi16(sums[k], 0);
    return PQ_CEILING_BYTES;
}
