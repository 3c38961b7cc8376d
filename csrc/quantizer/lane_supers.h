/* lane_supers.h - super-blocks: sub-blocks of 16 or 32, whose scales (and minima) are small integers times a number
 * that f16 holds. See lanes.h.
 *
 * First each sub-block is fitted alone. As its error is a quadratic in its scale and minimum, the f16 numbers and
 * the integers that lose least together are then found without touching the weights. After that the integers of
 * the weights are chosen for the scales that the file will hold, neighboring sub-scales are tried that way, and
 * least squares over the whole super-block moves the f16 numbers. The two levels are those of ggml's K-quants
 * (llama.cpp, pull request 1684); choosing both by the quadratics is ours.
 */
#ifndef PQ_LANE_SUPERS_H
#define PQ_LANE_SUPERS_H

#include <math.h>
#include <string.h>

#include "../formats/block_scale.h"
#include "../formats/types.h"
#include "lane_search.h"

/* Candidates for each f16 number, and turns of improvement. */
enum { CANDIDATES = 8, MIN_CANDIDATES = 6, TURNS = 1 };
/* Of super-blocks that are looked at together. */
enum { MAX_SUPERS = 2 };

/* Sub-block s of super-block s / subs is represented as d * scale[s] * q - m * min[s]. */
typedef struct lane_numbers {
    float d[MAX_SUPERS], m[MAX_SUPERS];
    float scale[PQ_GROUPS], min[PQ_GROUPS]; /* integers */
    float error[PQ_GROUPS];
} lane_numbers;

typedef struct supers {
    lane_groups groups;
    lane_fit fit;
    int subs, lanes, count;
    float scale_low, scale_high; /* range of the sub-scales; of the minima: 0 .. scale_high */
    float unit[MAX_SUPERS];
    lane_numbers held;
} supers;

PQ_INLINE pq_vec quotient(pq_vec a, pq_vec b) {
    return v_mul(a, inverse_of(b));
}

/* The sum over the sub-blocks of one super-block, halves added until one number is left. */
static float total(const supers *b, const float *per_sub, int super) {
    float t[PQ_GROUPS];
    memcpy(t, per_sub + super * b->subs, (size_t)b->subs * sizeof *t);
    for (int half = b->subs / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++)
            t[i] += t[i + half];
    }
    return t[0];
}

/* One number per super-block to all of its lanes. */
static void spread(const supers *b, const float *per_super, float *out) {
    for (int s = 0; s < b->lanes; s++)
        out[s] = per_super[s / b->subs];
}

PQ_INLINE lane_sums sums_of(const lane_fit *fit, int s) {
    return (lane_sums){v_load(fit->sq + s), v_load(fit->sqq + s), v_load(fit->sxq + s)};
}

/* ------------------------------------------------ the super-block's numbers, by the quadratics alone */

/* The integers of the sub-scales (and minima) that suit d and m best, and what they lose. */
static void lattice(const supers *b, int s, pq_vec d, pq_vec m, pq_vec *scale, pq_vec *min,
                    pq_vec *loss) {
    const pq_vec low = v_all(b->scale_low), high = v_all(b->scale_high);
    const pq_vec ideal = v_load(b->fit.scale + s);
    const pq_vec k = v_round(clamp(quotient(ideal, d), low, high));
    const lane_sums sums = sums_of(&b->fit, s);
    if (!b->groups.has_min) {
        const pq_vec off = v_sub(v_mul(d, k), ideal);
        *scale = k;
        *min = v_all(0.0f);
        *loss = v_mul(sums.sqq, v_mul(off, off));
        return;
    }
    const pq_vec base = v_load(b->fit.base + s), per_m = inverse_of(m);
    *loss = v_all(0x1p100f);
    for (int step = -1; step <= 1; step++) {
        const pq_vec near = clamp(v_add(k, v_all((float)step)), low, high);
        const pq_vec dk = v_mul(d, near);
        const pq_vec wish = v_mul(best_min(&b->groups, s, &sums, base, dk), per_m);
        const pq_vec l = v_round(clamp(wish, v_all(0.0f), high));
        const pq_vec lost = loss_of(&b->groups, s, &sums, base, dk, v_mul(m, l));
        const pq_mask better = v_greater(*loss, lost);
        *loss = v_select(better, lost, *loss);
        *scale = v_select(better, near, step < 0 ? near : *scale);
        *min = v_select(better, l, step < 0 ? l : *min);
    }
}

