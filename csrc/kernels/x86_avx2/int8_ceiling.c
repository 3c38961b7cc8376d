/* int8_ceiling.c - as many products of int8 as there can be: vpmaddubsw, and one addition of 16 bits. */
#include <immintrin.h>

#include "../int8_ceiling.h"

enum { VECTOR = 32, STEP = PQ_CEILING_SUMS * VECTOR };

size_t pq_int8_products_avx2(const int8_t *operands, size_t rounds, int32_t *sink) {
    __m256i x = _mm256_set1_epi8(1);
#define ZERO(k) __m256i sum##k = _mm256_setzero_si256();
#define MULTIPLY(k)                                                                                \
    sum##k = _mm256_add_epi16(                                                                     \
        sum##k, _mm256_maddubs_epi16(x, _mm256_load_si256((const __m256i *)(const void *)w + k))); \
    PQ_CHANGED_SUM(sum##k);
#define ADD(k) *sink += _mm256_extract_epi16(sum##k, 0);
    PQ_EACH_SUM(ZERO)
    for (size_t round = 0; round < rounds; round++)
        for (const int8_t *w = operands; w < operands + PQ_CEILING_BYTES; w += STEP) {
            PQ_CHANGED(x);
            PQ_EACH_SUM(MULTIPLY)
        }
    PQ_EACH_SUM(ADD)
    return PQ_CEILING_BYTES;
}
