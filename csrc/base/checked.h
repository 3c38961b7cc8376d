/* checked.h - arithmetic on sizes that come from files: 1 and a result, or 0 if it overflows.
 *
 * Every size, offset or count read from a file goes through these before it is compared or used.
 */
#ifndef PQ_CHECKED_H
#define PQ_CHECKED_H

#include <stddef.h>
#include <stdint.h>

/* *out = a + b */
static inline int pq_checked_add(uint64_t a, uint64_t b, uint64_t *out) {
    if (b > UINT64_MAX - a)
        return 0;
    *out = a + b;
    return 1;
}

/* *out = a * b */
static inline int pq_checked_mul(uint64_t a, uint64_t b, uint64_t *out) {
    if (a != 0 && b > UINT64_MAX / a)
        return 0;
    *out = a * b;
    return 1;
}

/* *out = the smallest multiple of `alignment`, a power of two, that is not below a */
static inline int pq_checked_align(uint64_t a, uint64_t alignment, uint64_t *out) {
    if (!pq_checked_add(a, alignment - 1, out))
        return 0;
    *out &= ~(alignment - 1);
    return 1;
}

/* *out = count * size as a size for malloc; also 0 for what the address space cannot hold */
static inline int pq_checked_size(uint64_t count, uint64_t size, size_t *out) {
    uint64_t bytes;
    if (!pq_checked_mul(count, size, &bytes) || bytes > (uint64_t)PTRDIFF_MAX)
        return 0;
    *out = (size_t)bytes;
    return 1;
}

#endif
