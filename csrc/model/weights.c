/* weights.c - from a validated file to a pq_model: every matrix packed into the layout its kernels stream.
 *
 * All weights lie in one block of memory, the image. One walk over them adds up its size, the same walk then
 * fills it: each matrix in parallel, a few row panels at a time, through a buffer, so that the weights are
 * never resident twice.
 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/checksum.h"
#include "../base/float_env.h"
#include "../base/memory.h"
#include "../base/pool.h"
#include "packed.h"

typedef struct loader {
    pq_model *model;
    const pq_model_options *options;
    uint32_t lanes, threads;
    pq_arena image;       /* where the weights go; without a base, only how much there is */
    int is_filled;        /* 1: they are there already */
    uint64_t done, total; /* bytes, for the progress callback */
    pq_error *err;
} loader;

/* A place in the image, or NULL. What alignment leaves free behind it is set to zero. */
static void *take(loader *l, uint64_t count, size_t element_bytes) {
    uint8_t *place = pq_arena_take(&l->image, count, element_bytes);
    if (place && !l->is_filled) {
        const size_t bytes = (size_t)count * element_bytes;
        memset(place + bytes, 0, (size_t)(l->image.base + l->image.bytes - place) - bytes);
    }
    return place;
}

static pq_status report_progress(loader *l, uint64_t bytes) {
    l->done += bytes;
    if (l->options->progress &&
        l->options->progress(l->options->progress_arg, l->done, l->total) != 0)
        return pq_fail(l->err, PQ_ERR_CANCELLED, "loading was cancelled");
    return PQ_OK;
}

/* ------------------------------------------------------------------------------------------- matrices */

static uint64_t matrix_bytes(const pq_tensor *t, uint32_t lanes) {
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
    uint8_t *copy = out->data ? NULL : take(l, t->bytes, 1);
    if (out->data) {
        l->model->mapped = 1;
        l->model->mapped_bytes += t->bytes;
    }
    if (!l->image.base || l->is_filled)
        return PQ_OK;
    if (copy) {
        out->data = copy;
        const pq_status st = pq_file_read(l->model->file, t, 0, t->bytes, copy, l->err);
        if (st != PQ_OK)
            return st;
    }
    return report_progress(l, t->bytes);
}

/* Source bytes of a chunk, about: they and what becomes of them stay in the second-level cache. */
enum { CHUNK_BYTES = 256 * 1024 };

typedef struct pack_job {
    const pq_file *file;
    const pq_tensor *tensor;
    const pq_matrix *matrix;
    uint8_t *packed;
    size_t row_bytes;
    size_t panels;       /* of a chunk */
    uint8_t *buffers;    /* (threads, panels * lanes * row_bytes) */
    pq_error *errors;    /* (threads) */
    pq_status *statuses; /* (threads) */
} pack_job;

/* Read through the system even where the file is mapped: a copy that stays in the cache is cheaper than
 * the faults of a map, nothing of the source becomes resident, and a file that was cut is an error. */
static void pack_chunk(void *arg, size_t chunk, unsigned thread) {
    pack_job *job = arg;
    const pq_matrix *m = job->matrix;
    const size_t most = job->panels * m->lanes, first = chunk * most;
    const size_t n = m->rows - first < most ? m->rows - first : most;
    uint8_t *buffer = job->buffers + thread * most * job->row_bytes;
    if (job->statuses[thread] != PQ_OK)
        return;
    job->statuses[thread] = pq_file_read(job->file, job->tensor, first * job->row_bytes,
                                         n * job->row_bytes, buffer, &job->errors[thread]);
    for (size_t row = 0; row < n && job->statuses[thread] == PQ_OK; row += m->lanes)
        pq_pack_panel(m->type, m->cols, m->lanes, buffer + row * job->row_bytes,
                      n - row < m->lanes ? n - row : m->lanes,
                      job->packed + (first + row) / m->lanes * m->panel_bytes);
}

