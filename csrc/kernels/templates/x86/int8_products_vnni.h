/* int8_products_vnni.h - as many products of int8 as there can be: vpdpbusd alone. Two products share a
 * load, as the tokens of a tile do: Zen 4 loads no more than one vector of 64 bytes per cycle. */
#ifndef PQ_X86_INT8_PRODUCTS_VNNI_H
#define PQ_X86_INT8_PRODUCTS_VNNI_H

#include "../../int8_ceiling.h"

/* The includer has the vectors: pq_vector, pq_zero_sum(), pq_load(), pq_dot() and pq_low(). */
#define PQ_SUM_ZERO(k) pq_vector sum##k = pq_zero_sum();
#define PQ_SUM_MULTIPLY(k)                                                                         \
    sum##k = pq_dot(sum##k, (k) % 2 ? x : y, pq_load(w + (k) / 2 * sizeof(pq_vector)));            \
    PQ_CHANGED_SUM(sum##k);
#define PQ_SUM_ADD(k) *sink += pq_low(sum##k);
#define PQ_INT8_PRODUCTS(isa)                                                                      \
    size_t pq_int8_products_##isa(const int8_t *operands, size_t rounds, int32_t *sink) {          \
        enum { STEP = PQ_CEILING_SUMS / 2 * sizeof(pq_vector) };                                   \
        pq_vector x = pq_load(operands), y = x;                                                    \
        PQ_EACH_SUM(PQ_SUM_ZERO)                                                                   \
        for (size_t round = 0; round < rounds; round++)                                            \
            for (const int8_t *w = operands; w < operands + PQ_CEILING_BYTES; w += STEP) {         \
                PQ_CHANGED(x);                                                                     \
                PQ_CHANGED(y);                                                                     \
                PQ_EACH_SUM(PQ_SUM_MULTIPLY)                                                       \
            }                                                                                      \
        PQ_EACH_SUM(PQ_SUM_ADD)                                                                    \
        return (size_t)PQ_CEILING_BYTES * 2;                                                       \
    }

#endif
