/* weights.c - from a validated file to a pq_model: every matrix packed into the layout its kernels stream.
 *
 * Packing runs in parallel, a few row panels at a time, and the source pages of a mapped file are given back
 * as it goes, so that the weights are never resident twice.
 */
#include "model.h"

#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/float_env.h"
#include "../base/memory.h"
#include "../base/pool.h"

typedef struct loader {
    pq_model *model;
    const pq_model_options *options;
    uint32_t threads;
    uint64_t done, total; /* bytes, for the progress callback */
    pq_error *err;
} loader;

/* ------------------------------------------------------------------------------------------ ownership */

static void *keep(loader *l, void *p, const char *what, size_t bytes) {
    pq_model *m = l->model;
    if (p && m->n_owned == m->owned_room) {
        const size_t room = m->owned_room ? 2 * m->owned_room : 64;
        void **grown = realloc(m->owned, room * sizeof *grown);
        if (!grown) {
            pq_aligned_free(p);
            p = NULL;
        } else {
            m->owned = grown;
            m->owned_room = room;
        }
    }
    if (!p) {
        pq_fail_memory(l->err, what, bytes);
        return NULL;
    }
    m->owned[m->n_owned++] = p;
    m->weight_bytes += bytes;
    return p;
}

static void *own(loader *l, const char *what, uint64_t bytes) {
    return keep(l, bytes <= SIZE_MAX ? pq_aligned_alloc((size_t)bytes) : NULL, what, (size_t)bytes);
}

static pq_status report_progress(loader *l, uint64_t bytes) {
    l->done += bytes;
    if (l->options->progress &&
        l->options->progress(l->options->progress_arg, l->done, l->total) != 0)
        return pq_fail(l->err, PQ_ERR_CANCELLED, "loading was cancelled");
    return PQ_OK;
}

/* ------------------------------------------------------------------------------------------- matrices */

uint64_t pq_matrix_bytes(const pq_tensor *t, uint32_t lanes) {
    if (lanes == 1)
        return t->bytes;
    return (t->dims[1] + lanes - 1) / lanes * pq_panel_bytes(t->type, t->dims[0], lanes);
}

static pq_matrix describe(const pq_tensor *t, uint32_t lanes) {
    return (pq_matrix){.type = t->type,
                       .lanes = lanes,
                       .rows = t->dims[1],
                       .cols = t->dims[0],
                       .panel_bytes = pq_panel_bytes(t->type, t->dims[0], lanes)};
}

/* A matrix left as it is in the file: in the map, or read into memory. */
static pq_status load_as_is(loader *l, const pq_tensor *t, pq_matrix *out) {
    *out = describe(t, 1);
    out->data = pq_file_tensor_map(l->model->file, t);
    if (out->data) {
        l->model->mapped = 1;
        l->model->weight_bytes += t->bytes;
        return report_progress(l, t->bytes);
    }
    uint8_t *copy = own(l, t->name, t->bytes);
    if (!copy)
        return PQ_ERR_MEMORY;
    out->data = copy;
    const pq_status st = pq_file_read(l->model->file, t, 0, t->bytes, copy, l->err);
    return st == PQ_OK ? report_progress(l, t->bytes) : st;
}

enum { PANELS_PER_CHUNK = 16 };

typedef struct pack_job {
    const pq_file *file;
    const pq_tensor *tensor;
    const pq_matrix *matrix;
    uint8_t *packed;
    size_t row_bytes;
    const uint8_t *map;  /* the source, or NULL: */
    uint8_t *buffers;    /* (threads, lanes * row_bytes) read into here */
    pq_error *errors;    /* (threads) */
    pq_status *statuses; /* (threads) */
} pack_job;

