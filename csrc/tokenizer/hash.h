/* hash.h - SipHash-1-3 (Aumasson and Bernstein 2012), keyed anew for each vocabulary, so that no file can be
 * made whose tokens all fall into one place of a table. What is looked up does not depend on the key. */
#ifndef PQ_HASH_H
#define PQ_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct pq_hash_key {
    uint64_t a, b;
} pq_hash_key;

/* Another one at every call. */
pq_hash_key pq_new_hash_key(void);

static inline uint64_t pq_rotate(uint64_t x, int bits) {
    return x << bits | x >> (64 - bits);
}

static inline void pq_sip_round(uint64_t v[4]) {
    v[0] += v[1];
    v[2] += v[3];
    v[1] = pq_rotate(v[1], 13) ^ v[0];
    v[3] = pq_rotate(v[3], 16) ^ v[2];
    v[0] = pq_rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = pq_rotate(v[1], 17) ^ v[2];
    v[3] = pq_rotate(v[3], 21) ^ v[0];
    v[2] = pq_rotate(v[2], 32);
}

static inline uint64_t pq_hash(const pq_hash_key *key, const void *data, size_t bytes) {
    uint64_t v[4] = {key->a ^ UINT64_C(0x736f6d6570736575), key->b ^ UINT64_C(0x646f72616e646f6d),
                     key->a ^ UINT64_C(0x6c7967656e657261), key->b ^ UINT64_C(0x7465646279746573)};
    const uint8_t *p = data;
    uint64_t word;
    for (size_t left = bytes; left >= 8; left -= 8, p += 8) {
        memcpy(&word, p, 8);
        v[3] ^= word;
        pq_sip_round(v);
        v[0] ^= word;
    }
    word = (uint64_t)bytes << 56;
    for (size_t i = 0; i < bytes % 8; i++)
        word |= (uint64_t)p[i] << (8 * i);
    v[3] ^= word;
    pq_sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xFF;
    for (int i = 0; i < 3; i++)
        pq_sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
