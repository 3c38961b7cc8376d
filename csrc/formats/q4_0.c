/* q4_0.c - Q4_0: four bits around 0, a scale for 32. */
#include "bits.h"

static void decode(const void *block, pq_decoded *out) {
    const pq_block_q4_0 *b = block;
    out->d = pq_load_f16(b->d);
    get_nibbles(b->q, 8, out->value);
}

static void encode(const pq_decoded *in, void *block) {
    pq_block_q4_0 *b = block;
    put_f16(b->d, in->d);
    put_nibbles(in->value, 8, b->q);
}

const pq_format pq_format_q4_0 = {
    .name = "Q4_0",
    .block = 32,
    .bytes = sizeof(pq_block_q4_0),
    .family = PQ_FAMILY_BLOCK,
    .members = {PQ_NUMBER(pq_block_q4_0, d), PQ_MEMBER(pq_block_q4_0, q)},
    .low = -8,
    .high = 7,
    .decode = decode,
    .encode = encode,
};
