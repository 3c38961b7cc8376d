/* gptq.c - the public entry of GPTQ: checks, and 16 rows at a time to the threads.
 * The work is in lane_gptq.h. */
#include <stdlib.h>

#include "../base/cancel.h"
#include "../base/checked.h"
#include "../base/pool.h"
#include "../base/status.h"
#include "../formats/format.h"
#include "../formats/types.h"
#include "quantize_row.h"

/* A weight is at least that part of the largest, so that none is left to chance. */
static const float LEAST_WEIGHT = 1e-6f;

typedef struct gptq_job {
    pq_gptq_panel_fn gptq_panel;
    pq_gptq_columns panel;
    const float *x;
    size_t x_stride, rows;
    uint8_t *dst;
    size_t dst_stride;
    float *errors;
    pq_decoded *blocks; /* (threads, 16, blocks of a row) */
} gptq_job;

static void gptq_chunk(void *arg, size_t chunk, unsigned thread) {
    const gptq_job *job = arg;
    const pq_gptq_columns *panel = &job->panel;
    const size_t row = chunk * PQ_GROUPS;
    const size_t rows = job->rows - row < PQ_GROUPS ? job->rows - row : PQ_GROUPS;
    const pq_format *format = pq_type_format(panel->type);
    const size_t blocks = panel->cols / format->block;
    pq_decoded *out = job->blocks + thread * PQ_GROUPS * blocks;
    job->gptq_panel(panel, job->x + row * job->x_stride, job->x_stride, rows,
                    job->errors + row * panel->cols, out);
    for (size_t r = 0; r < rows; r++) {
        for (size_t b = 0; b < blocks; b++)
            format->encode(&out[r * blocks + b],
                           job->dst + (row + r) * job->dst_stride + b * format->bytes);
    }
}

/* weights[k] = 1 / U[k][k]^2, what a squared rounding of column k costs, the largest 1. */
static pq_status weigh_columns(const float *factor, size_t cols, float *weights, pq_error *err) {
    float top = 0.0f;
    for (size_t k = 0; k < cols; k++) {
        const float u = factor[k * cols + k];
        if (!(u > 0x1p-60f && u < 0x1p60f))
            return pq_fail(err, PQ_ERR_NUMERIC,
                           "the factor's diagonal is %g in column %zu; it must be positive and "
                           "neither tiny nor huge",
                           (double)u, k);
        weights[k] = 1.0f / (u * u);
        top = weights[k] > top ? weights[k] : top;
    }
    for (size_t k = 0; k < cols; k++) {
        weights[k] /= top;
        weights[k] = weights[k] < LEAST_WEIGHT ? LEAST_WEIGHT : weights[k];
    }
    return PQ_OK;
}

static pq_status check(uint32_t type, size_t cols, uint32_t threads, pq_error *err) {
    const size_t elements = pq_type_block(type);
    if (elements <= 1)
        return pq_fail(err, PQ_ERR_ARGUMENT, "GPTQ: type %u has no blocks", (unsigned)type);
    if (cols == 0 || cols % elements != 0 || cols > PQ_GPTQ_COLS)
        return pq_fail(err, PQ_ERR_ARGUMENT,
                       "GPTQ: %zu columns; a panel has whole blocks of %zu, at most %d", cols,
                       elements, PQ_GPTQ_COLS);
    if (threads < 1 || threads > PQ_MAX_THREADS)
        return pq_fail(err, PQ_ERR_ARGUMENT, "threads must be 1 to %d, not %u", PQ_MAX_THREADS,
                       (unsigned)threads);
    return PQ_OK;
}

pq_status pq_gptq_panel(const char *isa, uint32_t type, const float *x, size_t x_stride,
                        size_t rows, size_t cols, const float *factor, void *dst, size_t dst_stride,
                        float *errors, uint32_t threads, const pq_cancel *cancel, pq_error *err) {
    const pq_lane_search *search;
    pq_quantizer quantizer;
    float weights[PQ_GPTQ_COLS];
    pq_status status = check(type, cols, threads, err);
    if (status == PQ_OK)
        status = pq_lane_search_select(&search, isa, err);
    if (status != PQ_OK || rows == 0)
        return status;
    if (!x || !factor || !dst || !errors)
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_gptq_panel: an argument is NULL");
    if ((status = weigh_columns(factor, cols, weights, err)) != PQ_OK)
        return status;
    pq_quantizer_init(&quantizer, type, cols, NULL);
    const size_t blocks = cols / pq_type_block(type);
    gptq_job job = {.gptq_panel = search->gptq_panel,
                    .panel = {type, &quantizer.levels, cols, factor, weights},
                    .x = x,
                    .x_stride = x_stride,
                    .rows = rows,
                    .dst = dst,
                    .dst_stride = dst_stride,
                    .errors = errors,
                    .blocks = calloc(threads * blocks * PQ_GROUPS, sizeof(pq_decoded))};
    if (!job.blocks)
        return pq_fail_memory(err, "GPTQ", threads * blocks * PQ_GROUPS * sizeof(pq_decoded));
    status = pq_pool_run(threads, (rows + PQ_GROUPS - 1) / PQ_GROUPS, gptq_chunk, &job,
                         pq_cancel_flag(cancel), err);
    free(job.blocks);
    return status;
}
