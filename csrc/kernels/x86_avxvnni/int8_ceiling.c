/* int8_ceiling.c - see ../templates/x86/int8_products_vnni.h. */
#include <immintrin.h>

#include "../templates/x86/int8_products_vnni.h"

typedef __m256i pq_vector;

static inline pq_vector pq_zero_sum(void) {
    return _mm256_setzero_si256();
}

static inline pq_vector pq_load(const int8_t *p) {
    return _mm256_load_si256((const __m256i *)(const void *)p);
}

static inline pq_vector pq_dot(pq_vector sum, pq_vector a, pq_vector b) {
    return _mm256_dpbusd_avx_epi32(sum, a, b);
}

static inline int32_t pq_low(pq_vector x) {
    return _mm_cvtsi128_si32(_mm256_castsi256_si128(x));
}

PQ_INT8_PRODUCTS(avxvnni)
