/* gemm_super.h - matrix products of the types with super-blocks of 256: Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS.
 *
 * As gemm_block.h; scales of sub-blocks multiply the integer sums, those of 32 activations and of
 * the super-block the float sums.
 */
#ifndef PQ_NEON_GEMM_SUPER_H
#define PQ_NEON_GEMM_SUPER_H

#include "quants_super.h"

/* sum (tokens) = scale times the products of columns 32 i .. + 31, i = 4 h + s, for rows 4 r .. + 3. */
PQ_INLINE void multiply_32(const uint32_t type, const int unpacked, const int n,
                           const uint8_t *group, size_t h, const int s, const int r,
                           const super_scales *scale, const int8_t *const *q, size_t k,
                           int32x4_t *sum) {
    const size_t i = 4 * h + (size_t)s;
    const uint8_t *rows = group + 16 * r;
    pq_dot dot[PQ_MAX_TILE];
    clear(n, dot);
    multiply_16(type, unpacked, n, rows, h, s, 0, q, k, dot);
    if (!has_scales_of_16(type)) {
        multiply_16(type, unpacked, n, rows, h, s, 1, q, k + 16, dot);
        PQ_EACH(t, n, { sum[t] = vmulq_s32(pq_dot_sum(dot, n, t), scale->factor[i][r]); });
        return;
    }
    PQ_EACH(t, n, { sum[t] = vmulq_s32(pq_dot_sum(dot, n, t), scale->factor[2 * i][r]); });
    clear(n, dot);
    multiply_16(type, unpacked, n, rows, h, s, 1, q, k + 16, dot);
    PQ_EACH(t, n,
            { sum[t] = vmlaq_s32(sum[t], pq_dot_sum(dot, n, t), scale->factor[2 * i + 1][r]); });
}

/* total (tokens, halves) = the sum over the super-block's 32s of the activations' scale times the
 * integer sum. */
PQ_INLINE void multiply_super(const uint32_t type, const int unpacked, const int n,
                              const uint8_t *group, const super_scales *scale, const pq_tile *a,
                              const int8_t *const *q, size_t b, float32x4_t (*total)[PQ_HALVES]) {
    PQ_EACH(t, n, { total[t][0] = total[t][1] = vdupq_n_f32(0.0f); });
    for (size_t h = 0; h < 2; h++) {
        PQ_EACH(s, 4, {
            const size_t block = 8 * b + 4 * h + s;
            PQ_EACH(r, PQ_HALVES, {
                int32x4_t sum[PQ_MAX_TILE];
                multiply_32(type, unpacked, n, group, h, s, r, scale, q, block * 32, sum);
                PQ_EACH(t, n, {
                    const float dx = a->d[t * (a->cols / 32) + block];
                    total[t][r] = vfmaq_n_f32(total[t][r], vcvtq_f32_s32(sum[t]), dx);
                });
            });
        });
    }
}

/* The sums of a 32's minima of 16 times those of its activations. */
PQ_INLINE int32x4_t minima_of_16(int16x4_t low, int16x4_t high, const int16_t *sums) {
    return vmlal_n_s16(vmull_n_s16(low, sums[0]), high, sums[1]);
}

/* minima (tokens, halves) = the sum over the super-block's 32s of minimum times activations. */
PQ_INLINE void multiply_minima(const uint32_t type, const int n, const super_scales *scale,
                               const pq_tile *a, size_t b, float32x4_t (*minima)[PQ_HALVES]) {
    PQ_EACH(t, n, { minima[t][0] = minima[t][1] = vdupq_n_f32(0.0f); });
    for (size_t i = 0; i < 8; i++) {
        const size_t block = 8 * b + i;
        PQ_EACH(t, n, {
            float32x4_t min[PQ_HALVES];
            float x;
            if (type == PQ_Q2_K) {
                const int16_t *sums = a->sums + t * (a->cols / 16) + 2 * block;
                const int16x8_t m0 = scale->min.of_16[2 * i];
                const int16x8_t m1 = scale->min.of_16[2 * i + 1];
                x = a->d[t * (a->cols / 32) + block];
                min[0] = vcvtq_f32_s32(minima_of_16(vget_low_s16(m0), vget_low_s16(m1), sums));
                min[1] = vcvtq_f32_s32(minima_of_16(vget_high_s16(m0), vget_high_s16(m1), sums));
            } else {
                x = a->s[t * (a->cols / 32) + block];
                min[0] = scale->min.of_32[i][0];
                min[1] = scale->min.of_32[i][1];
            }
            minima[t][0] = vfmaq_n_f32(minima[t][0], min[0], x);
            minima[t][1] = vfmaq_n_f32(minima[t][1], min[1], x);
        });
    }
}

