/* forward.c - see forward.h. Reads in the order in which a batch passes through the model. */
#include "forward.h"

#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/pool.h"

/* ------------------------------------------------------------------------------------------- workspace */

static size_t place(pq_workspace *ws, void *base, const pq_config *c, uint32_t batch,
                    uint32_t threads, uint32_t context, size_t row_blocks_bytes,
                    size_t scratch_bytes) {
    const uint64_t rows = batch, q_width = (uint64_t)c->heads * c->head_dim,
                   kv_width = (uint64_t)c->kv_heads * c->head_dim;
    uint64_t widest = c->hidden > c->ffn ? c->hidden : c->ffn;
    widest = widest > q_width ? widest : q_width;
    pq_arena arena = {.base = base};
    ws->batch = batch;
    ws->x = pq_arena_take(&arena, rows * c->hidden, sizeof(float));
    ws->h = pq_arena_take(&arena, rows * c->hidden, sizeof(float));
    ws->q = pq_arena_take(&arena, rows * q_width, sizeof(float));
    ws->att = pq_arena_take(&arena, rows * q_width, sizeof(float));
    ws->k = pq_arena_take(&arena, rows * kv_width, sizeof(float));
    ws->v = pq_arena_take(&arena, rows * kv_width, sizeof(float));
    ws->gate = pq_arena_take(&arena, rows * c->ffn, sizeof(float));
    ws->up = pq_arena_take(&arena, rows * c->ffn, sizeof(float));
    ws->cosines = pq_arena_take(&arena, rows * c->head_dim / 2, sizeof(float));
    ws->sines = pq_arena_take(&arena, rows * c->head_dim / 2, sizeof(float));
    ws->outputs = pq_arena_take(&arena, rows * c->hidden, sizeof(float));
    ws->q8 = pq_arena_take(&arena, rows * widest, 1);
    ws->d8 = pq_arena_take(&arena, rows * (widest / 32), sizeof(float));
    ws->s8 = pq_arena_take(&arena, rows * (widest / 32), sizeof(float));
    ws->sums8 = pq_arena_take(&arena, rows * (widest / 16), sizeof(int16_t));
    ws->row_blocks_bytes = row_blocks_bytes;
    ws->row_blocks = pq_arena_take(&arena, threads, row_blocks_bytes);
    ws->partials_bytes = pq_attention_partials(c, context);
    ws->partials = pq_arena_take(&arena, ws->partials_bytes, 1);
    ws->scratch_bytes = scratch_bytes;
    ws->scratch = pq_arena_take(&arena, threads, scratch_bytes);
    return arena.bytes;
}

size_t pq_workspace_bytes(const pq_config *c, uint32_t batch, uint32_t threads, uint32_t context,
                          size_t row_blocks_bytes, size_t scratch_bytes) {
    pq_workspace ws;
    return place(&ws, NULL, c, batch, threads, context, row_blocks_bytes, scratch_bytes);
}

void pq_workspace_place(pq_workspace *ws, void *base, const pq_config *c, uint32_t batch,
                        uint32_t threads, uint32_t context, size_t row_blocks_bytes,
                        size_t scratch_bytes) {
    place(ws, base, c, batch, threads, context, row_blocks_bytes, scratch_bytes);
}

pq_acts pq_workspace_inputs(const pq_workspace *ws, const float *x, size_t rows, size_t cols) {
    return (pq_acts){.rows = rows,
                     .cols = cols,
                     .x = x,
                     .q = ws->q8,
                     .d = ws->d8,
                     .sums = ws->sums8,
                     .s = ws->s8};
}

/* --------------------------------------------------------------------------------------------- the pass */

/* What the steps of one evaluation share. */
typedef struct pass {
    const pq_model *model;
    const pq_workers *workers;
    pq_kv_cache *cache;
    pq_workspace *ws;
    const pq_row *rows;
    uint32_t n;
    const pq_span *spans;
    size_t n_spans;
    pq_adapter_room *adapters;
    pq_imatrix *imatrix; /* or NULL */
    pq_error *err;
    /* of the step that runs now */
    uint32_t layer_index;
    const pq_layer *layer;
    const float *delta; /* (n, hidden) to add to the residual stream, or NULL */
    const float *norm;  /* (hidden) weights of the norm */
    pq_acts inputs;     /* of the products that follow */
    int quantize;       /* how many of them share a scale; 0: they stay as they are */
} pass;

