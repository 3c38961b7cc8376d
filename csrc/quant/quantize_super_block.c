/* quantize_super_block.c - super-blocks of 256: sub-blocks of 16 or 32, whose scales (and minima) are small
 * integers times a number that f16 holds. See quantize_block.h.
 *
 * First each sub-block is fitted alone. As its error is a quadratic in its scale and minimum, the f16 numbers
 * and the integers that lose least together are then found without touching the weights. After that the
 * integers of the weights are chosen for the scales that the file will hold, neighboring sub-scales are tried
 * that way, and least squares over the whole super-block moves the f16 numbers. The two levels are those of
 * ggml's K-quants (llama.cpp, pull request 1684); choosing both by the quadratics is ours.
 */
#include "quantize_block.h"

#include <math.h>
#include <stddef.h>

#include "types.h"

enum { MAX_SUB = PQ_SUPER / PQ_SUB };
/* Candidates for each f16 number, and turns of improvement. Twice the candidates, or three turns, win less
 * than 0.2 % of the error of any type and take up to a quarter more time. */
enum { CANDIDATES = 2, TURNS = 1 };

/* A super-block on its way: sub-block s is represented as d * scale[s] * q - m * min[s]. */
typedef struct super_block {
    const pq_levels *levels;
    int subs, has_min;
    int scale_low, scale_high; /* range of the sub-scales; of the minima: 0 .. scale_high */
    float unit;
    float d, m;
    int scale[MAX_SUB], min[MAX_SUB];
    pq_fit fit[MAX_SUB];
    pq_group group[MAX_SUB];
} super_block;

/* To the nearest integer within low .. high, ties to even. */
static int round_to(float x, int low, int high) {
    const float least = (float)low, most = (float)high;
    x = x > least ? x : least;
    x = x < most ? x : most;
    return (int)((x + 0x1.8p23f) - 0x1.8p23f);
}

static float quotient(float a, float b) {
    return b != 0.0f ? a / b : 0.0f;
}

static float total_error(const super_block *b) {
    float sum = 0.0f;
    for (int s = 0; s < b->subs; s++)
        sum += b->fit[s].error;
    return sum;
}

/* Chooses the weights' integers for the scales as they are. */
static void refit(super_block *b) {
    for (int s = 0; s < b->subs; s++)
        b->fit[s] =
            pq_fit_at(&b->group[s], b->levels, b->d * (float)b->scale[s], b->m * (float)b->min[s]);
}

/* ------------------------------------------------ the super-block's numbers, by the quadratics alone */

/* The integer minimum that suits the sub-block's weights at this scale. */
static int best_min(const super_block *b, int s, float scale, float m) {
    const pq_group *g = &b->group[s];
    const float min = (scale * b->fit[s].sq - g->swx) / g->sw;
    return round_to(quotient(min, m), 0, b->scale_high);
}

/* The error of sub-block s with the best integer scale (and minimum) for d and m. */
static float lattice_error(const super_block *b, int s, float d, float m, int *scale, int *min) {
    const pq_fit *fit = &b->fit[s];
    const int nearest = round_to(quotient(fit->scale, d), b->scale_low, b->scale_high);
    float best = INFINITY;
    const int from = b->has_min && nearest > b->scale_low ? nearest - 1 : nearest;
    const int to = b->has_min && nearest < b->scale_high ? nearest + 1 : nearest;
    for (int k = from; k <= to; k++) {
        const float dk = d * (float)k;
        const int l = b->has_min ? best_min(b, s, dk, m) : 0;
        const float error = pq_fit_error(&b->group[s], fit, dk, m * (float)l);
        if (error < best) {
            best = error;
            *scale = k;
            *min = l;
        }
    }
    return best;
}

/* Takes d and m and their integers if their error is below *best. */
static void try_pair(super_block *b, float d, float m, float *best) {
    int scale[MAX_SUB], min[MAX_SUB];
    float error = 0.0f;
    for (int s = 0; s < b->subs; s++)
        error += lattice_error(b, s, d, m, &scale[s], &min[s]);
    if (!(error < *best))
        return;
    *best = error;
    b->d = d;
    b->m = m;
    for (int s = 0; s < b->subs; s++) {
        b->scale[s] = scale[s];
        b->min[s] = min[s];
    }
}

/* The largest sub-scale becomes the last integer, or one an eighth of the range below it, which gives the
 * others another grid to fall on. */
