/* q5_k.c - Q5_K: five bits from a minimum on, scales and minima of six bits for 32. */
#include "bits.h"

static void decode(const void *block, pq_decoded *out) {
    const pq_block_q5_k *b = block;
    out->d = pq_load_f16(b->d);
    out->m = pq_load_f16(b->dmin);
    get_scales_and_minima(b->scales, out);
    get_four_bits(b->q, out->value);
    get_high_bit(b->high, 4, 0, out->value);
}

static void encode(const pq_decoded *in, void *block) {
    pq_block_q5_k *b = block;
    uint8_t code[PQ_SUPER];
    codes_of(in, 0, code);
    put_f16(b->d, in->d);
    put_f16(b->dmin, in->m);
    put_scales_and_minima(in, b->scales);
    put_four_bits(code, b->q);
    put_high_bit(code, 4, b->high);
}

const pq_format pq_format_q5_k = {
    .name = "Q5_K",
    .block = PQ_SUPER,
    .bytes = sizeof(pq_block_q5_k),
    .family = PQ_FAMILY_SUPER_MIN,
    .members = {PQ_NUMBER(pq_block_q5_k, d), PQ_NUMBER(pq_block_q5_k, dmin),
                PQ_MEMBER(pq_block_q5_k, scales), PQ_MEMBER(pq_block_q5_k, high),
                PQ_MEMBER(pq_block_q5_k, q)},
    .low = 0,
    .high = 31,
    .sub = 32,
    .scale_low = 0,
    .scale_high = 63,
    .decode = decode,
    .encode = encode,
};
