/* session.c - pq_session: sequences in a KV cache, evaluation of batches, and what is done with the final
 * hidden states (logits, log-probabilities, samples). Also the memory plan, which must agree with it.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/checksum.h"
#include "../base/float_env.h"
#include "../base/memory.h"
#include "../base/pool.h"
#include "../kernels/kv_layout.h"
#include "divergence.h"
#include "forward.h"
#include "sampler.h"

enum {
    DEFAULT_BATCH = 256,
    MAX_BATCH = 4096,
    MAX_SEQUENCES = 1024,
    LOGIT_ROWS = 16 /* rows of logits held at once, by logprobs and by sampling */
};

struct pq_session {
    const pq_model *model;
    uint32_t threads;
    pq_kv_cache cache;
    pq_workspace ws;
    void *memory; /* the workspace's */
    size_t memory_bytes;
    pq_workers workers;
    pq_span *spans;   /* (batch) */
    float *logits;    /* (LOGIT_ROWS, vocab_rows), allocated when first needed */
    uint32_t outputs; /* rows in ws.outputs */
    pq_adapter_room adapters;
    pq_imatrix *imatrix; /* NULL: off */
    atomic_int cancel;
};

/* --------------------------------------------------------------------------------- options and memory */

static pq_status complete_options(pq_session_options *o, const pq_config *c, pq_error *err) {
    if (o->context == 0)
        o->context = c->context;
    if (o->batch == 0)
        o->batch = DEFAULT_BATCH;
    if (o->threads == 0)
        o->threads = pq_default_threads();
    if (o->batch > o->context) /* but one row for each sequence */
        o->batch = o->context > o->sequences ? o->context : o->sequences;
    if (o->threads > PQ_MAX_THREADS)
        return pq_fail(err, PQ_ERR_ARGUMENT, "%u threads; the most is %d", o->threads,
                       PQ_MAX_THREADS);
    if (o->sequences < 1 || o->sequences > MAX_SEQUENCES)
        return pq_fail(err, PQ_ERR_ARGUMENT, "%u sequences; 1 to %d are possible", o->sequences,
                       MAX_SEQUENCES);
    if (o->batch > MAX_BATCH)
        return pq_fail(err, PQ_ERR_ARGUMENT, "a batch of %u rows; the most is %d", o->batch,
                       MAX_BATCH);
    if (o->context > c->context)
        return pq_fail(err, PQ_ERR_ARGUMENT,
                       "a context of %u is longer than the %u this model was trained for",
                       o->context, c->context);
    if (!pq_kv_type_name((uint32_t)o->key_type) || !pq_kv_type_name((uint32_t)o->value_type))
        return pq_fail(err, PQ_ERR_ARGUMENT, "unknown types of KV cache: %d, %d", (int)o->key_type,
                       (int)o->value_type);
    return PQ_OK;
}

static size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t gemm_scratch(const pq_kernels *kernels, const pq_tensor *t, uint32_t lanes) {
    const pq_matrix m = {.type = t->type, .lanes = lanes, .rows = t->dims[1], .cols = t->dims[0]};
    return pq_gemm_scratch(kernels, &m);
}

/* Scratch bytes per thread: the most that any matrix or attention asks for. */
static pq_status scratch_size(size_t *out, const pq_file *file, const pq_config *c,
                              const pq_kernels *kernels, uint32_t lanes, pq_error *err) {
    pq_tensor_spec spec;
    size_t most = pq_attention_scratch(c);
    for (uint32_t i = 0; pq_tensor_spec_at(&spec, c, i); i++) {
        const uint32_t layers = spec.is.in_layer ? c->layers : 1;
        for (uint32_t layer = 0; spec.is.kind == PQ_TENSOR_MATRIX && layer < layers; layer++) {
            const pq_tensor *t;
            const pq_status st = pq_find_tensor(&t, file, c, &spec.is, layer, err);
            if (st != PQ_OK)
                return st;
            most = max_size(most, gemm_scratch(kernels, t, lanes));
        }
    }
    *out = (most + PQ_ALIGN - 1) / PQ_ALIGN * PQ_ALIGN;
    return PQ_OK;
}

