/* lane_bytes.h - Q8_0: the largest weight of a block becomes 127. With so many levels a search would win nothing, so the
 * lanes are the weights of one block here, and the compiler makes the vectors.
 */
#ifndef PQ_LANE_BYTES_H
#define PQ_LANE_BYTES_H

#include <math.h>

#include "../formats/block_scale.h"
#include "../formats/format.h"
#include "../formats/tree.h"

/* Added and taken off again, it rounds a float below 2^22 to the nearest even integer. */
#define PQ_ROUNDING 0x1.8p23f

static void round_bytes(const float *x, pq_decoded *out) {
    const float unit = pq_block_unit(x, 32), inverse_unit = 1.0f / unit; /* a power of two: exact */
    float top[32], scaled[32];
    for (int i = 0; i < 32; i++) {
        scaled[i] = x[i] * inverse_unit;
        top[i] = fabsf(scaled[i]);
    }
    const float scale = pq_f16_scale(pq_max_32(top) / 127.0f, unit);
    const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    out->d = scale * unit;
    for (int i = 0; i < 32; i++) {
        const int q = (int)((scaled[i] * inverse + PQ_ROUNDING) - PQ_ROUNDING);
        out->value[i] = (int8_t)(q < -127 ? -127 : q > 127 ? 127 : q);
    }
}

static void run_bytes(const float *x, size_t x_stride, size_t count, pq_decoded *out) {
    for (size_t b = 0; b < count; b++)
        round_bytes(x + b * x_stride, out + b);
}

#endif
