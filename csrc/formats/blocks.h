/* blocks.h - the block formats of GGUF tensors, byte for byte as ggml lays them out.
 *
 * Every member is made of bytes, so that a block may lie at any address; numbers are little-endian
 * (f16: two bytes, pq_load_f16). "q" of a block of 32: byte i holds element i in its low and
 * element i + 16 in its high half. In super-blocks of 256 the quants of 64 or 128 neighbors share
 * a run of bytes; bits.h reads them.
 */
#ifndef PQ_BLOCKS_H
#define PQ_BLOCKS_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "f16.h"

typedef uint8_t pq_f16_bytes[2];

static inline float pq_load_f16(const uint8_t *p) {
    return pq_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

/* ------------------------------------------------------------------------ blocks of 32 elements */

typedef struct pq_block_q4_0 { /* w = d * (q - 8) */
    pq_f16_bytes d;
    uint8_t q[16];
} pq_block_q4_0;

typedef struct pq_block_q4_1 { /* w = d * q + m */
    pq_f16_bytes d, m;
    uint8_t q[16];
} pq_block_q4_1;

typedef struct pq_block_q5_0 { /* w = d * (q - 16); bit i of high is bit 4 of element i */
    pq_f16_bytes d;
    uint8_t high[4];
    uint8_t q[16];
} pq_block_q5_0;

typedef struct pq_block_q5_1 { /* w = d * q + m */
    pq_f16_bytes d, m;
    uint8_t high[4];
    uint8_t q[16];
} pq_block_q5_1;

typedef struct pq_block_q8_0 { /* w = d * q */
    pq_f16_bytes d;
    int8_t q[32];
} pq_block_q8_0;

typedef struct pq_block_iq4_nl { /* w = d * table[q] */
    pq_f16_bytes d;
    uint8_t q[16];
} pq_block_iq4_nl;

/* ----------------------------------------------------------------- super-blocks of 256 elements */

typedef struct pq_block_q2_k { /* w = d * scale * q - dmin * min, per 16 */
    uint8_t scales[16];        /* low half: scale, high half: min */
    uint8_t q[64];
    pq_f16_bytes d, dmin;
} pq_block_q2_k;

typedef struct pq_block_q3_k { /* w = d * (scale - 32) * (q - 4), per 16 */
    uint8_t high[32];          /* bit c of byte i: bit 2 of element 32 c + i */
    uint8_t q[64];
    uint8_t scales[12];
    pq_f16_bytes d;
} pq_block_q3_k;

typedef struct pq_block_q4_k { /* w = d * scale * q - dmin * min, per 32 */
    pq_f16_bytes d, dmin;
    uint8_t scales[12];
    uint8_t q[128];
} pq_block_q4_k;

typedef struct pq_block_q5_k { /* as Q4_K with a fifth bit */
    pq_f16_bytes d, dmin;
    uint8_t scales[12];
    uint8_t high[32]; /* bit c of byte i: bit 4 of element 32 c + i */
    uint8_t q[128];
} pq_block_q5_k;

typedef struct pq_block_q6_k { /* w = d * scale * (q - 32), per 16 */
    uint8_t low[128];
    uint8_t high[64];
    int8_t scales[16];
    pq_f16_bytes d;
} pq_block_q6_k;

typedef struct pq_block_iq4_xs { /* w = d * (scale - 32) * table[q], per 32 */
    pq_f16_bytes d;
    uint8_t scales_high[2];
    uint8_t scales_low[4];
    uint8_t q[128];
} pq_block_iq4_xs;

static_assert(sizeof(pq_block_q4_0) == 18 && sizeof(pq_block_q4_1) == 20, "as in ggml");
static_assert(sizeof(pq_block_q5_0) == 22 && sizeof(pq_block_q5_1) == 24, "as in ggml");
static_assert(sizeof(pq_block_q8_0) == 34 && sizeof(pq_block_iq4_nl) == 18, "as in ggml");
static_assert(sizeof(pq_block_q2_k) == 84 && sizeof(pq_block_q3_k) == 110, "as in ggml");
static_assert(sizeof(pq_block_q4_k) == 144 && sizeof(pq_block_q5_k) == 176, "as in ggml");
static_assert(sizeof(pq_block_q6_k) == 210 && sizeof(pq_block_iq4_xs) == 136, "as in ggml");

/* The values of the non-linear 4-bit types. */
#define PQ_IQ4_VALUES {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

#endif
