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

/* sum[t] += the products of a block. q[t] + k: the activations of its first column. */
PQ_INLINE void multiply_block(const uint32_t type, const int unpacked, const int n,
                              const uint8_t *group, const int8_t *const *q, size_t k,
                              pq_ints *sum) {
    PQ_UNROLL
    for (int j = 0; j < BLOCK_VECTORS; j++) {
        const pq_ints w =
            unpacked ? pq_load_ints(group + j * PQ_VECTOR_BYTES) : block_quants(type, group, j);
        PQ_EACH(t, n, { sum[t] = pq_dot_bytes(sum[t], w, pq_broadcast(q[t] + k + j * 4)); });
    }
}

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
