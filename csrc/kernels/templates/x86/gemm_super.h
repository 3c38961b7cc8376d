/* gemm_super.h - matrix products of the types with super-blocks of 256: Q2_K Q3_K Q4_K Q5_K Q6_K
 * IQ4_XS.
 *
 * As gemm_block.h; scales of sub-blocks multiply the sums of their values. That product, and the
 * sum of two such products in the types with sub-blocks of 16, is done in float32 and still exact:
 * it is less than 2^24 (Q6_K: 32 columns of 32 * 127, times 128).
 *
 * The first sum of 32 columns is not converted: it begins with the bits of the float 1.5 * 2^23, whose last
 * bit counts ones, and the product with the scale takes scale * 1.5 * 2^23 off again.
 */
#include "quants_super.h"

/* ------------------------------------------------------------------------------ the template */

/* A super-block's operands: its packed or unpacked group, and where the tokens' activations of its
 * first column are. */
typedef struct operands {
    const uint8_t *group;
    const super_scales *scale;
    const int8_t *q[PQ_EACH_MOST];
    const float *d, *s;
    const int16_t *sums;
    size_t cols;
} operands;

/* The bits of 1.5 * 2^23; with a sum between -2^22 and 2^22 added to them, of 1.5 * 2^23 + the sum. */
enum { ONES = 0x4B400000 };

/* total[t] += activations' scale * the integer sum over columns 128 h + 32 s .. + 31. */
PQ_INLINE void multiply_32(const uint32_t type, const int unpacked, const int n, const operands *x,
                           size_t h, const int s, pq_vec *total) {
    const int subs = VECTORS_32 / sub_vectors(type);
    const size_t i = 4 * h + (size_t)s;
    pq_vec scaled[PQ_EACH_MOST];
    PQ_EACH(sub, subs, {
        const pq_ints offset = subs == 1  ? pq_all_words(-offset_of(type))
                               : sub == 0 ? pq_all_ints(-offset_of(type) & 0xFFFF)
                                          : pq_all_ints(-offset_of(type) * 65536);
        const pq_vec factor = x->scale->factor[i * (size_t)subs + sub];
        const pq_vec excess = v_fnma(factor, pq_as_floats(pq_all_ints(ONES)), v_all(0.0f));
        pq_ints sum[PQ_EACH_MOST];
        PQ_EACH(t, n, {
            sum[t] = sub == 0 ? pq_all_ints(ONES) : pq_zero();
            if (offset_of(type))
                sum[t] = pq_dot_words(sum[t], offset,
                                      pq_broadcast(x->sums + t * (x->cols / 16) + 2 * i));
        });
        PQ_UNROLL
        for (int j = sub * 4; j < sub * 4 + sub_vectors(type); j++) {
            const pq_ints w = unpacked ? vector_at(x->group, i * VECTORS_32 + (size_t)j)
                                       : super_quants(type, x->group, h, s, j);
            PQ_EACH(t, n,
                    { sum[t] = pq_dot_bytes(sum[t], w, pq_broadcast(x->q[t] + i * 32 + j * 4)); });
        }
        PQ_EACH(t, n, {
            scaled[t] = sub == 0 ? v_fma(factor, pq_as_floats(sum[t]), excess)
                                 : v_fma(factor, pq_to_float(sum[t]), scaled[t]);
        });
    });
    PQ_EACH(t, n, { total[t] = v_fma(v_all(x->d[t * (x->cols / 32) + i]), scaled[t], total[t]); });
}

/* minima[t] = the sum over the super-block's 32s of minimum times activations. */
PQ_INLINE void multiply_minima(const uint32_t type, const int n, const operands *x,
                               pq_vec *minima) {
    PQ_EACH(t, n, { minima[t] = v_all(0.0f); });
    for (size_t i = 0; i < 8; i++) {
        const pq_ints min = x->scale->min[i];
        PQ_EACH(t, n, {
            const size_t at = t * (x->cols / 32) + i;
            if (type == PQ_Q2_K) {
                const pq_ints sums = pq_broadcast(x->sums + t * (x->cols / 16) + 2 * i);
                const pq_vec m = pq_to_float(pq_dot_words(pq_zero(), min, sums));
                minima[t] = v_fma(m, v_all(x->d[at]), minima[t]);
            } else {
                minima[t] = v_fma(pq_as_floats(min), v_all(x->s[at]), minima[t]);
            }
        });
    }
}

