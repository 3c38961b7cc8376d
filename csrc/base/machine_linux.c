/* machine_linux.c - processor and memory from /proc, /sys and control groups; see machine.h. */
#include "machine.h"

#if defined(__linux__)

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CPUS = 8192, PATH_ROOM = 1024, FILE_ROOM = 16384 };

/* Reads the beginning of a small text file into `text`, NUL-terminated. */
static bool read_text(char text[FILE_ROOM], const char *path) {
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t n = fread(text, 1, FILE_ROOM - 1, file);
    text[n] = '\0';
    bool good = !ferror(file);
    fclose(file);
    return good && n > 0;
}

static bool read_file_in(char text[FILE_ROOM], const char *directory, const char *name) {
    char path[PATH_ROOM + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return read_text(text, path);
}

/* The number after `label` at the start of a line ("MemTotal:", "inactive_file"). */
static bool find_number(const char *text, const char *label, uint64_t *out) {
    size_t n = strlen(label);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, label, n) == 0 && (line[n] == ' ' || line[n] == '\t')) {
            *out = strtoull(line + n, NULL, 10);
            return true;
        }
    }
    return false;
}

/* ---------------------------------------------------------------------------------------- cores */

/* Sets the flags of a list of CPUs such as "0-3,8,10-11"; returns how many of `n` are set. */
static uint32_t parse_cpu_list(const char *text, bool *flags, uint32_t n) {
    uint32_t count = 0;
    memset(flags, 0, n * sizeof *flags);
    while (*text >= '0' && *text <= '9') {
        char *end;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        for (unsigned long cpu = first; cpu <= last && cpu < n; cpu++, count++)
            flags[cpu] = true;
        text = *end == ',' ? end + 1 : end;
    }
    return count;
}

/* True for one CPU of each physical core: the first that is allowed among its hyper-threads. */
static bool is_first_of_core(const char *root, uint32_t cpu, const bool *allowed, uint32_t n) {
    char path[PATH_ROOM], text[FILE_ROOM];
    bool siblings[MAX_CPUS];
    snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list",
             root, cpu);
    if (!read_text(text, path) || parse_cpu_list(text, siblings, n) == 0)
        return true;
    for (uint32_t other = 0; other < cpu; other++)
        if (siblings[other] && allowed[other])
            return false;
    return true;
}

/* How fast each CPU is compared with others of this machine, on a scale of its own. Intel's hybrid
 * processors have their performance cores listed; Arm's carry a capacity of up to 1024. Maximum
 * frequencies are no guide: they differ among equal cores. */
static void rate_cpus(const char *root, uint32_t *rating, uint32_t n) {
    char path[PATH_ROOM], text[FILE_ROOM];
    bool fast[MAX_CPUS];
    snprintf(path, sizeof path, "%s/sys/devices/cpu_core/cpus", root);
    bool listed = read_text(text, path) && parse_cpu_list(text, fast, n) > 0;
    for (uint32_t cpu = 0; cpu < n; cpu++) {
        snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%u/cpu_capacity", root, cpu);
        if (listed)
            rating[cpu] = fast[cpu];
        else
            rating[cpu] = read_text(text, path) ? (uint32_t)strtoul(text, NULL, 10) : 1024;
    }
}

uint32_t pq_linux_performance_cores(const char *root, const bool *allowed, uint32_t n) {
    uint32_t rating[MAX_CPUS];
    uint32_t best = 0, count = 0;
    n = n < MAX_CPUS ? n : MAX_CPUS;
    rate_cpus(root, rating, n);
    for (uint32_t cpu = 0; cpu < n; cpu++)
        if (allowed[cpu] && rating[cpu] > best)
            best = rating[cpu];
    /* Half as fast is fast enough: phones have three kinds of cores, and the middle one is worth
     * using. */
    for (uint32_t cpu = 0; cpu < n; cpu++)
        if (allowed[cpu] && 2 * rating[cpu] >= best && is_first_of_core(root, cpu, allowed, n))
            count++;
    return count;
}

/* Marks the CPUs this thread may run on; returns how many numbers `allowed` covers. */
static uint32_t read_affinity(bool allowed[MAX_CPUS]) {
    unsigned long words[MAX_CPUS / (8 * sizeof(unsigned long))] = {0};
    uint32_t end = 0;
    if (sched_getaffinity(0, sizeof words, (cpu_set_t *)words) != 0)
        return 0;
    const uint32_t bits = 8 * sizeof *words;
    for (uint32_t cpu = 0; cpu < MAX_CPUS; cpu++) {
        allowed[cpu] = words[cpu / bits] >> (cpu % bits) & 1;
        if (allowed[cpu])
            end = cpu + 1;
    }
    return end;
}

/* --------------------------------------------------------------------------------------- limits */

static void limit_cores(pq_linux_limits *limits, double quota, double period) {
    if (quota > 0 && period > 0 && (limits->cores == 0 || quota / period < limits->cores))
        limits->cores = quota / period;
}

/* `used` counts the page cache, of which the kernel takes `cache` back when memory is wanted. */
static void limit_memory(pq_linux_limits *limits, uint64_t limit, uint64_t used, uint64_t cache) {
    used -= cache < used ? cache : used;
    uint64_t available = used < limit ? limit - used : 0;
    if (limit < limits->memory)
        limits->memory = limit;
    if (available < limits->available)
        limits->available = available;
}