/* Steps that treat every row by itself. A few rows are done at once, so that one token costs one call. */
enum { ROWS_PER_CHUNK = 4 };

typedef struct row_job {
    pass *p;
    void (*step)(pass *p, uint32_t row, unsigned thread);
} row_job;

static void row_chunk(void *arg, size_t chunk, unsigned thread) {
    const row_job *job = arg;
    const uint32_t first = (uint32_t)chunk * ROWS_PER_CHUNK;
    for (uint32_t row = first; row < first + ROWS_PER_CHUNK && row < job->p->n; row++)
        job->step(job->p, row, thread);
}

static pq_status each_row(pass *p, void (*step)(pass *p, uint32_t row, unsigned thread)) {
    row_job job = {.p = p, .step = step};
    return pq_pool_run(p->workers->threads, (p->n + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK, row_chunk,
                       &job, p->workers->cancel, p->err);
}

static const pq_span *span_of(const pass *p, uint32_t row) {
    const pq_span *span = p->spans;
    while (row >= span->row + span->rows)
        span++;
    return span;
}

/* Token id -> its row of the embedding matrix; position -> cosines and sines. */
static void embed_row(pass *p, uint32_t row, unsigned thread) {
    const pq_model *m = p->model;
    const pq_matrix *e = &m->embedding;
    uint8_t *blocks = p->ws->row_blocks + thread * p->ws->row_blocks_bytes;
    pq_unpack_row(e, (size_t)p->rows[row].token, blocks);
    pq_dequantize(e->type, blocks, e->cols, p->ws->x + (size_t)row * e->cols, NULL);

    const pq_span *span = span_of(p, row);
    const uint32_t pairs = m->config.head_dim / 2;
    const double position = span->start + (row - span->row);
    for (uint32_t i = 0; i < pairs; i++) {
        const double angle = position * m->rope_freqs[i];
        p->ws->cosines[(size_t)row * pairs + i] = (float)cos(angle) * m->rope_scale;
        p->ws->sines[(size_t)row * pairs + i] = (float)sin(angle) * m->rope_scale;
    }
}

/* x += delta; h = norm(x), quantized for the matrices that read it. */
static void add_norm_row(pass *p, uint32_t row, unsigned thread) {
    (void)thread;
    const size_t hidden = p->model->config.hidden;
    float *x = p->ws->x + row * hidden;
    if (p->delta)
        p->model->kernels->add(p->delta + row * hidden, hidden, x);
    p->model->kernels->rms_norm(x, p->norm, p->model->config.norm_eps, hidden,
                                p->ws->h + row * hidden);
    if (p->quantize)
        pq_quantize_activations(p->model, &p->inputs, p->quantize, row);
}

static pq_status add_norm(pass *p, const float *delta, const float *norm, int quantize) {
    p->delta = delta;
    p->norm = norm;
    p->quantize = quantize;
    p->inputs = pq_workspace_inputs(p->ws, p->ws->h, p->n, p->model->config.hidden);
    return each_row(p, add_norm_row);
}

/* Where an architecture has such a norm, each head by itself. */
static void norm_head(const pq_model *m, const float *weights, float *head) {
    if (weights)
        m->kernels->rms_norm(head, weights, m->config.norm_eps, m->config.head_dim, head);
}

/* Norms the heads of q and k, rotates them by position, scales q, and stores k and v in the cache. */
static void rope_store_row(pass *p, const pq_span *span, uint32_t row) {
    const pq_config *c = &p->model->config;
    const pq_kernels *kernels = p->model->kernels;
    const size_t hd = c->head_dim;
    const float *cosines = p->ws->cosines + row * hd / 2, *sines = p->ws->sines + row * hd / 2;
    const uint32_t position = span->start + (row - span->row);
    const float scale = 1.0f / sqrtf((float)hd);
    for (uint32_t head = 0; head < c->heads; head++) {
        float *q = p->ws->q + ((size_t)row * c->heads + head) * hd;
        norm_head(p->model, p->layer->q_norm, q);
        kernels->rope(q, cosines, sines, hd, (int)c->rope_neox, scale);
        if (pq_kv_is_integer(p->cache->key_type)) /* as the keys are */
            kernels->hadamard(q, hd);
    }
    for (uint32_t head = 0; head < c->kv_heads; head++) {
        float *k = p->ws->k + ((size_t)row * c->kv_heads + head) * hd;
        float *v = p->ws->v + ((size_t)row * c->kv_heads + head) * hd;
        norm_head(p->model, p->layer->k_norm, k);
        kernels->rope(k, cosines, sines, hd, (int)c->rope_neox, 1.0f);
        pq_kv_store(p->cache, p->model, span->sequence, position, p->layer_index, head, k, v);
    }
}

/* In a byte of the cache there may be numbers of several positions, but not of two groups: a group is one thread's. */
static uint32_t position_groups(const pq_span *span) {
    return (span->start + span->rows - 1) / PQ_KV_LANES - span->start / PQ_KV_LANES + 1;
}

static void rope_store_chunk(void *arg, size_t chunk, unsigned thread) {
    (void)thread;
    pass *p = arg;
    const pq_span *span = p->spans;
    size_t group = chunk;
    for (; group >= position_groups(span); span++)
        group -= position_groups(span);
    const size_t first = (span->start / PQ_KV_LANES + group) * PQ_KV_LANES;
    for (uint32_t i = 0; i < span->rows; i++) {
        const size_t position = (size_t)span->start + i;
        if (position >= first && position < first + PQ_KV_LANES)
            rope_store_row(p, span, span->row + i);
    }
}

static pq_status rope_store(pass *p) {
    size_t chunks = 0;
    for (size_t i = 0; i < p->n_spans; i++)
        chunks += position_groups(&p->spans[i]);
    return pq_pool_run(p->workers->threads, chunks, rope_store_chunk, p, p->workers->cancel,
                       p->err);
}

static void quantize_activations(pass *p, uint32_t row, unsigned thread) {
    (void)thread;
    pq_quantize_activations(p->model, &p->inputs, p->quantize, row);
}

/* gate = silu(gate) * up, quantized for the down projection. */
static void silu_row(pass *p, uint32_t row, unsigned thread) {
    (void)thread;
    const size_t ffn = p->model->config.ffn;
    float *gate = p->ws->gate + row * ffn;
    p->model->kernels->silu_mul(gate, p->ws->up + row * ffn, ffn, gate);
    if (p->quantize)
        pq_quantize_activations(p->model, &p->inputs, p->quantize, row);
}

static pq_status linear(pass *p, pq_imatrix_input input, const pq_product *products, size_t n) {
    if (p->imatrix) {
        const pq_status st = pq_imatrix_add(p->imatrix, p->workers, input, p->layer_index,
                                            p->inputs.x, p->n, p->err);
        if (st != PQ_OK)
            return st;
    }
    pq_low_rank_job low_rank;
    pq_low_rank_plan(&low_rank, p->adapters, p->model, p->workers, p->layer_index, products, n,
                     &p->inputs);
    return pq_linear(p->model, p->workers, &p->inputs, p->n, products, n,
                     low_rank.chunks > 0 ? &low_rank : NULL, p->err);
}

/* x -> attention's contribution, left in ws->h. */
static pq_status attention_block(pass *p) {
    const pq_model *m = p->model;
    const pq_config *c = &m->config;
    const pq_layer *l = p->layer;
    pq_workspace *ws = p->ws;
    const size_t q_width = (size_t)c->heads * c->head_dim,
                 kv_width = (size_t)c->kv_heads * c->head_dim;
    const pq_product qkv[] = {{&l->q, l->q_bias, ws->q, q_width},
                              {&l->k, l->k_bias, ws->k, kv_width},
                              {&l->v, l->v_bias, ws->v, kv_width}};
    const pq_product o = {&l->o, NULL, ws->h, c->hidden};
    pq_status st;
    if ((st = linear(p, PQ_IMATRIX_QKV, qkv, 3)) != PQ_OK || (st = rope_store(p)) != PQ_OK ||
        (st = pq_attention(m, p->workers, p->cache, p->layer_index, p->spans, p->n_spans, ws->q,
                           ws->att, ws->partials, ws->partials_bytes, p->err)) != PQ_OK)
        return st;
    p->inputs = pq_workspace_inputs(ws, ws->att, p->n, q_width);
    p->quantize = pq_matrix_quantizes(m, &l->o);
    if (p->quantize && (st = each_row(p, quantize_activations)) != PQ_OK)
        return st;
    return linear(p, PQ_IMATRIX_ATTENTION_OUTPUT, &o, 1);
}

/* h -> the feed-forward network's contribution, left in ws->h. */
static pq_status ffn_block(pass *p) {
    const pq_layer *l = p->layer;
    pq_workspace *ws = p->ws;
    const size_t ffn = p->model->config.ffn;
    const pq_product gate_up[] = {{&l->gate, NULL, ws->gate, ffn}, {&l->up, NULL, ws->up, ffn}};
    const pq_product down = {&l->down, NULL, ws->h, p->model->config.hidden};
    pq_status st = linear(p, PQ_IMATRIX_GATE_UP, gate_up, 2);
    if (st != PQ_OK)
        return st;
    p->inputs = pq_workspace_inputs(ws, ws->gate, p->n, ffn);
    p->quantize = pq_matrix_quantizes(p->model, &l->down);
    return (st = each_row(p, silu_row)) != PQ_OK ? st : linear(p, PQ_IMATRIX_DOWN, &down, 1);
}

/* The last contribution added and the final norm taken, for the rows that want logits. */
static pq_status finish_outputs(pass *p) {
    const size_t hidden = p->model->config.hidden;
    float *out = p->ws->outputs;
    for (uint32_t row = 0; row < p->n; row++) {
        if (!p->rows[row].output)
            continue;
        float *x = p->ws->x + row * hidden;
        p->model->kernels->add(p->delta + row * hidden, hidden, x);
        p->model->kernels->rms_norm(x, p->model->output_norm, p->model->config.norm_eps, hidden,
                                    out);
        out += hidden;
    }
    const size_t outputs = (size_t)(out - p->ws->outputs) / hidden;
    if (!p->imatrix || outputs == 0)
        return PQ_OK;
    return pq_imatrix_add(p->imatrix, p->workers, PQ_IMATRIX_OUTPUT, 0, p->ws->outputs, outputs,
                          p->err);
}

pq_status pq_forward(const pq_model *model, const pq_workers *workers, pq_kv_cache *cache,
                     pq_workspace *ws, const pq_row *rows, uint32_t n, const pq_span *spans,
                     size_t n_spans, pq_adapter_room *adapters, pq_imatrix *imatrix,
                     pq_error *err) {
    pq_adapter_room_begin(adapters, spans, n_spans);
    pass p = {.model = model,
              .workers = workers,
              .cache = cache,
              .ws = ws,
              .rows = rows,
              .n = n,
              .spans = spans,
              .n_spans = n_spans,
              .adapters = adapters,
              .imatrix = imatrix,
              .err = err};
    pq_status st = each_row(&p, embed_row);
    const float *delta = NULL;
    for (uint32_t i = 0; st == PQ_OK && i < model->config.layers; i++) {
        const pq_layer *l = &model->layers[i];
        p.layer_index = i;
        p.layer = l;
        const pq_matrix *const qkv_of[] = {&l->q, &l->k, &l->v}, *const ffn_of[] = {&l->gate,
                                                                                    &l->up};
        const int qkv = pq_matrices_quantize(model, qkv_of, 3);
        const int ffn = pq_matrices_quantize(model, ffn_of, 2);
        if ((st = add_norm(&p, delta, l->attn_norm, qkv)) == PQ_OK &&
            (st = attention_block(&p)) == PQ_OK &&
            (st = add_norm(&p, ws->h, l->ffn_norm, ffn)) == PQ_OK)
            st = ffn_block(&p);
        delta = ws->h;
    }
    p.delta = delta;
    return st == PQ_OK ? finish_outputs(&p) : st;
}