/* Takes d and m and their integers in the super-blocks where they lose less than `best`. */
static void try_pair(supers *b, const float *d, const float *m, float *best) {
    lane_numbers trial;
    float all_d[PQ_GROUPS], all_m[PQ_GROUPS];
    spread(b, d, all_d);
    spread(b, m, all_m);
    for (int s = 0; s < b->lanes; s += PQ_VEC) {
        pq_vec scale, min, loss;
        lattice(b, s, v_load(all_d + s), v_load(all_m + s), &scale, &min, &loss);
        v_store(trial.scale + s, scale);
        v_store(trial.min + s, min);
        v_store(trial.error + s, loss);
    }
    for (int j = 0; j < b->count; j++) {
        const float loss = total(b, trial.error, j);
        if (!(loss < best[j]))
            continue;
        const size_t from = (size_t)(j * b->subs), bytes = (size_t)b->subs * sizeof(float);
        best[j] = loss;
        b->held.d[j] = d[j];
        b->held.m[j] = m[j];
        memcpy(b->held.scale + from, trial.scale + from, bytes);
        memcpy(b->held.min + from, trial.min + from, bytes);
    }
}

/* The largest sub-scale becomes the last integer, or one of those below it, which gives the others another grid to
 * fall on. */
static void choose_numbers(supers *b) {
    float top[MAX_SUPERS] = {0}, top_min[MAX_SUPERS] = {0}, best[MAX_SUPERS];
    float d[MAX_SUPERS] = {0}, m[MAX_SUPERS] = {0};
    const float last = b->scale_low < 0.0f ? b->scale_low : b->scale_high;
    const float step = last < 0.0f ? 1.0f : -1.0f;
    for (int s = 0; s < b->count * b->subs; s++) {
        const int j = s / b->subs;
        top[j] = fabsf(b->fit.scale[s]) > fabsf(top[j]) ? b->fit.scale[s] : top[j];
        top_min[j] = b->fit.min[s] > top_min[j] ? b->fit.min[s] : top_min[j];
    }
    for (int j = 0; j < b->count; j++) {
        best[j] = INFINITY;
        m[j] = pq_f16_scale_away(top_min[j] / b->scale_high, b->unit[j]);
        /* Tiny weights: f16 may be so coarse there that the nearest number is far too small. */
        d[j] = pq_f16_scale_away(top[j] / last, b->unit[j]);
    }
    try_pair(b, d, m, best);
    for (int i = 0; i < CANDIDATES; i++) {
        for (int j = 0; j < b->count; j++)
            d[j] = pq_f16_scale(top[j] / (last + (float)i * step), b->unit[j]);
        try_pair(b, d, m, best);
    }
    if (!b->groups.has_min)
        return;
    memcpy(d, b->held.d, sizeof d);
    for (int i = 0; i < MIN_CANDIDATES; i++) {
        for (int j = 0; j < b->count; j++)
            m[j] = pq_f16_scale(top_min[j] / (b->scale_high - (float)i), b->unit[j]);
        try_pair(b, d, m, best);
    }
}

/* ------------------------------------------------------------------- with the weights' true integers */

/* One vector of lanes of the numbers. */
typedef struct held_lanes {
    pq_vec d, m, scale, min, error;
} held_lanes;

static void try_sub(const supers *b, int s, held_lanes *held, pq_vec scale, pq_vec min) {
    const pq_vec most = v_all(b->scale_high);
    scale = clamp(scale, v_all(b->scale_low), most);
    min = clamp(min, v_all(0.0f), most);
    const pq_vec error = error_at(&b->groups, s, v_mul(held->d, scale), v_mul(held->m, min));
    const pq_mask better = v_greater(held->error, error);
    held->error = v_select(better, error, held->error);
    held->scale = v_select(better, scale, held->scale);
    held->min = v_select(better, min, held->min);
}

