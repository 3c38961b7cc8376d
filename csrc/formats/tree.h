/* tree.h - sums and extremes of a few floats in one fixed order.
 *
 * Halves are combined until one number is left: an order that vectors of any width can follow, so that the
 * result does not depend on the machine, and that compilers turn into vector instructions. The
 * arrays are overwritten.
 */
#ifndef PQ_TREE_H
#define PQ_TREE_H

/* x[i] += x[i + half] for i < half. */
static inline void pq_fold_sum(float *x, int half) {
    for (int i = 0; i < half; i++)
        x[i] += x[i + half];
}

static inline float pq_sum_16(float *x) {
    pq_fold_sum(x, 8);
    pq_fold_sum(x, 4);
    return (x[0] + x[2]) + (x[1] + x[3]);
}

static inline float pq_sum_32(float *x) {
    pq_fold_sum(x, 16);
    return pq_sum_16(x);
}

static inline void pq_fold_max(float *x, int half) {
    for (int i = 0; i < half; i++)
        x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
}

static inline float pq_max_16(float *x) {
    pq_fold_max(x, 8);
    pq_fold_max(x, 4);
    const float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
    return a > b ? a : b;
}

static inline float pq_max_32(float *x) {
    pq_fold_max(x, 16);
    return pq_max_16(x);
}

#endif