static size_t embedding_row_bytes(const pq_file *file, const pq_config *c) {
    pq_tensor_spec spec;
    pq_tensor_spec_of_kind(&spec, c, PQ_TENSOR_LOOKUP);
    const pq_tensor *t = pq_file_find_tensor(file, spec.is.name);
    return (size_t)(t->bytes / t->dims[1]);
}

/* The cache of all sequences at full context; UINT64_MAX if 64 bits cannot count it. */
static uint64_t full_cache_bytes(const pq_session_options *o, uint64_t block_bytes) {
    const uint64_t blocks = (uint64_t)o->sequences * ((o->context + PQ_KV_BLOCK - 1) / PQ_KV_BLOCK);
    uint64_t bytes;
    return pq_checked_mul(blocks, block_bytes, &bytes) ? bytes : UINT64_MAX;
}

static uint64_t logits_bytes(const pq_config *c) {
    return (uint64_t)LOGIT_ROWS * c->vocab_rows * sizeof(float);
}

pq_status pq_plan(pq_memory_plan *out, const pq_file *file, const pq_model_options *model,
                  const pq_session_options *session, pq_error *err) {
    if (!out || !file || !model || !session)
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_plan: a NULL argument");
    pq_config c;
    const pq_kernels *kernels;
    pq_session_options o = *session;
    size_t scratch;
    pq_status st = pq_config_read(&c, file, err);
    if (st != PQ_OK || (st = pq_kernels_select(&kernels, model->isa, err)) != PQ_OK ||
        (st = complete_options(&o, &c, err)) != PQ_OK)
        return st;
    const uint32_t lanes = model->exact ? 1 : kernels->lanes;
    uint64_t weights;
    if ((st = scratch_size(&scratch, file, &c, kernels, lanes, err)) != PQ_OK ||
        (st = pq_loaded_bytes(&weights, file, &c, lanes, err)) != PQ_OK)
        return st;
    const uint64_t block = pq_kv_block_bytes(&c, o.key_type, o.value_type);
    const int key_bias = pq_file_find_tensor(file, "blk.0.attn_k.bias") != NULL;
    out->weights = weights;
    out->kv_per_token = block / PQ_KV_BLOCK;
    out->kv = full_cache_bytes(&o, block);
    out->compute = pq_workspace_bytes(&c, o.batch, o.threads, o.context,
                                      embedding_row_bytes(file, &c), scratch) +
                   logits_bytes(&c) + pq_kv_table_bytes(&c, o.key_type, key_bias, o.context);
    return PQ_OK;
}

pq_status pq_session_open(pq_session **out, const pq_model *model,
                          const pq_session_options *options, pq_error *err) {
    if (!out || !model || !options)
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_session_open: a NULL argument");
    const pq_config *c = &model->config;
    pq_session_options o = *options;
    size_t scratch;
    pq_status st = complete_options(&o, c, err);
    if (st == PQ_OK)
        st = scratch_size(&scratch, model->file, c, model->kernels,
                          model->exact ? 1 : model->kernels->lanes, err);
    if (st != PQ_OK)
        return st;
    const size_t row_blocks = embedding_row_bytes(model->file, c);
    const size_t bytes = pq_workspace_bytes(c, o.batch, o.threads, o.context, row_blocks, scratch);
    pq_session *s = calloc(1, sizeof *s);
    if (!s)
        return pq_fail_memory(err, "a session", sizeof *s);
    s->model = model;
    s->threads = o.threads;
    s->memory_bytes = bytes;
    s->memory = pq_large_alloc(bytes);
    s->spans = malloc(o.batch * sizeof *s->spans);
    if (!s->memory || !s->spans)
        st = pq_fail_memory(err, "the activations of a batch", bytes);
    else
        st = pq_kv_open(&s->cache, model, o.key_type, o.value_type, o.context, o.sequences, err);
    if (st != PQ_OK) {
        pq_session_close(s);
        return st;
    }
    pq_workspace_place(&s->ws, s->memory, c, o.batch, o.threads, o.context, row_blocks, scratch);
    s->workers = (pq_workers){.threads = o.threads,
                              .scratch = s->ws.scratch,
                              .scratch_bytes = s->ws.scratch_bytes,
                              .cancel = &s->cancel};
    *out = s;
    return PQ_OK;
}