static void choose_numbers(super_block *b) {
    float top = 0.0f, top_min = 0.0f, best = INFINITY;
    for (int s = 0; s < b->subs; s++) {
        top = fabsf(b->fit[s].scale) > fabsf(top) ? b->fit[s].scale : top;
        top_min = b->fit[s].min > top_min ? b->fit[s].min : top_min;
    }
    const float high = (float)b->scale_high, low = (float)b->scale_low;
    const float m = pq_f16_scale_away(top_min / high, b->unit);
    /* Tiny weights: f16 may be so coarse there that the nearest number is far too small. */
    try_pair(b, pq_f16_scale_away(top / (low < 0.0f ? low : high), b->unit), m, &best);
    for (int i = 0; i < CANDIDATES; i++) {
        const float less = 1.0f - (float)i / 8.0f;
        try_pair(b, pq_f16_scale(top / (high * less), b->unit), m, &best);
        if (low < 0.0f)
            try_pair(b, pq_f16_scale(top / (low * less), b->unit), m, &best);
    }
    for (int i = 0; i < CANDIDATES && top_min > 0.0f; i++) {
        const float less = 1.0f - (float)i / 8.0f;
        try_pair(b, b->d, pq_f16_scale(top_min / (high * less), b->unit), &best);
    }
}

/* ------------------------------------------------------------------- with the weights' true integers */

static void try_sub(super_block *b, int s, int scale, int min) {
    if (scale < b->scale_low || scale > b->scale_high || min < 0 || min > b->scale_high)
        return;
    const pq_fit fit = pq_fit_at(&b->group[s], b->levels, b->d * (float)scale, b->m * (float)min);
    if (fit.error < b->fit[s].error) {
        b->fit[s] = fit;
        b->scale[s] = scale;
        b->min[s] = min;
    }
}

static void polish(super_block *b) {
    for (int s = 0; s < b->subs; s++) {
        const int k = b->scale[s];
        for (int step = -1; step <= 1; step += 2) {
            const int min = b->has_min ? best_min(b, s, b->d * (float)(k + step), b->m) : 0;
            try_sub(b, s, k + step, min);
            if (b->has_min)
                try_sub(b, s, b->scale[s], b->min[s] + step);
        }
    }
}

/* Least squares for d and m with all integers kept. */
static void solve_numbers(const super_block *b, float *d, float *m) {
    double xx = 0.0, xy = 0.0, yy = 0.0, xt = 0.0, yt = 0.0;
    for (int s = 0; s < b->subs; s++) {
        const double k = b->scale[s], l = b->min[s];
        xx += k * k * b->fit[s].sqq;
        xy += k * l * b->fit[s].sq;
        yy += l * l * b->group[s].sw;
        xt += k * b->fit[s].sxq;
        yt += l * b->group[s].swx;
    }
    const double det = xx * yy - xy * xy;
    if (det > 1e-9 * xx * yy) {
        *d = (float)((yy * xt - xy * yt) / det);
        *m = (float)((xy * xt - xx * yt) / det);
    } else {
        *d = xx > 0.0 ? (float)(xt / xx) : 0.0f;
        *m = 0.0f;
    }
}

/* One turn of improvement; 0 if there was none. */
static int improve(super_block *b) {
    super_block trial = *b;
    float d, m;
    solve_numbers(b, &d, &m);
    trial.d = pq_f16_scale(d, b->unit);
    trial.m = b->has_min ? pq_f16_scale(m, b->unit) : 0.0f;
    refit(&trial);
    polish(&trial);
    if (!(total_error(&trial) < total_error(b)))
        return 0;
    *b = trial;
    return 1;
}

/* ---------------------------------------------------------------------------------------------- entry */

static void describe(uint32_t type, super_block *b) {
    const int wide = type == PQ_Q4_K || type == PQ_Q5_K || type == PQ_IQ4_XS;
    b->subs = wide ? 8 : 16;
    b->has_min = pq_type_family(type) == PQ_FAMILY_SUPER_MIN;
    b->scale_low = b->has_min ? 0 : type == PQ_Q6_K ? -128 : -32;
    b->scale_high = type == PQ_Q2_K ? 15 : b->has_min ? 63 : type == PQ_Q6_K ? 127 : 31;
}

static void store(const super_block *b, pq_decoded *out) {
    const int n = PQ_SUPER / b->subs, copies = n / PQ_SUB;
    out->d = b->d * b->unit;
    out->m = b->m * b->unit;
    for (int s = 0; s < b->subs; s++) {
        pq_fit_integers(&b->group[s], b->levels, b->d * (float)b->scale[s], b->m * (float)b->min[s],
                        (signed char *)out->value + s * n);
        for (int c = 0; c < copies; c++) {
            out->scale[s * copies + c] = (int8_t)b->scale[s];
            out->min[s * copies + c] = (uint8_t)b->min[s];
        }
    }
}

void pq_quantize_super_block(uint32_t type, const pq_levels *levels, const float *x, const float *w,
                             pq_decoded *out) {
    super_block b = {.levels = levels, .unit = pq_block_unit(x, PQ_SUPER)};
    describe(type, &b);
    const int n = PQ_SUPER / b.subs;
    for (int s = 0; s < b.subs; s++) {
        pq_fill_group(&b.group[s], x + s * n, w + s * n, n, b.unit);
        b.fit[s] = b.has_min ? pq_search_scale_min(&b.group[s], levels, 0)
                             : pq_search_scale(&b.group[s], levels);
    }
    choose_numbers(&b);
    refit(&b);
    polish(&b);
    for (int turn = 0; turn < TURNS && improve(&b); turn++)
        ;
    store(&b, out);
}