static void pack_chunk(void *arg, size_t chunk, unsigned thread) {
    pack_job *job = arg;
    const pq_matrix *m = job->matrix;
    const size_t first = chunk * PANELS_PER_CHUNK * m->lanes;
    const size_t end = first + PANELS_PER_CHUNK * m->lanes;
    const size_t stop = end < m->rows ? end : m->rows;
    for (size_t row = first; row < stop && job->statuses[thread] == PQ_OK; row += m->lanes) {
        const size_t n = stop - row < m->lanes ? stop - row : m->lanes;
        const uint8_t *source = job->map ? job->map + row * job->row_bytes : NULL;
        if (!source) {
            uint8_t *buffer = job->buffers + thread * m->lanes * job->row_bytes;
            job->statuses[thread] = pq_file_read(job->file, job->tensor, row * job->row_bytes,
                                                 n * job->row_bytes, buffer, &job->errors[thread]);
            if (job->statuses[thread] != PQ_OK)
                return;
            source = buffer;
        }
        pq_pack_panel(m->type, m->cols, m->lanes, source, n,
                      job->packed + row / m->lanes * m->panel_bytes);
    }
    if (job->map)
        pq_file_release(job->file, job->tensor, first * job->row_bytes,
                        (stop - first) * job->row_bytes);
}

static pq_status run_pack(loader *l, pack_job *job) {
    const size_t per_chunk = (size_t)PANELS_PER_CHUNK * job->matrix->lanes;
    pq_status st = pq_pool_run(l->threads, (job->matrix->rows + per_chunk - 1) / per_chunk,
                               pack_chunk, job, NULL, l->err);
    for (uint32_t i = 0; st == PQ_OK && i < l->threads; i++)
        if ((st = job->statuses[i]) != PQ_OK && l->err)
            *l->err = job->errors[i];
    return st;
}

/* A matrix to multiply with: packed unless the kernels take rows as they are. */
static pq_status load_matrix(loader *l, const pq_tensor *t, pq_matrix *out) {
    const uint32_t lanes = l->model->exact ? 1 : l->model->kernels->lanes;
    pq_status st;
    if (lanes == 1)
        return load_as_is(l, t, out);
    pq_matrix m = describe(t, lanes);
    uint8_t *packed = own(l, t->name, pq_matrix_bytes(t, lanes));
    if (!packed)
        return PQ_ERR_MEMORY;
    m.data = packed;
    pack_job job = {.file = l->model->file,
                    .tensor = t,
                    .matrix = &m,
                    .packed = packed,
                    .row_bytes = (size_t)(t->bytes / t->dims[1]),
                    .map = pq_file_tensor_map(l->model->file, t),
                    .errors = calloc(l->threads, sizeof *job.errors),
                    .statuses = calloc(l->threads, sizeof *job.statuses)};
    const uint64_t buffers = (uint64_t)l->threads * lanes;
    size_t buffer_bytes;
    if (!job.map && pq_checked_size(buffers, job.row_bytes, &buffer_bytes))
        job.buffers = malloc(buffer_bytes);
    if (job.errors && job.statuses && (job.map || job.buffers)) {
        st = run_pack(l, &job);
        pq_file_release(job.file, t, 0, t->bytes); /* also the pages that two chunks shared */
    } else {
        st = pq_fail_memory(l->err, "packing", buffers * job.row_bytes);
    }
    free(job.buffers);
    free(job.errors);
    free(job.statuses);
    *out = m;
    return st == PQ_OK ? report_progress(l, t->bytes) : st;
}

/* ------------------------------------------------------------------------------- vectors and the whole */

/* A norm's or a bias's values in float32; NULL stays NULL. */
static pq_status load_vector(loader *l, const pq_tensor *t, float **out) {
    *out = NULL;
    if (!t)
        return PQ_OK;
    const size_t n = (size_t)t->dims[0];
    void *raw = malloc((size_t)t->bytes);
    float *values = own(l, t->name, n * sizeof *values);
    pq_status st = PQ_ERR_MEMORY;
    if (!raw)
        pq_fail_memory(l->err, t->name, t->bytes);
    else if (values)
        st = pq_file_read(l->model->file, t, 0, t->bytes, raw, l->err);
    if (st == PQ_OK)
        st = pq_dequantize(t->type, raw, n, values, l->err);
    free(raw);
    *out = values;
    return st == PQ_OK ? report_progress(l, t->bytes) : st;
}

