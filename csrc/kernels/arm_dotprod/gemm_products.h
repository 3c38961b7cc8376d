/* gemm_products.h - 4 columns of 4 rows times 4 activations, in one instruction (sdot). See
 * arm_neon/gemm_products.h.
 */
#ifndef PQ_DOTPROD_GEMM_PRODUCTS_H
#define PQ_DOTPROD_GEMM_PRODUCTS_H

#include "../arm_neon/gemm_tile.h"

typedef struct pq_dot {
    int32x4_t rows;
} pq_dot;

PQ_INLINE pq_dot pq_dot_zero(void) {
    return (pq_dot){vdupq_n_s32(0)};
}

/* Sums are 32 bits wide from the start: there is no chain to count. */
#define pq_dot_add(dot, w, x, j, place, count)                                                     \
    do {                                                                                           \
        (void)(count);                                                                             \
        (dot)->rows = vdotq_laneq_s32((dot)->rows, (w), (x), (j));                                 \
    } while (0)

PQ_INLINE int32x4_t pq_dot_sum(const pq_dot *dot, const int n, const int t) {
    (void)n;
    return dot[t].rows;
}

#endif
