/* decode.c - see decode.h. One function per format. */
#include "decode.h"

#include <string.h>

#include "blocks.h"
#include "types.h"

static const int8_t IQ4_VALUES[16] = PQ_IQ4_VALUES;

pq_family pq_type_family(uint32_t type) {
    switch (type) {
    case PQ_Q4_0:
    case PQ_Q5_0:
    case PQ_Q8_0:
    case PQ_IQ4_NL:
        return PQ_FAMILY_BLOCK;
    case PQ_Q4_1:
    case PQ_Q5_1:
        return PQ_FAMILY_BLOCK_MIN;
    case PQ_Q3_K:
    case PQ_Q6_K:
    case PQ_IQ4_XS:
        return PQ_FAMILY_SUPER;
    case PQ_Q2_K:
    case PQ_Q4_K:
    case PQ_Q5_K:
        return PQ_FAMILY_SUPER_MIN;
    default:
        return PQ_FAMILY_FLOAT;
    }
}

/* --------------------------------------------------------------------------------- blocks of 32 */

static void nibbles(const uint8_t *q, int offset, int8_t *value) {
    for (int i = 0; i < 16; i++) {
        value[i] = (int8_t)((q[i] & 15) - offset);
        value[i + 16] = (int8_t)((q[i] >> 4) - offset);
    }
}

static void five_bits(const uint8_t *q, const uint8_t *high, int offset, int8_t *value) {
    nibbles(q, offset, value);
    for (int i = 0; i < 32; i++)
        value[i] = (int8_t)(value[i] + ((high[i / 8] >> i % 8 & 1) << 4));
}

static void decode_q4_0(const pq_block_q4_0 *b, pq_decoded *out) {
    out->d = pq_load_f16(b->d);
    nibbles(b->q, 8, out->value);
}

static void decode_q4_1(const pq_block_q4_1 *b, pq_decoded *out) {
    out->d = pq_load_f16(b->d);
    out->m = pq_load_f16(b->m);
    nibbles(b->q, 0, out->value);
}

static void decode_q5_0(const pq_block_q5_0 *b, pq_decoded *out) {
    out->d = pq_load_f16(b->d);
    five_bits(b->q, b->high, 16, out->value);
}

static void decode_q5_1(const pq_block_q5_1 *b, pq_decoded *out) {
    out->d = pq_load_f16(b->d);
    out->m = pq_load_f16(b->m);
    five_bits(b->q, b->high, 0, out->value);
}

static void decode_q8_0(const pq_block_q8_0 *b, pq_decoded *out) {
    out->d = pq_load_f16(b->d);
    memcpy(out->value, b->q, sizeof b->q);
}

static void decode_iq4_nl(const pq_block_iq4_nl *b, pq_decoded *out) {
    out->d = pq_load_f16(b->d);
    for (int i = 0; i < 16; i++) {
        out->value[i] = IQ4_VALUES[b->q[i] & 15];
        out->value[i + 16] = IQ4_VALUES[b->q[i] >> 4];
    }
}

/* -------------------------------------------------------------------------- super-blocks of 256 */

/* 2-bit quants: element 128 n + 32 c + i is in bits 2 c, 2 c + 1 of byte 32 n + i. */
static void two_bits(const uint8_t *q, int8_t *value) {
    for (int run = 0; run < PQ_SUPER / 32; run++) {
        for (int i = 0; i < 32; i++)
            value[32 * run + i] = (int8_t)(q[run / 4 * 32 + i] >> run % 4 * 2 & 3);
    }
}

/* 4-bit quants: element 64 n + 32 c + i is in half c of byte 32 n + i. */
static void four_bits(const uint8_t *q, int8_t *value) {
    for (int run = 0; run < PQ_SUPER / 32; run++) {
        for (int i = 0; i < 32; i++)
            value[32 * run + i] = (int8_t)(q[run / 2 * 32 + i] >> run % 2 * 4 & 15);
    }
}

/* Adds 1 << shift where bit c of byte i, of element 32 c + i, is set, and takes an offset off. */
static void add_bits(const uint8_t *high, int shift, int offset, int8_t *value) {
    for (int run = 0; run < PQ_SUPER / 32; run++) {
        for (int i = 0; i < 32; i++) {
            const int bit = (high[i] >> run & 1) << shift;
            value[32 * run + i] = (int8_t)(value[32 * run + i] + bit - offset);
        }
    }
}

static void decode_q2_k(const pq_block_q2_k *b, pq_decoded *out) {
    out->d = pq_load_f16(b->d);
    out->m = pq_load_f16(b->dmin);
    two_bits(b->q, out->value);
    for (int s = 0; s < 16; s++) {
        out->scale[s] = (int8_t)(b->scales[s] & 15);
        out->min[s] = b->scales[s] >> 4;
    }
}