static pq_status run_pack(loader *l, pack_job *job) {
    const size_t rows = job->panels * job->matrix->lanes;
    pq_status st = pq_pool_run(l->threads, (job->matrix->rows + rows - 1) / rows, pack_chunk, job,
                               NULL, l->err);
    for (uint32_t i = 0; st == PQ_OK && i < l->threads; i++)
        if ((st = job->statuses[i]) != PQ_OK && l->err)
            *l->err = job->errors[i];
    return st;
}

/* A matrix to multiply with: packed unless the kernels take rows as they are. */
static pq_status load_matrix(loader *l, const pq_tensor *t, pq_matrix *out) {
    if (l->lanes == 1)
        return load_as_is(l, t, out);
    pq_matrix m = describe(t, l->lanes);
    uint8_t *packed = take(l, matrix_bytes(t, l->lanes), 1);
    if (!l->image.base)
        return PQ_OK;
    m.data = packed;
    *out = m;
    if (l->is_filled)
        return PQ_OK;
    pack_job job = {.file = l->model->file,
                    .tensor = t,
                    .matrix = &m,
                    .packed = packed,
                    .row_bytes = (size_t)(t->bytes / t->dims[1]),
                    .errors = calloc(l->threads, sizeof *job.errors),
                    .statuses = calloc(l->threads, sizeof *job.statuses)};
    const size_t panels = (m.rows + l->lanes - 1) / l->lanes; /* a small matrix needs few */
    job.panels = CHUNK_BYTES / (l->lanes * job.row_bytes);
    job.panels = job.panels < panels ? job.panels : panels;
    if (job.panels == 0)
        job.panels = 1;
    const uint64_t rows = (uint64_t)l->threads * l->lanes * job.panels;
    size_t bytes;
    if (pq_checked_size(rows, job.row_bytes, &bytes))
        job.buffers = malloc(bytes);
    const pq_status st = job.errors && job.statuses && job.buffers
                             ? run_pack(l, &job)
                             : pq_fail_memory(l->err, "packing", rows * job.row_bytes);
    free(job.buffers);
    free(job.errors);
    free(job.statuses);
    return st == PQ_OK ? report_progress(l, t->bytes) : st;
}

/* ------------------------------------------------------------------------------- vectors and the whole */

/* A norm's or a bias's values in float32; NULL stays NULL. */
static pq_status load_vector(loader *l, const pq_tensor *t, float **out) {
    *out = NULL;
    if (!t)
        return PQ_OK;
    const size_t n = (size_t)t->dims[0];
    float *values = take(l, n, sizeof *values);
    *out = values;
    if (!l->image.base || l->is_filled)
        return PQ_OK;
    void *raw = malloc((size_t)t->bytes);
    pq_status st = raw ? pq_file_read(l->model->file, t, 0, t->bytes, raw, l->err)
                       : pq_fail_memory(l->err, t->name, t->bytes);
    if (st == PQ_OK)
        st = pq_dequantize(t->type, raw, n, values, l->err);
    free(raw);
    return st == PQ_OK ? report_progress(l, t->bytes) : st;
}

static pq_status load_tensor(loader *l, const pq_tensor_spec *spec, uint32_t layer) {
    pq_model *m = l->model;
    const pq_tensor *t;
    const pq_status st = pq_find_tensor(&t, m->file, &m->config, &spec->is, layer, l->err);
    if (st != PQ_OK)
        return st;
    uint8_t *owner = spec->is.in_layer ? (uint8_t *)&m->layers[layer] : (uint8_t *)m;
    void *member = owner + spec->member;
    switch (spec->is.kind) {
    case PQ_TENSOR_LOOKUP: /* when tied, it is packed as the output matrix */
        return m->config.tied ? PQ_OK : load_as_is(l, t, member);
    case PQ_TENSOR_MATRIX:
        return load_matrix(l, t, member);
    default:
        return load_vector(l, t, member);
    }
}

