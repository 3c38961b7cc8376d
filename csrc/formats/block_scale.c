/* block_scale.c - see block_scale.h. */
#include "block_scale.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "f16.h"
#include "tree.h"

float pq_block_unit(const float *x, int n) {
    float size[32] = {0};
    for (int i = 0; i < n; i += 32) {
        for (int j = 0; j < 32; j++)
            size[j] = fabsf(x[i + j]) > size[j] ? fabsf(x[i + j]) : size[j];
    }
    const float top = pq_max_32(size);
    uint32_t bits;
    memcpy(&bits, &top, sizeof bits);
    bits &= 0x7F800000; /* its exponent alone is the power of two below it */
    float unit;
    memcpy(&unit, &bits, sizeof unit);
    return top == 0.0f ? 1.0f : unit > 0x1p-120f ? unit : 0x1p-120f;
}

static const float F16_MAX = 65504.0f;

float pq_f16_scale(float scale, float unit) {
    const float x = scale * unit;
    const float held = pq_f16_to_f32(pq_f32_to_f16(x < -F16_MAX  ? -F16_MAX
                                                   : x > F16_MAX ? F16_MAX
                                                                 : x));
    return held / unit;
}

float pq_f16_scale_away(float scale, float unit) {
    const float nearest = pq_f16_scale(scale, unit);
    if (fabsf(nearest) >= fabsf(scale))
        return nearest;
    return pq_f16_to_f32((uint16_t)(pq_f32_to_f16(nearest * unit) + 1)) / unit;
}
