/* types.h - the tensor types of GGUF files that this version reads, numbered as ggml numbers them. */
#ifndef PQ_TYPES_H
#define PQ_TYPES_H

#include <stdint.h>

enum {
    PQ_F32 = 0,
    PQ_F16 = 1,
    PQ_Q4_0 = 2,
    PQ_Q4_1 = 3,
    PQ_Q5_0 = 6,
    PQ_Q5_1 = 7,
    PQ_Q8_0 = 8,
    PQ_Q2_K = 10,
    PQ_Q3_K = 11,
    PQ_Q4_K = 12,
    PQ_Q5_K = 13,
    PQ_Q6_K = 14,
    PQ_IQ4_NL = 20,
    PQ_IQ4_XS = 23,
    PQ_BF16 = 30,
    PQ_TYPE_COUNT = 31
};

/* Elements and bytes of a block, also of types that are known but not supported, so that a file which
 * holds them can be inspected. 0 if the type has no known layout. */
int pq_type_layout(uint32_t type, uint32_t *block, uint32_t *bytes);

#endif
