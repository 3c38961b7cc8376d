/* quantize_activations.h - activations to int8, 32 at a time. A template over a folder's vectors.h. */
#include <math.h>

#include "../kernels.h"

void PQ_NAME(quantize_activations)(const float *x, size_t n, int8_t *q, float *d, int16_t *sums,
                                   float *s) {
    enum { VECTORS = 32 / PQ_VEC };
    for (size_t b = 0; b < n / 32; b++) {
        pq_vec values[VECTORS];
        for (int v = 0; v < VECTORS; v++)
            values[v] = v_load(x + 32 * b + v * PQ_VEC);
        const float max = v_largest_magnitude(values), inverse = 127.0f / max;
        pq_bytes32 bytes = v_zero_bytes();
        if (isfinite(max) && isfinite(inverse)) {
            d[b] = max / 127.0f;
            for (int v = 0; v < VECTORS; v++)
                values[v] = v_mul(values[v], v_all(inverse));
            bytes = v_to_bytes(values);
        } else { /* damaged, or too small to matter */
            d[b] = isfinite(max) ? 0.0f : max;
        }
        int half[2];
        v_sum_bytes(bytes, half);
        v_store_bytes(q + 32 * b, bytes);
        sums[2 * b] = (int16_t)half[0];
        sums[2 * b + 1] = (int16_t)half[1];
        s[b] = d[b] * (float)(half[0] + half[1]);
    }
}
