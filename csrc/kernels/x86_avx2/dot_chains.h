/* dot_chains.h - 32 columns of 8 rows times the tokens of a tile, without VNNI: the heart of templates/x86/gemm_block.h and
 * gemm_super.h for AVX2.
 *
 * vpmaddubsw makes 16-bit sums of two products, which are added up while they cannot overflow (the chain of a type), then
 * widened to 32 bits by vpmaddwd, which multiplies by the sub-block's scale on the way. dot_bytes.h would scale in float32
 * instead: the same bits, but a product and an addition more for each sub-block, next to four or eight vpmaddubsw.
 */
#include "../templates/x86/operands.h"
#include "../templates/x86/quants_block.h"
#include "scales_super.h"

/* Up to so many tokens multiply packed panels: where unpacking is cheap, where it is not. */
enum { PQ_DIRECT_CHEAP = 16, PQ_DIRECT_COSTLY = PQ_MAX_TILE };

/* x, opaque to the optimizer: gcc otherwise turns a chain of integer additions into a tree,
 * whose leaves do not fit the registers. */
PQ_INLINE pq_ints pq_in_order(pq_ints x) {
#if defined(__GNUC__)
    __asm__("" : "+x"(x));
#endif
    return x;
}

/* sum + the products of two 16-bit numbers. */
PQ_INLINE pq_ints pq_dot_words(pq_ints sum, pq_ints w, pq_ints x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(w, x));
}

/* How many results of vpmaddubsw fit a 16-bit sum: quants up to 15, 31, 63 times 127, two each; as far as their scale
 * goes. Of signed quants only one: 2 * 128 * 127. */
PQ_INLINE int chain_of(const uint32_t type) {
    switch (type) {
    case PQ_Q4_0:
    case PQ_Q4_1:
    case PQ_Q4_K:
        return 8;
    case PQ_Q6_K:
        return 2;
    case PQ_Q8_0:
    case PQ_IQ4_NL:
    case PQ_IQ4_XS:
        return 1;
    default: /* Q2_K and Q3_K by their sub-blocks, Q5_0, Q5_1 and Q5_K by their quants */
        return 4;
    }
}

/* Vectors that share a factor. */
PQ_INLINE int factor_vectors(const uint32_t type) {
    return is_super(type) ? sub_vectors(type) : BLOCK_VECTORS;
}

/* Columns 128 h + 32 s + 4 j .. + 3 of all rows; a block of 32 is the first 32 columns. */
PQ_INLINE pq_ints quants(const uint32_t type, const int unpacked, const uint8_t *group, size_t h,
                         const int s, const int j) {
    if (unpacked)
        return vector_at(group, h * 32 + (size_t)(s * VECTORS_32 + j));
    return is_super(type) ? super_quants(type, group, h, s, j) : block_quants(type, group, j);
}

PQ_INLINE void multiply_unsigned(const uint32_t type, const int unpacked, const int panels,
                                 const int n, const uint8_t *const *group, size_t h, const int s,
                                 const pq_ints *const *factors, const int8_t *const *q, size_t k,
                                 pq_ints *sum) {
    const int chain = chain_of(type), per_factor = factor_vectors(type);
    pq_ints partial[PQ_EACH_MOST];
    PQ_UNROLL
    for (int j = 0; j < VECTORS_32; j++) {
        pq_ints w[PQ_MOST_PANELS];
        PQ_EACH_2(p, panels, { w[p] = quants(type, unpacked, group[p], h, s, j); });
        PQ_EACH(e, panels * n, {
            const pq_ints four = pq_broadcast(q[e / panels] + k + j * 4);
            const pq_ints product = _mm256_maddubs_epi16(w[e % panels], four);
            partial[e] =
                j % chain == 0 ? product : pq_in_order(_mm256_add_epi16(partial[e], product));
            if (j % chain == chain - 1) {
                const pq_ints wide =
                    _mm256_madd_epi16(partial[e], factors[e % panels][j / per_factor]);
                sum[e] = pq_in_order(_mm256_add_epi32(sum[e], wide));
            }
        });
    }
}

