/* The description of the machine: the real one, and made-up ones in a folder of /proc and /sys
 * files. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/machine.h"
#include "check.h"
#include "pyqwen_test.h"

static void test_real_machine(void) {
    pq_machine machine;
    memset(&machine, 0xAA, sizeof machine);
    pq_machine_describe(&machine);
    printf("%s, %u logical cores, %u used, quota %g, %.1f of %.1f GB available\n", machine.cpu,
           machine.logical_cores, machine.performance_cores, (double)machine.cpu_quota,
           (double)machine.available_bytes / 1e9, (double)machine.memory_bytes / 1e9);
    CHECK(memchr(machine.cpu, '\0', sizeof machine.cpu) != NULL);
    CHECK(machine.logical_cores >= 1);
    CHECK(machine.performance_cores >= 1 && machine.performance_cores <= machine.logical_cores);
    CHECK(machine.memory_bytes > 1 << 20);
    CHECK(machine.available_bytes <= machine.memory_bytes);
    CHECK(pq_default_threads() == machine.performance_cores);
}

static void test_bandwidth(void) {
    pq_error err;
    double rate = 0;
    CHECK(pq_measure_bandwidth(2, 32 << 20, &rate, &err) == PQ_OK);
    printf("2 threads read %.1f GB/s\n", rate / 1e9);
    CHECK(rate > 1e7 && rate < 1e13);

    rate = -1;
    CHECK(pq_measure_bandwidth(0, 32 << 20, &rate, &err) == PQ_ERR_ARGUMENT);
    CHECK(strstr(err.text, "threads") != NULL);
    CHECK(pq_measure_bandwidth(1000, 32 << 20, &rate, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_measure_bandwidth(1, 1000, &rate, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_measure_bandwidth(1, UINT64_MAX / 4, &rate, &err) == PQ_ERR_MEMORY);
    CHECK(rate == -1);
}

static void test_int8(void) {
    pq_error err;
    double rate = -1;
    for (uint32_t i = 0; pq_isa_name(i); i++) {
        const char *isa = pq_isa_name(i);
        if (!pq_isa_available(isa) || strcmp(isa, "scalar") == 0)
            continue;
        CHECK(pq_measure_int8(isa, 2, &rate, &err) == PQ_OK);
        printf("2 threads with %s: %.1f billion products of int8 per second\n", isa, rate / 1e9);
        CHECK(rate > 1e7 && rate < 1e15);
    }
    rate = -1;
    CHECK(pq_measure_int8("scalar", 2, &rate, &err) == PQ_ERR_ARGUMENT);
    CHECK(strstr(err.text, "scalar") != NULL);
    CHECK(pq_measure_int8("mmx", 2, &rate, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_measure_int8(pq_isa_name(0), 0, &rate, &err) == PQ_ERR_ARGUMENT);
    CHECK(strstr(err.text, "threads") != NULL);
    CHECK(rate == -1);
}

/* ---------------------------------------------------------------------------- made-up machines */

#if defined(__linux__)

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/pyqwen-machine-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static void clear_machine(void) {
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    mkdir(root, 0700);
}

/* Writes a file below root, with the folders that lead to it. */
static void put(const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = '\0';
        mkdir(full, 0700);
    }
    FILE *file = fopen(full, "w");
    CHECK(file != NULL);
    if (file) {
        fputs(text, file);
        fclose(file);
    }
}

static void put_cpu(unsigned cpu, const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/%s", cpu, name);
    put(path, text);
}

static uint32_t cores(const char *allowed) { /* "1" at position i: CPU i is allowed */
    bool flags[64] = {false};
    for (size_t i = 0; allowed[i]; i++)
        flags[i] = allowed[i] == '1';
    return pq_linux_performance_cores(root, flags, (uint32_t)strlen(allowed));
}

static void test_plain_cores(void) {
    clear_machine(); /* nothing known: all of them */
    CHECK(cores("1111") == 4);
    CHECK(cores("0110") == 2);
    CHECK(cores("") == 0);
}

static void test_hyper_threads(void) {
    clear_machine(); /* 4 cores with two threads each: 0+4, 1+5, ... */
    for (unsigned cpu = 0; cpu < 8; cpu++) {
        char text[16];
        snprintf(text, sizeof text, "%u,%u\n", cpu % 4, cpu % 4 + 4);
        put_cpu(cpu, "topology/thread_siblings_list", text);
    }
    CHECK(cores("11111111") == 4);
    CHECK(cores("00001111") == 4); /* only the second thread of each */
    CHECK(cores("10001000") == 1);
}

static void test_intel_hybrid(void) {
    clear_machine(); /* 2 performance cores with two threads each, 4 efficient cores */
    put("/sys/devices/cpu_core/cpus", "0-3\n");
    put("/sys/devices/cpu_atom/cpus", "4-7\n");
    for (unsigned cpu = 0; cpu < 4; cpu++)
        put_cpu(cpu, "topology/thread_siblings_list", cpu < 2 ? "0-1\n" : "2-3\n");
    for (unsigned cpu = 4; cpu < 8; cpu++)
        put_cpu(cpu, "topology/thread_siblings_list",
                &"4\n\0"
                 "5\n\0"
                 "6\n\0"
                 "7\n\0"[3 * (cpu - 4)]);
    CHECK(cores("11111111") == 2);
    CHECK(cores("01111111") == 2);
    CHECK(cores("00001111") == 4); /* bound to the efficient ones */
    CHECK(cores("00011000") == 1);
    CHECK(cores("01011000") == 2); /* one thread of each core, and an efficient one */
    CHECK(cores("11001111") == 1);
    for (unsigned cpu = 0; cpu < 8;
         cpu++) /* newer kernels tell capacities, too: the list decides */
        put_cpu(cpu, "cpu_capacity", cpu < 4 ? "1024\n" : "600\n");
    CHECK(cores("11111111") == 2);
}

