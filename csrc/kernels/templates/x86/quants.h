/* quants.h - what the quants of all types have in common. For the files that include vectors.h. Unsigned quants are as
 * stored; signed ones become unsigned by PQ_SIGNED_OFFSET, 128, unless a folder wants them as they are and says 0.
 */
#ifndef PQ_X86_QUANTS_H
#define PQ_X86_QUANTS_H

#include "gemm_tile.h"

#ifndef PQ_SIGNED_OFFSET
#define PQ_SIGNED_OFFSET 128
#endif

/* What was added to the values to make quants of them. */
PQ_INLINE int offset_of(const uint32_t type) {
    return is_signed(type) ? PQ_SIGNED_OFFSET : stored_offset(type);
}

PQ_INLINE pq_ints signed_quants(pq_ints q) {
    return PQ_SIGNED_OFFSET ? pq_xor(q, pq_all_bytes(PQ_SIGNED_OFFSET)) : q;
}

/* PQ_IQ4_VALUES, and those with 128 added. */
PQ_INLINE pq_ints nonlinear_quants(pq_ints index) {
    static const int8_t values[16] = PQ_IQ4_VALUES;
    static const uint8_t above_0[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                        129, 141, 153, 166, 181, 197, 217, 241};
    return pq_look_up(PQ_SIGNED_OFFSET ? (const void *)above_0 : values, index);
}

#endif