void pq_session_close(pq_session *s) {
    if (!s)
        return;
    pq_kv_close(&s->cache);
    pq_adapter_room_close(&s->adapters);
    pq_imatrix_close(s->imatrix);
    pq_large_free(s->memory, s->memory_bytes);
    pq_aligned_free(s->logits);
    free(s->spans);
    free(s);
}

/* -------------------------------------------------------------------------------------------- sequences */

uint32_t pq_session_context(const pq_session *s) {
    return s->cache.context;
}
uint32_t pq_session_threads(const pq_session *s) {
    return s->threads;
}
uint32_t pq_session_batch(const pq_session *s) {
    return s->ws.batch;
}
const char *pq_session_kv_format(const pq_session *s) {
    return s->cache.format;
}

uint64_t pq_session_kv_bytes(const pq_session *s) {
    return s->cache.allocated;
}

uint32_t pq_session_length(const pq_session *s, uint32_t sequence) {
    return sequence < s->cache.n_sequences ? s->cache.sequences[sequence].length : 0;
}

static pq_status check_prefix(const pq_session *s, uint32_t sequence, uint32_t length,
                              pq_error *err) {
    if (sequence >= s->cache.n_sequences)
        return pq_fail(err, PQ_ERR_ARGUMENT, "sequence %u of %u", sequence, s->cache.n_sequences);
    if (length > s->cache.sequences[sequence].length)
        return pq_fail(err, PQ_ERR_ARGUMENT, "sequence %u holds %u positions, not %u", sequence,
                       s->cache.sequences[sequence].length, length);
    return PQ_OK;
}

pq_status pq_session_rewind(pq_session *s, uint32_t sequence, uint32_t length, pq_error *err) {
    const pq_status st = check_prefix(s, sequence, length, err);
    if (st == PQ_OK)
        pq_kv_truncate(&s->cache, sequence, length);
    return st;
}

pq_status pq_session_fork(pq_session *s, uint32_t from, uint32_t to, uint32_t length,
                          pq_error *err) {
    const pq_status st = check_prefix(s, from, length, err);
    if (st != PQ_OK)
        return st;
    if (to >= s->cache.n_sequences || to == from)
        return pq_fail(err, PQ_ERR_ARGUMENT, "cannot copy sequence %u to %u", from, to);
    return pq_kv_fork(&s->cache, from, to, length, err);
}

/* ------------------------------------------------------------------------------------------ kept blocks */

uint32_t pq_session_block_positions(void) {
    return PQ_KV_BLOCK;
}

uint64_t pq_session_block_bytes(const pq_session *s) {
    return s->cache.block_bytes;
}

pq_status pq_session_keep(pq_session *s, uint32_t sequence, uint32_t block, uint32_t *kept,
                          pq_error *err) {
    const pq_status st = check_prefix(s, sequence, 0, err);
    return st == PQ_OK ? pq_kv_keep(&s->cache, sequence, block, kept, err) : st;
}

void pq_session_drop(pq_session *s, uint32_t kept) {
    pq_kv_drop(&s->cache, kept);
}

pq_status pq_session_adopt(pq_session *s, uint32_t sequence, const uint32_t *kept, uint32_t n,
                           uint32_t length, pq_error *err) {
    const pq_status st = check_prefix(s, sequence, 0, err);
    return st == PQ_OK ? pq_kv_adopt(&s->cache, sequence, kept, n, length, err) : st;
}

pq_status pq_session_read_block(const pq_session *s, uint32_t kept, uint32_t positions, void *dst,
                                pq_error *err) {
    return pq_kv_read(&s->cache, s->model->kernels, kept, positions, dst, err);
}

