/* scale_search.c - see scale_search.h.
 *
 * One pass over the group per candidate: round, and add up what the closed form needs. The candidates are
 * inverse scales around the one that uses the whole range, as in ggml's quantizers (make_qx_quants and
 * make_qkx3_quants of ggml-quants.c); the best is improved by turns of rounding and least squares (Lloyd,
 * "Least squares quantization in PCM", 1982, with levels kept equidistant), which cannot get worse.
 *
 * Sums are made in the order of tree.h, so that the result does not depend on the machine.
 */
#include "scale_search.h"

#include "blocks.h"
#include "tree.h"

/* ------------------------------------------------------------------------------ rounding and sums */

void pq_nonlinear_levels(signed char nearest[PQ_NEAREST]) {
    static const int8_t VALUES[16] = PQ_IQ4_VALUES;
    for (int i = 0; i < PQ_NEAREST; i++) {
        int k = 0; /* two levels' border is half their sum */
        while (k < 15 && i - 256 >= VALUES[k] + VALUES[k + 1])
            k++;
        nearest[i] = VALUES[k];
    }
}

static inline float sum(float *x, int n) {
    return n == 16 ? pq_sum_16(x) : pq_sum_32(x);
}

/* To the nearest integer, ties to even: exact for |x| < 2^22, and no library call. */
static inline float round_even(float x) {
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

static inline float clamp(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

static inline void integers(const float *x, int n, const pq_levels *levels, float inverse,
                            float offset, float *q) {
    const float low = levels->low, high = levels->high;
    if (levels->nearest) {
        for (int i = 0; i < n; i++)
            q[i] = levels->nearest[(int)(2.0f * clamp(x[i] * inverse, low, high) + 256.0f)];
        return;
    }
    for (int i = 0; i < n; i++)
        q[i] = round_even(clamp(x[i] * inverse + offset, low, high));
}

/* The sums that a fit needs, at the integers nearest to x * inverse + offset; `sq` only with a minimum. */
static inline void sums(const pq_group *g, int n, int has_min, const pq_levels *levels,
                        float inverse, float offset, pq_fit *fit) {
    float q[PQ_GROUP_MAX], wq[PQ_GROUP_MAX], wqq[PQ_GROUP_MAX], wxq[PQ_GROUP_MAX];
    integers(g->x, n, levels, inverse, offset, q);
    for (int i = 0; i < n; i++) {
        wq[i] = g->w[i] * q[i];
        wqq[i] = wq[i] * q[i];
        wxq[i] = g->wx[i] * q[i];
    }
    fit->sq = has_min ? sum(wq, n) : 0.0f;
    fit->sqq = sum(wqq, n);
    fit->sxq = sum(wxq, n);
}

/* A loop for each length, so that compilers unroll it. */
static inline void sums_at(const pq_group *g, int has_min, const pq_levels *levels, float inverse,
                           float offset, pq_fit *fit) {
    if (g->n == 16)
        sums(g, 16, has_min, levels, inverse, offset, fit);
    else
        sums(g, 32, has_min, levels, inverse, offset, fit);
}

static inline void group_sums(pq_group *g, int n) {
    float w[PQ_GROUP_MAX], wx[PQ_GROUP_MAX], wxx[PQ_GROUP_MAX];
    for (int i = 0; i < n; i++) {
        w[i] = g->w[i];
        wx[i] = g->w[i] * g->x[i];
        wxx[i] = wx[i] * g->x[i];
        g->wx[i] = wx[i];
    }
    g->sw = sum(w, n);
    g->swx = sum(wx, n);
    g->swxx = sum(wxx, n);
}

void pq_group_sums(pq_group *g) {
    if (g->n == 16)
        group_sums(g, 16);
    else
        group_sums(g, 32);
}

/* ------------------------------------------------------------------------------------------- fits */

float pq_fit_error(const pq_group *g, const pq_fit *fit, float scale, float min) {
    const double d = scale, m = min; /* large terms cancel */
    return (float)(g->swxx - 2.0 * d * fit->sxq + 2.0 * m * g->swx + d * d * fit->sqq -
                   2.0 * d * m * fit->sq + m * m * g->sw);
}

/* What is below this is 0 beside weights of the same block near 1, and its inverse may overflow. */
static const float NOTHING = 0x1p-60f;

static inline float inverse_of(float scale) {
    return scale > NOTHING || scale < -NOTHING ? 1.0f / scale : 0.0f;
}

pq_fit pq_fit_at(const pq_group *g, const pq_levels *levels, float scale, float min) {
    const float inverse = inverse_of(scale);
    pq_fit fit = {.scale = scale, .min = min};
    if (levels->low < 0.0f) /* of a type without minimum */
        sums_at(g, 0, levels, inverse, 0.0f, &fit);
    else
        sums_at(g, 1, levels, inverse, min * inverse, &fit);
    fit.error = pq_fit_error(g, &fit, scale, min);
    return fit;
}

void pq_fit_integers(const pq_group *g, const pq_levels *levels, float scale, float min,
                     signed char *q) {
    float value[PQ_GROUP_MAX];
    const float inverse = inverse_of(scale);
    integers(g->x, g->n, levels, inverse, min * inverse, value);
    for (int i = 0; i < g->n; i++)
        q[i] = (signed char)value[i];
}

static inline void bounds_of(const float *x, int n, float *low, float *high) {
    float above[PQ_GROUP_MAX], below[PQ_GROUP_MAX];
    for (int i = 0; i < n; i++) {
        above[i] = x[i];
        below[i] = -x[i];
    }
    *high = n == 16 ? pq_max_16(above) : pq_max_32(above);
    *low = -(n == 16 ? pq_max_16(below) : pq_max_32(below));
}

/* The least and the greatest of a group. */
static void bounds(const pq_group *g, float *low, float *high) {
    if (g->n == 16)
        bounds_of(g->x, 16, low, high);
    else
        bounds_of(g->x, 32, low, high);
}

/* --------------------------------------------------------------------------------- without minimum */

pq_fit pq_whole_range(const pq_group *g, const pq_levels *levels) {
    float low, high;
    bounds(g, &low, &high);
    const pq_fit fit = {.scale = (-low > high ? -low : high) / levels->high};
    return fit;
}

/* The weight farthest from 0 is mapped to the first or the last level, or to a point up to 0.7 levels inside
 * or 1.75 outside of it, where it is clipped: with importances, others often matter more. */
enum { SCALE_INSIDE = 2, SCALE_OUTSIDE = 5 };
static const float SCALE_STEP = 0.35f;
/* Turns of rounding and least squares; most groups stand still after two. */
enum { SCALE_TURNS = 3 };

/* Takes the fit at `inverse` if its best scale explains more: the error is swxx - sxq^2 / sqq. */
static inline int try_inverse(const pq_group *g, const pq_levels *levels, float inverse,
                              pq_fit *best) {
    pq_fit fit;
    sums_at(g, 0, levels, inverse, 0.0f, &fit);
    if (!(fit.sxq * fit.sxq * best->sqq > best->sxq * best->sxq * fit.sqq))
        return 0;
    fit.scale = fit.sxq / fit.sqq;
    *best = fit;
    return 1;
}

pq_fit pq_search_scale(const pq_group *g, const pq_levels *levels) {
    float low, high;
    bounds(g, &low, &high);
    pq_fit best = {.sqq = 1.0f, .error = g->swxx};
    if (low >= -NOTHING && high <= NOTHING)
        return best;
    const float top = -low > high ? low : high;
    for (int i = -SCALE_INSIDE; i <= SCALE_OUTSIDE; i++) {
        const float beyond = (float)i * SCALE_STEP * levels->spacing;
        try_inverse(g, levels, (levels->low - beyond) / top, &best);
        try_inverse(g, levels, (levels->high + beyond) / top, &best);
    }
    for (int turn = 0; turn < SCALE_TURNS; turn++) {
        if (!try_inverse(g, levels, inverse_of(best.scale), &best))
            break;
    }
    best.min = 0.0f;
    best.error = pq_fit_error(g, &best, best.scale, 0.0f);
    return best;
}

/* ------------------------------------------------------------------------------------ with minimum */

/* The range of the group is spread over up to 1 level less and 1.5 more than there are; what is too much or
 * too little is left to the upper end, or shared by both. */
enum { RANGE_INSIDE = 2, RANGE_OUTSIDE = 3 };
static const float RANGE_STEP = 0.5f;
enum { RANGE_TURNS = 4 };

/* Sets the scale and minimum that are best for the fit's sums, and their error. */
static void solve(const pq_group *g, int any_min, pq_fit *fit) {
    const double sw = g->sw, swx = g->swx, sq = fit->sq, sqq = fit->sqq, sxq = fit->sxq;
    const double det = sw * sqq - sq * sq;
    double d = 0.0, m = -swx / sw; /* what is right if all integers are 0 */
    if (det > 1e-6 * sw * sqq) {   /* else they are all alike */
        d = (sw * sxq - swx * sq) / det;
        m = (sq * sxq - sqq * swx) / det;
    }
    if (d < 0.0 || (m < 0.0 && !any_min)) {
        m = 0.0;
        d = sqq > 0.0 && sxq > 0.0 ? sxq / sqq : 0.0;
    }
    fit->scale = (float)d;
    fit->min = (float)m;
    fit->error = pq_fit_error(g, fit, fit->scale, fit->min);
}

/* Takes the fit that starts with this inverse scale and minimum if it is better. */
static inline int try_range(const pq_group *g, const pq_levels *levels, int any_min, float inverse,
                            float min, pq_fit *best) {
    pq_fit fit;
    sums_at(g, 1, levels, inverse, min * inverse, &fit);
    solve(g, any_min, &fit);
    if (!(fit.error < best->error))
        return 0;
    *best = fit;
    return 1;
}

pq_fit pq_search_scale_min(const pq_group *g, const pq_levels *levels, int any_min) {
    float low, high;
    bounds(g, &low, &high);
    if (!any_min && low > 0.0f)
        low = 0.0f;
    const float range = high - low;
    if (range <= NOTHING) /* all alike, or none above 0 */
        return pq_fit_at(g, levels, 0.0f, low < 0.0f || any_min ? -low : 0.0f);
    pq_fit best = {.error = g->swxx};
    for (int i = -RANGE_INSIDE; i <= RANGE_OUTSIDE; i++) {
        const float beyond = (float)i * RANGE_STEP;
        const float inverse = (levels->high + beyond) / range;
        try_range(g, levels, any_min, inverse, -low, &best);
        if (i != 0)
            try_range(g, levels, any_min, inverse, -low - 0.5f * beyond / inverse, &best);
    }
    for (int turn = 0; turn < RANGE_TURNS; turn++) {
        if (!try_range(g, levels, any_min, inverse_of(best.scale), best.min, &best))
            break;
    }
    return best;
}
