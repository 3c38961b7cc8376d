/* quants.h - what the quants of all types have in common. */
#ifndef PQ_NEON_QUANTS_H
#define PQ_NEON_QUANTS_H

#include "gemm_bits.h"

/* Super-blocks of 256, not blocks of 32. */
PQ_INLINE int is_super(const uint32_t type) {
    return (type >= PQ_Q2_K && type <= PQ_Q6_K) || type == PQ_IQ4_XS;
}

/* Super-blocks: minima of 32, Q2_K those of 16. */
PQ_INLINE int has_min(const uint32_t type) {
    return type == PQ_Q4_1 || type == PQ_Q5_1 || type == PQ_Q2_K || type == PQ_Q4_K ||
           type == PQ_Q5_K;
}

/* Scales of 16 columns, not of 32. */
PQ_INLINE int has_scales_of_16(const uint32_t type) {
    return type == PQ_Q2_K || type == PQ_Q3_K || type == PQ_Q6_K;
}

/* How many products fit a 16-bit sum: 8 * 31 * 127 do, and 2 * 128 * 127; as far as the scale goes. */
PQ_INLINE int chain_of(const uint32_t type) {
    if (type == PQ_Q8_0 || type == PQ_IQ4_NL || type == PQ_IQ4_XS)
        return 2;
    return has_scales_of_16(type) ? 4 : 8;
}

PQ_INLINE size_t block_bytes(const uint32_t type) {
    switch (type) {
    case PQ_Q4_1:
        return sizeof(pq_block_q4_1);
    case PQ_Q5_0:
        return sizeof(pq_block_q5_0);
    case PQ_Q5_1:
        return sizeof(pq_block_q5_1);
    case PQ_Q8_0:
        return sizeof(pq_block_q8_0);
    case PQ_Q2_K:
        return sizeof(pq_block_q2_k);
    case PQ_Q3_K:
        return sizeof(pq_block_q3_k);
    case PQ_Q4_K:
        return sizeof(pq_block_q4_k);
    case PQ_Q5_K:
        return sizeof(pq_block_q5_k);
    case PQ_Q6_K:
        return sizeof(pq_block_q6_k);
    case PQ_IQ4_XS:
        return sizeof(pq_block_iq4_xs);
    default: /* Q4_0, IQ4_NL */
        return sizeof(pq_block_q4_0);
    }
}

#endif