pq_status pq_session_write_block(pq_session *s, const void *src, uint32_t *kept, pq_error *err) {
    return pq_kv_write(&s->cache, src, kept, err);
}

pq_status pq_session_identity(const pq_session *s, uint64_t out[3], pq_error *err) {
    const char *format = s->cache.format;
    const uint64_t facts[] = {(uint64_t)s->model->exact, (uint64_t)s->model->coarse};
    uint64_t file[2];
    const pq_status st = pq_file_identity(s->model->file, file, err);
    if (st != PQ_OK)
        return st;
    memcpy(out, file, sizeof file);
    out[2] = pq_checksum(pq_checksum(0, format, strlen(format)), facts, sizeof facts);
    return PQ_OK;
}

pq_status pq_session_set_adapters(pq_session *s, uint32_t sequence,
                                  const pq_adapter *const *adapters, const float *scales,
                                  uint32_t n, pq_error *err) {
    const pq_status st = check_prefix(s, sequence, 0, err);
    return st != PQ_OK ? st
                       : pq_adapter_room_set(&s->adapters, s->model, s->cache.n_sequences,
                                             s->ws.batch, sequence, adapters, scales, n, err);
}

/* ---------------------------------------------------------------------------------------- cancelling */

void pq_session_cancel(pq_session *s, int cancel) {
    atomic_store_explicit(&s->cancel, cancel != 0, memory_order_relaxed);
}

/* ------------------------------------------------------------------------------------------- evaluation */

/* Groups the rows by sequence; refuses ids and sequences out of range before anything is touched. */
static pq_status find_spans(pq_session *s, const pq_row *rows, uint32_t n, size_t *n_spans,
                            pq_error *err) {
    size_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i].token < 0 || (uint32_t)rows[i].token >= s->model->config.vocab_rows)
            return pq_fail(err, PQ_ERR_ARGUMENT, "token id %d is outside 0..%u", rows[i].token,
                           s->model->config.vocab_rows - 1);
        if (rows[i].sequence >= s->cache.n_sequences)
            return pq_fail(err, PQ_ERR_ARGUMENT, "sequence %u of %u", rows[i].sequence,
                           s->cache.n_sequences);
        if (count > 0 && s->spans[count - 1].sequence == rows[i].sequence) {
            s->spans[count - 1].rows++;
            continue;
        }
        for (size_t j = 0; j < count; j++)
            if (s->spans[j].sequence == rows[i].sequence)
                return pq_fail(err, PQ_ERR_ARGUMENT, "the rows of sequence %u are not neighbors",
                               rows[i].sequence);
        s->spans[count++] = (pq_span){.sequence = rows[i].sequence,
                                      .row = i,
                                      .rows = 1,
                                      .start = s->cache.sequences[rows[i].sequence].length};
    }
    *n_spans = count;
    return PQ_OK;
}

static pq_status evaluate(pq_session *s, const pq_row *rows, uint32_t n, size_t n_spans,
                          pq_error *err) {
    for (size_t i = 0; i < n_spans; i++) {
        const pq_status st = pq_kv_reserve(&s->cache, s->spans[i].sequence, s->spans[i].rows, err);
        if (st != PQ_OK)
            return st;
    }
    if (s->imatrix)
        pq_imatrix_begin(s->imatrix);
    const pq_float_env env = pq_float_env_enter();
    const pq_status st = pq_forward(s->model, &s->workers, &s->cache, &s->ws, rows, n, s->spans,
                                    n_spans, &s->adapters, s->imatrix, err);
    pq_float_env_write(env);
    if (s->imatrix)
        pq_imatrix_end(s->imatrix, st == PQ_OK);
    return st;
}

