/* machine_windows.c - processor and memory from the Windows API; see machine.h. */
#include "machine.h"

#if defined(_WIN32)

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <stdlib.h>

typedef SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX core_info;

/* The list of physical cores, or NULL; free() it. Entries differ in size. */
static core_info *read_cores(DWORD *bytes) {
    *bytes = 0;
    GetLogicalProcessorInformationEx(RelationProcessorCore, NULL, bytes);
    core_info *cores = *bytes > 0 ? malloc(*bytes) : NULL;
    if (cores && !GetLogicalProcessorInformationEx(RelationProcessorCore, cores, bytes)) {
        free(cores);
        return NULL;
    }
    return cores;
}

static uint32_t count_bits(KAFFINITY mask) {
    uint32_t count = 0;
    for (; mask != 0; mask &= mask - 1)
        count++;
    return count;
}

/* The process's affinity mask speaks of one group of 64 processors; on machines with several,
 * everything is allowed, as Windows 11 does by default. */
static KAFFINITY read_affinity(void) {
    DWORD_PTR process = 0, system = 0;
    if (GetActiveProcessorGroupCount() > 1 ||
        !GetProcessAffinityMask(GetCurrentProcess(), &process, &system) || process == 0)
        return ~(KAFFINITY)0;
    return process;
}

/* A higher class is a faster core. The field follows Flags; older mingw headers do not name it. */
static int efficiency_class(const PROCESSOR_RELATIONSHIP *cpus) {
    return (&cpus->Flags)[1];
}

static void count_cores(pq_machine *out) {
    DWORD bytes;
    core_info *cores = read_cores(&bytes);
    if (!cores)
        return;
    KAFFINITY allowed = read_affinity();
    int best = -1;
    for (DWORD at = 0; at < bytes;) {
        const core_info *core = (const core_info *)((const char *)cores + at);
        const PROCESSOR_RELATIONSHIP *cpus = &core->Processor;
        KAFFINITY usable = cpus->GroupMask[0].Mask & allowed;
        if (usable != 0) {
            out->logical_cores += count_bits(usable);
            if (efficiency_class(cpus) > best) {
                best = efficiency_class(cpus);
                out->performance_cores = 0;
            }
            out->performance_cores += efficiency_class(cpus) == best;
        }
        at += core->Size;
    }
    free(cores);
}

void pq_machine_read(pq_machine *out) {
    count_cores(out);
    MEMORYSTATUSEX memory = {.dwLength = sizeof memory};
    if (GlobalMemoryStatusEx(&memory)) {
        out->memory_bytes = memory.ullTotalPhys;
        out->available_bytes = memory.ullAvailPhys;
    }
}

#endif
