/* memory.c - see memory.h. */
#include "memory.h"

#include <stdlib.h>
#include <string.h>
#if defined(_WIN32)
#include <malloc.h>
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

void *pq_carve(pq_carver *c, uint64_t count, size_t element_bytes) {
    const size_t room = SIZE_MAX - PQ_ALIGN - c->bytes;
    if (c->bytes > SIZE_MAX - PQ_ALIGN || (element_bytes && count > room / element_bytes)) {
        c->bytes = SIZE_MAX;
        return NULL;
    }
    void *place = c->base ? c->base + c->bytes : NULL;
    c->bytes += ((size_t)count * element_bytes + PQ_ALIGN - 1) / PQ_ALIGN * PQ_ALIGN;
    return place;
}
