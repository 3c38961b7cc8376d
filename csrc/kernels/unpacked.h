/* unpacked.h - how much scratch memory the gemm kernels of packed matrices need: panels with 8-bit
 * quants.
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

/* Bytes of one unpacked panel, at most: per 32 elements of a row 32 quants and 16 bytes of scales.
 */
static inline size_t pq_unpacked_panel(size_t cols, uint32_t lanes) {
    return cols / 32 * 48 * lanes;
}

/* How many panels are unpacked at a time. */
static inline size_t pq_unpacked_panels(size_t cols, uint32_t lanes) {
    const size_t fit = PQ_UNPACKED_BUDGET / pq_unpacked_panel(cols, lanes);
    return fit > 0 ? fit : 1;
}

/* AMX (16 lanes) unpacks groups of 256 columns, the last one filled up, and two panels at least. */
enum { PQ_AMX_GROUP_BYTES = 5248, PQ_AMX_BUDGET = 512 * 1024 };

static inline size_t pq_amx_scratch(size_t cols) {
    const size_t pair = 2 * ((cols + 255) / 256) * PQ_AMX_GROUP_BYTES;
    return pair > PQ_AMX_BUDGET ? pair : PQ_AMX_BUDGET;
}

static inline size_t pq_unpacked_scratch(size_t cols, uint32_t lanes) {
    const size_t bytes = pq_unpacked_panels(cols, lanes) * pq_unpacked_panel(cols, lanes);
    return lanes == 16 && pq_amx_scratch(cols) > bytes ? pq_amx_scratch(cols) : bytes;
}

#endif
