/* iq4_nl.c - IQ4_NL: four bits that stand for values closer together around 0, a scale for 32. */
#include "bits.h"

static void decode(const void *block, pq_decoded *out) {
    const pq_block_iq4_nl *b = block;
    out->d = pq_load_f16(b->d);
    get_nonlinear(b->q, out->value);
}

static void encode(const pq_decoded *in, void *block) {
    pq_block_iq4_nl *b = block;
    put_f16(b->d, in->d);
    put_nonlinear(in->value, b->q);
}

const pq_format pq_format_iq4_nl = {
    .name = "IQ4_NL",
    .block = 32,
    .bytes = sizeof(pq_block_iq4_nl),
    .family = PQ_FAMILY_BLOCK,
    .members = {PQ_NUMBER(pq_block_iq4_nl, d), PQ_MEMBER(pq_block_iq4_nl, q)},
    .low = -127,
    .high = 113,
    .nonlinear = 1,
    .decode = decode,
    .encode = encode,
};
