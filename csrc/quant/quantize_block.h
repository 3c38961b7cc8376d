/* quantize_block.h - one block of weights to the integers and scales that represent it best. */
#ifndef PQ_QUANTIZE_BLOCK_H
#define PQ_QUANTIZE_BLOCK_H

#include "decode.h"
#include "scale_search.h"

/* x: 32 finite weights, w: how much each one's squared error counts (>= 0). */
void pq_quantize_block(uint32_t type, const pq_levels *levels, const float *x, const float *w,
                       pq_decoded *out);

/* The same for the types with super-blocks: 256 of each. */
void pq_quantize_super_block(uint32_t type, const pq_levels *levels, const float *x, const float *w,
                             pq_decoded *out);

/* What both need: a power of two that brings the largest of n (32 or 256) weights into [1, 2); 1 for zeros. Dividing
 * by it is exact, and no square over- or underflows after that. */
float pq_block_unit(const float *x, int n);
/* Fills a group with n weights / unit and their error weights. */
void pq_fill_group(pq_group *group, const float *x, const float *w, int n, float unit);
/* scale * unit as f16 holds it (at most 65504), / unit. */
float pq_f16_scale(float scale, float unit);
/* The same, rounded away from 0. |scale * unit| < 65504. */
float pq_f16_scale_away(float scale, float unit);

#endif