pq_status pq_session_eval(pq_session *s, const pq_row *rows, uint32_t n, pq_error *err) {
    size_t n_spans = 0;
    s->outputs = 0;
    if (!rows || n < 1 || n > s->ws.batch)
        return pq_fail(err, PQ_ERR_ARGUMENT, "a batch of %u rows; 1 to %u are possible", n,
                       s->ws.batch);
    pq_status st = find_spans(s, rows, n, &n_spans, err);
    if (st == PQ_OK)
        st = pq_model_check_unchanged(s->model, err);
    if (st != PQ_OK)
        return st;
    st = evaluate(s, rows, n, n_spans, err);
    for (size_t i = 0; i < n_spans; i++) {
        const pq_span *span = &s->spans[i];
        if (st == PQ_OK)
            s->cache.sequences[span->sequence].length = span->start + span->rows;
        else
            pq_kv_truncate(&s->cache, span->sequence, span->start);
    }
    for (uint32_t i = 0; st == PQ_OK && i < n; i++)
        s->outputs += rows[i].output != 0;
    return st;
}

pq_status pq_session_collect_imatrix(pq_session *s, int on, pq_error *err) {
    pq_imatrix *imatrix = NULL;
    if (on) {
        const pq_status st = pq_imatrix_open(&imatrix, &s->model->config, err);
        if (st != PQ_OK)
            return st;
    }
    pq_imatrix_close(s->imatrix);
    s->imatrix = imatrix;
    return PQ_OK;
}

pq_status pq_session_imatrix(const pq_session *s, pq_imatrix_input input, uint32_t layer,
                             double *sums, size_t columns, uint64_t *rows, pq_error *err) {
    if (!s->imatrix || !sums || !rows)
        return pq_fail(err, PQ_ERR_ARGUMENT,
                       s->imatrix ? "no room for the sums was given"
                                  : "no importance matrix is collected");
    size_t width;
    const double *found = pq_imatrix_sums(s->imatrix, input, layer, &width, rows);
    if (!found || width != columns)
        return pq_fail(err, PQ_ERR_ARGUMENT,
                       "input %d of layer %u with %zu columns is not collected", (int)input, layer,
                       columns);
    memcpy(sums, found, columns * sizeof *sums);
    return PQ_OK;
}

/* ---------------------------------------------------------------------------- from hidden states to logits */

uint32_t pq_session_outputs(const pq_session *s) {
    return s->outputs;
}

static pq_status check_outputs(const pq_session *s, uint32_t first, uint32_t n, pq_error *err) {
    if (first > s->outputs || n > s->outputs - first)
        return pq_fail(err, PQ_ERR_ARGUMENT, "outputs %u to %u; the last evaluation left %u", first,
                       first + n, s->outputs);
    return PQ_OK;
}

/* dst (n, vocab_rows) = the output matrix times n hidden states. */
static pq_status project(pq_session *s, const float *hidden, uint32_t n, float *dst,
                         pq_error *err) {
    const pq_model *m = s->model;
    const pq_acts inputs = pq_workspace_inputs(&s->ws, hidden, n, m->config.hidden);
    const pq_product product = {&m->output, NULL, dst, m->config.vocab_rows};
    const pq_float_env env = pq_float_env_enter();
    const int block = pq_matrix_quantizes(m, &m->output);
    for (uint32_t i = 0; block && i < n; i++)
        pq_quantize_activations(m, &inputs, block, i);
    pq_float_env_write(env);
    return n == 0 ? PQ_OK : pq_linear(m, &s->workers, &inputs, n, &product, 1, NULL, err);
}

pq_status pq_session_logits(pq_session *s, uint32_t first, uint32_t n, float *dst, pq_error *err) {
    pq_status st = check_outputs(s, first, n, err);
    if (st == PQ_OK && n > 0 && !dst)
        st = pq_fail(err, PQ_ERR_ARGUMENT, "no room for the logits was given");
    return st == PQ_OK
               ? project(s, s->ws.outputs + (size_t)first * s->model->config.hidden, n, dst, err)
               : st;
}