static pq_status load_layer(loader *l, uint32_t index) {
    pq_layer *layer = &l->model->layers[index];
    pq_layer_tensors t;
    pq_status st = pq_find_layer_tensors(&t, l->model->file, &l->model->config, index, l->err);
    const struct {
        const pq_tensor *from;
        float **to;
    } vectors[] = {{t.attn_norm, &layer->attn_norm},
                   {t.ffn_norm, &layer->ffn_norm},
                   {t.q_bias, &layer->q_bias},
                   {t.k_bias, &layer->k_bias},
                   {t.v_bias, &layer->v_bias}};
    const struct {
        const pq_tensor *from;
        pq_matrix *to;
    } matrices[] = {{t.q, &layer->q},      {t.k, &layer->k},       {t.v, &layer->v},
                    {t.o, &layer->o},      {t.gate, &layer->gate}, {t.up, &layer->up},
                    {t.down, &layer->down}};
    for (size_t i = 0; st == PQ_OK && i < sizeof vectors / sizeof *vectors; i++)
        st = load_vector(l, vectors[i].from, vectors[i].to);
    for (size_t i = 0; st == PQ_OK && i < sizeof matrices / sizeof *matrices; i++)
        st = load_matrix(l, matrices[i].from, matrices[i].to);
    return st;
}

static pq_status load_rope(loader *l, const pq_tensor *factors) {
    pq_model *m = l->model;
    float *values = NULL;
    pq_status st = load_vector(l, factors, &values);
    if (st != PQ_OK)
        return st;
    m->rope_freqs = own(l, "rotary frequencies", m->config.head_dim / 2 * sizeof *m->rope_freqs);
    if (!m->rope_freqs)
        return PQ_ERR_MEMORY;
    const pq_float_env env = pq_float_env_enter();
    pq_rope_frequencies(&m->config, values, m->rope_freqs, &m->rope_scale);
    pq_float_env_write(env);
    return PQ_OK;
}

static pq_status load_all(loader *l) {
    pq_model *m = l->model;
    pq_model_tensors t;
    pq_status st = pq_find_model_tensors(&t, m->file, &m->config, l->err);
    if (st != PQ_OK)
        return st;
    m->layers = own(l, "the table of layers", m->config.layers * sizeof *m->layers);
    if (!m->layers)
        return PQ_ERR_MEMORY;
    memset(m->layers, 0, m->config.layers * sizeof *m->layers);
    if ((st = load_vector(l, t.output_norm, &m->output_norm)) != PQ_OK ||
        (st = load_rope(l, t.rope_factors)) != PQ_OK)
        return st;
    if (m->config.tied) {
        if ((st = load_matrix(l, t.embedding, &m->output)) != PQ_OK)
            return st;
        m->embedding = m->output;
    } else if ((st = load_matrix(l, t.output, &m->output)) != PQ_OK ||
               (st = load_as_is(l, t.embedding, &m->embedding)) != PQ_OK)
        return st;
    for (uint32_t i = 0; st == PQ_OK && i < m->config.layers; i++)
        st = load_layer(l, i);
    return st;
}

pq_status pq_model_open(pq_model **out, const pq_file *file, const pq_model_options *options,
                        pq_error *err) {
    if (!out || !file || !options)
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_model_open: a NULL argument");
    pq_model *m = calloc(1, sizeof *m);
    if (!m)
        return pq_fail_memory(err, "a model", sizeof *m);
    pq_file_info info;
    pq_file_describe(file, &info);
    loader l = {.model = m,
                .options = options,
                .threads = options->threads ? options->threads : pq_default_threads(),
                .total = info.tensor_bytes,
                .err = err};
    if (l.threads > PQ_MAX_THREADS)
        l.threads = PQ_MAX_THREADS;
    m->file = file;
    m->exact = options->exact;
    pq_status st = pq_kernels_select(&m->kernels, options->isa, err);
    if (st == PQ_OK)
        st = pq_config_read(&m->config, file, err);
    if (st == PQ_OK)
        st = load_all(&l);
    if (st == PQ_OK)
        st = pq_file_check_unchanged(file, err);
    if (st != PQ_OK) {
        pq_model_close(m);
        return st;
    }
    *out = m;
    return PQ_OK;
}

void pq_model_close(pq_model *m) {
    if (!m)
        return;
    for (size_t i = 0; i < m->n_owned; i++)
        pq_aligned_free(m->owned[i]);
    free(m->owned);
    free(m);
}

const pq_config *pq_model_config(const pq_model *m) {
    return &m->config;
}
const char *pq_model_isa(const pq_model *m) {
    return m->kernels->isa;
}
uint64_t pq_model_weight_bytes(const pq_model *m) {
    return m->weight_bytes;
}
