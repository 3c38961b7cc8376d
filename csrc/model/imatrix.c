/* imatrix.c - see imatrix.h. */
#include "imatrix.h"

#include <stdlib.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/pool.h"

/* Columns that one thread adds up: few enough for the nearest cache, many enough for long runs of memory. */
enum { COLUMNS_PER_CHUNK = 512, INPUTS_PER_LAYER = PQ_IMATRIX_OUTPUT };

/* What was added up: counters and sums in one block, so that one copy brings back an earlier state. */
struct pq_imatrix {
    const pq_config *config;
    uint64_t *rows; /* (layers * INPUTS_PER_LAYER + 1) */
    double *sums; /* those of a layer's inputs side by side, layer after layer, then the output's */
    void *state;  /* holds both */
    void *before; /* a copy from the beginning of the evaluation that runs */
    size_t state_bytes;
};

/* Where the sums of an input begin. */
static size_t input_offset(const pq_config *c, pq_imatrix_input input, uint32_t layer) {
    size_t per_layer = 0, within = 0;
    for (int i = 0; i < INPUTS_PER_LAYER; i++) {
        if (i < (int)input)
            within += pq_input_columns(c, (pq_imatrix_input)i);
        per_layer += pq_input_columns(c, (pq_imatrix_input)i);
    }
    return input == PQ_IMATRIX_OUTPUT ? c->layers * per_layer : layer * per_layer + within;
}

static size_t input_number(const pq_config *c, pq_imatrix_input input, uint32_t layer) {
    return input == PQ_IMATRIX_OUTPUT ? (size_t)c->layers * INPUTS_PER_LAYER
                                      : (size_t)layer * INPUTS_PER_LAYER + input;
}

static size_t place(pq_imatrix *m, void *base) {
    const pq_config *c = m->config;
    pq_arena arena = {.base = base};
    m->rows = pq_arena_take(&arena, input_number(c, PQ_IMATRIX_OUTPUT, 0) + 1, sizeof(uint64_t));
    m->sums =
        pq_arena_take(&arena, input_offset(c, PQ_IMATRIX_OUTPUT, 0) + c->hidden, sizeof(double));
    return arena.bytes;
}

pq_status pq_imatrix_open(pq_imatrix **out, const pq_config *config, pq_error *err) {
    pq_imatrix *m = calloc(1, sizeof *m);
    if (!m)
        return pq_fail_memory(err, "an importance matrix", sizeof *m);
    m->config = config;
    m->state_bytes = place(m, NULL);
    m->state = pq_aligned_calloc(m->state_bytes);
    m->before = pq_aligned_alloc(m->state_bytes);
    if (!m->state || !m->before) {
        const pq_status st = pq_fail_memory(err, "the sums of squares", 2 * m->state_bytes);
        pq_imatrix_close(m);
        return st;
    }
    place(m, m->state);
    *out = m;
    return PQ_OK;
}

void pq_imatrix_close(pq_imatrix *m) {
    if (!m)
        return;
    pq_aligned_free(m->state);
    pq_aligned_free(m->before);
    free(m);
}

void pq_imatrix_begin(pq_imatrix *m) {
    memcpy(m->before, m->state, m->state_bytes);
}

void pq_imatrix_end(pq_imatrix *m, int keep) {
    if (!keep)
        memcpy(m->state, m->before, m->state_bytes);
}

typedef struct add_job {
    const float *x;
    size_t rows, columns;
    double *sums;
} add_job;

static void add_chunk(void *arg, size_t chunk, unsigned thread) {
    (void)thread;
    const add_job *job = arg;
    const size_t first = chunk * COLUMNS_PER_CHUNK, left = job->columns - first;
    const size_t n = left < COLUMNS_PER_CHUNK ? left : COLUMNS_PER_CHUNK;
    double *sums = job->sums + first;
    for (size_t row = 0; row < job->rows; row++) {
        const float *x = job->x + row * job->columns + first;
        for (size_t i = 0; i < n; i++)
            sums[i] += (double)x[i] * (double)x[i]; /* the product is exact */
    }
}

pq_status pq_imatrix_add(pq_imatrix *m, const pq_workers *workers, pq_imatrix_input input,
                         uint32_t layer, const float *x, size_t rows, pq_error *err) {
    const pq_config *c = m->config;
    add_job job = {.x = x,
                   .rows = rows,
                   .columns = pq_input_columns(c, input),
                   .sums = m->sums + input_offset(c, input, layer)};
    m->rows[input_number(c, input, layer)] += rows;
    return pq_pool_run(workers->threads, (job.columns + COLUMNS_PER_CHUNK - 1) / COLUMNS_PER_CHUNK,
                       add_chunk, &job, workers->cancel, err);
}

const double *pq_imatrix_sums(const pq_imatrix *m, pq_imatrix_input input, uint32_t layer,
                              size_t *columns, uint64_t *rows) {
    const pq_config *c = m->config;
    if ((int)input < 0 || input > PQ_IMATRIX_OUTPUT ||
        layer >= (input == PQ_IMATRIX_OUTPUT ? 1 : c->layers))
        return NULL;
    *columns = pq_input_columns(c, input);
    *rows = m->rows[input_number(c, input, layer)];
    return m->sums + input_offset(c, input, layer);
}