static pq_status load_layer(loader *l, uint32_t layer) {
    pq_tensor_spec spec;
    pq_status st = PQ_OK;
    for (uint32_t i = 0; st == PQ_OK && pq_tensor_spec_at(&spec, &l->model->config, i); i++)
        if (spec.is.in_layer)
            st = load_tensor(l, &spec, layer);
    return st;
}

/* Walks over all weights: without an image it only adds up how large one must be, else it fills it. */
static pq_status load_all(loader *l) {
    pq_model *m = l->model;
    pq_tensor_spec spec;
    pq_status st = PQ_OK;
    l->image.bytes = 0;
    m->mapped_bytes = 0;
    for (uint32_t i = 0; st == PQ_OK && pq_tensor_spec_at(&spec, &m->config, i); i++)
        if (!spec.is.in_layer)
            st = load_tensor(l, &spec, 0);
    for (uint32_t i = 0; st == PQ_OK && i < m->config.layers; i++)
        st = load_layer(l, i);
    if (st != PQ_OK || !l->image.base)
        return st;
    if (m->config.tied)
        m->embedding = m->output;
    const pq_float_env env = pq_float_env_enter();
    pq_rope_frequencies(&m->config, m->rope_factors, m->rope_freqs, &m->rope_scale);
    pq_float_env_write(env);
    return PQ_OK;
}

static pq_status make_tables(loader *l) {
    pq_model *m = l->model;
    m->layers = calloc(m->config.layers, sizeof *m->layers);
    m->rope_freqs = calloc(m->config.head_dim / 2, sizeof *m->rope_freqs);
    return m->layers && m->rope_freqs ? PQ_OK
                                      : pq_fail_memory(l->err, "the table of layers",
                                                       m->config.layers * sizeof *m->layers);
}

static uint64_t table_bytes(const pq_config *c) {
    return c->layers * sizeof(pq_layer) + c->head_dim / 2 * sizeof(double);
}

static pq_status identify(const pq_model *m, uint32_t lanes, pq_packed_id *out, pq_error *err) {
    *out =
        (pq_packed_id){.image_bytes = m->image_bytes, .lanes = lanes, .version = PQ_PACKED_VERSION};
    return pq_file_identity(m->file, out->source, err);
}

/* Verified bytes of the image count as loaded bytes of the file. */
static int step_of_verification(void *arg, uint64_t bytes) {
    loader *l = arg;
    const uint64_t whole = l->model->image_bytes;
    l->done = (uint64_t)((double)bytes / (double)whole * (double)l->total);
    return report_progress(l, 0) != PQ_OK;
}

/* The image from the file of packed weights, if that can be used. */
static pq_status map_image(loader *l) {
    pq_model *m = l->model;
    pq_packed_id id;
    pq_error problem;
    pq_status st = identify(m, l->lanes, &id, l->err);
    if (st != PQ_OK)
        return st;
    st = pq_packed_map(&m->packed, l->options->packed, &id, l->threads, step_of_verification, l,
                       &problem);
    if (st == PQ_OK) {
        m->image = m->packed.data + pq_packed_offset(m->image_bytes);
        l->is_filled = 1;
    } else if (st == PQ_ERR_CANCELLED || st == PQ_ERR_FORKED) {
        return pq_fail(l->err, st, "%s", problem.text);
    } else {
        l->done = 0;
        memcpy(m->packed_problem, problem.text, sizeof m->packed_problem - 1);
    }
    return PQ_OK;
}

/* Finds the image, or takes memory for it, having added up how large it is. */
static pq_status make_room(loader *l) {
    pq_model *m = l->model;
    pq_status st = make_tables(l);
    if (st == PQ_OK)
        st = load_all(l);
    m->image_bytes = l->image.bytes;
    const int packable = l->lanes > 1 && pq_file_is_mapped(m->file);
    if (st == PQ_OK && l->options->packed && packable)
        st = map_image(l);
    if (st != PQ_OK)
        return st;
    /* Never written to where it is filled. */
    l->image.base = l->is_filled ? (uint8_t *)(uintptr_t)m->image : pq_large_alloc(m->image_bytes);
    m->image = l->image.base;
    m->packs = packable && !l->is_filled;
    return m->image ? PQ_OK : pq_fail_memory(l->err, "the weights", m->image_bytes);
}