/* Products of the magnitudes of the weights with activations that took over the signs. */
PQ_INLINE void multiply_signed(const uint32_t type, const int unpacked, const int panels,
                               const int n, const uint8_t *const *group, size_t h, const int s,
                               const pq_ints *const *factors, const int8_t *const *q, size_t k,
                               pq_ints *sum) {
    PQ_UNROLL
    for (int j = 0; j < VECTORS_32; j++) {
        pq_ints w[PQ_MOST_PANELS], magnitude[PQ_MOST_PANELS];
        PQ_EACH_2(p, panels, {
            w[p] = quants(type, unpacked, group[p], h, s, j);
            magnitude[p] = _mm256_abs_epi8(w[p]);
        });
        PQ_EACH(e, panels * n, {
            const pq_ints four = pq_broadcast(q[e / panels] + k + j * 4);
            const pq_ints a = _mm256_sign_epi8(four, w[e % panels]);
            const pq_ints product = _mm256_maddubs_epi16(magnitude[e % panels], a);
            const pq_ints factor = factors[e % panels][j / factor_vectors(type)];
            sum[e] = pq_in_order(_mm256_add_epi32(sum[e], _mm256_madd_epi16(product, factor)));
        });
    }
}

/* Adds the products of columns 128 h + 32 s .. + 31 to the integer sums, times the
 * factors (16-bit lanes) of their sub-blocks. q[t] + k: the activations of the first column. */
PQ_INLINE void multiply_columns(const uint32_t type, const int unpacked, const int panels,
                                const int n, const uint8_t *const *group, size_t h, const int s,
                                const pq_ints *const *factors, const int8_t *const *q, size_t k,
                                pq_ints *sum) {
    if (is_signed(type))
        multiply_signed(type, unpacked, panels, n, group, h, s, factors, q, k, sum);
    else
        multiply_unsigned(type, unpacked, panels, n, group, h, s, factors, q, k, sum);
}

/* sum[e] += the products of a block. q[t] + k: the activations of its first column. */
PQ_INLINE void multiply_block(const uint32_t type, const int unpacked, const int panels,
                              const int n, const uint8_t *const *group, const int8_t *const *q,
                              size_t k, pq_ints *sum) {
    const pq_ints ones = pq_all_words(1);
    const pq_ints *const factors[PQ_MOST_PANELS] = {&ones, &ones};
    multiply_columns(type, unpacked, panels, n, group, 0, 0, factors, q, k, sum);
}

/* total[e] += activations' scale * the integer sum over columns 128 h + 32 s .. + 31. */
PQ_INLINE void multiply_32(const uint32_t type, const int unpacked, const int panels, const int n,
                           const operands *x, size_t h, const int s, pq_vec *total) {
    const size_t i = 4 * h + (size_t)s, first = i * (size_t)(VECTORS_32 / sub_vectors(type));
    const pq_ints *factors[PQ_MOST_PANELS];
    PQ_EACH_2(p, panels, { factors[p] = x->scale[p]->factor + first; });
    pq_ints sum[PQ_EACH_MOST];
    PQ_EACH(e, panels * n, {
        sum[e] = pq_zero();
        if (offset_of(type))
            sum[e] = pq_dot_words(sum[e], x->scale[e % panels]->min[i],
                                  pq_broadcast(x->sums + e / panels * (x->cols / 16) + 2 * i));
    });
    multiply_columns(type, unpacked, panels, n, x->group, h, s, factors, x->q, i * 32, sum);
    PQ_EACH(e, panels * n, {
        total[e] =
            v_fma(v_all(x->d[e / panels * (x->cols / 32) + i]), pq_to_float(sum[e]), total[e]);
    });
}
