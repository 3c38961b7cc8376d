/* normalize.h - Unicode normalization form C, of the edition in unicode_tables.c. */
#ifndef PQ_NORMALIZE_H
#define PQ_NORMALIZE_H

#include <stdatomic.h>

#include "../base/status.h"

/* Scratch of one caller; zero it, and free it after use. */
typedef struct pq_normalizer {
    uint8_t *text; /* (bytes of room) the result */
    size_t bytes, room;
    uint64_t *marks; /* class << 32 | code point, of the characters under work */
    uint64_t *sorted;
    size_t marks_room, sorted_room;
} pq_normalizer;

/* *out (*out_bytes) is the text itself if it is in form C already, else in n->text until the next call.
 * Bytes that are not UTF-8 stay and combine with nothing. Linear in the length, whatever the text. */
pq_status pq_normalize(pq_normalizer *n, const uint8_t *text, size_t bytes, const uint8_t **out,
                       size_t *out_bytes, const atomic_int *cancel, pq_error *err);
void pq_normalizer_free(pq_normalizer *n);

#endif
