/* lane_search.h - the scale, or scale and minimum, that represents each of 16 groups of weights best.
 *
 * A template over the vectors of vectors.h. For given integers q the error sum of w (x - (d q - m))^2 is a
 * quadratic in d and m, so its minimum is known in closed form from a few sums; only the rounding that makes
 * the integers is searched: one pass over the group per candidate. The candidates are inverse scales around the
 * one that uses the whole range, as in ggml's quantizers (make_qx_quants and make_qkx3_quants of ggml-quants.c),
 * and then some around the best. (Turns of rounding and least squares instead, as Lloyd's "Least squares
 * quantization in PCM", 1982, win nothing after such a grid.)
 *
 * Groups that have a minimum are centered at their mean, and integers are counted from the one nearest to it:
 * sums of small terms then need no more than float32.
 */
#ifndef PQ_LANE_SEARCH_H
#define PQ_LANE_SEARCH_H

#include "lanes.h"

/* `x` lies within [-2, 2] (the caller divides by a power of two) and has the center taken off. */
typedef struct lane_groups {
    float x[PQ_GROUP_MAX][PQ_GROUPS], w[PQ_GROUP_MAX][PQ_GROUPS];
    float center[PQ_GROUPS], sw[PQ_GROUPS], per_sw[PQ_GROUPS], swx[PQ_GROUPS];
    float energy[PQ_GROUPS]; /* the sum of w x^2, center included */
    int n;                   /* 16 or 32 */
    int weighted;            /* else w is not set, and all are 1 */
    int has_min;
    const pq_levels *levels;
} lane_groups;

/* x is represented as scale * q - min. The sums of w q', w q' q', w x q' are at q' = q - base. */
typedef struct lane_fit {
    float scale[PQ_GROUPS], min[PQ_GROUPS], base[PQ_GROUPS];
    float sq[PQ_GROUPS], sqq[PQ_GROUPS], sxq[PQ_GROUPS];
} lane_fit;

typedef struct lane_sums {
    pq_vec sq, sqq, sxq;
} lane_sums;

/* What is below this is 0 beside weights of the same block near 1, and its inverse may overflow. */
static const float NOTHING = 0x1p-60f;

PQ_INLINE pq_vec magnitude(pq_vec x) {
    return v_max(x, v_sub(v_all(0.0f), x));
}

PQ_INLINE pq_vec inverse_of(pq_vec scale) {
    const pq_mask something = v_greater(magnitude(scale), v_all(NOTHING));
    return v_select(something, v_div(v_all(1.0f), scale), v_all(0.0f));
}

PQ_INLINE pq_vec clamp(pq_vec x, pq_vec low, pq_vec high) {
    return v_min(v_max(x, low), high);
}

/* --------------------------------------------------------------------------------- in and out of lanes */

/* Copies a group of weights, divided by a power of two, to a lane. */
static void fill_lane(lane_groups *g, int lane, const float *x, const float *w, float unit) {
    const float inverse = 1.0f / unit;
    for (int i = 0; i < g->n; i++)
        g->x[i][lane] = x[i] * inverse;
    if (g->weighted) {
        for (int i = 0; i < g->n; i++)
            g->w[i][lane] = w[i];
    }
}

/* Lanes that `used` ones take, whole vectors. */
static int whole_vectors(int used) {
    return (used + PQ_VEC - 1) / PQ_VEC * PQ_VEC;
}

/* A lane that nothing is read from. */
static void empty_lane(lane_groups *g, int lane) {
    for (int i = 0; i < g->n; i++) {
        g->x[i][lane] = 0.0f;
        g->w[i][lane] = 1.0f;
    }
}

