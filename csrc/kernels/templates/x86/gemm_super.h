/* gemm_super.h - matrix products of the types with super-blocks of 256: Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS.
 *
 * As gemm_block.h; the file that includes it brings super_scales with super_scales_of(), and multiply_32(), which multiplies
 * sums with the scales of their sub-blocks.
 */
#include "operands.h"
#include "quants_super.h"

/* A super-block of all rows, unpacked. */
typedef struct super_unpacked {
    pq_ints quants[SUPER_VECTORS];
    super_scales scales;
} super_unpacked;

/* minima[e] = the sum over the super-block's 32s of minimum times activations. */
PQ_INLINE void multiply_minima(const uint32_t type, const int panels, const int n,
                               const operands *x, pq_vec *minima) {
    PQ_EACH(e, panels * n, { minima[e] = v_all(0.0f); });
    for (size_t i = 0; i < 8; i++) {
        pq_ints min[PQ_MOST_PANELS];
        PQ_EACH_2(p, panels, { min[p] = x->scale[p]->min[i]; });
        PQ_EACH(e, panels * n, {
            const size_t at = e / panels * (x->cols / 32) + i;
            if (type == PQ_Q2_K) {
                const pq_ints sums = pq_broadcast(x->sums + e / panels * (x->cols / 16) + 2 * i);
                const pq_vec m = pq_to_float(pq_dot_words(pq_zero(), min[e % panels], sums));
                minima[e] = v_fma(m, v_all(x->d[at]), minima[e]);
            } else {
                minima[e] = v_fma(pq_as_floats(min[e % panels]), v_all(x->s[at]), minima[e]);
            }
        });
    }
}

PQ_INLINE void multiply_super(const uint32_t type, const int unpacked, const int panels,
                              const int n, const operands *x, pq_vec *total) {
    PQ_EACH(e, panels * n, { total[e] = v_all(0.0f); });
    for (size_t h = 0; h < 2; h++) {
        PQ_EACH(s, 4, {
            if (!unpacked)
                pq_prefetch_stream(x->group[0] + (4 * h + s) * (PQ_LANES * block_bytes(type) / 8),
                                   PQ_LANES * block_bytes(type) / 8);
            multiply_32(type, unpacked, panels, n, x, h, s, total);
        });
    }
}

PQ_INLINE void super_tile(const uint32_t type, const int unpacked, const int panels, const int n,
                          const pq_tile *a) {
    const size_t group_bytes = unpacked ? sizeof(super_unpacked) : PQ_LANES * block_bytes(type);
    super_scales local;
    operands x = {.group = {a->panel, a->panel + a->blocks * group_bytes},
                  .scale = {&local, &local},
                  .d = a->d,
                  .s = a->s,
                  .sums = a->sums,
                  .cols = a->cols};
    pq_vec acc[PQ_EACH_MOST];
    PQ_EACH(t, n, { x.q[t] = a->q + t * a->cols; });
    PQ_EACH(e, panels * n, { acc[e] = v_all(0.0f); });
    for (size_t b = 0; b < a->blocks; b++) {
        if (unpacked) {
            PQ_EACH_2(p, panels, {
                x.scale[p] = (const super_scales *)(const void *)(x.group[p] +
                                                                  SUPER_VECTORS * PQ_VECTOR_BYTES);
            });
        } else {
            super_scales_of(type, x.group[0], &local);
        }
        pq_vec total[PQ_EACH_MOST];
        multiply_super(type, unpacked, panels, n, &x, total);
        PQ_EACH(e, panels * n, { acc[e] = v_fma(x.scale[e % panels]->d, total[e], acc[e]); });
        if (has_min(type)) {
            multiply_minima(type, panels, n, &x, total);
            PQ_EACH(e, panels * n,
                    { acc[e] = v_fnma(x.scale[e % panels]->dmin, total[e], acc[e]); });
        }
        PQ_EACH_2(p, panels, { x.group[p] += group_bytes; });
        x.d += 8;
        x.s += 8;
        x.sums += 16;
        PQ_EACH(t, n, { x.q[t] += 256; });
    }
    store_tile(panels, n, a, acc);
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
