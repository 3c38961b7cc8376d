/* gemm_columns.h - 16 columns of 4 rows times the tokens of a tile. Rows come 4 at a time because
 * the sums of 8 would not stay in registers. arm_i8mm/gemm_columns.h is the same for instructions that
 * multiply two rows with two tokens.
 *
 * A template for gemm_block.h and gemm_super.h over gemm_products.h.
 */
#ifndef PQ_NEON_GEMM_COLUMNS_H
#define PQ_NEON_GEMM_COLUMNS_H

#include "quants_all.h"

/* Adds the products of columns 128 h + 32 s + 16 u .. + 15 to dot (tokens). q[t] + k: the
 * activations of the first of these columns. */
PQ_INLINE void multiply_16(const uint32_t type, const int unpacked, const int n,
                           const uint8_t *group, size_t h, const int s, const int u,
                           const int8_t *const *q, size_t k, pq_dot *dot) {
    int8x16_t x[PQ_MAX_TILE];
    PQ_EACH(t, n, { x[t] = pq_load_activations(q[t] + k); });
    PQ_EACH(j, 4, {
        const int8x16_t w = quants(type, unpacked, group, h, s, 4 * u + j);
        PQ_EACH(t, n, { pq_dot_add(&dot[t], w, x[t], j, 4 * u + j, chain_of(type)); });
    });
}

/* Keeps an unpacked panel's columns 4 j .. + 3 and 4 j + 4 .. + 7 of 4 rows. */
PQ_INLINE void store_pair(int8_t *out, int8x16_t columns, int8x16_t next) {
    vst1q_s8(out, columns);
    vst1q_s8(out + 32, next);
}

PQ_INLINE void clear(const int n, pq_dot *dot) {
    PQ_EACH(t, n, { dot[t] = pq_dot_zero(); });
}

#endif