/* Centers the groups, if they have a minimum, and sums. */
static void complete(lane_groups *g, int lanes) {
    for (int lane = 0; lane < lanes; lane += PQ_VEC) {
        const pq_vec zero = v_all(0.0f);
        pq_vec sw = zero, swx = zero, energy = zero;
        for (int i = 0; i < g->n; i++) {
            const pq_vec w = g->weighted ? v_load(g->w[i] + lane) : v_all(1.0f);
            const pq_vec x = v_load(g->x[i] + lane), wx = v_mul(w, x);
            sw = v_add(sw, w);
            swx = v_add(swx, wx);
            energy = v_add(energy, v_mul(wx, x));
        }
        const pq_vec center = g->has_min ? v_div(swx, sw) : zero;
        if (g->has_min) {
            swx = zero;
            for (int i = 0; i < g->n; i++) {
                const pq_vec w = g->weighted ? v_load(g->w[i] + lane) : v_all(1.0f);
                const pq_vec x = v_sub(v_load(g->x[i] + lane), center);
                swx = v_add(swx, v_mul(w, x));
                v_store(g->x[i] + lane, x);
            }
        }
        v_store(g->center + lane, center);
        v_store(g->sw + lane, sw);
        v_store(g->per_sw + lane, v_div(v_all(1.0f), sw));
        v_store(g->swx + lane, swx);
        v_store(g->energy + lane, energy);
    }
}

/* ------------------------------------------------------------------------------------------- sums */

PQ_INLINE pq_vec level_at(const int nonlinear, pq_vec x, pq_vec low, pq_vec high) {
    x = clamp(x, low, high);
    return nonlinear ? v_nonlinear(x) : v_round(x);
}

PQ_INLINE void add_to(lane_sums *sums, const int has_min, const int weighted, pq_vec x, pq_vec w,
                      pq_vec q) {
    const pq_vec wq = weighted ? v_mul(w, q) : q;
    if (has_min)
        sums->sq = v_add(sums->sq, wq);
    sums->sqq = v_add(sums->sqq, v_mul(wq, q));
    sums->sxq = v_add(sums->sxq, v_mul(wq, x));
}

/* The sums at the levels nearest to x * a and to x * b; levels have no offset. */
PQ_INLINE void scale_sums(const lane_groups *g, const int weighted, const int nonlinear, int lane,
                          pq_vec a, pq_vec b, lane_sums *at_a, lane_sums *at_b) {
    const pq_vec low = v_all(g->levels->low), high = v_all(g->levels->high), zero = v_all(0.0f);
    lane_sums sa = {zero, zero, zero}, sb = {zero, zero, zero};
    for (int i = 0; i < g->n; i++) {
        const pq_vec x = v_load(g->x[i] + lane), w = weighted ? v_load(g->w[i] + lane) : zero;
        add_to(&sa, 0, weighted, x, w, level_at(nonlinear, v_mul(x, a), low, high));
        add_to(&sb, 0, weighted, x, w, level_at(nonlinear, v_mul(x, b), low, high));
    }
    *at_a = sa;
    *at_b = sb;
}

static void sums_at_scales(const lane_groups *g, int lane, pq_vec a, pq_vec b, lane_sums *at_a,
                           lane_sums *at_b) {
    if (g->levels->nearest) {
        if (g->weighted)
            scale_sums(g, 1, 1, lane, a, b, at_a, at_b);
        else
            scale_sums(g, 0, 1, lane, a, b, at_a, at_b);
    } else if (g->weighted) {
        scale_sums(g, 1, 0, lane, a, b, at_a, at_b);
    } else {
        scale_sums(g, 0, 0, lane, a, b, at_a, at_b);
    }
}

