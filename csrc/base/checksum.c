/* checksum.c - see checksum.h. FNV-1a's step (xor, multiply by an odd number) on words of 8 bytes, with a
 * rotation that brings high bits down again; 8 chains side by side, because a multiplication takes several
 * cycles and one can begin in each. Each step is a bijection, so that no change gets lost in its chain.
 */
#include "checksum.h"

#include <string.h>

enum { CHAINS = 8, STRIPE = CHAINS * 8 };

#define PRIME UINT64_C(0x9e3779b97f4a7c15)

static inline uint64_t step(uint64_t chain, uint64_t word) {
    chain = (chain ^ word) * PRIME;
    return chain << 29 | chain >> 35;
}

static void add_stripe(uint64_t chains[CHAINS], const uint8_t *stripe) {
    uint64_t words[CHAINS];
    memcpy(words, stripe, sizeof words);
    for (int i = 0; i < CHAINS; i++)
        chains[i] = step(chains[i], words[i]);
}

uint64_t pq_checksum(uint64_t seed, const void *data, size_t bytes) {
    const uint8_t *at = data;
    uint64_t chains[CHAINS];
    for (uint64_t i = 0; i < CHAINS; i++)
        chains[i] = step(seed, i);
    for (size_t left = bytes; left > 0;) {
        if (left >= STRIPE) {
            add_stripe(chains, at);
            at += STRIPE;
            left -= STRIPE;
        } else {
            uint8_t last[STRIPE] = {0};
            memcpy(last, at, left);
            add_stripe(chains, last);
            left = 0;
        }
    }
    uint64_t sum = step(seed, bytes);
    for (int i = 0; i < CHAINS; i++)
        sum = step(sum, chains[i]);
    return sum ^ sum >> 32;
}
