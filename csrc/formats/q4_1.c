/* q4_1.c - Q4_1: four bits from a minimum on, a scale for 32. */
#include "bits.h"

static void decode(const void *block, pq_decoded *out) {
    const pq_block_q4_1 *b = block;
    out->d = pq_load_f16(b->d);
    out->m = pq_load_f16(b->m);
    get_nibbles(b->q, 0, out->value);
}

static void encode(const pq_decoded *in, void *block) {
    pq_block_q4_1 *b = block;
    put_f16(b->d, in->d);
    put_f16(b->m, in->m);
    put_nibbles(in->value, 0, b->q);
}

const pq_format pq_format_q4_1 = {
    .name = "Q4_1",
    .block = 32,
    .bytes = sizeof(pq_block_q4_1),
    .family = PQ_FAMILY_BLOCK_MIN,
    .members = {PQ_NUMBER(pq_block_q4_1, d), PQ_NUMBER(pq_block_q4_1, m),
                PQ_MEMBER(pq_block_q4_1, q)},
    .low = 0,
    .high = 15,
    .decode = decode,
    .encode = encode,
};
