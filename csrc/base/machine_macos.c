/* machine_macos.c - processor and memory from sysctl and the Mach kernel; see machine.h. */
#include "machine.h"

#if defined(__APPLE__)

#include <mach/mach.h>
#include <sys/sysctl.h>

static uint64_t read_number(const char *name) {
    uint64_t wide = 0; /* little-endian: right for 32-bit values, too */
    size_t size = sizeof wide;
    return sysctlbyname(name, &wide, &size, NULL, 0) == 0 ? wide : 0;
}

static uint64_t read_available(void) {
    vm_statistics64_data_t pages;
    mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
    mach_port_t host = mach_host_self();
    kern_return_t result = host_statistics64(host, HOST_VM_INFO64, (host_info64_t)&pages, &count);
    mach_port_deallocate(mach_task_self(), host);
    if (result != KERN_SUCCESS)
        return 0;
    uint64_t usable = (uint64_t)pages.free_count + pages.inactive_count + pages.purgeable_count;
    return usable * read_number("hw.pagesize");
}

void pq_machine_read(pq_machine *out) {
    size_t size = sizeof out->cpu;
    if (sysctlbyname("machdep.cpu.brand_string", out->cpu, &size, NULL, 0) != 0)
        out->cpu[0] = '\0';
    out->cpu[sizeof out->cpu - 1] = '\0';
    out->logical_cores = (uint32_t)read_number("hw.logicalcpu");
    /* Level 0 is the fastest kind; older systems know only one. */
    out->performance_cores = (uint32_t)read_number("hw.perflevel0.physicalcpu");
    if (out->performance_cores == 0)
        out->performance_cores = (uint32_t)read_number("hw.physicalcpu");
    out->memory_bytes = read_number("hw.memsize");
    out->available_bytes = read_available();
}

#endif