static void test_arm_capacities(void) {
    clear_machine(); /* a phone: 4 small, 3 middle, 1 large */
    for (unsigned cpu = 0; cpu < 8; cpu++)
        put_cpu(cpu, "cpu_capacity", cpu < 4 ? "250\n" : cpu < 7 ? "760\n" : "1024\n");
    CHECK(cores("11111111") == 4);
    CHECK(cores("11110000") == 4);
    CHECK(cores("11110100") == 1);
}

static void test_no_limits(void) {
    clear_machine();
    pq_linux_limits limits = pq_linux_read_limits(root);
    CHECK(limits.cores == 0 && limits.memory == 0 && limits.available == 0);
    put("/proc/meminfo",
        "MemTotal:       16000000 kB\nMemFree:  1 kB\nMemAvailable:    9000000 kB\n");
    put("/proc/self/cgroup", "0::/user.slice\n");
    put("/sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/user.slice/memory.max", "max\n");
    limits = pq_linux_read_limits(root);
    CHECK(limits.cores == 0);
    CHECK(limits.memory == UINT64_C(16000000) * 1024);
    CHECK(limits.available == UINT64_C(9000000) * 1024);
}

static void test_limits_v2(void) {
    clear_machine(); /* each level limits */
    put("/proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 9000000 kB\n");
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
    put("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
    put("/sys/fs/cgroup/a/b/memory.max", "2000000000\n");
    put("/sys/fs/cgroup/a/b/memory.current", "1500000000\n");
    put("/sys/fs/cgroup/a/b/memory.stat", "anon 500000000\nfile 7\ninactive_file 900000000\n");
    pq_linux_limits limits = pq_linux_read_limits(root);
    CHECK(fabs(limits.cores - 1.5) < 1e-9);
    CHECK(limits.memory == 2000000000);
    CHECK(limits.available == 1400000000); /* the cache can be taken back */

    put("/sys/fs/cgroup/a/memory.max", "1000000000\n");
    put("/sys/fs/cgroup/a/memory.current", "1000000001\n");
    limits = pq_linux_read_limits(root);
    CHECK(limits.memory == 1000000000);
    CHECK(limits.available == 0);
}

/* In a container the path is the host's, and only the root of the mount can be seen. */
static void test_limits_in_container(void) {
    clear_machine();
    put("/proc/self/cgroup", "0::/system.slice/docker-1234.scope\n");
    put("/sys/fs/cgroup/cpu.max", "50000 100000\n");
    CHECK(fabs(pq_linux_read_limits(root).cores - 0.5) < 1e-9);
}

static void test_limits_v1(void) {
    clear_machine();
    put("/proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 9000000 kB\n");
    put("/proc/self/cgroup", "11:cpuset:/\n4:cpu,cpuacct:/box\n3:memory:/box\n0::/\n");
    put("/sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "300000\n");
    put("/sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "4000000000\n");
    put("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "3000000000\n");
    put("/sys/fs/cgroup/memory/box/memory.stat",
        "inactive_file 5\ntotal_inactive_file 1000000000\n");
    pq_linux_limits limits = pq_linux_read_limits(root);
    CHECK(fabs(limits.cores - 3) < 1e-9);
    CHECK(limits.memory == 4000000000);
    CHECK(limits.available == 2000000000);
}

/* Files that are not what they should be. */
static void test_nonsense(void) {
    clear_machine();
    put("/proc/meminfo", "MemTotal\nMemAvailable: lots\n");
    put("/proc/self/cgroup", "\n:\n0:\n0::/x\n::::\n");
    put("/sys/fs/cgroup/x/cpu.max", "\n");
    put("/sys/devices/cpu_core/cpus", "99999999999999999999-3,,x\n");
    put_cpu(0, "topology/thread_siblings_list", "-\n");
    put_cpu(1, "cpu_capacity", "fast\n");
    pq_linux_limits limits = pq_linux_read_limits(root);
    CHECK(limits.cores == 0);
    CHECK(limits.memory == 0);
    CHECK(cores("1111") >= 1);
}

static void test_made_up_machines(void) {
    CHECK(mkdtemp(root) != NULL);
    test_plain_cores();
    test_hyper_threads();
    test_intel_hybrid();
    test_arm_capacities();
    test_no_limits();
    test_limits_v2();
    test_limits_in_container();
    test_limits_v1();
    test_nonsense();
    clear_machine();
    rmdir(root);
}

#endif

int main(void) {
    test_real_machine();
    test_bandwidth();
    test_int8();
#if defined(__linux__)
    test_made_up_machines();
#endif
    return check_result();
}
