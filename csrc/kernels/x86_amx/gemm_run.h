/* gemm_run.h - the template of a run: multiplies a group of 256 columns, then scales its sums. See gemm_tile.h. The
 * file that includes it has defined scale_tokens(type, n, ...), which adds the sums of n tokens to their accumulators,
 * bytes_of(type), 1 or 2 per weight, and unpacked_bytes(type) of a group.
 */
#ifndef PQ_AMX_GEMM_RUN_H
#define PQ_AMX_GEMM_RUN_H

#include "gemm_tile.h"

enum { TOGETHER = 4 }; /* tokens that share a load of the scales */

PQ_INLINE void scale_tile(const uint32_t type, const pq_amx_group *g, size_t tokens, pq_vec *acc) {
    size_t t = 0;
    for (; t + TOGETHER <= tokens; t += TOGETHER)
        scale_tokens(type, TOGETHER, g, t, acc + t);
    for (; t < tokens; t++)
        scale_tokens(type, 1, g, t, acc + t);
}

PQ_INLINE const pq_amx_scales *scales_of(const uint32_t type, const uint8_t *group) {
    return (const pq_amx_scales *)(const void *)(group + bytes_of(type) * PQ_AMX_BYTES);
}

PQ_INLINE void run(const uint32_t type, const pq_amx_run *a) {
    pq_amx_sums sums;
    pq_vec acc[2][PQ_AMX_TOKENS];
    pq_amx_load(a, acc);
    pq_amx_ask_for_results(a);
    const uint8_t *group[2] = {a->panel[0], a->panel[1]};
    for (size_t first = 0; first < a->blocks; first += PQ_AMX_BLOCKS) {
        const size_t left = a->blocks - first, blocks = left < PQ_AMX_BLOCKS ? left : PQ_AMX_BLOCKS;
        const int8_t *q = a->q + first * 32;
        if (bytes_of(type) == 1)
            pq_amx_multiply(q, a->cols, group, blocks, &sums);
        for (size_t p = 0; p < 2 && a->rows[p] > 0; p++) {
            const uint8_t *const bytes[2] = {group[p], group[p] + PQ_AMX_BYTES};
            if (bytes_of(type) == 2)
                pq_amx_multiply(q, a->cols, bytes, blocks, &sums);
            const pq_amx_group g = {.sums = &sums,
                                    .scales = scales_of(type, group[p]),
                                    .panel = p,
                                    .blocks = blocks,
                                    .d = a->d + first,
                                    .s = a->s + first,
                                    .act_sums = a->sums + 2 * first,
                                    .cols = a->cols};
            scale_tile(type, &g, a->tokens, acc[p]);
        }
        group[0] += unpacked_bytes(type);
        group[1] += unpacked_bytes(type);
    }
    pq_amx_store(a, acc);
}

#endif
