/* gemm_block.h - matrix products of the types with blocks of 32: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL.
 *
 * One template, block_tile(), whose type, form and number of tokens are constants where it is used; what
 * differs between the types is in quants_block.h. The includer brings the products (gemm_products.h,
 * gemm_columns.h) of its instruction set.
 */
#ifndef PQ_NEON_GEMM_BLOCK_H
#define PQ_NEON_GEMM_BLOCK_H

#include "quants_block.h"

PQ_INLINE void block_tile(const uint32_t type, const int unpacked, const int panels, const int n,
                          const pq_tile *a) {
    (void)panels; /* one */
    const size_t group_bytes = unpacked ? sizeof(block_unpacked) : PQ_LANES * block_bytes(type);
    const uint8_t *group = a->panel;
    const int8_t *q[PQ_MAX_TILE];
    float32x4_t acc[PQ_MAX_TILE][PQ_HALVES];
    PQ_EACH(t, n, {
        q[t] = a->q + t * a->cols;
        acc[t][0] = acc[t][1] = vdupq_n_f32(0.0f);
    });
    for (size_t b = 0; b < a->blocks; b++, group += group_bytes) {
        const block_scales w =
            unpacked ? *(const block_scales *)(const void *)(group + BLOCK_VECTORS * 32)
                     : block_scales_of(type, group);
        PQ_EACH(r, PQ_HALVES, {
            pq_dot dot[PQ_MAX_TILE];
            clear(n, dot);
            multiply_16(type, unpacked, n, group + 16 * r, 0, 0, 0, q, b * 32, dot);
            multiply_16(type, unpacked, n, group + 16 * r, 0, 0, 1, q, b * 32 + 16, dot);
            PQ_EACH(t, n, {
                const size_t block = t * (a->cols / 32) + b;
                const float32x4_t i = vcvtq_f32_s32(pq_dot_sum(dot, n, t));
                acc[t][r] = vfmaq_f32(acc[t][r], vmulq_n_f32(w.d[r], a->d[block]), i);
                if (has_min(type))
                    acc[t][r] = vfmaq_n_f32(acc[t][r], w.m[r], a->s[block]);
            });
        });
    }
    PQ_EACH(t, n, { pq_store_rows(a->y + t * a->y_stride, a->rows, acc[t]); });
}

PQ_INLINE void block_unpack(const uint32_t type, const uint8_t *group, size_t blocks,
                            uint8_t *out) {
    for (size_t b = 0; b < blocks; b++) {
        for (int j = 0; j < BLOCK_VECTORS; j += 2) {
            PQ_EACH(r, PQ_HALVES, {
                const uint8_t *rows = group + 16 * r;
                store_pair((int8_t *)out + j * 32 + 16 * r, block_quants(type, rows, j),
                           block_quants(type, rows, j + 1));
            });
        }
        *(block_scales *)(void *)(out + BLOCK_VECTORS * 32) = block_scales_of(type, group);
        group += PQ_LANES * block_bytes(type);
        out += sizeof(block_unpacked);
    }
}

PQ_TILES(block, PQ_BLOCK_TILE, q4_0, PQ_Q4_0, PQ_DIRECT_TOKENS)
PQ_TILES(block, PQ_BLOCK_TILE, q4_1, PQ_Q4_1, PQ_DIRECT_TOKENS)
PQ_TILES(block, PQ_BLOCK_TILE, q5_0, PQ_Q5_0, PQ_DIRECT_TOKENS)
PQ_TILES(block, PQ_BLOCK_TILE, q5_1, PQ_Q5_1, PQ_DIRECT_TOKENS)
PQ_TILES(block, PQ_BLOCK_TILE, q8_0, PQ_Q8_0, PQ_DIRECT_TOKENS)
PQ_TILES(block, PQ_BLOCK_TILE, iq4_nl, PQ_IQ4_NL, PQ_DIRECT_TOKENS)

#endif
