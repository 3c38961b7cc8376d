/* int8_ceiling.c - how many products of int8 this machine does per second: the bound of reading prompts. */
#include "int8_ceiling.h"

#include <string.h>

#include "../base/pool.h"
#include "../base/thread.h"
#include "../pyqwen.h"

enum {
    ROUNDS = 4096,     /* of one chunk: about a millisecond */
    THREAD_CHUNKS = 8, /* for each thread, to share fairly */
    PASSES = 8,
};

static const struct {
    const char *isa;
    pq_int8_products_fn multiply;
} loops[] = {
#ifdef PQ_HAVE_X86_AMX
    {"amx", pq_int8_products_amx},
#endif
#ifdef PQ_HAVE_X86_AVX512VNNI
    {"avx512vnni", pq_int8_products_avx512vnni},
#endif
#ifdef PQ_HAVE_X86_AVXVNNI
    {"avxvnni", pq_int8_products_avxvnni},
#endif
#ifdef PQ_HAVE_X86_AVX2
    {"avx2", pq_int8_products_avx2},
#endif
#ifdef PQ_HAVE_ARM_I8MM
    {"i8mm", pq_int8_products_i8mm},
#endif
#ifdef PQ_HAVE_ARM_NEON
    {"dotprod", pq_int8_products_dotprod},
    {"neon", pq_int8_products_neon},
#endif
    {NULL, NULL},
};

typedef struct measurement {
    pq_int8_products_fn multiply;
    atomic_int_least32_t sum; /* makes the products count */
    atomic_size_t round_products;
} measurement;

static void multiply_chunk(void *arg, size_t chunk, unsigned thread) {
    measurement *m = arg;
    _Alignas(64) int8_t operands[PQ_CEILING_BYTES];
    int32_t sum = 0;
    (void)thread;
    memset(operands, (int)(chunk % 7) + 1, sizeof operands);
    const size_t products = m->multiply(operands, ROUNDS, &sum);
    atomic_store_explicit(&m->round_products, products, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->sum, sum, memory_order_relaxed);
}

static pq_status measure(pq_int8_products_fn multiply, uint32_t threads, double *out,
                         pq_error *err) {
    measurement m = {.multiply = multiply};
    const size_t chunks = (size_t)threads * THREAD_CHUNKS;
    double best = 0;
    pq_status status = PQ_OK;
    for (int pass = 0; pass < PASSES && status == PQ_OK; pass++) {
        const int64_t start = pq_monotonic_ns();
        status = pq_pool_run(threads, chunks, multiply_chunk, &m, NULL, err);
        const int64_t elapsed = pq_monotonic_ns() - start;
        const double products = (double)chunks * ROUNDS * (double)m.round_products;
        const double rate = products * 1e9 / (double)(elapsed > 0 ? elapsed : 1);
        best = rate > best ? rate : best;
    }
    if (status == PQ_OK)
        *out = best;
    return status;
}

pq_status pq_measure_int8(const char *isa, uint32_t threads, double *out, pq_error *err) {
    if (threads == 0 || threads > PQ_MAX_THREADS)
        return pq_fail(err, PQ_ERR_ARGUMENT, "threads must be 1 to %d, not %u", PQ_MAX_THREADS,
                       threads);
    for (size_t i = 0; loops[i].isa; i++)
        if (strcmp(loops[i].isa, isa) == 0 && pq_isa_available(isa))
            return measure(loops[i].multiply, threads, out, err);
    return pq_fail(err, PQ_ERR_ARGUMENT,
                   "instruction set '%.40s': its ceiling of int8 products cannot be measured here, "
                   "as it is unknown, not available, or has no such products",
                   isa);
}
