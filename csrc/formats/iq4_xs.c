/* iq4_xs.c - IQ4_XS: four bits that stand for values closer together around 0, scales of six bits for 32. */
#include "bits.h"

static void decode(const void *block, pq_decoded *out) {
    const pq_block_iq4_xs *b = block;
    out->d = pq_load_f16(b->d);
    const unsigned high = b->scales_high[0] | (unsigned)b->scales_high[1] << 8;
    for (int s = 0; s < 16; s++) {
        const int j = s / 2;
        const int low = b->scales_low[j / 2] >> j % 2 * 4 & 15;
        out->scale[s] = (int8_t)((low | (int)(high >> 2 * j & 3) << 4) - 32);
    }
    for (int run = 0; run < PQ_SUPER / 32; run++)
        get_nonlinear(b->q + 16 * run, out->value + 32 * run);
}

static void encode(const pq_decoded *in, void *block) {
    pq_block_iq4_xs *b = block;
    put_f16(b->d, in->d);
    memset(b->scales_high, 0, sizeof b->scales_high);
    memset(b->scales_low, 0, sizeof b->scales_low);
    for (int j = 0; j < 8; j++) {
        const int scale = in->scale[2 * j] + 32;
        b->scales_low[j / 2] |= (uint8_t)((scale & 15) << j % 2 * 4);
        b->scales_high[j / 4] |= (uint8_t)(scale >> 4 << j % 4 * 2);
        put_nonlinear(in->value + 32 * j, b->q + 16 * j);
    }
}

const pq_format pq_format_iq4_xs = {
    .name = "IQ4_XS",
    .block = PQ_SUPER,
    .bytes = sizeof(pq_block_iq4_xs),
    .family = PQ_FAMILY_SUPER,
    .members = {PQ_NUMBER(pq_block_iq4_xs, d), PQ_NUMBER(pq_block_iq4_xs, scales_high),
                PQ_MEMBER(pq_block_iq4_xs, scales_low), PQ_MEMBER(pq_block_iq4_xs, q)},
    .low = -127,
    .high = 113,
    .nonlinear = 1,
    .sub = 32,
    .scale_low = -32,
    .scale_high = 31,
    .decode = decode,
    .encode = encode,
};