typedef void (*read_group_fn)(const char *directory, pq_linux_limits *limits);

static void read_group_v2(const char *directory, pq_linux_limits *limits) {
    char text[FILE_ROOM];
    if (read_file_in(text, directory, "cpu.max")) { /* "max 100000" or "150000 100000" */
        char *end;
        double quota = strtod(text, &end);
        if (end != text)
            limit_cores(limits, quota, strtod(end, NULL));
    }
    if (read_file_in(text, directory, "memory.max") && text[0] != 'm') {
        uint64_t limit = strtoull(text, NULL, 10), used = 0, cache = 0;
        if (read_file_in(text, directory, "memory.current"))
            used = strtoull(text, NULL, 10);
        if (read_file_in(text, directory, "memory.stat"))
            find_number(text, "inactive_file", &cache);
        limit_memory(limits, limit, used, cache);
    }
}

static void read_cpu_group_v1(const char *directory, pq_linux_limits *limits) {
    char text[FILE_ROOM];
    if (!read_file_in(text, directory, "cpu.cfs_quota_us")) /* -1: none */
        return;
    double quota = strtod(text, NULL);
    if (read_file_in(text, directory, "cpu.cfs_period_us"))
        limit_cores(limits, quota, strtod(text, NULL));
}

static void read_memory_group_v1(const char *directory, pq_linux_limits *limits) {
    char text[FILE_ROOM];
    if (!read_file_in(text, directory, "memory.limit_in_bytes"))
        return;
    uint64_t limit = strtoull(text, NULL, 10), used = 0, cache = 0;
    if (read_file_in(text, directory, "memory.usage_in_bytes"))
        used = strtoull(text, NULL, 10);
    if (read_file_in(text, directory, "memory.stat"))
        find_number(text, "total_inactive_file", &cache);
    if (limit < limits->memory) /* "no limit" is a huge number here */
        limit_memory(limits, limit, used, cache);
}

/* Reads the group at `path` and all above it: each one limits. In a container the path may be the
 * host's; then only the root, which is the container's own group, can be read. */
static void read_groups(const char *root, const char *mount, const char *path, read_group_fn read,
                        pq_linux_limits *limits) {
    char directory[PATH_ROOM];
    int n = snprintf(directory, sizeof directory, "%s%s%s", root, mount, path);
    if (n < 0 || (size_t)n >= sizeof directory)
        return;
    char *end = directory + strlen(root) + strlen(mount);
    for (;;) {
        read(directory, limits);
        char *slash = strrchr(directory, '/');
        if (!slash || slash < end)
            return;
        *slash = '\0';
    }
}

/* True if `controllers`, as in "cpu,cpuacct", names `wanted`. */
static bool has_controller(const char *controllers, const char *wanted) {
    size_t n = strlen(wanted);
    for (const char *at = controllers; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, wanted, n) == 0 && (at[n] == ',' || at[n] == '\0'))
            return true;
    }
    return false;
}

/* One line of /proc/self/cgroup: "0::/path" (version 2) or "4:memory:/path" (version 1). */
static void read_group_line(const char *root, char *line, pq_linux_limits *limits) {
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return;
    *controllers++ = '\0';
    *path++ = '\0';
    if (strcmp(path, "/") == 0)
        path = "";
    if (controllers[0] == '\0')
        read_groups(root, "/sys/fs/cgroup", path, read_group_v2, limits);
    else if (has_controller(controllers, "cpu"))
        read_groups(root, "/sys/fs/cgroup/cpu", path, read_cpu_group_v1, limits);
    else if (has_controller(controllers, "memory"))
        read_groups(root, "/sys/fs/cgroup/memory", path, read_memory_group_v1, limits);
}

pq_linux_limits pq_linux_read_limits(const char *root) {
    pq_linux_limits limits = {.memory = UINT64_MAX, .available = UINT64_MAX};
    char path[PATH_ROOM], text[FILE_ROOM];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    uint64_t kib;
    if (read_text(text, path)) {
        if (find_number(text, "MemTotal:", &kib))
            limits.memory = kib * 1024;
        if (find_number(text, "MemAvailable:", &kib))
            limits.available = kib * 1024;
    }
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (read_text(text, path)) {
        for (char *line = text; line;) {
            char *next = strchr(line, '\n');
            if (next)
                *next++ = '\0';
            read_group_line(root, line, &limits);
            line = next;
        }
    }
    if (limits.memory == UINT64_MAX)
        limits.memory = 0;
    if (limits.available == UINT64_MAX)
        limits.available = 0;
    return limits;
}

/* ------------------------------------------------------------------------------------------ all */

void pq_machine_read(pq_machine *out) {
    bool allowed[MAX_CPUS] = {false};
    uint32_t n = read_affinity(allowed);
    for (uint32_t cpu = 0; cpu < n; cpu++)
        out->logical_cores += allowed[cpu];
    out->performance_cores = pq_linux_performance_cores("", allowed, n);
    pq_linux_limits limits = pq_linux_read_limits("");
    out->cpu_quota = (float)limits.cores;
    out->memory_bytes = limits.memory;
    out->available_bytes = limits.available;
}

#endif
