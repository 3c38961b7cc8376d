/* unicode_tables.h - the generated tables; unicode.h is how to ask them. */
#ifndef PQ_UNICODE_TABLES_H
#define PQ_UNICODE_TABLES_H

#include <stdint.h>

/* A canonical decomposition: of `point` into first and second (0: none). */
typedef struct pq_decomposition {
    uint32_t point, first, second;
} pq_decomposition;

/* Runs of code points alike, ascending: the first of each << 8, and the value. */
extern const uint32_t pq_properties[], pq_properties_count;
extern const uint32_t pq_combining_classes[], pq_combining_classes_count;
extern const pq_decomposition pq_decompositions[]; /* by point */
extern const uint32_t pq_decompositions_count;
extern const uint16_t pq_compositions[]; /* those that may be undone, by first and second */
extern const uint32_t pq_compositions_count;

#endif