/* Adds up what the weights of a file take, into a model that holds nothing. */
static pq_status measure(pq_model *m, const pq_file *file, const pq_config *config, uint32_t lanes,
                         pq_error *err) {
    *m = (pq_model){.config = *config, .file = file};
    loader l = {.model = m, .lanes = lanes, .err = err};
    pq_status st = make_tables(&l);
    if (st == PQ_OK)
        st = load_all(&l);
    free(m->layers);
    free(m->rope_freqs);
    m->layers = NULL;
    m->rope_freqs = NULL;
    m->image_bytes = l.image.bytes;
    return st;
}

pq_status pq_loaded_bytes(uint64_t *out, const pq_file *file, const pq_config *config,
                          uint32_t lanes, pq_error *err) {
    pq_model m;
    const pq_status st = measure(&m, file, config, lanes, err);
    *out = pq_model_weight_bytes(&m);
    return st;
}

pq_status pq_packed_key(const pq_file *file, const pq_model_options *options, char *key,
                        uint64_t *bytes, pq_error *err) {
    if (!file || !options || !key || !bytes)
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_packed_key: a NULL argument");
    const pq_kernels *kernels;
    pq_config config;
    pq_model m;
    pq_packed_id id;
    pq_status st = pq_kernels_select(&kernels, options->isa, err);
    if (st == PQ_OK)
        st = pq_config_read(&config, file, err);
    if (st != PQ_OK)
        return st;
    if (options->exact || kernels->lanes == 1 || !pq_file_is_mapped(file)) {
        *key = '\0';
        *bytes = 0;
        return PQ_OK;
    }
    if ((st = measure(&m, file, &config, kernels->lanes, err)) != PQ_OK ||
        (st = identify(&m, kernels->lanes, &id, err)) != PQ_OK)
        return st;
    *bytes = pq_packed_offset(id.image_bytes) + id.image_bytes;
    for (int i = 0; i < 2; i++) /* the layout is part of the name */
        id.source[i] = pq_checksum(id.source[i], &id, sizeof id);
    snprintf(key, PQ_PACKED_KEY_BYTES, "%016llx%016llx-%u", (unsigned long long)id.source[0],
             (unsigned long long)id.source[1], kernels->lanes);
    return PQ_OK;
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
    m->coarse = options->coarse;
    pq_status st = pq_kernels_select(&m->kernels, options->isa, err);
    if (st == PQ_OK) {
        l.lanes = m->exact ? 1 : m->kernels->lanes;
        st = pq_config_read(&m->config, file, err);
    }
    if (st == PQ_OK)
        st = make_room(&l);
    if (st == PQ_OK)
        st = load_all(&l);
    if (st == PQ_OK)
        st = pq_file_check_unchanged(file, err);
    if (st == PQ_OK && l.is_filled)
        st = report_progress(&l, l.total - l.done);
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
    if (m->packed.data)
        pq_map_close(&m->packed);
    else
        pq_large_free((uint8_t *)(uintptr_t)m->image, m->image_bytes);
    free(m->layers);
    free(m->rope_freqs);
    free(m);
}

const pq_config *pq_model_config(const pq_model *m) {
    return &m->config;
}
const char *pq_model_isa(const pq_model *m) {
    return m->kernels->isa;
}
uint64_t pq_model_weight_bytes(const pq_model *m) {
    return m->image_bytes + m->mapped_bytes + table_bytes(&m->config);
}
const char *pq_model_packed_problem(const pq_model *m) {
    return m->packed_problem;
}

pq_status pq_model_check_unchanged(const pq_model *m, pq_error *err) {
    const pq_status st = m->mapped ? pq_file_check_unchanged(m->file, err) : PQ_OK;
    return st == PQ_OK && m->packed.data ? pq_map_check(&m->packed, "the packed weights", err) : st;
}
