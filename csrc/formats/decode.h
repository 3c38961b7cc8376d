/* decode.h - one block of any quantized type, taken apart into its integers: what dequantizing and
 * the scalar matrix kernels have in common.
 */
#ifndef PQ_DECODE_H
#define PQ_DECODE_H

#include <stdint.h>

enum { PQ_SUPER = 256, PQ_SUB = 16 };

/* What makes a type's weights; the formulas are in the comments of pq_decoded. */
typedef enum pq_family {
    PQ_FAMILY_FLOAT,     /* F32, F16, BF16 */
    PQ_FAMILY_BLOCK,     /* blocks of 32: Q4_0 Q5_0 Q8_0 IQ4_NL */
    PQ_FAMILY_BLOCK_MIN, /* blocks of 32 with a minimum: Q4_1 Q5_1 */
    PQ_FAMILY_SUPER,     /* super-blocks of 256: Q3_K Q6_K IQ4_XS */
    PQ_FAMILY_SUPER_MIN  /* super-blocks with minima: Q2_K Q4_K Q5_K */
} pq_family;

pq_family pq_type_family(uint32_t type);

/* blocks of 32:        w[k] = d * value[k]  (+ m)
 * super-blocks of 256: w[k] = d * scale[k / 16] * value[k]  (- m * min[k / 16])
 * Values have their offset taken off. Scales that cover 32 elements appear twice. */
typedef struct pq_decoded {
    float d, m;
    int8_t value[PQ_SUPER];
    int8_t scale[PQ_SUPER / PQ_SUB];
    uint8_t min[PQ_SUPER / PQ_SUB];
} pq_decoded;

/* `type` is a quantized one, `block` the bytes of one block at any address. */
void pq_decode_block(uint32_t type, const uint8_t *block, pq_decoded *out);

#endif
