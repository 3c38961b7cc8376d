/* block_scale.h - the unit in which a block is searched, and scales as the file's f16 numbers hold them. */
#ifndef PQ_BLOCK_SCALE_H
#define PQ_BLOCK_SCALE_H

/* A power of two that brings the largest of n (a multiple of 32) weights into [1, 2); 1 for zeros. Dividing by it
 * is exact, and no square over- or underflows after that. */
float pq_block_unit(const float *x, int n);
/* scale * unit as f16 holds it (at most 65504), / unit. */
float pq_f16_scale(float scale, float unit);
/* The same, rounded away from 0. |scale * unit| < 65504. */
float pq_f16_scale_away(float scale, float unit);

#endif
