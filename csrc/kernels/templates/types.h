/* types.h - what the products of all instruction sets need to know of a type, as constants where the type is one.
 * formats/format.h says the same to code that does not. */
#ifndef PQ_TEMPLATES_TYPES_H
#define PQ_TEMPLATES_TYPES_H

#include "../../formats/blocks.h"
#include "../../formats/types.h"
#include "../inline.h"

/* Super-blocks of 256, not blocks of 32. */
PQ_INLINE int is_super(const uint32_t type) {
    return (type >= PQ_Q2_K && type <= PQ_Q6_K) || type == PQ_IQ4_XS;
}

/* Super-blocks: minima of 32, Q2_K those of 16. */
PQ_INLINE int has_min(const uint32_t type) {
    return type == PQ_Q4_1 || type == PQ_Q5_1 || type == PQ_Q2_K || type == PQ_Q4_K ||
           type == PQ_Q5_K;
}

/* Super-blocks: scales of 16 columns, not of 32. */
PQ_INLINE int has_scales_of_16(const uint32_t type) {
    return type == PQ_Q2_K || type == PQ_Q3_K || type == PQ_Q6_K;
}

/* Quants are signed bytes, or stand for such. */
PQ_INLINE int is_signed(const uint32_t type) {
    return type == PQ_Q8_0 || type == PQ_IQ4_NL || type == PQ_IQ4_XS;
}

/* What was added to the values to make unsigned quants of them. */
PQ_INLINE int stored_offset(const uint32_t type) {
    switch (type) {
    case PQ_Q3_K:
        return 4;
    case PQ_Q4_0:
        return 8;
    case PQ_Q5_0:
        return 16;
    case PQ_Q6_K:
        return 32;
    default: /* those with a minimum, and signed ones */
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
