/* gemm_products.h - the sums of products of 4 rows and the tokens of a tile, where one instruction (smmla)
 * multiplies 8 columns of two rows with those of two tokens. See arm_neon/gemm_products.h.
 *
 * Two tokens share two vectors, of two rows each: row 0 with both tokens, then row 1. A token that is left
 * over has one vector of four rows, by dot products as in arm_dotprod.
 */
#ifndef PQ_I8MM_GEMM_PRODUCTS_H
#define PQ_I8MM_GEMM_PRODUCTS_H

#include "../arm_neon/gemm_tile.h"

typedef struct pq_dot {
    int32x4_t sums; /* of an even token: rows 0 and 1 of the pair; of an odd one: rows 2 and 3 */
} pq_dot;

PQ_INLINE pq_dot pq_dot_zero(void) {
    return (pq_dot){vdupq_n_s32(0)};
}

PQ_INLINE int32x4_t pq_dot_sum(const pq_dot *dot, const int n, const int t) {
    if (t % 2)
        return vuzp2q_s32(dot[t - 1].sums, dot[t].sums);
    return t + 1 < n ? vuzp1q_s32(dot[t].sums, dot[t + 1].sums) : dot[t].sums;
}

#endif
