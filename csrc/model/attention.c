/* attention.c - see attention.h.
 *
 * The unit of work is a tile: some neighboring tokens of one sequence and the query heads that share one KV
 * head, against one block of keys. Whether one thread walks a tile's blocks or several threads take some of
 * them, the same results per block are merged in the same ascending order, so the bits are the same.
 */
#include "attention.h"

#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/pool.h"

/* Query rows (tokens times heads) of a tile: their scores stay in L1/L2. */
enum { TILE_ROWS = 128 };
_Static_assert((int)TILE_ROWS >= (int)PQ_MAX_HEAD_GROUP, "a tile holds a group of heads");

typedef struct attention_job {
    const pq_model *model;
    const pq_workers *workers;
    const pq_kv_cache *cache;
    uint32_t layer;
    const pq_span *spans;
    size_t n_spans;
    const float *q;
    float *out;
    uint32_t group;       /* query heads per KV head */
    uint32_t tile_tokens; /* tokens per tile */
    uint32_t run_blocks;  /* of a chunk of split_chunk */
    float *partial_out;   /* (partial, head_dim): see split_chunk */
    pq_softmax *partial_state;
    size_t items;        /* tiles times KV heads */
    atomic_int *stopped; /* 1: a tile was left unfinished; by now cancel may be 0 again */
} attention_job;

typedef struct tile {
    const pq_span *span;
    uint32_t token0, token1; /* within the span */
    uint32_t kv_head;
    uint32_t blocks;      /* of keys that its last token sees */
    size_t first_partial; /* in the order of tiles */
} tile;

/* One thread's arrays, cut from its scratch memory. */
typedef struct arrays {
    float *q, *acc, *block_out; /* (TILE_ROWS, head_dim) */
    pq_softmax *state, *block_state;
    uint32_t *visible;
    float *key_constant; /* (head_dim) */
    void *kernel;
} arrays;

static size_t place_arrays(arrays *a, void *base, size_t head_dim) {
    pq_arena c = {.base = base};
    a->q = pq_arena_take(&c, TILE_ROWS * head_dim, sizeof *a->q);
    a->acc = pq_arena_take(&c, TILE_ROWS * head_dim, sizeof *a->acc);
    a->block_out = pq_arena_take(&c, TILE_ROWS * head_dim, sizeof *a->block_out);
    a->state = pq_arena_take(&c, TILE_ROWS, sizeof *a->state);
    a->block_state = pq_arena_take(&c, TILE_ROWS, sizeof *a->block_state);
    a->visible = pq_arena_take(&c, TILE_ROWS, sizeof *a->visible);
    a->key_constant = pq_arena_take(&c, head_dim, sizeof *a->key_constant);
    a->kernel = pq_arena_take(&c, pq_attend_scratch(TILE_ROWS), 1);
    return c.bytes;
}

size_t pq_attention_scratch(const pq_config *config) {
    arrays a;
    return place_arrays(&a, NULL, config->head_dim);
}

static arrays arrays_of(const attention_job *job, unsigned thread) {
    arrays a;
    place_arrays(&a, job->workers->scratch + thread * job->workers->scratch_bytes,
                 job->model->config.head_dim);
    return a;
}

static size_t partial_bytes(size_t head_dim) {
    return head_dim * sizeof(float) + sizeof(pq_softmax);
}

/* Room for one token at full context with every head: what decoding alone needs when it is split. */
size_t pq_attention_partials(const pq_config *config, uint32_t context) {
    const uint64_t blocks = context / PQ_KV_BLOCK + 1;
    const uint64_t bytes = blocks * config->heads * partial_bytes(config->head_dim);
    return bytes < SIZE_MAX ? (size_t)bytes : SIZE_MAX;
}

/* ----------------------------------------------------------------------------------------------- tiles */

static uint32_t span_tiles(const attention_job *job, const pq_span *span) {
    return (span->rows + job->tile_tokens - 1) / job->tile_tokens;
}

static void set_tile(const attention_job *job, const pq_span *span, uint32_t index, tile *t) {
    t->span = span;
    t->token0 = index * job->tile_tokens;
    t->token1 = t->token0 + job->tile_tokens;
    if (t->token1 > span->rows)
        t->token1 = span->rows;
    t->blocks = (span->start + t->token1 - 1) / PQ_KV_BLOCK + 1;
}

/* The tile of item number `item`, items being ordered by span, tokens and KV head. */
static tile find_tile(const attention_job *job, size_t item) {
    tile t = {.first_partial = 0};
    size_t left = item;
    for (const pq_span *span = job->spans;; span++) {
        const uint32_t tiles = span_tiles(job, span);
        for (uint32_t i = 0; i < tiles; i++) {
            set_tile(job, span, i, &t);
            const size_t rows = (size_t)(t.token1 - t.token0) * job->group;
            if (left < job->cache->kv_heads) {
                t.kv_head = (uint32_t)left;
                t.first_partial += t.kv_head * rows * t.blocks;
                return t;
            }
            left -= job->cache->kv_heads;
            t.first_partial += job->cache->kv_heads * rows * t.blocks;
        }
    }
}

