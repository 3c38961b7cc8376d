/* matmul.c - the functions of pyqwen_test.h that run one matrix kernel: packed, quantized and multiplied exactly
 * as a model does it, on a matrix of the caller's. */
#include "../base/memory.h"
#include "../base/pool.h"
#include "../base/status.h"
#include "../base/thread.h"
#include "../kernels/gemm_any.h"
#include "../pyqwen_test.h"

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

/* Packs `copies` copies of w, one behind the other, into memory that the caller frees. */
static pq_status pack(pq_matrix *out, uint8_t **memory, uint32_t type, uint32_t lanes,
                      const void *w, size_t rows, size_t cols, size_t copies, pq_error *err) {
    const size_t row_bytes = cols / pq_type_block(type) * pq_type_bytes(type);
    const size_t panels = (rows + lanes - 1) / lanes;
    const size_t panel_bytes = pq_panel_bytes(type, cols, lanes);
    if (copies == 0 || copies > SIZE_MAX / 2 / (panels * panel_bytes))
        return pq_fail(err, PQ_ERR_ARGUMENT, "%zu copies of a matrix", copies);
    *memory = pq_aligned_alloc(copies * panels * panel_bytes);
    if (!*memory)
        return pq_fail_memory(err, "a packed matrix", copies * panels * panel_bytes);
    *out = (pq_matrix){.type = type,
                       .lanes = lanes,
                       .rows = rows,
                       .cols = cols,
                       .panel_bytes = panel_bytes,
                       .data = *memory};
    for (size_t i = 0; i < copies * panels; i++) {
        const size_t row = i % panels * lanes, n = rows - row < lanes ? rows - row : lanes;
        pq_pack_panel(type, cols, lanes, (const uint8_t *)w + row * row_bytes, n,
                      *memory + i * panel_bytes);
    }
    return PQ_OK;
}

/* --------------------------------------------------------------------------------------- matmul */

typedef struct product {
    pq_matrix w;
    pq_acts x;
    pq_gemm_fn gemm;
    float *y;
    int quantized;
    int8_t *q;
    float *d, *s;
    int16_t *sums;
    unsigned threads;
    size_t panels, step; /* in all, and of one chunk */
    size_t scratch_bytes;
    uint8_t *scratch; /* (threads, scratch_bytes) */
    uint8_t *packed;  /* what w's data and the arrays of x are in */
    uint8_t *memory;
    size_t memory_bytes;
} product;

static void multiply_chunk(void *arg, size_t chunk, unsigned thread) {
    const product *p = arg;
    const size_t first = chunk * p->step;
    const size_t end = first + p->step < p->panels ? first + p->step : p->panels;
    p->gemm(&p->w, first, end, &p->x, 0, p->x.rows, p->y, p->w.rows,
            p->scratch + thread * p->scratch_bytes);
}

static pq_status multiply(product *p, pq_error *err) {
    return pq_pool_run(p->threads, (p->panels + p->step - 1) / p->step, multiply_chunk, p, NULL,
                       err);
}

static void place_arrays(product *p, pq_arena *arena) {
    const size_t n = p->x.rows * p->x.cols;
    p->scratch = pq_arena_take(arena, p->threads, p->scratch_bytes);
    if (!p->quantized)
        return;
    p->q = pq_arena_take(arena, n, sizeof *p->q);
    p->d = pq_arena_take(arena, n / 32, sizeof *p->d);
    p->sums = pq_arena_take(arena, n / 16, sizeof *p->sums);
    p->s = pq_arena_take(arena, n / 32, sizeof *p->s);
}

static void quantize_activations(const pq_kernels *kernels, product *p) {
    const size_t cols = p->x.cols;
    for (size_t t = 0; t < p->x.rows; t++)
        kernels->quantize_activations(p->x.x + t * cols, cols, p->q + t * cols,
                                      p->d + t * (cols / 32), p->sums + t * (cols / 16),
                                      p->s + t * (cols / 32));
    p->x.q = p->q;
    p->x.d = p->d;
    p->x.sums = p->sums;
    p->x.s = p->s;
}

static void close_product(product *p) {
    pq_aligned_free(p->packed);
    pq_large_free(p->memory, p->memory_bytes);
}

