/* vectors.h - what the search of the quantizer (quantizer/lane_search.h) is made of, in plain C: one float32. The
 * kernels of this folder need no vectors.
 *
 * v_max(a, b) is a where a > b, else b; v_min(a, b) is a where a < b, else b. */
#ifndef PQ_SCALAR_VECTORS_H
#define PQ_SCALAR_VECTORS_H

#include <stdint.h>

#include "../../formats/blocks.h"
#include "../inline.h"

enum { PQ_VEC = 1 };

typedef float pq_vec;
typedef int pq_mask;

PQ_INLINE pq_vec v_load(const float *p) {
    return *p;
}

PQ_INLINE void v_store(float *p, pq_vec x) {
    *p = x;
}

PQ_INLINE pq_vec v_all(float x) {
    return x;
}

PQ_INLINE pq_vec v_add(pq_vec a, pq_vec b) {
    return a + b;
}

PQ_INLINE pq_vec v_sub(pq_vec a, pq_vec b) {
    return a - b;
}

PQ_INLINE pq_vec v_mul(pq_vec a, pq_vec b) {
    return a * b;
}

PQ_INLINE pq_vec v_div(pq_vec a, pq_vec b) {
    return a / b;
}

PQ_INLINE pq_vec v_min(pq_vec a, pq_vec b) {
    return a < b ? a : b;
}

PQ_INLINE pq_vec v_max(pq_vec a, pq_vec b) {
    return a > b ? a : b;
}

/* To the nearest integer, ties to even: exact for |x| < 2^22, and no library call. */
PQ_INLINE pq_vec v_round(pq_vec x) {
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

PQ_INLINE pq_mask v_greater(pq_vec a, pq_vec b) {
    return a > b;
}

PQ_INLINE pq_vec v_select(pq_mask mask, pq_vec yes, pq_vec no) {
    return mask ? yes : no;
}

PQ_INLINE int v_any(pq_mask mask) {
    return mask;
}

/* The value of the non-linear types nearest to x; two values' border is half their sum. */
PQ_INLINE pq_vec v_nonlinear(pq_vec x) {
    static const int8_t VALUES[16] = PQ_IQ4_VALUES;
    int k = 0;
    for (int step = 8; step > 0; step /= 2) {
        const int border = VALUES[k + step - 1] + VALUES[k + step];
        k += 2.0f * x >= (float)border ? step : 0;
    }
    return VALUES[k];
}

#endif
