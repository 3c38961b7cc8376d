/* levels.h - the levels that the integers of a type are taken from. */
#ifndef PQ_LEVELS_H
#define PQ_LEVELS_H

enum { PQ_NEAREST = 512 };

/* All of low .. high or, if `nearest` is given, some of them: it holds for each i the one nearest to
 * (i - 256) / 2 and a bit more. */
typedef struct pq_levels {
    float low, high;
    float spacing;              /* between levels, on average */
    const signed char *nearest; /* (PQ_NEAREST) or NULL */
} pq_levels;

/* Fills the table of the non-linear 4-bit types. */
void pq_nonlinear_levels(signed char nearest[PQ_NEAREST]);

#endif
