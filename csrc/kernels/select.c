/* select.c - the choice among the tables of kernels (kernels.c of each folder) that were compiled in. Knows what the
 * processor and the operating system allow; knows nothing of what the kernels do. */
#include "kernels.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "../base/status.h"

#if defined(PQ_HAVE_X86_AMX) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#ifdef PQ_HAVE_X86_AVX2
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

#ifdef PQ_HAVE_ARM_NEON
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(_WIN32)
#include <windows.h>
#endif
#endif

extern const pq_kernels pq_kernels_scalar;
extern const pq_kernels pq_kernels_avx2, pq_kernels_avxvnni, pq_kernels_avx512vnni, pq_kernels_amx;
extern const pq_kernels pq_kernels_neon, pq_kernels_dotprod, pq_kernels_i8mm;

/* --------------------------------------------------------------------------------------- availability */

static int always(void) {
    return 1;
}

#ifdef PQ_HAVE_X86_AVX2

enum { EAX, EBX, ECX, EDX };

/* Registers of a CPUID leaf's part; all 0 where the processor does not have it. */
static void cpuid(uint32_t leaf, uint32_t part, uint32_t registers[4]) {
    memset(registers, 0, 4 * sizeof registers[0]);
#ifdef _MSC_VER
    int r[4];
    __cpuid(r, 0);
    if (leaf > (uint32_t)r[EAX])
        return;
    __cpuidex(r, (int)leaf, (int)part);
    memcpy(registers, r, sizeof r);
#else
    __get_cpuid_count(leaf, part, &registers[EAX], &registers[EBX], &registers[ECX],
                      &registers[EDX]);
#endif
}

/* The register states that the operating system saves (XCR0); only where CPUID reports OSXSAVE. */
static uint32_t saved_states(void) {
#ifdef _MSC_VER
    return (uint32_t)_xgetbv(0);
#else
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
#endif
}

static int has(uint32_t value, uint32_t bits) {
    return (value & bits) == bits;
}

static int avx2_available(void) {
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, AVX = 1 << 28, F16C = 1 << 29, AVX2 = 1 << 5 };
    enum { XMM = 1 << 1, YMM = 1 << 2 };
    uint32_t basic[4], extended[4];
    cpuid(1, 0, basic);
    cpuid(7, 0, extended);
    return has(basic[ECX], FMA | OSXSAVE | AVX | F16C) && has(extended[EBX], AVX2) &&
           has(saved_states(), XMM | YMM);
}

#ifdef PQ_HAVE_X86_AVXVNNI
static int avxvnni_available(void) {
    enum { AVXVNNI = 1 << 4 };
    uint32_t extended[4], more[4];
    cpuid(7, 0, extended);
    if (extended[EAX] < 1) /* the highest part of leaf 7 */
        return 0;
    cpuid(7, 1, more);
    return avx2_available() && has(more[EAX], AVXVNNI);
}
#endif

#ifdef PQ_HAVE_X86_AVX512VNNI
static int avx512vnni_available(void) {
    enum { F = 1 << 16, DQ = 1 << 17, BW = 1 << 30, VNNI = 1 << 11 };
    enum { MASKS = 1 << 5, ZMM_UPPER = 1 << 6, ZMM_MORE = 1 << 7 };
    const uint32_t vl = 1u << 31;
    uint32_t extended[4];
    cpuid(7, 0, extended);
    return avx2_available() && has(extended[EBX], F | DQ | BW | vl) && has(extended[ECX], VNNI) &&
           has(saved_states(), MASKS | ZMM_UPPER | ZMM_MORE);
}
#endif

#ifdef PQ_HAVE_X86_AMX

/* Tiles are 8 KB of registers that Linux saves only for programs which ask: linux/Documentation/arch/x86/xstate.rst.
 * Threads that are started later inherit the permission; asking again does no harm. */
static int tiles_permitted(void) {
#if defined(__linux__)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return 1;
#endif
}

static int amx_available(void) {
    enum { TILE = 1 << 24, INT8 = 1 << 25 };
    enum { TILE_CONFIG = 1 << 17, TILE_DATA = 1 << 18 };
    uint32_t extended[4];
    cpuid(7, 0, extended);
    return avx512vnni_available() && has(extended[EDX], TILE | INT8) &&
           has(saved_states(), TILE_CONFIG | TILE_DATA) && tiles_permitted();
}
#endif

#endif

#ifdef PQ_HAVE_ARM_NEON

/* Only the operating system can say. The numbers are spelled out because old headers lack the names. */