PQ_INLINE void super_tile(const uint32_t type, const int unpacked, const int panels, const int n,
                          const pq_tile *a) {
    (void)panels; /* one */
    const size_t group_bytes = unpacked ? sizeof(super_unpacked) : PQ_LANES * block_bytes(type);
    const uint8_t *group = a->panel;
    const int8_t *q[PQ_MAX_TILE];
    float32x4_t acc[PQ_MAX_TILE][PQ_HALVES];
    PQ_EACH(t, n, {
        q[t] = a->q + t * a->cols;
        acc[t][0] = acc[t][1] = vdupq_n_f32(0.0f);
    });
    for (size_t b = 0; b < a->blocks; b++, group += group_bytes) {
        super_scales local;
        const super_scales *w = &local;
        if (unpacked)
            w = (const super_scales *)(const void *)(group + SUPER_VECTORS * 32);
        else
            super_scales_of(type, group, &local);
        float32x4_t total[PQ_MAX_TILE][PQ_HALVES];
        multiply_super(type, unpacked, n, group, w, a, q, b, total);
        PQ_EACH(t, n, {
            PQ_EACH(r, PQ_HALVES, { acc[t][r] = vfmaq_f32(acc[t][r], w->d[r], total[t][r]); });
        });
        if (has_min(type)) {
            multiply_minima(type, n, w, a, b, total);
            PQ_EACH(t, n, {
                PQ_EACH(r, PQ_HALVES,
                        { acc[t][r] = vfmsq_f32(acc[t][r], w->dmin[r], total[t][r]); });
            });
        }
    }
    PQ_EACH(t, n, { pq_store_rows(a->y + t * a->y_stride, a->rows, acc[t]); });
}

PQ_INLINE void super_unpack(const uint32_t type, const uint8_t *group, size_t blocks,
                            uint8_t *out) {
    for (size_t b = 0; b < blocks; b++) {
        for (size_t h = 0; h < 2; h++) {
            PQ_EACH(s, 4, {
                for (int j = 0; j < VECTORS_32; j += 2) {
                    int8_t *at = (int8_t *)out + h * 1024 + s * 256 + j * 32;
                    store_pair(at, super_quants(type, group, h, s, j),
                               super_quants(type, group, h, s, j + 1));
                    store_pair(at + 16, super_quants(type, group + 16, h, s, j),
                               super_quants(type, group + 16, h, s, j + 1));
                }
            });
        }
        super_scales_of(type, group, (super_scales *)(void *)(out + SUPER_VECTORS * 32));
        group += PQ_LANES * block_bytes(type);
        out += sizeof(super_unpacked);
    }
}

PQ_TILES(super, PQ_SUPER_TILE, q2_k, PQ_Q2_K, PQ_DIRECT_TOKENS)
PQ_TILES(super, PQ_SUPER_TILE, q3_k, PQ_Q3_K, PQ_DIRECT_TOKENS)
PQ_TILES(super, PQ_SUPER_TILE, q4_k, PQ_Q4_K, PQ_DIRECT_TOKENS)
PQ_TILES(super, PQ_SUPER_TILE, q5_k, PQ_Q5_K, PQ_DIRECT_TOKENS)
PQ_TILES(super, PQ_SUPER_TILE, q6_k, PQ_Q6_K, PQ_DIRECT_TOKENS)
PQ_TILES(super, PQ_SUPER_TILE, iq4_xs, PQ_IQ4_XS, PQ_DIRECT_TOKENS)

#endif
