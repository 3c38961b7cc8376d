/* buffer.c - see buffer.h. */
#include "buffer.h"

#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"

enum { SMALLEST = 64 };

pq_status pq_grow(void *items, size_t *room, size_t count, size_t element_bytes, const char *what,
                  pq_error *err) {
    if (count <= *room)
        return PQ_OK;
    size_t larger = *room > SIZE_MAX / 2 ? SIZE_MAX : *room * 2, bytes;
    larger = larger < count ? count : larger;
    larger = larger < SMALLEST ? SMALLEST : larger;
    void *old, *moved = NULL;
    memcpy(&old, items, sizeof old);
    if (pq_checked_size(larger, element_bytes, &bytes))
        moved = realloc(old, bytes);
    if (!moved)
        return pq_fail_memory(err, what, (uint64_t)larger * element_bytes);
    memcpy(items, &moved, sizeof moved);
    *room = larger;
    return PQ_OK;
}
