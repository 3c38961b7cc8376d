/* quants.h - how long sums of a type's products may stay in 16 bits. */
#ifndef PQ_NEON_QUANTS_H
#define PQ_NEON_QUANTS_H

#include "gemm_bits.h"

/* How many products fit a 16-bit sum: 8 * 31 * 127 do, and 2 * 128 * 127; as far as the scale goes. */
PQ_INLINE int chain_of(const uint32_t type) {
    if (is_signed(type))
        return 2;
    return has_scales_of_16(type) ? 4 : 8;
}

#endif
