/* gemm_block.h - matrix products of the types with blocks of 32: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL.
 *
 * One template, block_tile(), whose type, form and number of tokens are constants where it is used; what
 * differs between the types is in quants_block.h. The file that includes it brings multiply_block(). See gemm_tile.h.
 */
#include "operands.h"
#include "quants_block.h"

PQ_INLINE block_scales unpacked_scales(const uint32_t type, const uint8_t *group) {
    const float *s = (const float *)(const void *)(group + BLOCK_VECTORS * PQ_VECTOR_BYTES);
    const pq_vec d = v_load(s);
    return (block_scales){d, has_min(type) ? v_load(s + PQ_LANES) : d};
}

/* ------------------------------------------------------------------------------ the template */

PQ_INLINE void block_tile(const uint32_t type, const int unpacked, const int panels, const int n,
                          const pq_tile *a) {
    const size_t group_bytes = unpacked ? sizeof(block_unpacked) : PQ_LANES * block_bytes(type);
    const pq_ints offset = pq_all_words(-offset_of(type));
    const uint8_t *group[PQ_MOST_PANELS] = {a->panel, a->panel + a->blocks * group_bytes};
    const int8_t *q[PQ_EACH_MOST];
    pq_vec acc[PQ_EACH_MOST];
    PQ_EACH(t, n, { q[t] = a->q + t * a->cols; });
    PQ_EACH(e, panels * n, { acc[e] = v_all(0.0f); });
    for (size_t b = 0; b < a->blocks; b++) {
        pq_ints sum[PQ_EACH_MOST];
        if (!unpacked)
            pq_prefetch_stream(group[0], group_bytes);
        PQ_EACH(e, panels * n, {
            sum[e] = pq_zero();
            if (offset_of(type))
                sum[e] = pq_dot_words(sum[e], offset,
                                      pq_broadcast(a->sums + e / panels * (a->cols / 16) + 2 * b));
        });
        multiply_block(type, unpacked, panels, n, group, q, b * 32, sum);
        block_scales s[PQ_MOST_PANELS];
        PQ_EACH_2(p, panels, {
            s[p] = unpacked ? unpacked_scales(type, group[p]) : block_scales_of(type, group[p]);
            group[p] += group_bytes;
        });
        PQ_EACH(e, panels * n, {
            const size_t at = e / panels * (a->cols / 32) + b;
            const pq_vec d = v_mul(s[e % panels].d, v_all(a->d[at]));
            acc[e] = v_fma(d, pq_to_float(sum[e]), acc[e]);
            if (has_min(type))
                acc[e] = v_fma(s[e % panels].m, v_all(a->s[at]), acc[e]);
        });
    }
    store_tile(panels, n, a, acc);
}

PQ_INLINE void block_unpack(const uint32_t type, const uint8_t *group, size_t blocks,
                            uint8_t *out) {
    for (size_t b = 0; b < blocks; b++) {
        PQ_UNROLL
        for (int j = 0; j < BLOCK_VECTORS; j++)
            pq_store_ints(out + j * PQ_VECTOR_BYTES, block_quants(type, group, j));
        *(block_scales *)(void *)(out + BLOCK_VECTORS * PQ_VECTOR_BYTES) =
            block_scales_of(type, group);
        group += PQ_LANES * block_bytes(type);
        out += sizeof(block_unpacked);
    }
}

/* ----------------------------------------------------------------------------- its instances */

PQ_TILES(block, PQ_BLOCK_TILE, q4_0, PQ_Q4_0, PQ_DIRECT_CHEAP)
PQ_TILES(block, PQ_BLOCK_TILE, q4_1, PQ_Q4_1, PQ_DIRECT_CHEAP)
PQ_TILES(block, PQ_BLOCK_TILE, q5_0, PQ_Q5_0, PQ_DIRECT_COSTLY)
PQ_TILES(block, PQ_BLOCK_TILE, q5_1, PQ_Q5_1, PQ_DIRECT_COSTLY)
PQ_TILES(block, PQ_BLOCK_TILE, q8_0, PQ_Q8_0, PQ_DIRECT_CHEAP)
PQ_TILES(block, PQ_BLOCK_TILE, iq4_nl, PQ_IQ4_NL, PQ_DIRECT_COSTLY)
