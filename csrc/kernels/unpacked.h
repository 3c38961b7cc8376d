/* unpacked.h - how much scratch memory the gemm kernels of packed matrices need: panels with quants of one byte.
 *
 * For many tokens, panels are unpacked once, as many at a time as stay in the second-level cache,
 * and then multiplied with all tokens.
 */
#ifndef PQ_UNPACKED_H
#define PQ_UNPACKED_H

#include <stddef.h>
#include <stdint.h>

/* Of all panels together that are unpacked at a time, unless a single one is larger. */
enum { PQ_UNPACKED_BUDGET = 192 * 1024 };

/* Bytes of one unpacked panel, at most: per 32 elements of a row 32 quants and 16 bytes of scales. */
static inline size_t pq_unpacked_panel(size_t cols, uint32_t lanes) {
    return cols / 32 * 48 * lanes;
}

/* How many panels are unpacked at a time. Those of 8 rows come in pairs, which a tile can have two of. */
static inline size_t pq_unpacked_panels(size_t cols, uint32_t lanes) {
    const size_t fit = PQ_UNPACKED_BUDGET / pq_unpacked_panel(cols, lanes);
    if (lanes == 8)
        return fit > 2 ? fit / 2 * 2 : 2;
    return fit > 0 ? fit : 1;
}

static inline size_t pq_unpacked_scratch(size_t cols, uint32_t lanes) {
    return pq_unpacked_panels(cols, lanes) * pq_unpacked_panel(cols, lanes);
}

#endif
