/* bits.h - where the bits of quants and scales are in a block, for the files that take one type apart and put it
 * together again. Each get_ has its put_.
 */
#ifndef PQ_BITS_H
#define PQ_BITS_H

#include <string.h>

#include "blocks.h"
#include "format.h"

#define PQ_MEMBER(block, name) {offsetof(block, name), sizeof(((block *)0)->name), 4}
#define PQ_NUMBER(block, name) {offsetof(block, name), 2, 2}

static inline void put_f16(uint8_t *p, float x) {
    const uint16_t h = pq_f32_to_f16(x);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

/* --------------------------------------------------------------------------------- blocks of 32 */

static inline void get_nibbles(const uint8_t *q, int offset, int8_t *value) {
    for (int i = 0; i < 16; i++) {
        value[i] = (int8_t)((q[i] & 15) - offset);
        value[i + 16] = (int8_t)((q[i] >> 4) - offset);
    }
}

static inline void put_nibbles(const int8_t *value, int offset, uint8_t *q) {
    for (int i = 0; i < 16; i++)
        q[i] = (uint8_t)(((value[i] + offset) & 15) | ((value[i + 16] + offset) & 15) << 4);
}

static inline void get_five_bits(const uint8_t *q, const uint8_t *high, int offset, int8_t *value) {
    get_nibbles(q, offset, value);
    for (int i = 0; i < 32; i++)
        value[i] = (int8_t)(value[i] + ((high[i / 8] >> i % 8 & 1) << 4));
}

static inline void put_five_bits(const int8_t *value, int offset, uint8_t *q, uint8_t *high) {
    put_nibbles(value, offset, q);
    memset(high, 0, 4);
    for (int i = 0; i < 32; i++)
        high[i / 8] |= (uint8_t)((value[i] + offset) >> 4 << i % 8);
}

/* Two runs of 16 values of the non-linear types. */
static inline void get_nonlinear(const uint8_t *q, int8_t *value) {
    static const int8_t VALUES[16] = PQ_IQ4_VALUES;
    for (int i = 0; i < 16; i++) {
        value[i] = VALUES[q[i] & 15];
        value[i + 16] = VALUES[q[i] >> 4];
    }
}

static inline int nonlinear_index(int8_t value) {
    static const int8_t VALUES[16] = PQ_IQ4_VALUES;
    int index = 0;
    for (int i = 1; i < 16; i++)
        index += value >= VALUES[i];
    return index;
}

static inline void put_nonlinear(const int8_t *value, uint8_t *q) {
    for (int i = 0; i < 16; i++)
        q[i] = (uint8_t)(nonlinear_index(value[i]) | nonlinear_index(value[i + 16]) << 4);
}

/* -------------------------------------------------------------------------- super-blocks of 256 */

/* 2-bit quants: element 128 n + 32 c + i is in bits 2 c, 2 c + 1 of byte 32 n + i. */
static inline void get_two_bits(const uint8_t *q, int8_t *value) {
    for (int run = 0; run < PQ_SUPER / 32; run++) {
        for (int i = 0; i < 32; i++)
            value[32 * run + i] = (int8_t)(q[run / 4 * 32 + i] >> run % 4 * 2 & 3);
    }
}

static inline void put_two_bits(const uint8_t *code, uint8_t *q) {
    for (int n = 0; n < 2; n++, code += 128) {
        for (int i = 0; i < 32; i++)
            q[32 * n + i] = (uint8_t)((code[i] & 3) | (code[i + 32] & 3) << 2 |
                                      (code[i + 64] & 3) << 4 | (code[i + 96] & 3) << 6);
    }
}

/* 4-bit quants: element 64 n + 32 c + i is in half c of byte 32 n + i. */
static inline void get_four_bits(const uint8_t *q, int8_t *value) {
    for (int run = 0; run < PQ_SUPER / 32; run++) {
        for (int i = 0; i < 32; i++)
            value[32 * run + i] = (int8_t)(q[run / 2 * 32 + i] >> run % 2 * 4 & 15);
    }
}

static inline void put_four_bits(const uint8_t *code, uint8_t *q) {
    for (int n = 0; n < 4; n++, code += 64) {
        for (int i = 0; i < 32; i++)
            q[32 * n + i] = (uint8_t)((code[i] & 15) | (code[i + 32] & 15) << 4);
    }
}

/* Adds 1 << shift where bit c of byte i, of element 32 c + i, is set, and takes an offset off. */
static inline void get_high_bit(const uint8_t *high, int shift, int offset, int8_t *value) {
    for (int run = 0; run < PQ_SUPER / 32; run++) {
        for (int i = 0; i < 32; i++) {
            const int bit = (high[i] >> run & 1) << shift;
            value[32 * run + i] = (int8_t)(value[32 * run + i] + bit - offset);
        }
    }
}

/* Bit `shift` of code 32 c + i becomes bit c of high[i]. */
static inline void put_high_bit(const uint8_t *code, int shift, uint8_t *high) {
    memset(high, 0, 32);
    for (int c = 0; c < 8; c++) {
        for (int i = 0; i < 32; i++)
            high[i] |= (uint8_t)((code[32 * c + i] >> shift & 1) << c);
    }
}

/* Values with their offset put on again. */
static inline void codes_of(const pq_decoded *in, int offset, uint8_t *code) {
    for (int k = 0; k < PQ_SUPER; k++)
        code[k] = (uint8_t)(in->value[k] + offset);
}

/* Six-bit scales and minima of Q4_K and Q5_K: those of sub-blocks 0..3 in the low bits of bytes 0..3 and 4..7; those
 * of 4..7 have their low four bits in bytes 8..11 and their high two on top of bytes 0..3 and 4..7. */
static inline void get_scales_and_minima(const uint8_t *packed, pq_decoded *out) {
    for (int s = 0; s < 16; s++) {
        const int j = s / 2;
        const uint8_t *high = &packed[j % 4], *low = &packed[8 + j % 4];
        const int scale = j < 4 ? high[0] & 63 : (*low & 15) | high[0] >> 6 << 4;
        const int min = j < 4 ? high[4] & 63 : *low >> 4 | high[4] >> 6 << 4;
        out->scale[s] = (int8_t)scale;
        out->min[s] = (uint8_t)min;
    }
}

static inline void put_scales_and_minima(const pq_decoded *in, uint8_t *packed) {
    for (int j = 0; j < 4; j++) {
        const int scale = in->scale[2 * j], min = in->min[2 * j];
        const int scale4 = in->scale[2 * j + 8], min4 = in->min[2 * j + 8];
        packed[j] = (uint8_t)(scale | scale4 >> 4 << 6);
        packed[j + 4] = (uint8_t)(min | min4 >> 4 << 6);
        packed[j + 8] = (uint8_t)((scale4 & 15) | (min4 & 15) << 4);
    }
}

#endif