/* All but the multiplication. On failure nothing is left to close. */
static pq_status open_product(product *p, const char *isa, int exact, uint32_t type, const void *w,
                              size_t rows, size_t cols, size_t copies, const float *x, size_t n,
                              uint32_t threads, pq_error *err) {
    const pq_kernels *kernels;
    pq_status st = check_matrix(type, rows, cols, err);
    if (st == PQ_OK)
        st = pq_kernels_select(&kernels, isa, err);
    if (st == PQ_OK &&
        (n == 0 || threads == 0 || threads > PQ_MAX_THREADS || n > SIZE_MAX / 64 / cols))
        st = pq_fail(err, PQ_ERR_ARGUMENT, "a product with %zu rows and %u threads", n,
                     (unsigned)threads);
    if (st != PQ_OK)
        return st;
    *p = (product){.x = {.rows = n, .cols = cols, .x = x},
                   .quantized = !exact && pq_quantizes(type),
                   .gemm = exact ? kernels->gemm_exact : pq_gemm_for(kernels, type),
                   .threads = threads};
    st = pack(&p->w, &p->packed, type, exact ? 1 : kernels->lanes, w, rows, cols, copies, err);
    if (st != PQ_OK)
        return st;
    p->panels = (rows + p->w.lanes - 1) / p->w.lanes;
    p->step = (p->panels + threads * 4 - 1) / (threads * 4);
    p->scratch_bytes = (pq_gemm_scratch(kernels, &p->w) + PQ_ALIGN - 1) / PQ_ALIGN * PQ_ALIGN;
    pq_arena arena = {0};
    place_arrays(p, &arena);
    p->memory_bytes = arena.bytes;
    p->memory = pq_large_alloc(arena.bytes);
    if (!p->memory) {
        close_product(p);
        return pq_fail_memory(err, "activations and scratch", arena.bytes);
    }
    arena = (pq_arena){.base = p->memory};
    place_arrays(p, &arena);
    if (p->quantized)
        quantize_activations(kernels, p);
    return PQ_OK;
}

pq_status pq_test_matmul(const char *isa, int exact, uint32_t type, const void *w, size_t rows,
                         size_t cols, const float *x, size_t n, float *y, uint32_t threads,
                         pq_error *err) {
    product p;
    pq_status st = open_product(&p, isa, exact, type, w, rows, cols, 1, x, n, threads, err);
    if (st != PQ_OK)
        return st;
    p.y = y;
    st = multiply(&p, err);
    close_product(&p);
    return st;
}

pq_status pq_time_matmul(const char *isa, int exact, uint32_t type, const void *w, size_t rows,
                         size_t cols, size_t copies, const float *x, size_t n, uint32_t threads,
                         uint32_t rounds, double *seconds, pq_error *err) {
    product p;
    pq_status st = open_product(&p, isa, exact, type, w, rows, cols, copies, x, n, threads, err);
    if (st != PQ_OK)
        return st;
    p.y = pq_aligned_alloc(n * rows * sizeof *p.y);
    if (!p.y)
        st = pq_fail_memory(err, "the product", n * rows * sizeof *p.y);
    for (uint32_t i = 0; st == PQ_OK && i < rounds; i++) {
        const int64_t start = pq_monotonic_ns();
        for (size_t c = 0; st == PQ_OK && c < copies; c++) {
            p.w.data = p.packed + c * p.panels * p.w.panel_bytes;
            st = multiply(&p, err);
        }
        seconds[i] = (double)(pq_monotonic_ns() - start) * 1e-9;
    }
    pq_aligned_free(p.y);
    close_product(&p);
    return st;
}

/* -------------------------------------------------------------------------- packing, quantizing */

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
    st = pack(&packed, &memory, type, kernels->lanes, w, rows, cols, 1, err);
    if (st != PQ_OK)
        return st;
    const size_t row_bytes = packed.panel_bytes / packed.lanes;
    for (size_t r = 0; r < rows; r++)
        pq_unpack_row(&packed, r, (uint8_t *)out + r * row_bytes);
    pq_aligned_free(memory);
    return PQ_OK;
}

pq_status pq_test_quantize_activations(const char *isa, const float *x, size_t n, int8_t *q,
                                       float *d, int16_t *sums, float *s, pq_error *err) {
    const pq_kernels *kernels;
    if (n == 0 || n % 32 != 0)
        return pq_fail(err, PQ_ERR_ARGUMENT, "cannot quantize %zu values in blocks of 32", n);
    const pq_status st = pq_kernels_select(&kernels, isa, err);
    if (st == PQ_OK)
        kernels->quantize_activations(x, n, q, d, sums, s);
    return st;
}
