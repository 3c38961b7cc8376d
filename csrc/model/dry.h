/* dry.h - DRY ("don't repeat yourself"; p-e-w, text-generation-webui #5677, 2024): a token that would make the
 * end of the text repeat a longer run of earlier tokens is penalized, the more the longer the run is. */
#ifndef PQ_DRY_H
#define PQ_DRY_H

#include "../base/status.h"
#include "../pyqwen_sampling.h"

typedef struct pq_dry pq_dry;

/* Takes what concerns DRY out of options, which are valid; the breakers are borrowed. Tokens < real_tokens are
 * penalized. */
pq_status pq_dry_open(pq_dry **out, uint32_t real_tokens, const pq_sampler_options *options,
                      pq_error *err);
void pq_dry_close(pq_dry *dry);

/* Makes room so that accepting n tokens cannot fail. */
pq_status pq_dry_reserve(pq_dry *dry, size_t n, pq_error *err);
/* Tokens (n, not negative) follow in the text; their room is reserved. */
void pq_dry_accept(pq_dry *dry, const int32_t *tokens, size_t n);
/* Takes the newest token back. */
void pq_dry_retract(pq_dry *dry);

/* Finds what is to be penalized after the text as it is; linear in its length. */
void pq_dry_find(pq_dry *dry);
/* A token's logit with the penalty that was found; one that is not finite stays. */
float pq_dry_penalized(const pq_dry *dry, int32_t token, float logit);
/* The same for all logits (real_tokens), remembering what they were. */
void pq_dry_apply(pq_dry *dry, float *logits);
/* The logit of `token` before the last pq_dry_apply, after which it was `logit`. */
float pq_dry_raw(const pq_dry *dry, int32_t token, float logit);

#endif
