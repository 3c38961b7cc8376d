/* q2_k.c - Q2_K: two bits from a minimum on, scales and minima of four bits for 16. */
#include "bits.h"

static void decode(const void *block, pq_decoded *out) {
    const pq_block_q2_k *b = block;
    out->d = pq_load_f16(b->d);
    out->m = pq_load_f16(b->dmin);
    get_two_bits(b->q, out->value);
    for (int s = 0; s < 16; s++) {
        out->scale[s] = (int8_t)(b->scales[s] & 15);
        out->min[s] = b->scales[s] >> 4;
    }
}

static void encode(const pq_decoded *in, void *block) {
    pq_block_q2_k *b = block;
    uint8_t code[PQ_SUPER];
    codes_of(in, 0, code);
    put_f16(b->d, in->d);
    put_f16(b->dmin, in->m);
    put_two_bits(code, b->q);
    for (int s = 0; s < 16; s++)
        b->scales[s] = (uint8_t)(in->scale[s] | in->min[s] << 4);
}

const pq_format pq_format_q2_k = {
    .name = "Q2_K",
    .block = PQ_SUPER,
    .bytes = sizeof(pq_block_q2_k),
    .family = PQ_FAMILY_SUPER_MIN,
    .members = {PQ_MEMBER(pq_block_q2_k, scales), PQ_MEMBER(pq_block_q2_k, q),
                PQ_NUMBER(pq_block_q2_k, d), PQ_NUMBER(pq_block_q2_k, dmin)},
    .low = 0,
    .high = 3,
    .sub = 16,
    .scale_low = 0,
    .scale_high = 15,
    .decode = decode,
    .encode = encode,
};
