/* test_matmul_entry.c - the pq_test_* functions of pyqwen.h that run one matrix kernel: packed,
 * quantized and multiplied exactly as a model does it, on a matrix of the caller's.
 */
#include "kernels.h"

#include <string.h>

#include "../base/memory.h"
#include "../base/pool.h"
#include "../base/status.h"

static pq_status check_matrix(uint32_t type, size_t rows, size_t cols, pq_error *err) {
    if (pq_type_block(type) == 0)
        return pq_fail(err, PQ_ERR_ARGUMENT, "tensor type %u is not supported", (unsigned)type);
    if (rows == 0 || cols == 0 || cols % pq_type_block(type) != 0)
        return pq_fail(err, PQ_ERR_ARGUMENT,
                       "a %zu x %zu matrix of %s: needs rows, and columns in multiples of %u", rows,
                       cols, pq_type_name(type), (unsigned)pq_type_block(type));
    if (cols > SIZE_MAX / 64 / rows)
        return pq_fail(err, PQ_ERR_ARGUMENT, "a %zu x %zu matrix is too large", rows, cols);
    return PQ_OK;
}

/* Packs `w` into memory that the caller frees; with one lane the rows are used where they are. */
static pq_status pack(pq_matrix *out, uint8_t **memory, uint32_t type, uint32_t lanes,
                      const void *w, size_t rows, size_t cols, pq_error *err) {
    const size_t row_bytes = cols / pq_type_block(type) * pq_type_bytes(type);
    const size_t panels = (rows + lanes - 1) / lanes;
    *out = (pq_matrix){.type = type,
                       .lanes = lanes,
                       .rows = rows,
                       .cols = cols,
                       .panel_bytes = pq_panel_bytes(type, cols, lanes),
                       .data = w};
    *memory = NULL;
    if (lanes == 1)
        return PQ_OK;
    *memory = pq_aligned_alloc(panels * out->panel_bytes);
    if (!*memory)
        return pq_fail_memory(err, "a packed matrix", panels * out->panel_bytes);
    out->data = *memory;
    for (size_t p = 0; p < panels; p++) {
        const size_t row = p * lanes, n = rows - row < lanes ? rows - row : lanes;
        pq_pack_panel(type, cols, lanes, (const uint8_t *)w + row * row_bytes, n,
                      *memory + p * out->panel_bytes);
    }
    return PQ_OK;
}

/* -------------------------------------------------------------------------------------------
 * matmul */

typedef struct product {
    pq_matrix w;
    pq_acts x;
    pq_gemm_fn gemm;
    float *y;
    size_t panels, step; /* in all, and of one chunk */
    uint8_t *scratch;    /* (threads, scratch_bytes) */
    size_t scratch_bytes;
} product;

static void multiply_chunk(void *arg, size_t chunk, unsigned thread) {
    const product *p = arg;
    const size_t first = chunk * p->step;
    const size_t end = first + p->step < p->panels ? first + p->step : p->panels;
    p->gemm(&p->w, first, end, &p->x, 0, p->x.rows, p->y, p->w.rows,
            p->scratch + thread * p->scratch_bytes);
}

static void quantize_rows(const pq_kernels *kernels, const pq_acts *x, int8_t *q, float *d,
                          int16_t *sums) {
    for (size_t t = 0; t < x->rows; t++)
        kernels->quantize(x->x + t * x->cols, x->cols, x->block, q + t * x->cols,
                          d + t * (x->cols / x->block), sums + t * (x->cols / 16));
}

static pq_status multiply(const pq_kernels *kernels, product *p, unsigned threads, pq_error *err) {
    pq_carver carver = {0};
    uint8_t *memory = NULL;
    for (int pass = 0; pass < 2; pass++) {
        p->scratch = pq_carve(&carver, threads, p->scratch_bytes);
        if (p->x.block) {
            const size_t n = p->x.rows * p->x.cols;
            p->x.q = pq_carve(&carver, n, 1);
            p->x.d = pq_carve(&carver, n / p->x.block, sizeof(float));
            p->x.sums = pq_carve(&carver, n / 16, sizeof(int16_t));
        }
        if (pass == 0) {
            memory = pq_aligned_alloc(carver.bytes);
            if (!memory)
                return pq_fail_memory(err, "the activations", carver.bytes);
            carver = (pq_carver){.base = memory};
        }
    }
    if (p->x.block)
        quantize_rows(kernels, &p->x, (int8_t *)p->x.q, (float *)p->x.d, (int16_t *)p->x.sums);
    p->panels = (p->w.rows + p->w.lanes - 1) / p->w.lanes;
    p->step = (p->panels + threads * 4 - 1) / (threads * 4);
    const pq_status st =
        pq_pool_run(threads, (p->panels + p->step - 1) / p->step, multiply_chunk, p, NULL, err);
    pq_aligned_free(memory);
    return st;
}

pq_status pq_test_matmul(const char *isa, int exact, uint32_t type, const void *w, size_t rows,
                         size_t cols, const float *x, size_t n, float *y, uint32_t threads,
                         pq_error *err) {
    const pq_kernels *kernels;
    pq_status st = check_matrix(type, rows, cols, err);
    if (st == PQ_OK)
        st = pq_kernels_select(&kernels, isa, err);
    if (st != PQ_OK)
        return st;
    if (n == 0 || threads == 0 || threads > PQ_MAX_THREADS || n > SIZE_MAX / 64 / cols)
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_test_matmul: n = %zu, threads = %u", n,
                       (unsigned)threads);
    product p = {.x = {.rows = n, .cols = cols, .block = exact ? 0 : pq_acts_block(type), .x = x},
                 .gemm = exact ? kernels->gemm_exact : kernels->gemm[type],
                 .y = y};
    uint8_t *packed;
    st = pack(&p.w, &packed, type, exact ? 1 : kernels->lanes, w, rows, cols, err);
    if (st != PQ_OK)
        return st;
    p.scratch_bytes = (pq_gemm_scratch(&p.w) + PQ_ALIGN - 1) / PQ_ALIGN * PQ_ALIGN;
    st = multiply(kernels, &p, threads, err);
    pq_aligned_free(packed);
    return st;
}

/* ------------------------------------------------------------------------------- packing,
 * quantizing */

pq_status pq_test_repack(const char *isa, uint32_t type, const void *w, size_t rows, size_t cols,
                         void *out, pq_error *err) {
    const pq_kernels *kernels;
    pq_status st = check_matrix(type, rows, cols, err);
    if (st == PQ_OK)
        st = pq_kernels_select(&kernels, isa, err);
    if (st != PQ_OK)
        return st;
    pq_matrix packed;
    uint8_t *memory;
    st = pack(&packed, &memory, type, kernels->lanes, w, rows, cols, err);
    if (st != PQ_OK)
        return st;
    const size_t row_bytes = packed.panel_bytes / packed.lanes;
    for (size_t r = 0; r < rows; r++)
        pq_unpack_row(&packed, r, (uint8_t *)out + r * row_bytes);
    pq_aligned_free(memory);
    return PQ_OK;
}

pq_status pq_test_quantize(const char *isa, const float *x, size_t n, uint32_t block, int8_t *q,
                           float *d, int16_t *sums, pq_error *err) {
    const pq_kernels *kernels;
    if ((block != 32 && block != 256) || n == 0 || n % block != 0)
        return pq_fail(err, PQ_ERR_ARGUMENT, "cannot quantize %zu values in blocks of %u", n,
                       (unsigned)block);
    const pq_status st = pq_kernels_select(&kernels, isa, err);
    if (st == PQ_OK)
        kernels->quantize(x, n, block, q, d, sums);
    return st;
}
