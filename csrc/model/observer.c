/* observer.c - see observer.h. */
#include "observer.h"

#include <stdlib.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/pool.h"

/* Columns that one thread adds up: few enough for the nearest cache, many enough for long runs of memory. */
enum { COLUMNS_PER_CHUNK = 512, INPUTS_PER_LAYER = PQ_OBSERVED_OUTPUT };

/* What was added up: counters and sums in one block, so that one copy brings back an earlier state. */
struct pq_observer {
    const pq_config *config;
    uint64_t *rows; /* (layers * INPUTS_PER_LAYER + 1) */
    double *sums; /* those of a layer's inputs side by side, layer after layer, then the output's */
    void *state;  /* holds both */
    void *before; /* a copy from the beginning of the evaluation that runs */
    size_t state_bytes;
};

static size_t input_columns(const pq_config *c, pq_observed input) {
    switch (input) {
    case PQ_OBSERVED_ATTENTION_OUTPUT:
        return (size_t)c->heads * c->head_dim;
    case PQ_OBSERVED_DOWN:
        return c->ffn;
    default:
        return c->hidden;
    }
}

/* Where the sums of an input begin. */
static size_t input_offset(const pq_config *c, pq_observed input, uint32_t layer) {
    size_t per_layer = 0, within = 0;
    for (int i = 0; i < INPUTS_PER_LAYER; i++) {
        if (i < (int)input)
            within += input_columns(c, (pq_observed)i);
        per_layer += input_columns(c, (pq_observed)i);
    }
    return input == PQ_OBSERVED_OUTPUT ? c->layers * per_layer : layer * per_layer + within;
}

static size_t input_number(const pq_config *c, pq_observed input, uint32_t layer) {
    return input == PQ_OBSERVED_OUTPUT ? (size_t)c->layers * INPUTS_PER_LAYER
                                       : (size_t)layer * INPUTS_PER_LAYER + input;
}

static size_t place(pq_observer *o, void *base) {
    const pq_config *c = o->config;
    pq_carver carver = {.base = base};
    o->rows = pq_carve(&carver, input_number(c, PQ_OBSERVED_OUTPUT, 0) + 1, sizeof(uint64_t));
    o->sums = pq_carve(&carver, input_offset(c, PQ_OBSERVED_OUTPUT, 0) + c->hidden, sizeof(double));
    return carver.bytes;
}

pq_status pq_observer_open(pq_observer **out, const pq_config *config, pq_error *err) {
    pq_observer *o = calloc(1, sizeof *o);
    if (!o)
        return pq_fail_memory(err, "an observer", sizeof *o);
    o->config = config;
    o->state_bytes = place(o, NULL);
    o->state = pq_aligned_calloc(o->state_bytes);
    o->before = pq_aligned_alloc(o->state_bytes);
    if (!o->state || !o->before) {
        const pq_status st = pq_fail_memory(err, "the sums of squares", 2 * o->state_bytes);
        pq_observer_close(o);
        return st;
    }
    place(o, o->state);
    *out = o;
    return PQ_OK;
}

void pq_observer_close(pq_observer *o) {
    if (!o)
        return;
    pq_aligned_free(o->state);
    pq_aligned_free(o->before);
    free(o);
}

void pq_observer_begin(pq_observer *o) {
    memcpy(o->before, o->state, o->state_bytes);
}

void pq_observer_end(pq_observer *o, int keep) {
    if (!keep)
        memcpy(o->state, o->before, o->state_bytes);
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

pq_status pq_observer_add(pq_observer *o, const pq_workers *workers, pq_observed input,
                          uint32_t layer, const float *x, size_t rows, pq_error *err) {
    const pq_config *c = o->config;
    add_job job = {.x = x,
                   .rows = rows,
                   .columns = input_columns(c, input),
                   .sums = o->sums + input_offset(c, input, layer)};
    o->rows[input_number(c, input, layer)] += rows;
    return pq_pool_run(workers->threads, (job.columns + COLUMNS_PER_CHUNK - 1) / COLUMNS_PER_CHUNK,
                       add_chunk, &job, workers->cancel, err);
}

const double *pq_observer_sums(const pq_observer *o, pq_observed input, uint32_t layer,
                               size_t *columns, uint64_t *rows) {
    const pq_config *c = o->config;
    if ((int)input < 0 || input > PQ_OBSERVED_OUTPUT ||
        layer >= (input == PQ_OBSERVED_OUTPUT ? 1 : c->layers))
        return NULL;
    *columns = input_columns(c, input);
    *rows = o->rows[input_number(c, input, layer)];
    return o->sums + input_offset(c, input, layer);
}