/* Six-bit scales: the low four bits in halves of bytes 0..7, the high two in bytes 8..11. */
static void decode_q3_k(const pq_block_q3_k *b, pq_decoded *out) {
    out->d = pq_load_f16(b->d);
    two_bits(b->q, out->value);
    add_bits(b->high, 2, 4, out->value);
    for (int s = 0; s < 16; s++) {
        const int low = b->scales[s % 8] >> s / 8 * 4 & 15;
        const int high = b->scales[8 + s % 4] >> s / 4 * 2 & 3;
        out->scale[s] = (int8_t)((low | high << 4) - 32);
    }
}

/* Six-bit scales and minima: those of sub-blocks 0..3 in the low bits of bytes 0..3 and 4..7; those
 * of 4..7 have their low four bits in bytes 8..11 and their high two on top of bytes 0..3 and 4..7.
 */
static void scales_and_mins(const uint8_t *packed, pq_decoded *out) {
    for (int s = 0; s < 16; s++) {
        const int j = s / 2;
        const uint8_t *high = &packed[j % 4], *low = &packed[8 + j % 4];
        const int scale = j < 4 ? high[0] & 63 : (*low & 15) | high[0] >> 6 << 4;
        const int min = j < 4 ? high[4] & 63 : *low >> 4 | high[4] >> 6 << 4;
        out->scale[s] = (int8_t)scale;
        out->min[s] = (uint8_t)min;
    }
}

static void decode_q4_k(const pq_block_q4_k *b, pq_decoded *out) {
    out->d = pq_load_f16(b->d);
    out->m = pq_load_f16(b->dmin);
    scales_and_mins(b->scales, out);
    four_bits(b->q, out->value);
}

static void decode_q5_k(const pq_block_q5_k *b, pq_decoded *out) {
    out->d = pq_load_f16(b->d);
    out->m = pq_load_f16(b->dmin);
    scales_and_mins(b->scales, out);
    four_bits(b->q, out->value);
    add_bits(b->high, 4, 0, out->value);
}

/* Element 128 n + 64 h + 32 c + i: low bits in half h of low[64 n + 32 c + i], the two high bits in
 * bits 2 (2 h + c).. of high[32 n + i]. */
static void decode_q6_k(const pq_block_q6_k *b, pq_decoded *out) {
    out->d = pq_load_f16(b->d);
    memcpy(out->scale, b->scales, sizeof b->scales);
    two_bits(b->high, out->value);
    for (int run = 0; run < PQ_SUPER / 32; run++) {
        const uint8_t *low = b->low + run / 4 * 64 + run % 2 * 32;
        int8_t *value = out->value + 32 * run;
        for (int i = 0; i < 32; i++)
            value[i] = (int8_t)(((low[i] >> run / 2 % 2 * 4 & 15) | value[i] << 4) - 32);
    }
}

static void decode_iq4_xs(const pq_block_iq4_xs *b, pq_decoded *out) {
    out->d = pq_load_f16(b->d);
    const unsigned high = b->scales_high[0] | (unsigned)b->scales_high[1] << 8;
    for (int s = 0; s < 16; s++) {
        const int j = s / 2;
        const int low = b->scales_low[j / 2] >> j % 2 * 4 & 15;
        out->scale[s] = (int8_t)((low | (int)(high >> 2 * j & 3) << 4) - 32);
    }
    for (int run = 0; run < PQ_SUPER / 16; run++) {
        const uint8_t *q = b->q + run / 2 * 16;
        for (int i = 0; i < 16; i++)
            out->value[16 * run + i] = IQ4_VALUES[q[i] >> run % 2 * 4 & 15];
    }
}

void pq_decode_block(uint32_t type, const uint8_t *block, pq_decoded *out) {
    const void *b = block;
    switch (type) {
    case PQ_Q4_0:
        decode_q4_0(b, out);
        break;
    case PQ_Q4_1:
        decode_q4_1(b, out);
        break;
    case PQ_Q5_0:
        decode_q5_0(b, out);
        break;
    case PQ_Q5_1:
        decode_q5_1(b, out);
        break;
    case PQ_Q8_0:
        decode_q8_0(b, out);
        break;
    case PQ_IQ4_NL:
        decode_iq4_nl(b, out);
        break;
    case PQ_Q2_K:
        decode_q2_k(b, out);
        break;
    case PQ_Q3_K:
        decode_q3_k(b, out);
        break;
    case PQ_Q4_K:
        decode_q4_k(b, out);
        break;
    case PQ_Q5_K:
        decode_q5_k(b, out);
        break;
    case PQ_Q6_K:
        decode_q6_k(b, out);
        break;
    case PQ_IQ4_XS:
        decode_iq4_xs(b, out);
        break;
    }
}
