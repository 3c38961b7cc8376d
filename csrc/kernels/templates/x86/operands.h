/* operands.h - what a super-block is multiplied with: for gemm_super.h and what it is made of. */
#ifndef PQ_X86_OPERANDS_H
#define PQ_X86_OPERANDS_H

#include "gemm_tile.h"

/* A super-block's operands: its packed or unpacked group, and where the tokens' activations of its
 * first column are. */
typedef struct operands {
    const uint8_t *group;
    const struct super_scales *scale;
    const int8_t *q[PQ_EACH_MOST];
    const float *d, *s;
    const int16_t *sums;
    size_t cols;
} operands;

#endif
