/* filters.h - what of a list of candidates is kept, in any order: each filter sees what those before it left, as
 * a distribution of its own. The key of a candidate is its logit, changed by what came before; at least one is
 * kept. Candidates of equal keys are told apart by their ids. */
#ifndef PQ_FILTERS_H
#define PQ_FILTERS_H

#include "candidates.h"

/* Gives all n candidates weights in proportion to their probabilities: the likeliest has 1. */
void pq_weigh(pq_candidate *c, size_t n);
double pq_weight_sum(const pq_candidate *c, size_t n);

/* All return how many are kept; these come first. Those that read weights expect them of pq_weigh. */
size_t pq_keep_top_k(pq_candidate *c, size_t n, size_t k); /* weights are lost */
size_t pq_keep_top_p(pq_candidate *c, size_t n, double p);
size_t pq_keep_min_p(pq_candidate *c, size_t n, float p);
/* Locally typical sampling (Meister et al. 2022): the keys stay. */
size_t pq_keep_typical(pq_candidate *c, size_t n, double p);
/* XTC, exclude top choices (p-e-w, text-generation-webui #6335, 2024): of several candidates whose probability
 * is `threshold` or more, only the least likely is kept, and all below it. */
size_t pq_keep_xtc(pq_candidate *c, size_t n, double threshold);
/* Top n sigma (Tang et al. 2024, arXiv 2411.07641): keys at most `n_sigma` standard deviations below the
 * largest. */
size_t pq_keep_top_n_sigma(pq_candidate *c, size_t n, float n_sigma);

/* The same of logits (n) whose maxima are known (see candidates.h): what falls below becomes -infinity. */
void pq_cut_top_n_sigma(float *logits, size_t n, float *maxima, float max, float n_sigma);

#endif
