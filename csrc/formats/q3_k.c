/* q3_k.c - Q3_K: three bits around 0, scales of six bits for 16. */
#include "bits.h"

/* Six-bit scales: the low four bits in halves of bytes 0..7, the high two in bytes 8..11. */
static void decode(const void *block, pq_decoded *out) {
    const pq_block_q3_k *b = block;
    out->d = pq_load_f16(b->d);
    get_two_bits(b->q, out->value);
    get_high_bit(b->high, 2, 4, out->value);
    for (int s = 0; s < 16; s++) {
        const int low = b->scales[s % 8] >> s / 8 * 4 & 15;
        const int high = b->scales[8 + s % 4] >> s / 4 * 2 & 3;
        out->scale[s] = (int8_t)((low | high << 4) - 32);
    }
}

static void encode(const pq_decoded *in, void *block) {
    pq_block_q3_k *b = block;
    uint8_t code[PQ_SUPER];
    codes_of(in, 4, code);
    put_f16(b->d, in->d);
    put_two_bits(code, b->q);
    put_high_bit(code, 2, b->high);
    memset(b->scales, 0, sizeof b->scales);
    for (int s = 0; s < 16; s++) {
        const int scale = in->scale[s] + 32;
        b->scales[s % 8] |= (uint8_t)((scale & 15) << s / 8 * 4);
        b->scales[8 + s % 4] |= (uint8_t)(scale >> 4 << s / 4 * 2);
    }
}

const pq_format pq_format_q3_k = {
    .name = "Q3_K",
    .block = PQ_SUPER,
    .bytes = sizeof(pq_block_q3_k),
    .family = PQ_FAMILY_SUPER,
    .members = {PQ_MEMBER(pq_block_q3_k, high), PQ_MEMBER(pq_block_q3_k, q),
                PQ_MEMBER(pq_block_q3_k, scales), PQ_NUMBER(pq_block_q3_k, d)},
    .low = -4,
    .high = 3,
    .sub = 16,
    .scale_low = -32,
    .scale_high = 31,
    .decode = decode,
    .encode = encode,
};