static int dotprod_available(void) {
#if defined(__linux__)
    enum { ASIMDDP = 1 << 20 }; /* HWCAP_ASIMDDP */
    return (getauxval(AT_HWCAP) & ASIMDDP) != 0;
#elif defined(__APPLE__)
    int yes = 0;
    size_t size = sizeof yes;
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &yes, &size, NULL, 0) == 0 && yes;
#elif defined(_WIN32)
    enum { V82_DP = 43 }; /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE */
    return IsProcessorFeaturePresent(V82_DP) != 0;
#else
    return 0;
#endif
}

#ifdef PQ_HAVE_ARM_I8MM
static int i8mm_available(void) {
    if (!dotprod_available())
        return 0;
#if defined(__linux__)
    enum { I8MM = 1 << 13 }; /* HWCAP2_I8MM */
    return (getauxval(AT_HWCAP2) & I8MM) != 0;
#elif defined(__APPLE__)
    int yes = 0;
    size_t size = sizeof yes;
    return sysctlbyname("hw.optional.arm.FEAT_I8MM", &yes, &size, NULL, 0) == 0 && yes;
#elif defined(_WIN32)
    enum { V82_I8MM = 66 }; /* PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE */
    return IsProcessorFeaturePresent(V82_I8MM) != 0;
#else
    return 0;
#endif
}
#endif

#endif

/* ----------------------------------------------------------------------------------------- the choice */

/* Best first. What was only emulated so far is used where it is named: another set is the default, so that
 * nobody is the first to run it without knowing. NEON is the exception, which has no other beside it that
 * ran on an Arm processor, and which every one of them has. */
static const struct {
    const pq_kernels *table;
    int (*available)(void);
    int by_name; /* never the default */
} choices[] = {
#ifdef PQ_HAVE_X86_AMX
    {&pq_kernels_amx, amx_available, 0},
#endif
#ifdef PQ_HAVE_X86_AVX512VNNI
    {&pq_kernels_avx512vnni, avx512vnni_available, 0},
#endif
#ifdef PQ_HAVE_X86_AVXVNNI
    {&pq_kernels_avxvnni, avxvnni_available, 0},
#endif
#ifdef PQ_HAVE_X86_AVX2
    {&pq_kernels_avx2, avx2_available, 0},
#endif
#ifdef PQ_HAVE_ARM_NEON
#ifdef PQ_HAVE_ARM_I8MM
    {&pq_kernels_i8mm, i8mm_available, 1},
#endif
    {&pq_kernels_dotprod, dotprod_available, 1},
    {&pq_kernels_neon, always, 0},
#endif
    {&pq_kernels_scalar, always, 0},
};

enum { CHOICES = sizeof choices / sizeof choices[0] };

/* The answer does not change, and each question takes 20 microseconds in a virtual machine, which CPUID leaves. */
static int is_available(size_t choice) {
    enum { UNKNOWN, NO, YES };
    static atomic_int answers[CHOICES];
    int answer = atomic_load_explicit(&answers[choice], memory_order_relaxed);
    if (answer == UNKNOWN) {
        answer = choices[choice].available() ? YES : NO;
        atomic_store_explicit(&answers[choice], answer, memory_order_relaxed);
    }
    return answer == YES;
}

const char *pq_isa_name(uint32_t index) {
    return index < CHOICES ? choices[index].table->isa : NULL;
}

int pq_isa_available(const char *name) {
    for (size_t i = 0; name && i < CHOICES; i++) {
        if (strcmp(choices[i].table->isa, name) == 0)
            return is_available(i);
    }
    return 0;
}

const char *pq_isa_summary(const char *name) {
    for (size_t i = 0; name && i < CHOICES; i++) {
        if (strcmp(choices[i].table->isa, name) == 0)
            return choices[i].table->summary;
    }
    return NULL;
}

const char *pq_isa_default(void) {
    size_t i = 0;
    while (choices[i].by_name || !is_available(i)) /* scalar is always there */
        i++;
    return choices[i].table->isa;
}

pq_status pq_kernels_select(const pq_kernels **out, const char *isa, pq_error *err) {
    char names[128] = "";
    size_t used = 0;
    int compiled_in = 0;
    if (!isa)
        isa = pq_isa_default();
    for (size_t i = 0; i < CHOICES; i++) {
        const pq_kernels *table = choices[i].table;
        const int named = strcmp(table->isa, isa) == 0;
        compiled_in |= named;
        if (!is_available(i))
            continue;
        if (named) {
            *out = table;
            return PQ_OK;
        }
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                                 table->isa);
    }
    return pq_fail(err, PQ_ERR_ARGUMENT,
                   compiled_in
                       ? "instruction set '%.40s' is not supported by this processor or its "
                         "operating system; there are: %s"
                       : "unknown instruction set '%.40s'; there are: %s",
                   isa, names);
}