pq_status pq_session_hidden(pq_session *s, uint32_t first, uint32_t n, float *dst, pq_error *err) {
    const size_t hidden = s->model->config.hidden;
    pq_status st = check_outputs(s, first, n, err);
    if (st == PQ_OK && n > 0 && !dst)
        st = pq_fail(err, PQ_ERR_ARGUMENT, "no room for the hidden states was given");
    if (st == PQ_OK && n > 0)
        memcpy(dst, s->ws.outputs + first * hidden, n * hidden * sizeof *dst);
    return st;
}

pq_status pq_session_add_hidden(pq_session *s, uint32_t first, uint32_t n, double *sum,
                                pq_error *err) {
    const size_t hidden = s->model->config.hidden;
    pq_status st = check_outputs(s, first, n, err);
    if (st == PQ_OK && n > 0 && !sum)
        st = pq_fail(err, PQ_ERR_ARGUMENT, "no sum of hidden states was given");
    const pq_float_env env = pq_float_env_enter();
    for (uint32_t i = 0; st == PQ_OK && i < n; i++) {
        const float *row = s->ws.outputs + (first + i) * hidden;
        for (size_t j = 0; j < hidden; j++)
            sum[j] += row[j];
    }
    pq_float_env_write(env);
    return st;
}

static pq_status need_logits(pq_session *s, pq_error *err) {
    if (!s->logits)
        s->logits = pq_aligned_alloc((size_t)logits_bytes(&s->model->config));
    return s->logits ? PQ_OK : pq_fail_memory(err, "logits", logits_bytes(&s->model->config));
}

typedef struct logprob_job {
    const pq_session *s;
    const int32_t *targets;
    float *dst;
} logprob_job;

static void logprob_chunk(void *arg, size_t row, unsigned thread) {
    (void)thread;
    const logprob_job *job = arg;
    const pq_config *c = &job->s->model->config;
    const float *logits = job->s->logits + row * c->vocab_rows;
    job->dst[row] =
        logits[job->targets[row]] - job->s->model->kernels->logsumexp(logits, c->real_tokens);
}

static pq_status check_targets(const pq_session *s, const int32_t *targets, uint32_t n,
                               pq_error *err) {
    const uint32_t real_tokens = s->model->config.real_tokens;
    for (uint32_t i = 0; i < n; i++)
        if (targets[i] < 0 || (uint32_t)targets[i] >= real_tokens)
            return pq_fail(err, PQ_ERR_ARGUMENT, "target token %d is outside 0..%u", targets[i],
                           real_tokens - 1);
    return PQ_OK;
}

static pq_status fail_not_numbers(pq_error *err) {
    return pq_fail(err, PQ_ERR_NUMERIC,
                   "the model gave values that are not numbers; its weights are damaged");
}

pq_status pq_session_logprobs(pq_session *s, uint32_t first, uint32_t n, const int32_t *targets,
                              float *dst, pq_error *err) {
    const pq_config *c = &s->model->config;
    pq_status st = check_outputs(s, first, n, err);
    if (st == PQ_OK && n > 0 && (!targets || !dst))
        st = pq_fail(err, PQ_ERR_ARGUMENT, "no targets, or no room for log-probabilities");
    if (st == PQ_OK && (st = check_targets(s, targets, n, err)) == PQ_OK)
        st = need_logits(s, err);
    for (uint32_t done = 0; st == PQ_OK && done < n; done += LOGIT_ROWS) {
        const uint32_t rows = n - done < LOGIT_ROWS ? n - done : LOGIT_ROWS;
        logprob_job job = {s, targets + done, dst + done};
        st = project(s, s->ws.outputs + (size_t)(first + done) * c->hidden, rows, s->logits, err);
        if (st == PQ_OK)
            st = pq_pool_run(s->threads, rows, logprob_chunk, &job, &s->cancel, err);
    }
    for (uint32_t i = 0; st == PQ_OK && i < n; i++)
        if (isnan(dst[i]))
            st = fail_not_numbers(err);
    return st;
}

typedef struct compare_job {
    const pq_session *reference, *s;
    const int32_t *targets;
    pq_divergence *out;
} compare_job;

