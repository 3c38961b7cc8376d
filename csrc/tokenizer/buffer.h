/* buffer.h - arrays that grow: doubling, with every allocation checked. */
#ifndef PQ_BUFFER_H
#define PQ_BUFFER_H

#include "../base/status.h"

/* Makes room for `count` elements in *items, which hold *room now. What is there stays. */
pq_status pq_grow(void *items, size_t *room, size_t count, size_t element_bytes, const char *what,
                  pq_error *err);

#endif
