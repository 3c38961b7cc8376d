/* int8_ceiling_x86_vnni.h - as many products of int8 as there can be: vpdpbusd alone. The includer brings the vectors. */
#ifndef PQ_VNNI_INT8_CEILING_H
#define PQ_VNNI_INT8_CEILING_H

#include "int8_ceiling.h"

#define PQ_INT8_PRODUCTS(isa, vector, zero, load, dot, low)                                        \
    size_t pq_int8_products_##isa(const int8_t *operands, size_t rounds, int32_t *sink) {          \
        enum { STEP = PQ_CEILING_SUMS * sizeof(vector) };                                          \
        const vector x = load(operands);                                                           \
        vector sums[PQ_CEILING_SUMS];                                                              \
        for (int k = 0; k < PQ_CEILING_SUMS; k++)                                                  \
            sums[k] = zero();                                                                      \
        for (size_t round = 0; round < rounds; round++)                                            \
            for (const int8_t *w = operands; w < operands + PQ_CEILING_BYTES; w += STEP)           \
                for (int k = 0; k < PQ_CEILING_SUMS; k++)                                          \
                    sums[k] = dot(sums[k], x, load(w + (size_t)k * sizeof(vector)));               \
        for (int k = 0; k < PQ_CEILING_SUMS; k++)                                                  \
            *sink += low(sums[k]);                                                                 \
        return PQ_CEILING_BYTES;                                                                   \
    }

#endif
