/* quantize.c - the public quantizer: checks what comes from outside and hands rows to the threads.
 *
 * Each row is quantized by itself, so that the bytes do not depend on the number of threads.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "../base/cancel.h"
#include "../base/checked.h"
#include "../base/pool.h"
#include "../pyqwen_quantize.h"
#include "../base/status.h"
#include "../formats/types.h"
#include "quantize_row.h"

/* Weights per chunk of work: a few milliseconds of the slowest type. */
enum { CHUNK_WEIGHTS = 1 << 16 };
/* An importance below this part of the largest is raised to it, so that no weight is left to chance. */
static const float LEAST_IMPORTANCE = 1e-6f;

/* ---------------------------------------------------------------------------------------- arguments */

static pq_status check_shape(const char *what, uint32_t type, size_t rows, size_t cols,
                             uint32_t threads, pq_error *err) {
    const size_t elements = pq_type_block(type);
    size_t product;
    if (elements == 0) {
        const char *name = pq_type_known_name(type);
        return pq_fail(err, PQ_ERR_ARGUMENT, "cannot %s tensor type %u%s%s%s", what, (unsigned)type,
                       name ? " (" : "", name ? name : "", name ? ")" : "");
    }
    if (cols % elements != 0)
        return pq_fail(err, PQ_ERR_ARGUMENT,
                       "cannot %s rows of %zu elements as %s: it comes in blocks of %zu", what,
                       cols, pq_type_name(type), elements);
    if (!pq_checked_size(rows, cols, &product) ||
        !pq_checked_size(product, sizeof(float), &product))
        return pq_fail(err, PQ_ERR_ARGUMENT, "cannot %s %zu x %zu elements: too many", what, rows,
                       cols);
    if (threads < 1 || threads > PQ_MAX_THREADS)
        return pq_fail(err, PQ_ERR_ARGUMENT, "threads must be 1 to %d, not %u", PQ_MAX_THREADS,
                       (unsigned)threads);
    return PQ_OK;
}

static pq_status check_importance(const float *importance, size_t cols, float *top, pq_error *err) {
    *top = 0.0f;
    for (size_t i = 0; i < cols; i++) {
        if (!(importance[i] >= 0.0f && importance[i] <= FLT_MAX))
            return pq_fail(err, PQ_ERR_NUMERIC,
                           "the importance of column %zu is %g: it must be finite and not negative",
                           i, (double)importance[i]);
        *top = importance[i] > *top ? importance[i] : *top;
    }
    return PQ_OK;
}

/* A copy of the importances with 1 as the largest; *out is NULL where all are 0, which tells nothing. */
static pq_status normalize_importance(const float *importance, size_t cols, float **out,
                                      pq_error *err) {
    float top;
    *out = NULL;
    const pq_status status = check_importance(importance, cols, &top, err);
    if (status != PQ_OK || top == 0.0f)
        return status;
    float *copy = malloc(cols * sizeof *copy);
    if (!copy)
        return pq_fail_memory(err, "the importances of a tensor", cols * sizeof *copy);
    for (size_t i = 0; i < cols; i++) {
        copy[i] = (float)((double)importance[i] / top);
        copy[i] = copy[i] < LEAST_IMPORTANCE ? LEAST_IMPORTANCE : copy[i];
    }
    *out = copy;
    return PQ_OK;
}

/* -------------------------------------------------------------------------------------------- rows */

typedef struct quantize_job {
    pq_quantizer quantizer;
    const float *x;
    uint8_t *dst;
    size_t rows, cols, row_bytes, chunk_rows;
    float limit;
    float *scratch; /* (threads, cols) */
    /* Index of the first weight that cannot be stored; SIZE_MAX: none. */
    _Atomic size_t first_refused;
} quantize_job;

/* How many rows make a chunk. */
static size_t rows_per_chunk(size_t cols) {
    return cols >= CHUNK_WEIGHTS ? 1 : CHUNK_WEIGHTS / cols;
}

