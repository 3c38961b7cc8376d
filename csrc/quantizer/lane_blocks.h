/* lane_blocks.h - blocks of 32: the search gives scale and minimum, f16 rounds them, and the integers are chosen for
 * what the file will hold. And the entry of the block search. See lanes.h.
 */
#ifndef PQ_LANE_BLOCKS_H
#define PQ_LANE_BLOCKS_H

#include <math.h>
#include <string.h>

#include "../formats/block_scale.h"
#include "../formats/types.h"
#include "lane_bytes.h"
#include "lane_search.h"
#include "lane_supers.h"

/* -------------------------------------------------------------------------------------- blocks of 32 */

/* The f16 numbers for scales. Of tiny weights, whose scale has few digits left, the two around it differ
 * much, and the better one is taken. */
static void hold_scales(const lane_groups *g, int lanes, const float *unit, float *scale,
                        const float *min) {
    float nearest[PQ_GROUPS], away[PQ_GROUPS];
    int coarse = 0;
    for (int s = 0; s < lanes; s++) {
        nearest[s] = pq_f16_scale(scale[s], unit[s]);
        away[s] = pq_f16_scale_away(scale[s], unit[s]);
        if (fabsf(away[s] - nearest[s]) < fabsf(scale[s]) * 0x1p-9f)
            away[s] = nearest[s];
        else
            coarse |= away[s] != nearest[s];
    }
    memcpy(scale, nearest, (size_t)lanes * sizeof *scale);
    for (int s = 0; coarse && s < lanes; s += PQ_VEC) {
        const pq_vec one = v_load(nearest + s), other = v_load(away + s), m = v_load(min + s);
        const pq_mask better = v_greater(error_at(g, s, one, m), error_at(g, s, other, m));
        v_store(scale + s, v_select(better, other, one));
    }
}

/* The numbers of blocks of 32 on their way to the file. */
typedef struct block_numbers {
    float scale[PQ_GROUPS], min[PQ_GROUPS], error[PQ_GROUPS];
    int fine[PQ_GROUPS];
} block_numbers;

/* Takes other scales and minima where they are better. */
static void try_numbers(const lane_groups *g, int lanes, const float *scale, const float *min,
                        block_numbers *best) {
    float error[PQ_GROUPS];
    for (int s = 0; s < lanes; s += PQ_VEC)
        v_store(error + s, error_at(g, s, v_load(scale + s), v_load(min + s)));
    for (int s = 0; s < lanes; s++) {
        if (!best->fine[s] || !(error[s] < best->error[s]))
            continue;
        best->scale[s] = scale[s];
        best->min[s] = min[s];
        best->error[s] = error[s];
    }
}

/* Blocks of few values, or nearly alike: the rounding of the scale is what loses, not that of the weights. The weight
 * farthest from 0, or from the minimum, is mapped to each level in turn. */
static void refine_blocks(const lane_groups *g, int lanes, const float *unit, block_numbers *best) {
    const pq_levels *levels = g->levels;
    const float range = (levels->high - levels->low) / levels->spacing;
    float least[PQ_GROUPS], most[PQ_GROUPS], scale[PQ_GROUPS], min[PQ_GROUPS];
    int any = 0;
    for (int s = 0; s < lanes; s += PQ_VEC) {
        pq_vec low, high;
        bounds(g, s, &low, &high);
        const pq_vec scales = v_load(best->scale + s), minima = v_load(best->min + s);
        v_store(least + s, v_add(low, v_load(g->center + s)));
        v_store(most + s, g->has_min ? v_add(high, v_load(g->center + s)) : farthest(g, s));
        v_store(best->error + s, error_at(g, s, scales, minima));
    }
    for (int s = 0; s < lanes; s++) {
        const float little = g->energy[s] / (8.0f * range * range);
        best->fine[s] = best->error[s] > 0.0f && best->error[s] < little;
        any |= best->fine[s];
    }
    for (float level = levels->low; any && level <= levels->high; level += 1.0f) {
        if (level == 0.0f ||
            (levels->nearest && levels->nearest[(int)(2.0f * level) + 256] != level))
            continue;
        for (int s = 0; s < lanes; s++) {
            min[s] = best->min[s];
            scale[s] = pq_f16_scale((most[s] + min[s]) / level, unit[s]);
        }
        try_numbers(g, lanes, scale, min, best);
        for (int s = 0; g->has_min && s < lanes; s++) {
            min[s] = pq_f16_scale(-least[s], unit[s]);
            scale[s] = pq_f16_scale((most[s] + min[s]) / level, unit[s]);
        }
        if (g->has_min)
            try_numbers(g, lanes, scale, min, best);
    }
}

static void quantize_blocks(lane_groups *g, const float *unit, int lanes, pq_decoded *out,
                            int count) {
    lane_fit fit;
    block_numbers best;
    float q[PQ_GROUP_MAX][PQ_GROUPS];
    complete(g, lanes);
    for (int s = 0; s < lanes; s += PQ_VEC) {
        if (g->has_min)
            search_range(g, 1, s, &fit);
        else
            search_scale(g, s, &fit);
    }
    for (int s = 0; g->has_min && s < lanes; s++)
        fit.min[s] = pq_f16_scale(fit.min[s], unit[s]);
    hold_scales(g, lanes, unit, fit.scale, fit.min);
    memcpy(best.scale, fit.scale, (size_t)lanes * sizeof(float));
    memcpy(best.min, fit.min, (size_t)lanes * sizeof(float));
    refine_blocks(g, lanes, unit, &best);
    for (int s = 0; s < lanes; s += PQ_VEC)
        integers_at(g, s, v_load(best.scale + s), v_load(best.min + s), q);
    for (int b = 0; b < count; b++) {
        out[b].d = best.scale[b] * unit[b];
        out[b].m = -best.min[b] * unit[b];
        for (int i = 0; i < 32; i++)
            out[b].value[i] = (int8_t)q[i][b];
    }
}

/* ---------------------------------------------------------------------------------------------- entry */

static void run_blocks(uint32_t type, const pq_levels *levels, const float *x, size_t x_stride,
                       const float *w, size_t w_stride, size_t count, pq_decoded *out) {
    lane_groups g;
    g.levels = levels;
    g.weighted = w != NULL;
    g.has_min = pq_type_family(type) == PQ_FAMILY_BLOCK_MIN;
    g.n = 32;
    for (size_t done = 0; done < count; done += PQ_GROUPS) {
        float unit[PQ_GROUPS];
        const int used = (int)(count - done < PQ_GROUPS ? count - done : PQ_GROUPS);
        const int lanes = whole_vectors(used);
        for (int s = 0; s < used; s++) {
            const float *block = x + (done + (size_t)s) * x_stride;
            unit[s] = pq_block_unit(block, 32);
            fill_lane(&g, s, block, w ? w + (done + (size_t)s) * w_stride : NULL, unit[s]);
        }
        for (int s = used; s < lanes; s++) {
            unit[s] = 1.0f;
            empty_lane(&g, s);
        }
        quantize_blocks(&g, unit, lanes, out + done, used);
    }
}

static void search_blocks(uint32_t type, const pq_levels *levels, const float *x, size_t x_stride,
                          const float *w, size_t w_stride, size_t count, pq_decoded *out) {
    if (type == PQ_Q8_0)
        run_bytes(x, x_stride, count, out);
    else if (pq_type_block(type) == PQ_SUPER)
        run_supers(type, levels, x, x_stride, w, w_stride, count, out);
    else
        run_blocks(type, levels, x, x_stride, w, w_stride, count, out);
}

#endif
