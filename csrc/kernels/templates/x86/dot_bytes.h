/* dot_bytes.h - 32 columns of all rows of a panel times the tokens of a tile, with vpdpbusd: the heart of gemm_block.h and
 * gemm_super.h for the instruction sets that have it.
 *
 * It adds four products to a 32-bit sum, so that nothing can overflow. It wants unsigned weights: signed ones are offset
 * by 128, and a sum begins with -offset times the sum of its activations.
 *
 * Scales of sub-blocks multiply the sums of their values. That product, and the sum of two such products in the types
 * with sub-blocks of 16, is done in float32 and still exact: it is less than 2^24 (Q6_K: 32 columns of 32 * 127, times
 * 128). The first sum of 32 columns is not converted: it begins with the bits of the float 1.5 * 2^23, whose last bit
 * counts ones, and the product with the scale takes scale * 1.5 * 2^23 off again.
 */
#include "operands.h"
#include "quants_block.h"
#include "scales_super.h"

/* Up to so many tokens multiply packed panels: where unpacking is cheap, where it is not. */
enum { PQ_DIRECT_CHEAP = 4 * PQ_MAX_TILE, PQ_DIRECT_COSTLY = PQ_MAX_TILE };

/* sum[e] += the products of a block. q[t] + k: the activations of its first column. */
PQ_INLINE void multiply_block(const uint32_t type, const int unpacked, const int panels,
                              const int n, const uint8_t *const *group, const int8_t *const *q,
                              size_t k, pq_ints *sum) {
    PQ_UNROLL
    for (int j = 0; j < BLOCK_VECTORS; j++) {
        pq_ints w[PQ_MOST_PANELS];
        PQ_EACH_2(p, panels, {
            w[p] = unpacked ? pq_load_ints(group[p] + j * PQ_VECTOR_BYTES)
                            : block_quants(type, group[p], j);
        });
        PQ_EACH(e, panels * n, {
            sum[e] = pq_dot_bytes(sum[e], w[e % panels], pq_broadcast(q[e / panels] + k + j * 4));
        });
    }
}

/* The bits of 1.5 * 2^23; with a sum between -2^22 and 2^22 added to them, of 1.5 * 2^23 + the sum. */
enum { ONES = 0x4B400000 };

/* total[e] += activations' scale * the integer sum over columns 128 h + 32 s .. + 31. */
PQ_INLINE void multiply_32(const uint32_t type, const int unpacked, const int panels, const int n,
                           const operands *x, size_t h, const int s, pq_vec *total) {
    const int subs = VECTORS_32 / sub_vectors(type);
    const size_t i = 4 * h + (size_t)s;
    pq_vec scaled[PQ_EACH_MOST];
    PQ_EACH(sub, subs, {
        const pq_ints offset = subs == 1  ? pq_all_words(-offset_of(type))
                               : sub == 0 ? pq_all_ints(-offset_of(type) & 0xFFFF)
                                          : pq_all_ints(-offset_of(type) * 65536);
        pq_vec factor[PQ_MOST_PANELS], excess[PQ_MOST_PANELS];
        PQ_EACH_2(p, panels, {
            factor[p] = x->scale[p]->factor[i * (size_t)subs + sub];
            excess[p] = v_fnma(factor[p], pq_as_floats(pq_all_ints(ONES)), v_all(0.0f));
        });
        pq_ints sum[PQ_EACH_MOST];
        PQ_EACH(e, panels * n, {
            sum[e] = sub == 0 ? pq_all_ints(ONES) : pq_zero();
            if (offset_of(type))
                sum[e] = pq_dot_words(sum[e], offset,
                                      pq_broadcast(x->sums + e / panels * (x->cols / 16) + 2 * i));
        });
        PQ_UNROLL
        for (int j = sub * 4; j < sub * 4 + sub_vectors(type); j++) {
            pq_ints w[PQ_MOST_PANELS];
            PQ_EACH_2(p, panels, {
                w[p] = unpacked ? vector_at(x->group[p], i * VECTORS_32 + (size_t)j)
                                : super_quants(type, x->group[p], h, s, j);
            });
            PQ_EACH(e, panels * n, {
                const pq_ints four = pq_broadcast(x->q[e / panels] + i * 32 + j * 4);
                sum[e] = pq_dot_bytes(sum[e], w[e % panels], four);
            });
        }
        PQ_EACH(e, panels * n, {
            scaled[e] = sub == 0
                            ? v_fma(factor[e % panels], pq_as_floats(sum[e]), excess[e % panels])
                            : v_fma(factor[e % panels], pq_to_float(sum[e]), scaled[e]);
        });
    });
    PQ_EACH(e, panels * n, {
        total[e] = v_fma(v_all(x->d[e / panels * (x->cols / 32) + i]), scaled[e], total[e]);
    });
}