/* Of weights of few values, or nearly alike, the rounding of scales is what loses, not that of weights. More scales
 * are tried then, also those that map the largest weight to other than the last level. */
enum { FINE_SCALES = 16, FINE_LEVELS = 4 };

/* Sub-scales that map the largest weight to one of the outer levels. */
static void try_levels(const supers *b, int s, held_lanes *held) {
    const pq_levels *levels = b->groups.levels;
    pq_vec low, high;
    bounds(&b->groups, s, &low, &high);
    const pq_vec min = v_mul(held->m, held->min);
    const pq_vec span = b->groups.has_min ? v_add(v_add(high, v_load(b->groups.center + s)), min)
                                          : farthest(&b->groups, s);
    const pq_vec per_d = inverse_of(held->d);
    for (int i = 0; i < (levels->nearest ? 1 : FINE_LEVELS); i++) {
        const float first = levels->low + (float)i, last = levels->high - (float)i;
        if (first < 0.0f)
            try_sub(b, s, held, v_round(v_mul(v_mul(span, v_all(1.0f / first)), per_d)), held->min);
        if (last > 0.0f)
            try_sub(b, s, held, v_round(v_mul(v_mul(span, v_all(1.0f / last)), per_d)), held->min);
    }
}

/* Chooses the weights' integers for the scales as they are, and tries neighboring sub-scales. `fine`: and others. */
static void polish(supers *b, lane_numbers *numbers, int fine) {
    float d[PQ_GROUPS], m[PQ_GROUPS];
    spread(b, numbers->d, d);
    spread(b, numbers->m, m);
    for (int s = 0; s < b->lanes; s += PQ_VEC) {
        held_lanes held = {v_load(d + s), v_load(m + s), v_load(numbers->scale + s),
                           v_load(numbers->min + s), v_all(0.0f)};
        const pq_vec k = held.scale, one = v_all(1.0f), base = v_load(b->fit.base + s);
        const lane_sums sums = sums_of(&b->fit, s);
        held.error = error_at(&b->groups, s, v_mul(held.d, k), v_mul(held.m, held.min));
        for (int step = -1; step <= 1; step += 2) {
            const pq_vec near = v_add(k, v_all((float)step));
            pq_vec min = v_all(0.0f);
            if (b->groups.has_min)
                min = v_round(
                    quotient(best_min(&b->groups, s, &sums, base, v_mul(held.d, near)), held.m));
            try_sub(b, s, &held, near, min);
        }
        if (b->groups.has_min) {
            try_sub(b, s, &held, held.scale, v_add(held.min, one));
            try_sub(b, s, &held, held.scale, v_sub(held.min, one));
        }
        if (fine)
            try_levels(b, s, &held);
        v_store(numbers->scale + s, held.scale);
        v_store(numbers->min + s, held.min);
        v_store(numbers->error + s, held.error);
    }
}

/* The sums at the integers of the weights as they are held. */
static void refit_all(supers *b, const lane_numbers *numbers) {
    float d[PQ_GROUPS], m[PQ_GROUPS];
    spread(b, numbers->d, d);
    spread(b, numbers->m, m);
    for (int s = 0; s < b->lanes; s += PQ_VEC)
        refit(&b->groups, s, v_mul(v_load(d + s), v_load(numbers->scale + s)),
              v_mul(v_load(m + s), v_load(numbers->min + s)), &b->fit);
}

