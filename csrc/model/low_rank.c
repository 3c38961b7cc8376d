/* low_rank.c - see low_rank.h. */
#include "low_rank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/memory.h"
#include "../base/thread.h"
#include "../kernels/gemm_any.h"

/* Tokens of a chunk that multiplies A: several threads share those of a prompt. */
enum { CHUNK_TOKENS = 32 };
/* What B adds is made a tile at a time, on the stack, so that it stays in the cache: a multiple of the rows of two
 * panels times some tokens. */
enum { TILE = 1024, TILE_TOKENS = 32, TILE_ROWS = TILE / TILE_TOKENS };
enum { PAUSES = 4096 }; /* before a thread that waits gives way to others */

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}
static size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

/* ---------------------------------------------------------------------------------- which rows have which */

static pq_status check_choice(const pq_model *model, const pq_adapter *const *adapters,
                              const float *scales, uint32_t n, pq_error *err) {
    if (n > PQ_MAX_SEQUENCE_ADAPTERS)
        return pq_fail(err, PQ_ERR_ARGUMENT, "%u adapters at once; the most is %d", n,
                       PQ_MAX_SEQUENCE_ADAPTERS);
    if (n > 0 && (!adapters || !scales))
        return pq_fail(err, PQ_ERR_ARGUMENT, "no adapters or scales were given");
    for (uint32_t i = 0; i < n; i++) {
        const pq_status st = pq_adapter_check(adapters[i], model, err);
        if (st != PQ_OK)
            return st;
        if (!isfinite(scales[i]))
            return pq_fail(err, PQ_ERR_ARGUMENT, "the scale of an adapter is not a finite number");
    }
    return PQ_OK;
}

/* Room for what all sequences need at once. Only what succeeds is kept. */
static pq_status grow(pq_adapter_room *room, uint32_t batch, size_t most, size_t width,
                      pq_error *err) {
    size_t bytes;
    if (most > room->most) {
        pq_application *more = realloc(room->applications, most * sizeof *more);
        if (!more)
            return pq_fail_memory(err, "the adapters of a batch", most * sizeof *more);
        room->applications = more;
        room->most = most;
    }
    if (width <= room->width)
        return PQ_OK;
    float *low = NULL;
    if (pq_checked_size((uint64_t)batch * width, sizeof *low, &bytes))
        low = pq_aligned_alloc(bytes);
    if (!low)
        return pq_fail_memory(err, "the activations of adapters",
                              (uint64_t)batch * width * sizeof *low);
    pq_aligned_free(room->low);
    room->low = low;
    room->width = width;
    return PQ_OK;
}

pq_status pq_adapter_room_set(pq_adapter_room *room, const pq_model *model, uint32_t sequences,
                              uint32_t batch, uint32_t sequence, const pq_adapter *const *adapters,
                              const float *scales, uint32_t n, pq_error *err) {
    pq_status st = check_choice(model, adapters, scales, n, err);
    if (st != PQ_OK)
        return st;
    if (!room->sequences && n == 0)
        return PQ_OK;
    if (!room->sequences)
        room->sequences = calloc(sequences, sizeof *room->sequences);
    if (!room->sequences)
        return pq_fail_memory(err, "the adapters of sequences",
                              sequences * sizeof *room->sequences);
    size_t most = n, width = 0;
    for (uint32_t i = 0; i < sequences; i++)
        most += i == sequence ? 0 : room->sequences[i].n;
    for (uint32_t i = 0; i < n; i++)
        width += adapters[i]->width;
    if (n > 0 && (st = grow(room, batch, most, width, err)) != PQ_OK)
        return st;
    pq_sequence_adapters *chosen = &room->sequences[sequence];
    memset(chosen, 0, sizeof *chosen);
    chosen->n = n;
    for (uint32_t i = 0; i < n; i++) {
        chosen->adapter[i] = adapters[i];
        chosen->scale[i] = scales[i];
    }
    return PQ_OK;
}

void pq_adapter_room_close(pq_adapter_room *room) {
    free(room->sequences);
    free(room->applications);
    pq_aligned_free(room->low);
}

