/* memory.c - see memory.h. */
#include "memory.h"

#include <stdlib.h>
#include <string.h>
#if defined(_WIN32)
#include <malloc.h>
#elif defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

void *pq_aligned_alloc(size_t bytes) {
    if (bytes > SIZE_MAX - PQ_ALIGN)
        return NULL;
    const size_t rounded = bytes == 0 ? PQ_ALIGN : (bytes + PQ_ALIGN - 1) / PQ_ALIGN * PQ_ALIGN;
#if defined(_WIN32)
    return _aligned_malloc(rounded, PQ_ALIGN);
#else
    void *p;
    return posix_memalign(&p, PQ_ALIGN, rounded) == 0 ? p : NULL;
#endif
}

void *pq_aligned_calloc(size_t bytes) {
    void *p = pq_aligned_alloc(bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

void pq_aligned_free(void *p) {
#if defined(_WIN32)
    _aligned_free(p);
#else
    free(p);
#endif
}

#if defined(__linux__) && defined(MADV_HUGEPAGE)
enum { HUGE_PAGE = 2 << 20 };

/* The end of a block stays in small pages: half a huge page would be wasted on average. */
static size_t mapped_bytes(size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

/* Zeroed. */
static void *map_large(size_t bytes) {
    if (bytes > SIZE_MAX - 2 * HUGE_PAGE)
        return NULL;
    const size_t size = mapped_bytes(bytes);
    uint8_t *all =
        mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
        return NULL;
    /* What stands before the first boundary of huge pages, and after the end, is given back. */
    const size_t before = (HUGE_PAGE - (uintptr_t)all % HUGE_PAGE) % HUGE_PAGE;
    if (before > 0)
        munmap(all, before);
    munmap(all + before + size, HUGE_PAGE - before);
    madvise(all + before, size, MADV_HUGEPAGE); /* where it is refused, in small pages */
    return all + before;
}

void *pq_large_alloc(size_t bytes) {
    return bytes < HUGE_PAGE ? pq_aligned_alloc(bytes) : map_large(bytes);
}

void *pq_large_calloc(size_t bytes) {
    return bytes < HUGE_PAGE ? pq_aligned_calloc(bytes) : map_large(bytes);
}

void pq_large_free(void *p, size_t bytes) {
    if (bytes < HUGE_PAGE)
        pq_aligned_free(p);
    else if (p)
        munmap(p, mapped_bytes(bytes));
}
#else
void *pq_large_alloc(size_t bytes) {
    return pq_aligned_alloc(bytes);
}

void *pq_large_calloc(size_t bytes) {
    return pq_aligned_calloc(bytes);
}

void pq_large_free(void *p, size_t bytes) {
    (void)bytes;
    pq_aligned_free(p);
}
#endif

void *pq_arena_take(pq_arena *arena, uint64_t count, size_t element_bytes) {
    const size_t room = SIZE_MAX - PQ_ALIGN - arena->bytes;
    if (arena->bytes > SIZE_MAX - PQ_ALIGN || (element_bytes && count > room / element_bytes)) {
        arena->bytes = SIZE_MAX;
        return NULL;
    }
    void *place = arena->base ? arena->base + arena->bytes : NULL;
    arena->bytes += ((size_t)count * element_bytes + PQ_ALIGN - 1) / PQ_ALIGN * PQ_ALIGN;
    return place;
}
