/* candidates.h - choosing some of the tokens of a vocabulary without sorting it. Every choice is
 * exact and deterministic: of equal tokens, the one with the lower id comes first. */
#ifndef PQ_CANDIDATES_H
#define PQ_CANDIDATES_H

#include <stddef.h>
#include <stdint.h>

typedef struct pq_candidate {
    float key;    /* what candidates are ordered by, largest first */
    float weight; /* unnormalized probability */
    int32_t token;
    float kept_key; /* for a filter that orders by something else meanwhile */
} pq_candidate;

/* Logits are scanned in chunks; one whose maximum is too small is never looked into again. */
enum { PQ_LOGIT_CHUNK = 64 };

/* Writes each chunk's largest logit to maxima, ceil(n / PQ_LOGIT_CHUNK) of them, and returns the
 * largest of all. NaN if any logit is NaN. */
float pq_logit_maxima(const float *logits, size_t n, float *maxima);
/* The same of the logits whose bits are 1 in mask (see pq_draw), as if all others were -infinity: these
 * become so, but in chunks without a possible token, whose logits are neither read nor written. Whoever
 * reads logits afterwards leaves out the chunks whose maximum is -infinity. */
float pq_masked_maxima(float *logits, size_t n, const uint32_t *mask, float *maxima);
/* Whether a mask of n tokens has a 1 among them. */
int pq_mask_allows_any(const uint32_t *mask, size_t n);

/* The best k >= 1 of n logits, best first, into out (k): key is the logit. Logits of -infinity are
 * left out, so fewer than k may be returned. */
size_t pq_candidates_best(const float *logits, size_t n, const float *maxima, size_t k,
                          pq_candidate *out);

/* Reorders c so that the smallest set of the best candidates whose weights reach `mass` comes
 * first, and returns how many these are: at least 1. */
size_t pq_candidates_reach(pq_candidate *c, size_t n, double mass);

#endif
