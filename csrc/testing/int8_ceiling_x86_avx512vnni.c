/* int8_ceiling_x86_avx512vnni.c - see int8_ceiling_x86_vnni.h. */
#include <immintrin.h>

#include "int8_ceiling_x86_vnni.h"

static inline __m512i load(const int8_t *p) {
    return _mm512_load_si512(p);
}

static inline int32_t low(__m512i x) {
    return _mm_cvtsi128_si32(_mm512_castsi512_si128(x));
}

PQ_INT8_PRODUCTS(avx512vnni, __m512i, _mm512_setzero_si512, load, _mm512_dpbusd_epi32, low)
