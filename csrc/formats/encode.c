/* encode.c - see encode.h. One function per format; decode.c describes where the bits are. */
#include "encode.h"

#include <string.h>

#include "blocks.h"
#include "types.h"

static void store_f16(uint8_t *p, float x) {
    const uint16_t h = pq_f32_to_f16(x);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

/* ----------------------------------------------------------------------------------- blocks of 32 */

static void nibbles(const int8_t *value, int offset, uint8_t *q) {
    for (int i = 0; i < 16; i++)
        q[i] = (uint8_t)(((value[i] + offset) & 15) | ((value[i + 16] + offset) & 15) << 4);
}

static void fifth_bits(const int8_t *value, int offset, uint8_t *high) {
    memset(high, 0, 4);
    for (int i = 0; i < 32; i++)
        high[i / 8] |= (uint8_t)((value[i] + offset) >> 4 << i % 8);
}

static void encode_q4_0(const pq_decoded *in, pq_block_q4_0 *b) {
    store_f16(b->d, in->d);
    nibbles(in->value, 8, b->q);
}

static void encode_q4_1(const pq_decoded *in, pq_block_q4_1 *b) {
    store_f16(b->d, in->d);
    store_f16(b->m, in->m);
    nibbles(in->value, 0, b->q);
}

static void encode_q5_0(const pq_decoded *in, pq_block_q5_0 *b) {
    store_f16(b->d, in->d);
    nibbles(in->value, 16, b->q);
    fifth_bits(in->value, 16, b->high);
}

static void encode_q5_1(const pq_decoded *in, pq_block_q5_1 *b) {
    store_f16(b->d, in->d);
    store_f16(b->m, in->m);
    nibbles(in->value, 0, b->q);
    fifth_bits(in->value, 0, b->high);
}

static void encode_q8_0(const pq_decoded *in, pq_block_q8_0 *b) {
    store_f16(b->d, in->d);
    memcpy(b->q, in->value, sizeof b->q);
}

/* The place of a value in the table of the non-linear types. */
static int iq4_index(int8_t value) {
    static const int8_t VALUES[16] = PQ_IQ4_VALUES;
    int index = 0;
    for (int i = 1; i < 16; i++)
        index += value >= VALUES[i];
    return index;
}

static void encode_iq4_nl(const pq_decoded *in, pq_block_iq4_nl *b) {
    store_f16(b->d, in->d);
    for (int i = 0; i < 16; i++)
        b->q[i] = (uint8_t)(iq4_index(in->value[i]) | iq4_index(in->value[i + 16]) << 4);
}

/* ----------------------------------------------------------------------------- super-blocks of 256 */

static void store_two_bits(const uint8_t *code, uint8_t *q) {
    for (int n = 0; n < 2; n++, code += 128) {
        for (int i = 0; i < 32; i++)
            q[32 * n + i] = (uint8_t)((code[i] & 3) | (code[i + 32] & 3) << 2 |
                                      (code[i + 64] & 3) << 4 | (code[i + 96] & 3) << 6);
    }
}

static void store_four_bits(const uint8_t *code, uint8_t *q) {
    for (int n = 0; n < 4; n++, code += 64) {
        for (int i = 0; i < 32; i++)
            q[32 * n + i] = (uint8_t)((code[i] & 15) | (code[i + 32] & 15) << 4);
    }
}

/* Bit `bit` of code 32 c + i becomes bit c of high[i]. */
static void store_one_bit(const uint8_t *code, int bit, uint8_t *high) {
    memset(high, 0, 32);
    for (int c = 0; c < 8; c++) {
        for (int i = 0; i < 32; i++)
            high[i] |= (uint8_t)((code[32 * c + i] >> bit & 1) << c);
    }
}

static void codes(const pq_decoded *in, int offset, uint8_t *code) {
    for (int k = 0; k < PQ_SUPER; k++)
        code[k] = (uint8_t)(in->value[k] + offset);
}

static void encode_q2_k(const pq_decoded *in, pq_block_q2_k *b) {
    uint8_t code[PQ_SUPER];
    codes(in, 0, code);
    store_f16(b->d, in->d);
    store_f16(b->dmin, in->m);
    store_two_bits(code, b->q);
    for (int s = 0; s < 16; s++)
        b->scales[s] = (uint8_t)(in->scale[s] | in->min[s] << 4);
}

static void encode_q3_k(const pq_decoded *in, pq_block_q3_k *b) {
    uint8_t code[PQ_SUPER];
    codes(in, 4, code);
    store_f16(b->d, in->d);
    store_two_bits(code, b->q);
    store_one_bit(code, 2, b->high);
    memset(b->scales, 0, sizeof b->scales);
    for (int s = 0; s < 16; s++) {
        const int scale = in->scale[s] + 32;
        b->scales[s % 8] |= (uint8_t)((scale & 15) << s / 8 * 4);
        b->scales[8 + s % 4] |= (uint8_t)(scale >> 4 << s / 4 * 2);
    }
}

static void scales_and_mins(const pq_decoded *in, uint8_t *packed) {
    for (int j = 0; j < 4; j++) {
        const int scale = in->scale[2 * j], min = in->min[2 * j];
        const int scale4 = in->scale[2 * j + 8], min4 = in->min[2 * j + 8];
        packed[j] = (uint8_t)(scale | scale4 >> 4 << 6);
        packed[j + 4] = (uint8_t)(min | min4 >> 4 << 6);
        packed[j + 8] = (uint8_t)((scale4 & 15) | (min4 & 15) << 4);
    }
}

static void encode_q4_k(const pq_decoded *in, pq_block_q4_k *b) {
    uint8_t code[PQ_SUPER];
    codes(in, 0, code);
    store_f16(b->d, in->d);
    store_f16(b->dmin, in->m);
    scales_and_mins(in, b->scales);
    store_four_bits(code, b->q);
}

static void encode_q5_k(const pq_decoded *in, pq_block_q5_k *b) {
    uint8_t code[PQ_SUPER];
    codes(in, 0, code);
    store_f16(b->d, in->d);
    store_f16(b->dmin, in->m);
    scales_and_mins(in, b->scales);
    store_four_bits(code, b->q);
    store_one_bit(code, 4, b->high);
}

static void encode_q6_k(const pq_decoded *in, pq_block_q6_k *b) {
    uint8_t code[PQ_SUPER], high[PQ_SUPER];
    codes(in, 32, code);
    store_f16(b->d, in->d);
    memcpy(b->scales, in->scale, sizeof b->scales);
    for (int n = 0; n < 2; n++) {
        for (int i = 0; i < 64; i++)
            b->low[64 * n + i] =
                (uint8_t)((code[128 * n + i] & 15) | (code[128 * n + 64 + i] & 15) << 4);
    }
    for (int k = 0; k < PQ_SUPER; k++)
        high[k] = code[k] >> 4;
    store_two_bits(high, b->high);
}

static void encode_iq4_xs(const pq_decoded *in, pq_block_iq4_xs *b) {
    store_f16(b->d, in->d);
    memset(b->scales_high, 0, sizeof b->scales_high);
    memset(b->scales_low, 0, sizeof b->scales_low);
    for (int j = 0; j < 8; j++) {
        const int scale = in->scale[2 * j] + 32;
        b->scales_low[j / 2] |= (uint8_t)((scale & 15) << j % 2 * 4);
        b->scales_high[j / 4] |= (uint8_t)(scale >> 4 << j % 4 * 2);
        for (int i = 0; i < 16; i++) {
            const int low = iq4_index(in->value[32 * j + i]);
            b->q[16 * j + i] = (uint8_t)(low | iq4_index(in->value[32 * j + 16 + i]) << 4);
        }
    }
}

void pq_encode_block(uint32_t type, const pq_decoded *in, uint8_t *block) {
    void *b = block;
    switch (type) {
    case PQ_Q4_0:
        encode_q4_0(in, b);
        break;
    case PQ_Q4_1:
        encode_q4_1(in, b);
        break;
    case PQ_Q5_0:
        encode_q5_0(in, b);
        break;
    case PQ_Q5_1:
        encode_q5_1(in, b);
        break;
    case PQ_Q8_0:
        encode_q8_0(in, b);
        break;
    case PQ_IQ4_NL:
        encode_iq4_nl(in, b);
        break;
    case PQ_Q2_K:
        encode_q2_k(in, b);
        break;
    case PQ_Q3_K:
        encode_q3_k(in, b);
        break;
    case PQ_Q4_K:
        encode_q4_k(in, b);
        break;
    case PQ_Q5_K:
        encode_q5_k(in, b);
        break;
    case PQ_Q6_K:
        encode_q6_k(in, b);
        break;
    case PQ_IQ4_XS:
        encode_iq4_xs(in, b);
        break;
    }
}
