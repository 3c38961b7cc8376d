/* hash.c - see hash.h. */
#include "hash.h"

#include <stdatomic.h>

#include "../base/thread.h"

static atomic_uint_fast64_t calls;

pq_hash_key pq_new_hash_key(void) {
    /* Where the loader put this program, how long the machine runs: a file's author knows neither. */
    const pq_hash_key seed = {(uint64_t)(uintptr_t)&calls ^ (uint64_t)pq_monotonic_ns() << 16,
                              (uint64_t)(uintptr_t)&seed};
    const uint64_t n = atomic_fetch_add(&calls, 1) * 2;
    const uint64_t numbers[] = {n, n + 1};
    return (pq_hash_key){pq_hash(&seed, &numbers[0], sizeof *numbers),
                         pq_hash(&seed, &numbers[1], sizeof *numbers)};
}