static int are_equal(const pq_sequence_adapters *a, const pq_sequence_adapters *b) {
    if (a->n != b->n)
        return 0;
    for (uint32_t i = 0; i < a->n; i++)
        if (a->adapter[i] != b->adapter[i] || a->scale[i] != b->scale[i])
            return 0;
    return 1;
}

void pq_adapter_room_begin(pq_adapter_room *room, const pq_span *spans, size_t n_spans) {
    room->n = 0;
    for (size_t i = 0; room->sequences && i < n_spans;) {
        const pq_sequence_adapters *with = &room->sequences[spans[i].sequence];
        const uint32_t row = spans[i].row;
        uint32_t rows = 0;
        while (i < n_spans && are_equal(&room->sequences[spans[i].sequence], with))
            rows += spans[i++].rows;
        for (uint32_t k = 0; k < with->n; k++)
            room->applications[room->n++] = (pq_application){
                .adapter = with->adapter[k], .scale = with->scale[k], .row = row, .rows = rows};
    }
}

/* ------------------------------------------------------------------------------------------- the plan */

static size_t tokens_of_chunk(const pq_low_rank_job *job, const pq_low_rank *change) {
    const size_t lanes = change->a.lanes, rows = (change->rank + lanes - 1) / lanes * lanes;
    const size_t macs = rows * min_size(change->a.cols, PQ_ADAPTER_SEGMENT);
    return min_size(CHUNK_TOKENS, max_size(1, job->most_macs / macs));
}

static size_t token_chunks(const pq_low_rank_job *job, const pq_application *to,
                           const pq_low_rank *change) {
    const size_t step = tokens_of_chunk(job, change);
    return (to->rows + step - 1) / step;
}

void pq_low_rank_plan(pq_low_rank_job *job, pq_adapter_room *room, const pq_model *model,
                      const pq_workers *workers, uint32_t layer, const pq_product *products,
                      size_t n_products, const pq_acts *inputs) {
    job->applications = room->applications;
    job->n = room->n;
    job->inputs = inputs;
    job->workers = workers;
    job->gemm = model->exact ? model->kernels->gemm_exact : pq_gemm_for(model->kernels, PQ_F16);
    job->most_macs = model->kernels->chunk_macs;
    job->chunks = 0;
    atomic_init(&job->done, 0);
    atomic_init(&job->ready, 0);
    float *low = room->low;
    const uint8_t *owner = (const uint8_t *)&model->layers[layer];
    for (size_t i = 0; i < job->n; i++) {
        pq_application *to = &job->applications[i];
        to->first_chunk = job->chunks;
        for (size_t j = 0; j < PQ_MAX_PRODUCTS; j++) {
            to->changes[j] = NULL;
            if (j >= n_products)
                continue;
            const size_t member = (size_t)((const uint8_t *)products[j].w - owner);
            const pq_low_rank *change = pq_adapter_change(to->adapter, layer, member);
            to->changes[j] = change;
            if (!change)
                continue;
            to->low[j] = low;
            low += (size_t)to->rows * change->parts * change->rank;
            job->chunks += change->parts * token_chunks(job, to, change);
        }
    }
}

/* -------------------------------------------------------------------------------------- the arithmetic */

/* A x of one segment, for the tokens [token0, token1) of an application's rows. */
static void multiply_a(const pq_low_rank_job *job, const pq_application *to,
                       const pq_low_rank *change, float *low, size_t part, size_t token0,
                       size_t token1, void *scratch) {
    const size_t first = part * PQ_ADAPTER_SEGMENT;
    pq_matrix a = change->a;
    a.cols = min_size(a.cols - first, PQ_ADAPTER_SEGMENT);
    a.data += pq_panel_bytes(a.type, first, a.lanes);
    const pq_acts x = {.rows = to->rows,
                       .cols = job->inputs->cols,
                       .x = job->inputs->x + to->row * job->inputs->cols + first};
    job->gemm(&a, 0, (a.rows + a.lanes - 1) / a.lanes, &x, token0, token1,
              low + part * to->rows * change->rank, change->rank, scratch);
}

