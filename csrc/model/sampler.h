/* sampler.h - what a session needs of a sampler besides the public functions. */
#ifndef PQ_SAMPLER_H
#define PQ_SAMPLER_H

#include "../base/status.h"
#include "../pyqwen_sampling.h"

/* Accepts a token that is given, without a random number, and writes to *out what pq_sampler_sample would
 * report of it: nothing where logits is NULL. The logits are not changed. */
pq_status pq_sampler_force(pq_sampler *sampler, int32_t token, const float *logits, size_t n_logits,
                           uint32_t n_top, pq_sample *out, pq_error *err);

/* From hold to release a sampler logs what it accepts, so that release can undo that. A mark and what is
 * logged since then stay as they are. */
void pq_sampler_hold(pq_sampler *sampler);
void pq_sampler_release(pq_sampler *sampler, int undo);

#endif
