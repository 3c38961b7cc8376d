/* vectors.h - what the templates of templates/x86 are made of, for AVX-VNNI: AVX2's, and products of int8. */
#ifndef PQ_AVXVNNI_VECTORS_H
#define PQ_AVXVNNI_VECTORS_H

#define PQ_NAME(name) pq_##name##_avxvnni

#include "../x86_avx2/vectors.h"

#define PQ_MAX_TILE 6 /* tokens: their sums and totals fit the 16 registers */

/* sum + the products of four unsigned bytes of w with four signed ones of x. */
PQ_INLINE pq_ints pq_dot_bytes(pq_ints sum, pq_ints w, pq_ints x) {
    return _mm256_dpbusd_avx_epi32(sum, w, x);
}

/* sum + the products of two 16-bit numbers. */
PQ_INLINE pq_ints pq_dot_words(pq_ints sum, pq_ints w, pq_ints x) {
    return _mm256_dpwssd_avx_epi32(sum, w, x);
}

#endif
