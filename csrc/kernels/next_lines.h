/* next_lines.h - asks for memory that will be needed next, spread evenly over the steps of a loop. For the
 * kernels of x86. */
#ifndef PQ_NEXT_LINES_H
#define PQ_NEXT_LINES_H

#include <stddef.h>
#include <stdint.h>
#include <xmmintrin.h>

typedef struct pq_next_lines {
    const uint8_t *at, *end; /* NULL: there is nothing to ask for */
    size_t per_step;
} pq_next_lines;

enum { PQ_LINE = 64 };

/* `bytes` from `at` on (NULL: none) in `steps` >= 1 steps. */
static inline pq_next_lines pq_spread_lines(const uint8_t *at, size_t bytes, size_t steps) {
    const size_t lines = bytes / PQ_LINE;
    return (pq_next_lines){at, at ? at + lines * PQ_LINE : NULL, (lines + steps - 1) / steps};
}

/* One step's lines, into the second-level cache. */
static inline void pq_prefetch_next(pq_next_lines *next) {
    for (size_t i = 0; i < next->per_step && next->at < next->end; i++, next->at += PQ_LINE)
        _mm_prefetch((const char *)next->at, _MM_HINT_T1);
}

#endif