static const float *query(const attention_job *job, const tile *t, uint32_t token) {
    const pq_config *c = &job->model->config;
    return job->q + ((size_t)(t->span->row + token) * c->heads + (size_t)t->kv_head * job->group) *
                        c->head_dim;
}

static void gather_queries(const attention_job *job, const tile *t, float *q) {
    const size_t n = (size_t)job->group * job->model->config.head_dim;
    for (uint32_t token = t->token0; token < t->token1; token++)
        memcpy(q + (token - t->token0) * n, query(job, t, token), n * sizeof *q);
}

/* The tile's first row that sees anything of `block`; rows are tokens times heads. */
static uint32_t first_row(const attention_job *job, const tile *t, uint32_t block) {
    const uint32_t position = t->span->start + t->token0, begin = block * PQ_KV_BLOCK;
    return begin > position ? (begin - position) * job->group : 0;
}

static uint32_t tile_rows(const attention_job *job, const tile *t) {
    return (t->token1 - t->token0) * job->group;
}

/* Attends to one block: fills a->block_state and a->block_out from row first_row on. The next one is asked
 * for unless this is the last of the blocks before `end`. */
static void attend_block(const attention_job *job, const tile *t, uint32_t block, uint32_t end,
                         const arrays *a) {
    const pq_kv_cache *cache = job->cache;
    const size_t hd = cache->head_dim;
    const uint32_t first = first_row(job, t, block), rows = tile_rows(job, t);
    for (uint32_t row = first; row < rows; row++) {
        const uint32_t seen =
            t->span->start + t->token0 + row / job->group + 1 - block * PQ_KV_BLOCK;
        a->visible[row] = seen < PQ_KV_BLOCK ? seen : PQ_KV_BLOCK;
    }
    const uint8_t *keys = pq_kv_at(cache, t->span->sequence, block, job->layer, t->kv_head);
    const int centered =
        pq_kv_key_constant(cache, job->model, job->layer, t->kv_head, block, a->key_constant);
    const pq_kv_view view = {
        .key_type = cache->key_type,
        .value_type = cache->value_type,
        .head_dim = hd,
        .keys = keys,
        .values = keys + cache->key_bytes,
        .next_keys = block + 1 < end
                         ? pq_kv_at(cache, t->span->sequence, block + 1, job->layer, t->kv_head)
                         : NULL,
        .key_constant = centered ? a->key_constant : NULL};
    job->model->kernels->attend(&view, a->q + first * hd, hd, rows - first, a->visible + first,
                                a->block_state + first, a->block_out + first * hd, hd, a->kernel);
}

static void write_rows(const attention_job *job, const tile *t, const pq_softmax *state,
                       const float *acc) {
    const pq_config *c = &job->model->config;
    const size_t hd = c->head_dim;
    for (uint32_t row = 0; row < tile_rows(job, t); row++) {
        const uint32_t token = t->token0 + row / job->group;
        const size_t head = (size_t)t->kv_head * job->group + row % job->group;
        float *out = job->out + ((size_t)(t->span->row + token) * c->heads + head) * hd;
        const float r = 1.0f / state[row].sum;
        for (size_t d = 0; d < hd; d++)
            out[d] = acc[row * hd + d] * r;
        if (pq_kv_is_integer(job->cache->value_type))
            job->model->kernels->hadamard(out, hd); /* back to the model's channels */
    }
}

static void clear_states(pq_softmax *state, uint32_t rows) {
    for (uint32_t row = 0; row < rows; row++)
        state[row] = (pq_softmax){-INFINITY, 0.0f};
}

static int stop_if_cancelled(const attention_job *job) {
    if (!job->workers->cancel || !atomic_load_explicit(job->workers->cancel, memory_order_relaxed))
        return 0;
    atomic_store_explicit(job->stopped, 1, memory_order_relaxed);
    return 1;
}

/* ------------------------------------------------------------------------- one thread walks the blocks */

static void walk_chunk(void *arg, size_t chunk, unsigned thread) {
    const attention_job *job = arg;
    const size_t hd = job->cache->head_dim;
    /* Late tiles of a long prompt cost most: they come first, so that the threads end together. */
    const tile t = find_tile(job, job->items - 1 - chunk);
    const arrays a = arrays_of(job, thread);
    const uint32_t rows = tile_rows(job, &t);
    gather_queries(job, &t, a.q);
    clear_states(a.state, rows);
    for (uint32_t block = 0; block < t.blocks; block++) {
        if (stop_if_cancelled(job))
            return;
        attend_block(job, &t, block, t.blocks, &a);
        for (uint32_t row = first_row(job, &t, block); row < rows; row++)
            job->model->kernels->attend_merge(hd, &a.state[row], a.acc + row * hd,
                                              &a.block_state[row], a.block_out + row * hd);
    }
    write_rows(job, &t, a.state, a.acc);
}

/* ----------------------------------------------------- several threads take some blocks each, then merge */

