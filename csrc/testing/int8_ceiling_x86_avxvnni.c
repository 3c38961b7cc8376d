/* int8_ceiling_x86_avxvnni.c - see int8_ceiling_x86_vnni.h. */
#include <immintrin.h>

#include "int8_ceiling_x86_vnni.h"

static inline __m256i load(const int8_t *p) {
    return _mm256_load_si256((const __m256i *)(const void *)p);
}

static inline int32_t low(__m256i x) {
    return _mm_cvtsi128_si32(_mm256_castsi256_si128(x));
}

PQ_INT8_PRODUCTS(avxvnni, __m256i, _mm256_setzero_si256, load, _mm256_dpbusd_avx_epi32, low)