PQ_INLINE void multiply_super(const uint32_t type, const int unpacked, const int n,
                              const operands *x, pq_vec *total) {
    PQ_EACH(t, n, { total[t] = v_all(0.0f); });
    for (size_t h = 0; h < 2; h++) {
        PQ_EACH(s, 4, {
            if (!unpacked)
                pq_prefetch_stream(x->group + (4 * h + s) * (PQ_LANES * block_bytes(type) / 8),
                                   PQ_LANES * block_bytes(type) / 8);
            multiply_32(type, unpacked, n, x, h, s, total);
        });
    }
}

PQ_INLINE void super_tile(const uint32_t type, const int unpacked, const int n,
                          const pq_vnni_tile *a) {
    const size_t group_bytes = unpacked ? sizeof(super_unpacked) : PQ_LANES * block_bytes(type);
    super_scales local;
    operands x = {
        .group = a->panel, .scale = &local, .d = a->d, .s = a->s, .sums = a->sums, .cols = a->cols};
    pq_vec acc[PQ_EACH_MOST];
    PQ_EACH(t, n, {
        x.q[t] = a->q + t * a->cols;
        acc[t] = v_all(0.0f);
    });
    for (size_t b = 0; b < a->blocks; b++) {
        if (unpacked)
            x.scale =
                (const super_scales *)(const void *)(x.group + SUPER_VECTORS * PQ_VECTOR_BYTES);
        else
            super_scales_of(type, x.group, &local);
        pq_vec total[PQ_EACH_MOST];
        multiply_super(type, unpacked, n, &x, total);
        PQ_EACH(t, n, { acc[t] = v_fma(x.scale->d, total[t], acc[t]); });
        if (has_min(type)) {
            multiply_minima(type, n, &x, total);
            PQ_EACH(t, n, { acc[t] = v_fnma(x.scale->dmin, total[t], acc[t]); });
        }
        x.group += group_bytes;
        x.d += 8;
        x.s += 8;
        x.sums += 16;
        PQ_EACH(t, n, { x.q[t] += 256; });
    }
    PQ_EACH(t, n, { v_store_first(a->y + t * a->y_stride, a->rows, acc[t]); });
}

PQ_INLINE void super_unpack(const uint32_t type, const uint8_t *group, size_t blocks,
                            uint8_t *out) {
    for (size_t b = 0; b < blocks; b++) {
        for (size_t h = 0; h < 2; h++) {
            PQ_EACH(s, 4, {
                PQ_UNROLL
                for (int j = 0; j < VECTORS_32; j++)
                    pq_store_ints(out + (h * 32 + s * 8 + (size_t)j) * PQ_VECTOR_BYTES,
                                  super_quants(type, group, h, s, j));
            });
        }
        super_scales_of(type, group,
                        (super_scales *)(void *)(out + SUPER_VECTORS * PQ_VECTOR_BYTES));
        group += PQ_LANES * block_bytes(type);
        out += sizeof(super_unpacked);
    }
}

/* ----------------------------------------------------------------------------- its instances */

PQ_TILES(super, PQ_SUPER_TILE, q2_k, PQ_Q2_K, PQ_DIRECT_COSTLY)
PQ_TILES(super, PQ_SUPER_TILE, q3_k, PQ_Q3_K, PQ_DIRECT_COSTLY)
PQ_TILES(super, PQ_SUPER_TILE, q4_k, PQ_Q4_K, PQ_DIRECT_CHEAP)
PQ_TILES(super, PQ_SUPER_TILE, q5_k, PQ_Q5_K, PQ_DIRECT_COSTLY)
PQ_TILES(super, PQ_SUPER_TILE, q6_k, PQ_Q6_K, PQ_DIRECT_COSTLY)
PQ_TILES(super, PQ_SUPER_TILE, iq4_xs, PQ_IQ4_XS, PQ_DIRECT_COSTLY)