static int all_within(const float *x, size_t n, float limit) {
    int outside = 0;
    for (size_t i = 0; i < n; i++)
        outside |= !(fabsf(x[i]) <= limit); /* NaN, too */
    return !outside;
}

static void note_refused(quantize_job *job, size_t row) {
    const float *x = job->x + row * job->cols;
    size_t i = 0;
    while (fabsf(x[i]) <= job->limit)
        i++;
    const size_t index = row * job->cols + i;
    size_t first = atomic_load(&job->first_refused);
    while (index < first && !atomic_compare_exchange_weak(&job->first_refused, &first, index))
        ;
}

static void quantize_chunk(void *arg, size_t chunk, unsigned thread) {
    quantize_job *job = arg;
    const size_t from = chunk * job->chunk_rows;
    const size_t to = job->rows - from < job->chunk_rows ? job->rows : from + job->chunk_rows;
    for (size_t row = from; row < to; row++) {
        const float *x = job->x + row * job->cols;
        if (all_within(x, job->cols, job->limit))
            pq_quantize_weight_row(&job->quantizer, x, job->scratch + thread * job->cols,
                                   job->dst + row * job->row_bytes);
        else
            note_refused(job, row);
    }
}

static pq_status refused(const quantize_job *job, pq_error *err) {
    const size_t index = atomic_load(&job->first_refused);
    const double value = job->x[index];
    const size_t row = index / job->cols, col = index % job->cols;
    if (!isfinite(value))
        return pq_fail(err, PQ_ERR_NUMERIC, "the weight in row %zu, column %zu is %s", row, col,
                       isnan(value) ? "NaN" : "infinite");
    return pq_fail(err, PQ_ERR_NUMERIC,
                   "the weight in row %zu, column %zu is %g, but %s holds at most %g", row, col,
                   value, pq_type_name(job->quantizer.type), (double)job->limit);
}

static pq_status run_quantize(quantize_job *job, uint32_t threads, const pq_cancel *cancel,
                              pq_error *err) {
    size_t bytes;
    if (!pq_checked_size(threads, job->cols * sizeof(float), &bytes))
        return pq_fail_memory(err, "quantizing", UINT64_MAX);
    job->scratch = malloc(bytes);
    if (!job->scratch)
        return pq_fail_memory(err, "quantizing", bytes);
    const size_t chunks = (job->rows + job->chunk_rows - 1) / job->chunk_rows;
    pq_status status =
        pq_pool_run(threads, chunks, quantize_chunk, job, pq_cancel_flag(cancel), err);
    if (status == PQ_OK && atomic_load(&job->first_refused) != SIZE_MAX)
        status = refused(job, err);
    free(job->scratch);
    return status;
}

pq_status pq_quantize_weights(const char *isa, uint32_t type, const float *x, size_t rows,
                              size_t cols, const float *importance, void *dst, uint32_t threads,
                              const pq_cancel *cancel, pq_error *err) {
    pq_status status = check_shape("quantize", type, rows, cols, threads, err);
    if (status != PQ_OK || rows == 0 || cols == 0)
        return status;
    if (!x || !dst)
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_quantize_weights: x and dst must not be NULL");
    const pq_lane_search *search;
    float *normalized = NULL;
    status = pq_lane_search_select(&search, isa, err);
    if (status == PQ_OK && importance)
        status = normalize_importance(importance, cols, &normalized, err);
    if (status != PQ_OK)
        return status;
    quantize_job job = {.x = x,
                        .dst = dst,
                        .rows = rows,
                        .cols = cols,
                        .row_bytes = cols / pq_type_block(type) * pq_type_bytes(type),
                        .chunk_rows = rows_per_chunk(cols),
                        .limit = pq_quantizer_limit(type)};
    atomic_init(&job.first_refused, SIZE_MAX);
    pq_quantizer_init(&job.quantizer, type, cols, normalized);
    job.quantizer.search = search->search_blocks;
    status = run_quantize(&job, threads, cancel, err);
    free(normalized);
    return status;
}
