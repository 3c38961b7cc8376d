/* sum16.h - pq_sum16, the fixed order in which 16 partial sums become one. */
#ifndef PQ_SCALAR_SUM16_H
#define PQ_SCALAR_SUM16_H

static inline float pq_sum16(const float lanes[16]) {
    float l[16];
    for (int i = 0; i < 8; i++)
        l[i] = lanes[i] + lanes[i + 8];
    for (int half = 4; half > 0; half /= 2) {
        for (int i = 0; i < half; i++)
            l[i] += l[i + half];
    }
    return l[0];
}

#endif
