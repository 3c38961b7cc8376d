/* q8_0.c - Q8_0: eight bits, a scale for 32. */
#include "bits.h"

static void decode(const void *block, pq_decoded *out) {
    const pq_block_q8_0 *b = block;
    out->d = pq_load_f16(b->d);
    memcpy(out->value, b->q, sizeof b->q);
}

static void encode(const pq_decoded *in, void *block) {
    pq_block_q8_0 *b = block;
    put_f16(b->d, in->d);
    memcpy(b->q, in->value, sizeof b->q);
}

const pq_format pq_format_q8_0 = {
    .name = "Q8_0",
    .block = 32,
    .bytes = sizeof(pq_block_q8_0),
    .family = PQ_FAMILY_BLOCK,
    .members = {PQ_NUMBER(pq_block_q8_0, d), PQ_MEMBER(pq_block_q8_0, q)},
    .low = -127,
    .high = 127,
    .decode = decode,
    .encode = encode,
};