/* From A x of the segments to u. */
static void scale_low(const pq_application *to, const pq_low_rank *change, float *low) {
    const size_t n = (size_t)to->rows * change->rank;
    const float scale = (float)(change->scale * (double)to->scale);
    for (uint32_t part = 1; part < change->parts; part++)
        for (size_t i = 0; i < n; i++)
            low[i] += low[part * n + i];
    for (size_t i = 0; i < n; i++)
        low[i] *= scale;
}

static void finish(pq_low_rank_job *job) {
    for (size_t i = 0; i < job->n; i++) {
        const pq_application *to = &job->applications[i];
        for (size_t j = 0; j < PQ_MAX_PRODUCTS; j++)
            if (to->changes[j])
                scale_low(to, to->changes[j], to->low[j]);
    }
    atomic_store_explicit(&job->ready, 1, memory_order_release);
}

void pq_low_rank_chunk(pq_low_rank_job *job, size_t chunk, unsigned thread) {
    size_t i = job->n - 1;
    while (job->applications[i].first_chunk > chunk)
        i--;
    const pq_application *to = &job->applications[i];
    size_t local = chunk - to->first_chunk, chunks = 0;
    size_t j = 0;
    for (; j < PQ_MAX_PRODUCTS; j++) {
        const pq_low_rank *change = to->changes[j];
        chunks = change ? change->parts * token_chunks(job, to, change) : 0;
        if (local < chunks)
            break;
        local -= chunks;
    }
    const pq_low_rank *change = to->changes[j];
    const size_t per_part = token_chunks(job, to, change), step = tokens_of_chunk(job, change);
    const size_t token0 = local % per_part * step;
    multiply_a(job, to, change, to->low[j], local / per_part, token0,
               min_size(token0 + step, to->rows),
               job->workers->scratch + thread * job->workers->scratch_bytes);
    if (atomic_fetch_add_explicit(&job->done, 1, memory_order_acq_rel) + 1 == job->chunks)
        finish(job);
}

/* Those that multiply A were claimed before this chunk was, so they are done or run on other threads. */
static void wait_until_ready(pq_low_rank_job *job) {
    for (unsigned i = 0; atomic_load_explicit(&job->ready, memory_order_acquire) == 0; i++) {
        if (i < PAUSES)
            pq_thread_pause();
        else
            pq_thread_yield();
    }
}

/* A tile: `rows` rows of B from row0 on, times `tokens` rows of u, added to y. */
static void add_tile(const pq_low_rank_job *job, const pq_low_rank *change, const float *u,
                     size_t row0, size_t rows, size_t tokens, float *y, size_t y_stride,
                     void *scratch) {
    float tile[TILE];
    pq_matrix b = change->b;
    const size_t panels = (rows + b.lanes - 1) / b.lanes;
    b.data += row0 / b.lanes * b.panel_bytes;
    b.rows = rows;
    const pq_acts x = {.rows = tokens, .cols = change->rank, .x = u};
    job->gemm(&b, 0, panels, &x, 0, tokens, tile, rows, scratch);
    for (size_t t = 0; t < tokens; t++)
        for (size_t r = 0; r < rows; r++)
            y[t * y_stride + r] += tile[t * rows + r];
}

void pq_low_rank_add(pq_low_rank_job *job, size_t product, const pq_product *to, size_t row0,
                     size_t row1, size_t token0, size_t token1, unsigned thread) {
    void *scratch = job->workers->scratch + thread * job->workers->scratch_bytes;
    wait_until_ready(job);
    for (size_t i = 0; i < job->n; i++) {
        const pq_application *a = &job->applications[i];
        const pq_low_rank *change = a->changes[product];
        const size_t first = max_size(token0, a->row), last = min_size(token1, a->row + a->rows);
        if (!change || first >= last)
            continue;
        const size_t tokens = min_size(last - first, TILE_TOKENS);
        const size_t rows = TILE / tokens / TILE_ROWS * TILE_ROWS;
        for (size_t r = row0; r < row1; r += rows)
            for (size_t t = first; t < last; t += tokens)
                add_tile(job, change, a->low[product] + (t - a->row) * change->rank, r,
                         min_size(rows, row1 - r), min_size(tokens, last - t),
                         to->y + t * to->y_stride + r, to->y_stride, scratch);
    }
}