/* The sums at the levels nearest to x * inverse + a and + b, both counted from `base`. */
PQ_INLINE void range_sums(const lane_groups *g, const int weighted, int lane, pq_vec inverse,
                          pq_vec a, pq_vec b, pq_vec base, lane_sums *at_a, lane_sums *at_b) {
    const pq_vec zero = v_all(0.0f);
    const pq_vec low = v_sub(zero, base), high = v_sub(v_all(g->levels->high), base);
    lane_sums sa = {zero, zero, zero}, sb = {zero, zero, zero};
    for (int i = 0; i < g->n; i++) {
        const pq_vec x = v_load(g->x[i] + lane), w = weighted ? v_load(g->w[i] + lane) : zero;
        const pq_vec t = v_mul(x, inverse);
        add_to(&sa, 1, weighted, x, w, level_at(0, v_add(t, a), low, high));
        add_to(&sb, 1, weighted, x, w, level_at(0, v_add(t, b), low, high));
    }
    *at_a = sa;
    *at_b = sb;
}

static void sums_at_ranges(const lane_groups *g, int lane, pq_vec inverse, pq_vec a, pq_vec b,
                           pq_vec base, lane_sums *at_a, lane_sums *at_b) {
    if (g->weighted)
        range_sums(g, 1, lane, inverse, a, b, base, at_a, at_b);
    else
        range_sums(g, 0, lane, inverse, a, b, base, at_a, at_b);
}

/* ------------------------------------------------------------------------- at the scales of the file */

/* The integers nearest to the weights, before rounding: x * inverse + offset, counted from base. */
typedef struct lane_grid {
    pq_vec scale, inverse, shift, offset, base, low, high;
} lane_grid;

static lane_grid grid_of(const lane_groups *g, int lane, pq_vec scale, pq_vec min) {
    lane_grid grid;
    const pq_vec low = v_all(g->levels->low), high = v_all(g->levels->high);
    grid.scale = scale;
    grid.inverse = inverse_of(scale);
    grid.base = grid.shift = grid.offset = v_all(0.0f);
    if (g->has_min) {
        const pq_vec shift = v_add(min, v_load(g->center + lane));
        const pq_vec middle = v_mul(shift, grid.inverse);
        grid.base = v_round(clamp(middle, low, high));
        grid.offset = v_sub(middle, grid.base);
        grid.shift = v_sub(shift, v_mul(scale, grid.base));
    }
    grid.low = v_sub(low, grid.base);
    grid.high = v_sub(high, grid.base);
    return grid;
}

PQ_INLINE pq_vec grid_level(const lane_grid *grid, const int has_min, const int nonlinear,
                            pq_vec x) {
    const pq_vec t = v_mul(x, grid->inverse);
    return level_at(nonlinear, has_min ? v_add(t, grid->offset) : t, grid->low, grid->high);
}

PQ_INLINE pq_vec grid_error(const lane_groups *g, const int has_min, const int weighted,
                            const int nonlinear, int lane, const lane_grid *from) {
    const lane_grid grid = *from;
    pq_vec sum = v_all(0.0f);
    for (int i = 0; i < g->n; i++) {
        const pq_vec x = v_load(g->x[i] + lane);
        const pq_vec q = grid_level(&grid, has_min, nonlinear, x);
        pq_vec e = v_sub(x, v_mul(grid.scale, q));
        e = has_min ? v_add(e, grid.shift) : e;
        const pq_vec we = weighted ? v_mul(v_load(g->w[i] + lane), e) : e;
        sum = v_add(sum, v_mul(we, e));
    }
    return sum;
}

/* The sum of w (x - scale q + min)^2 at the nearest integers. */
static pq_vec error_at(const lane_groups *g, int lane, pq_vec scale, pq_vec min) {
    const lane_grid grid = grid_of(g, lane, scale, min);
    if (g->has_min)
        return g->weighted ? grid_error(g, 1, 1, 0, lane, &grid)
                           : grid_error(g, 1, 0, 0, lane, &grid);
    if (g->levels->nearest)
        return g->weighted ? grid_error(g, 0, 1, 1, lane, &grid)
                           : grid_error(g, 0, 0, 1, lane, &grid);
    return g->weighted ? grid_error(g, 0, 1, 0, lane, &grid) : grid_error(g, 0, 0, 0, lane, &grid);
}