/* Least squares for d and m of one super-block with all integers kept. */
static void solve_numbers(const supers *b, int super, float *d, float *m) {
    double xx = 0.0, xy = 0.0, yy = 0.0, xt = 0.0, yt = 0.0;
    const lane_groups *g = &b->groups;
    for (int s = super * b->subs; s < (super + 1) * b->subs; s++) {
        const double k = b->held.scale[s], l = b->held.min[s], base = b->fit.base[s];
        const double c = g->center[s], sw = g->sw[s], swx = g->swx[s] + c * sw;
        const double sq = b->fit.sq[s] + base * sw;
        const double sqq = b->fit.sqq[s] + base * (2.0 * b->fit.sq[s] + base * sw);
        const double sxq = b->fit.sxq[s] + base * g->swx[s] + c * sq;
        xx += k * k * sqq;
        xy += k * l * sq;
        yy += l * l * sw;
        xt += k * sxq;
        yt += l * swx;
    }
    const double det = xx * yy - xy * xy;
    if (g->has_min && det > 1e-9 * xx * yy) {
        *d = (float)((xt * yy - xy * yt) / det);
        *m = (float)((xy * xt - xx * yt) / det);
    } else {
        *d = xx > 0.0 ? (float)(xt / xx) : 0.0f;
        *m = 0.0f;
    }
}

/* Takes what is better in the super-blocks that are wanted; 0 if nothing is. */
static int take_better(supers *b, const lane_numbers *trial, const int *wanted) {
    int better = 0;
    for (int j = 0; j < b->count; j++) {
        if (!wanted[j] || !(total(b, trial->error, j) < total(b, b->held.error, j)))
            continue;
        const size_t from = (size_t)(j * b->subs), bytes = (size_t)b->subs * sizeof(float);
        b->held.d[j] = trial->d[j];
        b->held.m[j] = trial->m[j];
        memcpy(b->held.scale + from, trial->scale + from, bytes);
        memcpy(b->held.min + from, trial->min + from, bytes);
        memcpy(b->held.error + from, trial->error + from, bytes);
        better = 1;
    }
    return better;
}

/* One turn of improvement; 0 if there was none. */
static int improve(supers *b) {
    static const int everywhere[MAX_SUPERS] = {1, 1};
    lane_numbers trial = b->held;
    refit_all(b, &b->held);
    for (int j = 0; j < b->count; j++) {
        float d, m;
        solve_numbers(b, j, &d, &m);
        trial.d[j] = pq_f16_scale(d, b->unit[j]);
        trial.m[j] = pq_f16_scale(m, b->unit[j]);
    }
    polish(b, &trial, 0);
    return take_better(b, &trial, everywhere);
}

/* ------------------------------------------------------------- what can be represented almost exactly */

/* Takes the integers over to other f16 numbers. */
static void rescale(const supers *b, lane_numbers *trial) {
    const float most = b->scale_high;
    for (int s = 0; s < b->count * b->subs; s++) {
        const int j = s / b->subs;
        const float k = trial->d[j] != 0.0f ? b->held.d[j] * b->held.scale[s] / trial->d[j] : 0.0f;
        const float l = trial->m[j] != 0.0f ? b->held.m[j] * b->held.min[s] / trial->m[j] : 0.0f;
        trial->scale[s] = rintf(k < b->scale_low ? b->scale_low : k > most ? most : k);
        trial->min[s] = rintf(l < 0.0f ? 0.0f : l > most ? most : l);
    }
}

static int is_fine(const supers *b, int super) {
    const pq_levels *levels = b->groups.levels;
    const float range = (levels->high - levels->low) / levels->spacing;
    const float error = total(b, b->held.error, super);
    return error > 0.0f && error < total(b, b->groups.energy, super) / (8.0f * range * range);
}

static void refine(supers *b) {
    int fine[MAX_SUPERS] = {0}, any = 0;
    float top[MAX_SUPERS] = {0}, top_min[MAX_SUPERS] = {0};
    const float last = b->scale_low < 0.0f ? b->scale_low : b->scale_high;
    for (int j = 0; j < b->count; j++)
        any |= fine[j] = is_fine(b, j);
    if (!any)
        return;
    for (int s = 0; s < b->count * b->subs; s++) {
        const int j = s / b->subs;
        const float scale = b->held.d[j] * b->held.scale[s], min = b->held.m[j] * b->held.min[s];
        top[j] = fabsf(scale) > fabsf(top[j]) ? scale : top[j];
        top_min[j] = min > top_min[j] ? min : top_min[j];
    }
    for (int i = 0; i < (b->groups.has_min ? 2 : 1) * FINE_SCALES; i++) {
        const float less = (float)(i % FINE_SCALES) / FINE_SCALES / 2.0f;
        lane_numbers trial = b->held;
        for (int j = 0; j < b->count; j++) {
            if (i < FINE_SCALES)
                trial.d[j] = pq_f16_scale(top[j] / rintf(last * (1.0f - less)), b->unit[j]);
            else
                trial.m[j] =
                    pq_f16_scale(top_min[j] / rintf(b->scale_high * (1.0f - less)), b->unit[j]);
        }
        rescale(b, &trial);
        polish(b, &trial, 1);
        take_better(b, &trial, fine);
    }
}