static void compare_chunk(void *arg, size_t row, unsigned thread) {
    (void)thread;
    const compare_job *job = arg;
    const pq_model *a = job->reference->model, *b = job->s->model;
    pq_diverge(b->kernels, job->reference->logits + row * a->config.vocab_rows,
               job->s->logits + row * b->config.vocab_rows, b->config.real_tokens,
               job->targets[row], &job->out[row]);
}

pq_status pq_session_compare(pq_session *reference, pq_session *s, uint32_t first, uint32_t n,
                             const int32_t *targets, pq_divergence *out, pq_error *err) {
    const pq_config *a = &reference->model->config, *b = &s->model->config;
    if (reference == s || a->real_tokens != b->real_tokens)
        return pq_fail(err, PQ_ERR_ARGUMENT,
                       "two sessions with as many tokens are compared, not %u and %u",
                       a->real_tokens, b->real_tokens);
    pq_status st = check_outputs(reference, first, n, err);
    if (st != PQ_OK || (st = check_outputs(s, first, n, err)) != PQ_OK)
        return st;
    if (n > 0 && (!targets || !out))
        return pq_fail(err, PQ_ERR_ARGUMENT, "no targets, or no room for what is compared");
    if ((st = check_targets(s, targets, n, err)) != PQ_OK ||
        (st = need_logits(reference, err)) != PQ_OK || (st = need_logits(s, err)) != PQ_OK)
        return st;
    for (uint32_t done = 0; st == PQ_OK && done < n; done += LOGIT_ROWS) {
        const uint32_t rows = n - done < LOGIT_ROWS ? n - done : LOGIT_ROWS;
        const size_t row = first + done;
        compare_job job = {reference, s, targets + done, out + done};
        if ((st = project(reference, reference->ws.outputs + row * a->hidden, rows,
                          reference->logits, err)) == PQ_OK &&
            (st = project(s, s->ws.outputs + row * b->hidden, rows, s->logits, err)) == PQ_OK)
            st = pq_pool_run(s->threads, rows, compare_chunk, &job, &s->cancel, err);
    }
    for (uint32_t i = 0; st == PQ_OK && i < n; i++)
        if (isnan(out[i].kld))
            st = fail_not_numbers(err);
    return st;
}

/* --------------------------------------------------------------------------------------------- sampling */

/* Draws of one run whose logits stand in rows of s->logits, from `row` on. */
typedef struct run_part {
    pq_run *run;
    uint32_t draws; /* from run->sampled on */
    uint32_t row;
} run_part;

/* What is sampled with one product of the output matrix. */
typedef struct sample_group {
    const pq_session *s;
    run_part parts[LOGIT_ROWS];
    uint32_t n_parts;
    uint32_t outputs[LOGIT_ROWS]; /* of each row of logits */
    uint32_t rows;
} sample_group;

static int reads_output(const pq_run *run, const pq_draw *draw) {
    return !draw->forced || run->want_logprob;
}

/* Whether no more of a run will be sampled. */
static int is_over(const pq_run *run) {
    const uint32_t n = run->sampled;
    return run->status != PQ_OK || n == run->n ||
           (n > 0 && run->samples[n - 1].token != run->draws[n - 1].next);
}

/* In order, until one is not what stands in the next row. */
static void sample_part(void *arg, size_t i, unsigned thread) {
    (void)thread;
    const sample_group *group = arg;
    const size_t width = group->s->model->config.vocab_rows;
    const run_part *part = &group->parts[i];
    pq_run *run = part->run;
    float *logits = group->s->logits + part->row * width;
    const uint32_t end = run->sampled + part->draws;
    while (run->sampled < end && !is_over(run)) {
        const pq_draw *draw = &run->draws[run->sampled];
        pq_sample *out = &run->samples[run->sampled];
        if (draw->forced)
            run->status =
                pq_sampler_force(run->sampler, draw->next, run->want_logprob ? logits : NULL, width,
                                 run->n_top, out, &run->error);
        else
            run->status = pq_sampler_sample(run->sampler, logits, width, draw->mask,
                                            (int)run->want_logprob, run->n_top, out, &run->error);
        logits += reads_output(run, draw) ? width : 0;
        run->sampled += run->status == PQ_OK;
    }
}

