/* machine.c - the processor and memory that this process may use. */
#include "machine.h"

#include <string.h>

#include "pool.h"

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

/* The processor's brand as x86 processors themselves tell it: 48 characters in 12 registers. */
static void read_brand(char brand[64]) {
#if defined(__x86_64__) || defined(_M_X64)
    uint32_t words[12] = {0};
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t *w = words + 4 * i;
#if defined(_MSC_VER) && !defined(__clang__)
        __cpuid((int *)w, (int)(0x80000002u + i));
#else
        if (!__get_cpuid(0x80000002u + i, &w[0], &w[1], &w[2], &w[3]))
            return;
#endif
    }
    char text[sizeof words + 1] = {0};
    memcpy(text, words, sizeof words);
    const char *start = text + strspn(text, " ");
    size_t length = strlen(start);
    while (length > 0 && start[length - 1] == ' ')
        length--;
    memcpy(brand, start, length);
    brand[length] = '\0';
#else
    (void)brand;
#endif
}

#if !defined(__linux__) && !defined(__APPLE__) && !defined(_WIN32)
#include <unistd.h>

void pq_machine_read(pq_machine *out) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    out->logical_cores = cores > 0 ? (uint32_t)cores : 0;
}
#endif

void pq_machine_describe(pq_machine *out) {
    memset(out, 0, sizeof *out);
    pq_machine_read(out);
    if (out->cpu[0] == '\0')
        read_brand(out->cpu);
    if (out->logical_cores == 0)
        out->logical_cores = 1;
    if (out->performance_cores == 0 || out->performance_cores > out->logical_cores)
        out->performance_cores = out->logical_cores;
    /* Rounded down: a thread beyond the quota makes all of them wait for the next period. */
    if (out->cpu_quota > 0 && out->cpu_quota < (float)out->performance_cores)
        out->performance_cores = out->cpu_quota < 1 ? 1 : (uint32_t)out->cpu_quota;
}

uint32_t pq_default_threads(void) {
    pq_machine machine;
    pq_machine_describe(&machine);
    return machine.performance_cores < PQ_MAX_THREADS ? machine.performance_cores : PQ_MAX_THREADS;
}