/* Fills the fit with the sums at the nearest integers. */
static void refit(const lane_groups *g, int lane, pq_vec scale, pq_vec min, lane_fit *fit) {
    const lane_grid grid = grid_of(g, lane, scale, min);
    lane_sums sums, again;
    if (g->has_min)
        sums_at_ranges(g, lane, grid.inverse, grid.offset, grid.offset, grid.base, &sums, &again);
    else
        sums_at_scales(g, lane, grid.inverse, grid.inverse, &sums, &again);
    v_store(fit->scale + lane, scale);
    v_store(fit->min + lane, min);
    v_store(fit->base + lane, grid.base);
    v_store(fit->sq + lane, sums.sq);
    v_store(fit->sqq + lane, sums.sqq);
    v_store(fit->sxq + lane, sums.sxq);
}

/* The integers themselves, one column per lane. */
static void integers_at(const lane_groups *g, int lane, pq_vec scale, pq_vec min,
                        float (*q)[PQ_GROUPS]) {
    const lane_grid grid = grid_of(g, lane, scale, min);
    for (int i = 0; i < g->n; i++) {
        const pq_vec x = v_load(g->x[i] + lane);
        const pq_vec level =
            g->levels->nearest ? grid_level(&grid, 0, 1, x) : grid_level(&grid, 1, 0, x);
        v_store(q[i] + lane, v_add(level, grid.base));
    }
}

/* -------------------------------------------------------------------------------- without minimum */

/* The weight farthest from 0 is mapped to the first or the last level, or to a point up to 0.75 levels inside
 * or 2 outside of it, where it is clipped: with importances, others often matter more. */
enum { SCALE_INSIDE = 3, SCALE_OUTSIDE = 8 };
static const float SCALE_STEP = 0.25f;
/* Then the best is moved by this part of a level at either end. */
static const float SCALE_NEAR = 0.25f;

typedef struct best_scale {
    pq_vec sqq, sxq;
} best_scale;

/* Takes the sums where their best scale explains more: the error is swxx - sxq^2 / sqq. */
PQ_INLINE void take_scale(best_scale *best, const lane_sums *sums) {
    const pq_vec ours = v_mul(v_mul(sums->sxq, sums->sxq), best->sqq);
    const pq_mask better = v_greater(ours, v_mul(v_mul(best->sxq, best->sxq), sums->sqq));
    best->sqq = v_select(better, sums->sqq, best->sqq);
    best->sxq = v_select(better, sums->sxq, best->sxq);
}

static pq_vec farthest(const lane_groups *g, int lane) {
    pq_vec low = v_load(g->x[0] + lane), high = low;
    for (int i = 1; i < g->n; i++) {
        const pq_vec x = v_load(g->x[i] + lane);
        low = v_min(low, x);
        high = v_max(high, x);
    }
    return v_select(v_greater(v_sub(v_all(0.0f), low), high), low, high);
}

/* The best scale found, of either sign. */
static void search_scale(const lane_groups *g, int lane, lane_fit *fit) {
    const pq_levels *levels = g->levels;
    const pq_vec inverse = inverse_of(farthest(g, lane));
    best_scale best = {v_all(1.0f), v_all(0.0f)};
    lane_sums a, b;
    for (int i = -SCALE_INSIDE; i <= SCALE_OUTSIDE; i++) {
        const float beyond = (float)i * SCALE_STEP * levels->spacing;
        sums_at_scales(g, lane, v_mul(v_all(levels->low - beyond), inverse),
                       v_mul(v_all(levels->high + beyond), inverse), &a, &b);
        take_scale(&best, &a);
        take_scale(&best, &b);
    }
    const float near = SCALE_NEAR * levels->spacing / (levels->high - levels->low);
    const pq_vec next = inverse_of(v_div(best.sxq, best.sqq));
    sums_at_scales(g, lane, v_mul(next, v_all(1.0f - near)), v_mul(next, v_all(1.0f + near)), &a,
                   &b);
    take_scale(&best, &a);
    take_scale(&best, &b);
    v_store(fit->scale + lane, v_div(best.sxq, best.sqq));
    v_store(fit->min + lane, v_all(0.0f));
    v_store(fit->base + lane, v_all(0.0f));
    v_store(fit->sq + lane, v_all(0.0f));
    v_store(fit->sqq + lane, best.sqq);
    v_store(fit->sxq + lane, best.sxq);
}

