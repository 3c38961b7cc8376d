/* penalties.h - what changes the logits of single tokens before sampling: that they stand in the
 * text already, or a bias. Memory is in proportion to the distinct tokens, not to the vocabulary.
 */
#ifndef PQ_PENALTIES_H
#define PQ_PENALTIES_H

#include "../base/status.h"
#include "../pyqwen_sampling.h"

typedef struct pq_penalties pq_penalties;

/* Takes the penalties and the bias out of options, which are valid. Tokens are < real_tokens. */
pq_status pq_penalties_open(pq_penalties **out, uint32_t real_tokens,
                            const pq_sampler_options *options, pq_error *err);
void pq_penalties_close(pq_penalties *penalties);

/* Counts tokens that stand in the text. Ids from real_tokens on are ignored: they are never
 * sampled. On PQ_ERR_MEMORY nothing is counted. */
pq_status pq_penalties_accept(pq_penalties *penalties, const int32_t *tokens, size_t n,
                              int generated, pq_error *err);
/* Makes room so that accepting one token cannot fail. */
pq_status pq_penalties_reserve(pq_penalties *penalties, pq_error *err);
/* Whether a token was counted. */
int pq_penalties_in_text(const pq_penalties *penalties, int32_t token);
/* Takes back the last accepting of a token, before which pq_penalties_in_text said `in_text`. */
void pq_penalties_retract(pq_penalties *penalties, int32_t token, int generated, int in_text);

/* Changes logits (real_tokens) in place by the penalties, if they are `with_penalties`, and then by the bias,
 * remembering what they were. Finite logits stay finite unless the bias forbids the token. Returns 1 if the
 * bias forbade a token that was possible. */
int pq_penalties_apply(pq_penalties *penalties, float *logits, int with_penalties);
/* A token's logit with the penalties, but no bias; one that is not finite stays. */
float pq_penalties_penalized(const pq_penalties *penalties, int32_t token, float logit);
/* The logit of `token` before the last pq_penalties_apply, after which it was `logit`. */
float pq_penalties_raw(const pq_penalties *penalties, int32_t token, float logit);

#endif
