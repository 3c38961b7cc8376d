/* scale_search.h - the scale, or scale and minimum, that represents a few weights best.
 *
 * For given integers q the error sum of w (x - (d q - m))^2 is a quadratic in d and m, so its minimum is
 * known in closed form from six sums; only the rounding that makes the integers has to be searched. Knows
 * nothing of blocks, bits or files.
 */
#ifndef PQ_SCALE_SEARCH_H
#define PQ_SCALE_SEARCH_H

enum { PQ_GROUP_MAX = 32 };

enum { PQ_NEAREST = 512 };

/* The levels integers are taken from: all of low .. high or, if `nearest` is given, some of them: it holds
 * for each i the one nearest to (i - 256) / 2 and a bit more. */
typedef struct pq_levels {
    float low, high;
    float spacing;              /* between levels, on average */
    const signed char *nearest; /* (PQ_NEAREST) or NULL */
} pq_levels;

/* Fills the table of the non-linear 4-bit types. */
void pq_nonlinear_levels(signed char nearest[PQ_NEAREST]);

/* Weights that share one scale. `x` lies within [-2, 2] (the caller divides by a power of two), w >= 0 and
 * not all 0. wx holds the products w x. */
typedef struct pq_group {
    float x[PQ_GROUP_MAX], w[PQ_GROUP_MAX], wx[PQ_GROUP_MAX];
    int n;               /* 16 or 32 */
    float sw, swx, swxx; /* sums of w, w x, w x x */
} pq_group;

/* What a scale and minimum give: x is represented as scale * q - min. */
typedef struct pq_fit {
    float scale, min;
    float sq, sqq, sxq; /* sums of w q, w q q, w x q at the nearest integers */
    float error;        /* sum of w (x - scale q + min)^2 */
} pq_fit;

/* Completes a group whose x, w and n are set. */
void pq_group_sums(pq_group *group);

/* The fit with this scale and minimum and the integers nearest to the weights. */
pq_fit pq_fit_at(const pq_group *group, const pq_levels *levels, float scale, float min);

/* The error if those integers were kept and the scale and minimum were others. */
float pq_fit_error(const pq_group *group, const pq_fit *fit, float scale, float min);

/* The integers of a fit. */
void pq_fit_integers(const pq_group *group, const pq_levels *levels, float scale, float min,
                     signed char *q);

/* The scale that maps the weight farthest from 0 to the last level: no search, no sums. */
pq_fit pq_whole_range(const pq_group *group, const pq_levels *levels);

/* The best scale found, of either sign; min is 0. */
pq_fit pq_search_scale(const pq_group *group, const pq_levels *levels);

/* The best scale >= 0 and minimum found; levels begin at 0. Unless `any_min`, min >= 0. */
pq_fit pq_search_scale_min(const pq_group *group, const pq_levels *levels, int any_min);

#endif