static void store(const supers *b, pq_decoded *out) {
    const int n = b->groups.n, copies = n / PQ_SUB;
    float d[PQ_GROUPS], m[PQ_GROUPS], q[PQ_GROUP_MAX][PQ_GROUPS];
    spread(b, b->held.d, d);
    spread(b, b->held.m, m);
    for (int s = 0; s < b->lanes; s += PQ_VEC)
        integers_at(&b->groups, s, v_mul(v_load(d + s), v_load(b->held.scale + s)),
                    v_mul(v_load(m + s), v_load(b->held.min + s)), q);
    for (int s = 0; s < b->count * b->subs; s++) {
        pq_decoded *to = &out[s / b->subs];
        const int sub = s % b->subs;
        for (int i = 0; i < n; i++)
            to->value[sub * n + i] = (int8_t)q[i][s];
        for (int c = 0; c < copies; c++) {
            to->scale[sub * copies + c] = (int8_t)b->held.scale[s];
            to->min[sub * copies + c] = (uint8_t)b->held.min[s];
        }
    }
    for (int j = 0; j < b->count; j++) {
        out[j].d = b->held.d[j] * b->unit[j];
        out[j].m = b->held.m[j] * b->unit[j];
    }
}

static void quantize_supers(supers *b, pq_decoded *out) {
    complete(&b->groups, b->lanes);
    for (int s = 0; s < b->lanes; s += PQ_VEC) {
        if (b->groups.has_min)
            search_range(&b->groups, 0, s, &b->fit);
        else
            search_scale(&b->groups, s, &b->fit);
    }
    choose_numbers(b);
    polish(b, &b->held, 0);
    for (int turn = 0; turn < TURNS && improve(b); turn++)
        ;
    refine(b);
    store(b, out);
}

static void describe(uint32_t type, supers *b) {
    const pq_format *format = pq_type_format(type);
    b->groups.n = format->sub;
    b->groups.has_min = format->family == PQ_FAMILY_SUPER_MIN;
    b->subs = PQ_SUPER / format->sub;
    b->scale_low = format->scale_low;
    b->scale_high = format->scale_high;
}

static void run_supers(uint32_t type, const pq_levels *levels, const float *x, size_t x_stride,
                       const float *w, size_t w_stride, size_t count, pq_decoded *out) {
    supers b;
    memset(&b, 0, sizeof b);
    b.groups.levels = levels;
    b.groups.weighted = w != NULL;
    describe(type, &b);
    const size_t most = (size_t)(PQ_GROUPS / b.subs);
    for (size_t done = 0; done < count; done += most) {
        b.count = (int)(count - done < most ? count - done : most);
        const int used = b.count * b.subs, n = b.groups.n;
        b.lanes = whole_vectors(used);
        for (int s = 0; s < used; s++) {
            const size_t block = done + (size_t)(s / b.subs), at = (size_t)(s % b.subs * n);
            if (at == 0)
                b.unit[s / b.subs] = pq_block_unit(x + block * x_stride, PQ_SUPER);
            fill_lane(&b.groups, s, x + block * x_stride + at, w ? w + block * w_stride + at : NULL,
                      b.unit[s / b.subs]);
        }
        for (int s = used; s < b.lanes; s++)
            empty_lane(&b.groups, s);
        quantize_supers(&b, out + done);
    }
}

#endif
