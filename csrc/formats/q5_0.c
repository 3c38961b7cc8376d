/* q5_0.c - Q5_0: five bits around 0, a scale for 32. */
#include "bits.h"

static void decode(const void *block, pq_decoded *out) {
    const pq_block_q5_0 *b = block;
    out->d = pq_load_f16(b->d);
    get_five_bits(b->q, b->high, 16, out->value);
}

static void encode(const pq_decoded *in, void *block) {
    pq_block_q5_0 *b = block;
    put_f16(b->d, in->d);
    put_five_bits(in->value, 16, b->q, b->high);
}

const pq_format pq_format_q5_0 = {
    .name = "Q5_0",
    .block = 32,
    .bytes = sizeof(pq_block_q5_0),
    .family = PQ_FAMILY_BLOCK,
    .members = {PQ_NUMBER(pq_block_q5_0, d), PQ_MEMBER(pq_block_q5_0, high),
                PQ_MEMBER(pq_block_q5_0, q)},
    .fifth_bits = offsetof(pq_block_q5_0, high),
    .low = -16,
    .high = 15,
    .decode = decode,
    .encode = encode,
};