/* The hidden states of a group's outputs, gathered at the head of ws.x, which is free between passes. */
static const float *gather_outputs(pq_session *s, const sample_group *group) {
    const size_t hidden = s->model->config.hidden;
    for (uint32_t i = 0; i < group->rows; i++)
        memcpy(s->ws.x + i * hidden, s->ws.outputs + group->outputs[i] * hidden,
               hidden * sizeof(float));
    return s->ws.x;
}

/* Puts what is left of a run into a group, as far as its rows go. */
static void add_part(sample_group *group, pq_run *run, uint32_t most_rows) {
    run_part *part = &group->parts[group->n_parts++];
    *part = (run_part){.run = run, .row = group->rows};
    for (uint32_t i = run->sampled; i < run->n; i++, part->draws++) {
        if (!reads_output(run, &run->draws[i]))
            continue;
        if (group->rows == most_rows)
            return;
        group->outputs[group->rows++] = run->draws[i].output;
    }
}

/* One group after the other; a run that ends in one takes no rows in the next. */
static pq_status sample_runs(pq_session *s, pq_run *runs, uint32_t n, pq_error *err) {
    const uint32_t most_rows = s->ws.batch < LOGIT_ROWS ? s->ws.batch : LOGIT_ROWS;
    for (uint32_t first = 0; first < n;) {
        sample_group group = {.s = s};
        for (uint32_t i = first; i < n && group.n_parts < LOGIT_ROWS && group.rows < most_rows; i++)
            add_part(&group, &runs[i], most_rows);
        pq_status st = PQ_OK;
        if (group.rows > 0)
            st = project(s, gather_outputs(s, &group), group.rows, s->logits, err);
        if (st == PQ_OK)
            st = pq_pool_run(group.n_parts > 1 ? s->threads : 1, group.n_parts, sample_part, &group,
                             NULL, err);
        if (st != PQ_OK)
            return st;
        while (first < n && is_over(&runs[first]))
            first++;
    }
    return PQ_OK;
}

/* *groups: whether more than one may be needed. */
static pq_status begin_runs(const pq_session *s, pq_run *runs, uint32_t n, int *groups,
                            pq_error *err) {
    uint64_t rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        pq_run *run = &runs[i];
        if (!run->sampler || !run->draws || !run->samples || run->n == 0)
            return pq_fail(err, PQ_ERR_ARGUMENT, "run %u has no sampler, draws or room for samples",
                           i);
        for (uint32_t j = 0; j < run->n; j++) {
            if (!reads_output(run, &run->draws[j]))
                continue;
            const pq_status st = check_outputs(s, run->draws[j].output, 1, err);
            if (st != PQ_OK)
                return st;
            rows++;
        }
        run->sampled = 0;
        run->status = PQ_OK;
    }
    *groups = n > LOGIT_ROWS || rows > LOGIT_ROWS || rows > s->ws.batch;
    return PQ_OK;
}

pq_status pq_session_sample(pq_session *s, pq_run *runs, uint32_t n, pq_error *err) {
    int groups = 0;
    pq_status st = n > 0 && !runs ? pq_fail(err, PQ_ERR_ARGUMENT, "no runs were given")
                                  : begin_runs(s, runs, n, &groups, err);
    if (st == PQ_OK)
        st = need_logits(s, err);
    if (st != PQ_OK)
        return st;
    for (uint32_t i = 0; groups && i < n; i++)
        pq_sampler_hold(runs[i].sampler);
    st = sample_runs(s, runs, n, err);
    for (uint32_t i = 0; groups && i < n; i++)
        pq_sampler_release(runs[i].sampler, st != PQ_OK);
    for (uint32_t i = 0; st != PQ_OK && i < n; i++)
        runs[i].sampled = 0;
    return st;
}