/* Partial results stand in the order of tiles; within one, [block][row]. */
static uint64_t partial_count(const attention_job *job) {
    uint64_t count = 0;
    for (size_t s = 0; s < job->n_spans; s++)
        for (uint32_t i = 0; i < span_tiles(job, &job->spans[s]); i++) {
            tile t;
            set_tile(job, &job->spans[s], i, &t);
            count += (uint64_t)t.blocks * (t.token1 - t.token0) * job->model->config.heads;
        }
    return count;
}

static uint32_t runs(const attention_job *job, const tile *t) {
    return (t->blocks + job->run_blocks - 1) / job->run_blocks;
}

static size_t split_chunks(const attention_job *job) {
    size_t count = 0;
    for (size_t item = 0; item < job->items; item++) {
        const tile t = find_tile(job, item);
        count += runs(job, &t);
    }
    return count;
}

static void split_chunk(void *arg, size_t chunk, unsigned thread) {
    const attention_job *job = arg;
    const size_t hd = job->cache->head_dim;
    size_t item = 0, run = chunk;
    tile t = find_tile(job, 0);
    while (run >= runs(job, &t)) {
        run -= runs(job, &t);
        t = find_tile(job, ++item);
    }
    arrays a = arrays_of(job, thread);
    const uint32_t rows = tile_rows(job, &t), first = (uint32_t)run * job->run_blocks;
    const uint32_t end = first + job->run_blocks < t.blocks ? first + job->run_blocks : t.blocks;
    gather_queries(job, &t, a.q);
    for (uint32_t block = first; block < end; block++) {
        if (stop_if_cancelled(job))
            return;
        const size_t at = t.first_partial + (size_t)block * rows;
        a.block_state = job->partial_state + at;
        a.block_out = job->partial_out + at * hd;
        attend_block(job, &t, block, end, &a);
    }
}

static void merge_chunk(void *arg, size_t item, unsigned thread) {
    const attention_job *job = arg;
    const size_t hd = job->cache->head_dim;
    const tile t = find_tile(job, item);
    const arrays a = arrays_of(job, thread);
    const uint32_t rows = tile_rows(job, &t);
    clear_states(a.state, rows);
    for (uint32_t block = 0; block < t.blocks; block++) {
        const size_t at = t.first_partial + (size_t)block * rows;
        for (uint32_t row = first_row(job, &t, block); row < rows; row++)
            job->model->kernels->attend_merge(hd, &a.state[row], a.acc + row * hd,
                                              &job->partial_state[at + row],
                                              job->partial_out + (at + row) * hd);
    }
    write_rows(job, &t, a.state, a.acc);
}

/* Blocks that one thread takes in a row, each fetched while the one before is worked on: as many as leave
 * every thread some runs to claim. */
static uint32_t run_blocks(const attention_job *job) {
    enum { RUNS_PER_THREAD = 8, MOST = 8 };
    size_t blocks = 0;
    for (size_t item = 0; item < job->items; item++)
        blocks += find_tile(job, item).blocks;
    const size_t even = blocks / (job->workers->threads * RUNS_PER_THREAD);
    return even < 1 ? 1 : even > MOST ? MOST : (uint32_t)even;
}

/* Splitting pays when there are few tiles for the threads; it needs room for every block's result. */
static int try_split(attention_job *job, void *partials, size_t partials_bytes) {
    if (job->workers->threads == 1 || job->items >= 4 * (size_t)job->workers->threads)
        return 0;
    const uint64_t count = partial_count(job);
    const size_t hd = job->cache->head_dim;
    if (count > partials_bytes / partial_bytes(hd))
        return 0;
    job->partial_out = partials;
    job->partial_state = (pq_softmax *)(job->partial_out + (size_t)count * hd);
    job->run_blocks = run_blocks(job);
    return 1;
}

pq_status pq_attention(const pq_model *model, const pq_workers *workers, const pq_kv_cache *cache,
                       uint32_t layer, const pq_span *spans, size_t n_spans, const float *q,
                       float *out, void *partials, size_t partials_bytes, pq_error *err) {
    const uint32_t group = model->config.heads / model->config.kv_heads;
    atomic_int stopped = 0;
    attention_job job = {.model = model,
                         .workers = workers,
                         .cache = cache,
                         .layer = layer,
                         .spans = spans,
                         .n_spans = n_spans,
                         .q = q,
                         .out = out,
                         .group = group,
                         .stopped = &stopped,
                         .tile_tokens = TILE_ROWS / group};
    for (size_t i = 0; i < n_spans; i++)
        job.items += (size_t)span_tiles(&job, &spans[i]) * cache->kv_heads;
    pq_status st;
    if (try_split(&job, partials, partials_bytes)) {
        st = pq_pool_run(workers->threads, split_chunks(&job), split_chunk, &job, workers->cancel,
                         err);
        if (st == PQ_OK && !atomic_load_explicit(&stopped, memory_order_relaxed))
            st = pq_pool_run(workers->threads, job.items, merge_chunk, &job, workers->cancel, err);
    } else {
        st = pq_pool_run(workers->threads, job.items, walk_chunk, &job, workers->cancel, err);
    }
    if (st == PQ_OK && atomic_load_explicit(&stopped, memory_order_relaxed))
        st = pq_fail(err, PQ_ERR_CANCELLED, "the evaluation was cancelled");
    return st;
}
