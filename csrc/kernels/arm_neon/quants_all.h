/* quants_all.h - the quants of any type, for gemm_columns.h. */
#ifndef PQ_NEON_QUANTS_ALL_H
#define PQ_NEON_QUANTS_ALL_H

#include "quants_block.h"
#include "quants_super.h"

/* Columns 128 h + 32 s + 4 j .. + 3 of 4 rows; a block of 32 is the first 32 columns. */
PQ_INLINE int8x16_t quants(const uint32_t type, const int unpacked, const uint8_t *group, size_t h,
                           const int s, const int j) {
    if (unpacked)
        return minus(vld1q_u8(group + h * 1024 + s * 256 + j * 32), 0);
    return is_super(type) ? super_quants(type, group, h, s, j) : block_quants(type, group, j);
}

#endif