/* ----------------------------------------------------------------------------------- with minimum */

/* The range of the group is spread over up to 1.05 levels less and 1.75 more than there are; what is too much or
 * too little is left to the upper end, or shared by both. */
enum { RANGE_INSIDE = 3, RANGE_OUTSIDE = 5 };
static const float RANGE_STEP = 0.35f;
/* Then the best is moved by parts of a level: the upper end, and all of it. */
static const float RANGE_NEAR = 0.25f, RANGE_SHIFT = 0.15f;

typedef struct best_range {
    pq_vec scale, min, base, loss;
    lane_sums sums;
} best_range;

/* The error less the sum of w x^2, if the scale and minimum were these and the integers stayed. */
PQ_INLINE pq_vec loss_of(const lane_groups *g, int lane, const lane_sums *sums, pq_vec base,
                         pq_vec scale, pq_vec min) {
    const pq_vec shift = v_sub(v_add(min, v_load(g->center + lane)), v_mul(scale, base));
    const pq_vec swx = v_load(g->swx + lane), sw = v_load(g->sw + lane);
    const pq_vec cross = v_add(sums->sxq, v_mul(shift, sums->sq));
    const pq_vec squares = v_sub(v_mul(scale, sums->sqq), v_add(cross, cross));
    return v_add(v_mul(scale, squares), v_mul(shift, v_add(v_mul(shift, sw), v_add(swx, swx))));
}

/* The minimum that is best for these integers and this scale. */
PQ_INLINE pq_vec best_min(const lane_groups *g, int lane, const lane_sums *sums, pq_vec base,
                          pq_vec scale) {
    const pq_vec swx = v_load(g->swx + lane), per_sw = v_load(g->per_sw + lane);
    const pq_vec shift = v_mul(v_sub(v_mul(scale, sums->sq), swx), per_sw);
    return v_sub(v_add(shift, v_mul(scale, base)), v_load(g->center + lane));
}

/* The scale and minimum that are best for these integers. */
PQ_INLINE void solve(const lane_groups *g, int any_min, int lane, const lane_sums *s, pq_vec base,
                     pq_vec *scale, pq_vec *min) {
    const pq_vec zero = v_all(0.0f), swx = v_load(g->swx + lane), sw = v_load(g->sw + lane);
    const pq_vec square = v_mul(sw, s->sqq);
    const pq_vec det = v_sub(square, v_mul(s->sq, s->sq));
    const pq_mask solvable = v_greater(det, v_mul(v_all(1e-6f), square)); /* else all are alike */
    const pq_vec d = v_div(v_sub(v_mul(sw, s->sxq), v_mul(swx, s->sq)), det);
    *scale = v_select(solvable, v_max(d, zero), zero);
    *min = best_min(g, lane, s, base, *scale);
    if (any_min)
        return;
    const pq_mask below = v_greater(zero, *min);
    if (!v_any(below))
        return;
    /* Without minimum the scale is sxq / sqq, of integers and weights as they are. */
    const pq_vec center = v_load(g->center + lane), swb = v_mul(sw, base);
    const pq_vec sxq = v_add(v_add(s->sxq, v_mul(base, swx)), v_mul(center, v_add(s->sq, swb)));
    const pq_vec sqq = v_add(s->sqq, v_mul(base, v_add(v_add(s->sq, s->sq), swb)));
    const pq_mask some = v_greater(sqq, zero);
    const pq_vec alone = v_select(some, v_max(v_div(sxq, sqq), zero), zero);
    *scale = v_select(below, alone, *scale);
    *min = v_select(below, zero, *min);
}

