/* machine.h - what the operating systems tell about processor and memory: one file each,
 * machine_<os>.c. The public side (pq_machine_describe) is machine.c.
 */
#ifndef PQ_MACHINE_H
#define PQ_MACHINE_H

#include <stdbool.h>

#include "../pyqwen.h"

/* Fills in what this system knows; *out comes zeroed, and what is not known stays zero.
 * performance_cores here is before the quota. */
void pq_machine_read(pq_machine *out);

#if defined(__linux__)
/* The parts of it that read files, below `root` ("" for the real ones), so that tests can make up
 * machines. */

/* Physical cores of the fast kind among the CPUs that are allowed (n flags, indexed by CPU number). */
uint32_t pq_linux_performance_cores(const char *root, const bool *allowed, uint32_t n);

typedef struct pq_linux_limits {
    double cores;    /* CPU quota; 0: none */
    uint64_t memory; /* the smaller of installed memory and the limit, bytes; 0: not known */
    uint64_t available;
} pq_linux_limits;

/* Memory, and what the process's control groups (version 1 and 2) and those above them allow. */
pq_linux_limits pq_linux_read_limits(const char *root);
#endif

#endif
