/* quantize_block.c - blocks of 32: the search gives scale and minimum, f16 rounds them, and the integers
 * are chosen for what the file will hold. See quantize_block.h. */
#include "quantize_block.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "f16.h"
#include "tree.h"
#include "types.h"

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

void pq_fill_group(pq_group *g, const float *x, const float *w, int n, float unit) {
    const float inverse = 1.0f / unit;
    g->n = n;
    for (int i = 0; i < n; i++) {
        g->x[i] = x[i] * inverse;
        g->w[i] = w[i];
    }
    pq_group_sums(g);
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

/* The f16 number for a scale. Of tiny weights, whose scale has few digits left, the two around it differ
 * much, and the better one is taken. */
static float held_scale(const pq_group *group, const pq_levels *levels, float scale, float min,
                        float unit) {
    const float nearest = pq_f16_scale(scale, unit), away = pq_f16_scale_away(scale, unit);
    if (fabsf(away - nearest) < fabsf(scale) * 0x1p-9f)
        return nearest;
    return pq_fit_at(group, levels, away, min).error < pq_fit_at(group, levels, nearest, min).error
               ? away
               : nearest;
}

void pq_quantize_block(uint32_t type, const pq_levels *levels, const float *x, const float *w,
                       pq_decoded *out) {
    const int has_min = pq_type_family(type) == PQ_FAMILY_BLOCK_MIN;
    const float unit = pq_block_unit(x, 32);
    pq_group group;
    pq_fill_group(&group, x, w, 32, unit);
    const pq_fit fit = has_min           ? pq_search_scale_min(&group, levels, 1)
                       : type == PQ_Q8_0 ? pq_whole_range(&group, levels)
                                         : pq_search_scale(&group, levels);
    const float min = has_min ? pq_f16_scale(fit.min, unit) : 0.0f;
    const float scale = held_scale(&group, levels, fit.scale, min, unit);
    out->d = scale * unit;
    out->m = -min * unit;
    pq_fit_integers(&group, levels, scale, min, (signed char *)out->value);
}
