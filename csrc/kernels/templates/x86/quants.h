/* quants.h - what the quants of all types have in common, and where they are in a packed panel. For the files that
 * include vectors.h. */
#ifndef PQ_X86_QUANTS_H
#define PQ_X86_QUANTS_H

#include "gemm_tile.h"

#include "../../../formats/blocks.h"

PQ_INLINE int has_min(const uint32_t type) {
    return type == PQ_Q4_1 || type == PQ_Q5_1 || type == PQ_Q2_K || type == PQ_Q4_K ||
           type == PQ_Q5_K;
}

/* What was added to the values to make unsigned quants of them. */
PQ_INLINE int offset_of(const uint32_t type) {
    switch (type) {
    case PQ_Q3_K:
        return 4;
    case PQ_Q4_0:
        return 8;
    case PQ_Q5_0:
        return 16;
    case PQ_Q6_K:
        return 32;
    case PQ_Q8_0:
    case PQ_IQ4_NL:
    case PQ_IQ4_XS:
        return 128;
    default: /* those with a minimum */
        return 0;
    }
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

/* Where a member of a block begins in a group of blocks. */
#define MEMBER(group, block, name) ((group) + PQ_LANES * offsetof(block, name))

#endif
