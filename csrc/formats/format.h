/* format.h - what a tensor type is. Each has a file of its own (q4_0.c, q4_k.c, ...) with one pq_format, from which
 * reading, dequantizing, packing, the quantizer and the products of types without a faster kernel follow; types.c is
 * the table of all.
 */
#ifndef PQ_FORMAT_H
#define PQ_FORMAT_H

#include <stddef.h>
#include <stdint.h>

enum { PQ_SUPER = 256, PQ_SUB = 16 };

/* What makes a type's weights; the formulas are in the comment of pq_decoded, the order in which they are multiplied
 * in kernels.h. */
typedef enum pq_family {
    PQ_FAMILY_FLOAT,     /* single numbers */
    PQ_FAMILY_BLOCK,     /* blocks of 32 */
    PQ_FAMILY_BLOCK_MIN, /* blocks of 32 with a minimum */
    PQ_FAMILY_SUPER,     /* super-blocks of 256 */
    PQ_FAMILY_SUPER_MIN  /* super-blocks with minima */
} pq_family;

/* One block, taken apart into its integers.
 * blocks of 32:        w[k] = d * value[k]  (+ m)
 * super-blocks of 256: w[k] = d * scale[k / 16] * value[k]  (- m * min[k / 16])
 * Values have their offset taken off. Scales that cover 32 elements appear twice. */
typedef struct pq_decoded {
    float d, m;
    int8_t value[PQ_SUPER];
    int8_t scale[PQ_SUPER / PQ_SUB];
    uint8_t min[PQ_SUPER / PQ_SUB];
} pq_decoded;

/* A member of a block, and the units of 2 or 4 bytes that packing moves it in: kernels/pack.c. */
typedef struct pq_member {
    uint16_t offset, bytes, unit;
} pq_member;

enum { PQ_MAX_MEMBERS = 6 }; /* a list ends with bytes == 0 */

typedef struct pq_format {
    const char *name;
    uint16_t block, bytes; /* elements and bytes of a block */
    pq_family family;
    pq_member members[PQ_MAX_MEMBERS]; /* all of the block, in order */
    /* Where a block has 4 bytes of fifth bits, which packing turns; 0: nowhere. */
    uint16_t fifth_bits;
    /* The values of weights, as pq_decoded has them; if nonlinear, only PQ_IQ4_VALUES of these. */
    int16_t low, high;
    uint8_t nonlinear;
    /* Super-blocks: how many elements share a scale, 16 or 32, and its range; of the minima: 0 .. scale_high. */
    uint8_t sub;
    int16_t scale_low, scale_high;
    /* A block's bytes (at any address) to its integers and back; NULL for single numbers. What is encoded is as
     * decoding fills it: d and m are numbers that the block holds exactly, all integers are in range. */
    void (*decode)(const void *block, pq_decoded *out);
    void (*encode)(const pq_decoded *in, void *block);
} pq_format;

/* NULL if the type is not supported. */
const pq_format *pq_type_format(uint32_t type);

/* PQ_FAMILY_FLOAT also for what is not supported. */
pq_family pq_type_family(uint32_t type);

#endif
