/* q6_k.c - Q6_K: six bits around 0, scales of eight bits for 16. */
#include "bits.h"

/* Element 128 n + 64 h + 32 c + i: low bits in half h of low[64 n + 32 c + i], the two high bits in
 * bits 2 (2 h + c).. of high[32 n + i]. */
static void decode(const void *block, pq_decoded *out) {
    const pq_block_q6_k *b = block;
    out->d = pq_load_f16(b->d);
    memcpy(out->scale, b->scales, sizeof b->scales);
    get_two_bits(b->high, out->value);
    for (int run = 0; run < PQ_SUPER / 32; run++) {
        const uint8_t *low = b->low + run / 4 * 64 + run % 2 * 32;
        int8_t *value = out->value + 32 * run;
        for (int i = 0; i < 32; i++)
            value[i] = (int8_t)(((low[i] >> run / 2 % 2 * 4 & 15) | value[i] << 4) - 32);
    }
}

static void encode(const pq_decoded *in, void *block) {
    pq_block_q6_k *b = block;
    uint8_t code[PQ_SUPER], high[PQ_SUPER];
    codes_of(in, 32, code);
    put_f16(b->d, in->d);
    memcpy(b->scales, in->scale, sizeof b->scales);
    for (int n = 0; n < 2; n++) {
        for (int i = 0; i < 64; i++)
            b->low[64 * n + i] =
                (uint8_t)((code[128 * n + i] & 15) | (code[128 * n + 64 + i] & 15) << 4);
    }
    for (int k = 0; k < PQ_SUPER; k++)
        high[k] = code[k] >> 4;
    put_two_bits(high, b->high);
}

const pq_format pq_format_q6_k = {
    .name = "Q6_K",
    .block = PQ_SUPER,
    .bytes = sizeof(pq_block_q6_k),
    .family = PQ_FAMILY_SUPER,
    .members = {PQ_MEMBER(pq_block_q6_k, low), PQ_MEMBER(pq_block_q6_k, high),
                PQ_MEMBER(pq_block_q6_k, scales), PQ_NUMBER(pq_block_q6_k, d)},
    .low = -32,
    .high = 31,
    .sub = 16,
    .scale_low = -128,
    .scale_high = 127,
    .decode = decode,
    .encode = encode,
};