/* Takes the sums where their best scale and minimum are better. */
static void take_range(const lane_groups *g, int any_min, int lane, const lane_sums *sums,
                       pq_vec base, best_range *best) {
    pq_vec scale, min;
    solve(g, any_min, lane, sums, base, &scale, &min);
    const pq_vec loss = loss_of(g, lane, sums, base, scale, min);
    const pq_mask better = v_greater(best->loss, loss);
    best->scale = v_select(better, scale, best->scale);
    best->min = v_select(better, min, best->min);
    best->base = v_select(better, base, best->base);
    best->loss = v_select(better, loss, best->loss);
    best->sums.sq = v_select(better, sums->sq, best->sums.sq);
    best->sums.sqq = v_select(better, sums->sqq, best->sums.sqq);
    best->sums.sxq = v_select(better, sums->sxq, best->sums.sxq);
}

/* The least and the greatest of each group, its center taken off. */
static void bounds(const lane_groups *g, int lane, pq_vec *low, pq_vec *high) {
    *low = *high = v_load(g->x[0] + lane);
    for (int i = 1; i < g->n; i++) {
        const pq_vec x = v_load(g->x[i] + lane);
        *low = v_min(*low, x);
        *high = v_max(*high, x);
    }
}

/* The best scale >= 0 and minimum found; levels begin at 0. Unless `any_min`, min >= 0. */
static void search_range(const lane_groups *g, int any_min, int lane, lane_fit *fit) {
    const float top = g->levels->high;
    const pq_vec zero = v_all(0.0f), center = v_load(g->center + lane);
    pq_vec low, high;
    bounds(g, lane, &low, &high);
    if (!any_min) /* minima must not be negative */
        low = v_min(low, v_sub(zero, center));
    const pq_vec range = v_sub(high, low);
    const pq_vec per_level = inverse_of(range);
    lane_sums a = {zero, zero, zero}, b;
    best_range best = {.loss = v_all(0x1p100f)};
    for (int i = -RANGE_INSIDE; i <= RANGE_OUTSIDE; i++) {
        const float beyond = (float)i * RANGE_STEP;
        const pq_vec inverse = v_mul(v_all(top + beyond), per_level);
        const pq_vec offset = v_sub(zero, v_mul(low, inverse));
        const pq_vec base = v_round(clamp(offset, zero, v_all(top)));
        const pq_vec rest = v_sub(offset, base);
        sums_at_ranges(g, lane, inverse, rest, v_sub(rest, v_all(0.5f * beyond)), base, &a, &b);
        take_range(g, any_min, lane, &a, base, &best);
        take_range(g, any_min, lane, &b, base, &best);
    }
    const float near = RANGE_NEAR / top;
    for (int sign = -1; sign <= 1; sign += 2) {
        const lane_grid grid = grid_of(g, lane, best.scale, best.min);
        const pq_vec inverse = v_mul(grid.inverse, v_all(1.0f + (float)sign * near));
        const pq_vec shift = v_all(RANGE_SHIFT);
        sums_at_ranges(g, lane, inverse, v_add(grid.offset, shift), v_sub(grid.offset, shift),
                       grid.base, &a, &b);
        take_range(g, any_min, lane, &a, grid.base, &best);
        take_range(g, any_min, lane, &b, grid.base, &best);
    }
    v_store(fit->scale + lane, best.scale);
    v_store(fit->min + lane, best.min);
    v_store(fit->base + lane, best.base);
    v_store(fit->sq + lane, best.sums.sq);
    v_store(fit->sqq + lane, best.sums.sqq);
    v_store(fit->sxq + lane, best.sums.sxq);
}

#endif
