/* bandwidth.c - how fast this machine reads memory: the bound of decoding. */
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "thread.h"

enum {
    CHUNK_WORDS = 1
        << 17,  /* 1 MiB: long enough for the prefetchers, short enough to share fairly */
    LANES = 32, /* independent sums, so that the additions never wait for each other */
    PASSES = 8,
};

typedef struct region {
    uint64_t *words;
    size_t chunks;
    atomic_uint_least64_t sum; /* makes the reads count */
} region;

static void touch_chunk(void *arg, size_t chunk, unsigned thread) {
    (void)thread;
    memset(((region *)arg)->words + chunk * CHUNK_WORDS, 1, CHUNK_WORDS * sizeof(uint64_t));
}

static void read_chunk(void *arg, size_t chunk, unsigned thread) {
    (void)thread;
    region *r = arg;
    const uint64_t *words = r->words + chunk * CHUNK_WORDS;
    uint64_t sums[LANES] = {0};
    for (size_t i = 0; i < CHUNK_WORDS; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            sums[lane] += words[i + lane];
    uint64_t total = 0;
    for (size_t lane = 0; lane < LANES; lane++)
        total += sums[lane];
    atomic_fetch_add_explicit(&r->sum, total, memory_order_relaxed);
}

static pq_status measure(region *r, uint32_t threads, double *out, pq_error *err) {
    pq_status status = pq_pool_run(threads, r->chunks, touch_chunk, r, NULL, err);
    double best = 0;
    for (int pass = 0; pass < PASSES && status == PQ_OK; pass++) {
        int64_t start = pq_monotonic_ns();
        status = pq_pool_run(threads, r->chunks, read_chunk, r, NULL, err);
        int64_t elapsed = pq_monotonic_ns() - start;
        double rate = (double)(r->chunks * CHUNK_WORDS * sizeof(uint64_t)) * 1e9 /
                      (double)(elapsed > 0 ? elapsed : 1);
        best = rate > best ? rate : best;
    }
    if (status == PQ_OK)
        *out = best;
    return status;
}

pq_status pq_measure_bandwidth(uint32_t threads, uint64_t bytes, double *out, pq_error *err) {
    if (threads == 0 || threads > PQ_MAX_THREADS)
        return pq_fail(err, PQ_ERR_ARGUMENT, "threads must be 1 to %d, not %u", PQ_MAX_THREADS,
                       threads);
    const uint64_t chunk_bytes = CHUNK_WORDS * sizeof(uint64_t);
    if (bytes < chunk_bytes)
        return pq_fail(err, PQ_ERR_ARGUMENT, "bytes must be at least %llu, not %llu",
                       (unsigned long long)chunk_bytes, (unsigned long long)bytes);
    region r = {.chunks = (size_t)(bytes / chunk_bytes)};
    r.words = bytes <= SIZE_MAX ? malloc(r.chunks * (size_t)chunk_bytes) : NULL;
    if (!r.words)
        return pq_fail_memory(err, "measuring the memory bandwidth", bytes);
    pq_status status = measure(&r, threads, out, err);
    free(r.words);
    return status;
}
