/* int8_ceiling.c - see ../templates/x86/int8_products_vnni.h. */
#include <immintrin.h>

#include "../templates/x86/int8_products_vnni.h"

typedef __m512i pq_vector;

static inline pq_vector pq_zero_sum(void) {
    return _mm512_setzero_si512();
}

static inline pq_vector pq_load(const int8_t *p) {
    return _mm512_load_si512(p);
}

static inline pq_vector pq_dot(pq_vector sum, pq_vector a, pq_vector b) {
    return _mm512_dpbusd_epi32(sum, a, b);
}

static inline int32_t pq_low(pq_vector x) {
    return _mm_cvtsi128_si32(_mm512_castsi512_si128(x));
}

PQ_INT8_PRODUCTS(avx512vnni)
