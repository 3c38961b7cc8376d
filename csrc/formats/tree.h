/* tree.h - the largest of a few floats, found in halves.
 *
 * Halves are combined until one number is left: an order that vectors of any width can follow, and that compilers
 * turn into vector instructions. The array is overwritten.
 */
#ifndef PQ_TREE_H
#define PQ_TREE_H

static inline float pq_max_32(float *x) {
    for (int half = 16; half > 0; half /= 2) {
        for (int i = 0; i < half; i++)
            x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
    }
    return x[0];
}

#endif
