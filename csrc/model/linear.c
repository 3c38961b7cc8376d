/* linear.c - see linear.h. */
#include "linear.h"

#include "../base/pool.h"
#include "../kernels/gemm_any.h"
#include "coarse.h"
#include "low_rank.h"

/* Pieces of a product: at most pq_kernels.chunk_macs multiplications, or so many of single rows, so that a
 * cancelled evaluation ends soon; and small enough that a thread which loses its core delays nobody. */
enum { CHUNK_MACS_SLOW = 2 << 20, CHUNKS_PER_THREAD = 8 };
/* Panels of a lanes == 1 matrix are single rows; exact kernels want several at once. */
enum { ROWS_PER_STEP = 16 };
/* Several kernels multiply two panels at once where there is more than one token. */
enum { PANELS_PER_STEP = 2 };

int pq_matrix_quantizes(const pq_model *model, const pq_matrix *w) {
    if (model->exact || !pq_quantizes(w->type))
        return 0;
    return model->coarse && pq_type_block(w->type) == 256 ? 256 : 32;
}

int pq_matrices_quantize(const pq_model *model, const pq_matrix *const *w, size_t n) {
    int finest = 0;
    for (size_t i = 0; i < n; i++) {
        const int block = pq_matrix_quantizes(model, w[i]);
        if (block > 0 && (finest == 0 || block < finest))
            finest = block;
    }
    return finest;
}

void pq_quantize_activations(const pq_model *model, const pq_acts *a, int block, size_t row) {
    const pq_quantize_activations_fn quantize =
        block == 256 ? pq_quantize_coarse : model->kernels->quantize_activations;
    quantize(a->x + row * a->cols, a->cols, (int8_t *)a->q + row * a->cols,
             (float *)a->d + row * (a->cols / 32), (int16_t *)a->sums + row * (a->cols / 16),
             (float *)a->s + row * (a->cols / 32));
}

/* How one product is cut: a grid of chunks, each some panels times some tokens. */
typedef struct cut {
    const pq_product *product;
    pq_gemm_fn gemm;
    size_t panels, panel_step, token_step;
    size_t token_chunks;
    size_t first_chunk;
} cut;

typedef struct linear_job {
    const pq_workers *workers;
    const pq_acts *inputs;
    size_t tokens;
    size_t n;
    cut cuts[PQ_MAX_PRODUCTS];
    pq_low_rank_job *low_rank; /* or NULL */
} linear_job;

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}
static size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}
static size_t ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

static void add_bias(const pq_product *p, size_t row0, size_t row1, size_t token0, size_t token1) {
    for (size_t t = token0; t < token1; t++) {
        float *y = p->y + t * p->y_stride;
        for (size_t r = row0; r < row1; r++)
            y[r] += p->bias[r];
    }
}

static void linear_chunk(void *arg, size_t chunk, unsigned thread) {
    const linear_job *job = arg;
    if (chunk < job->cuts[0].first_chunk) {
        pq_low_rank_chunk(job->low_rank, chunk, thread);
        return;
    }
    size_t i = job->n - 1;
    while (job->cuts[i].first_chunk > chunk)
        i--;
    const cut *c = &job->cuts[i];
    const size_t local = chunk - c->first_chunk;
    const size_t panel0 = local / c->token_chunks * c->panel_step;
    const size_t panel1 = min_size(panel0 + c->panel_step, c->panels);
    const size_t token0 = local % c->token_chunks * c->token_step;
    const size_t token1 = min_size(token0 + c->token_step, job->tokens);
    const pq_product *p = c->product;
    const size_t row0 = panel0 * p->w->lanes, row1 = min_size(panel1 * p->w->lanes, p->w->rows);
    c->gemm(p->w, panel0, panel1, job->inputs, token0, token1, p->y, p->y_stride,
            job->workers->scratch + thread * job->workers->scratch_bytes);
    if (p->bias)
        add_bias(p, row0, row1, token0, token1);
    if (job->low_rank)
        pq_low_rank_add(job->low_rank, i, p, row0, row1, token0, token1, thread);
}

static size_t plan_cut(const pq_model *model, const pq_workers *workers, size_t tokens,
                       const pq_product *product, size_t first_chunk, cut *c) {
    const pq_matrix *w = product->w;
    const size_t most = w->lanes == 1 ? CHUNK_MACS_SLOW : model->kernels->chunk_macs;
    const size_t step = w->lanes == 1 ? ROWS_PER_STEP : tokens > 1 ? PANELS_PER_STEP : 1;
    const size_t step_macs = step * w->lanes * w->cols;
    c->product = product;
    c->gemm = model->exact ? model->kernels->gemm_exact : pq_gemm_for(model->kernels, w->type);
    c->panels = ceil_div(w->rows, w->lanes);
    c->token_step = min_size(tokens, max_size(1, most / step_macs));
    c->token_chunks = ceil_div(tokens, c->token_step);
    const size_t by_work = max_size(1, most / (step_macs * c->token_step));
    const size_t by_share = ceil_div(c->panels, step * workers->threads * CHUNKS_PER_THREAD);
    c->panel_step = step * min_size(by_work, by_share);
    c->first_chunk = first_chunk;
    return first_chunk + ceil_div(c->panels, c->panel_step) * c->token_chunks;
}

pq_status pq_linear(const pq_model *model, const pq_workers *workers, const pq_acts *inputs,
                    size_t rows, const pq_product *products, size_t n_products,
                    struct pq_low_rank_job *low_rank, pq_error *err) {
    linear_job job = {.workers = workers,
                      .inputs = inputs,
                      .tokens = rows,
                      .n = n_products,
                      .low_rank = low_rank};
    size_t chunks = low_rank ? low_rank->chunks : 0;
    for (size_t i = 0; i < n_products; i++)
        chunks = plan_cut(model, workers, rows, &products[i], chunks, &job.cuts[i]);
    return pq_pool_run(workers->threads, chunks, linear_chunk, &job, workers->cancel, err);
}
