/* operands.h - what a super-block is multiplied with: for gemm_super.h and what it is made of. */
#ifndef PQ_X86_OPERANDS_H
#define PQ_X86_OPERANDS_H

#include "gemm_tile.h"

/* A tile has `panels` panels times n tokens: element e is token e / panels of panel e % panels. Where a panel's vector meets
 * a token's, the compiler loads each once. */
enum { PQ_MOST_PANELS = 2 };

/* A super-block's operands: its packed or unpacked groups, and where the tokens' activations of its
 * first column are. */
typedef struct operands {
    const uint8_t *group[PQ_MOST_PANELS];
    const struct super_scales *scale[PQ_MOST_PANELS];
    const int8_t *q[PQ_EACH_MOST];
    const float *d, *s;
    const int16_t *sums;
    size_t cols;
} operands;

/* Stores the results of a tile. */
PQ_INLINE void store_tile(const int panels, const int n, const pq_tile *a, const pq_vec *acc) {
    PQ_EACH(e, panels * n, {
        const size_t row = (size_t)(e % panels) * PQ_LANES;
        v_store_first(a->y + (size_t)(e / panels) * a->y_stride + row, a->rows - row, acc[e]);
    });
}

#endif
