/* gemm_float.c - matrix products in float32: the types F32, F16 and BF16, and any type in exact
 * mode.
 *
 * Lanes are rows. Every element has two accumulators, for even and for odd columns, so that a
 * single token is not held up by the latency of the additions; two panels at a time, for the same
 * reason and because a broadcast activation then serves two multiplications.
 */
#include "vectors.h"

#include "../../formats/dequantize.h"
#include "../x86_vnni/gemm_tile.h"

enum { MAX_TOKENS = 6, MAX_TOKENS_SINGLE = 8 };

typedef struct float_tile {
    const uint8_t *panel; /* the first; the second follows at panel_bytes */
    size_t panel_bytes, cols;
    const float *x; /* (tokens, cols) */
    float *y;
    size_t y_stride;
    size_t rows; /* from the first panel's first row to the matrix's last */
} float_tile;

/* Column k of a panel's rows. */
PQ_INLINE __m512 weights(const uint32_t type, const uint8_t *panel, size_t k) {
    switch (type) {
    case PQ_F32:
        return _mm512_loadu_ps((const float *)(const void *)panel + PQ_LANES * k);
    case PQ_F16:
        return pq_load_halves(panel + 2 * PQ_LANES * k);
    default: /* BF16: the upper half of a float32 */
        return pq_as_floats(pq_left(pq_load_words(panel + 2 * PQ_LANES * k), 16));
    }
}

PQ_INLINE void column(const uint32_t type, const int panels, const int n, const float_tile *a,
                      size_t k, __m512 (*acc)[PQ_EACH_MOST]) {
    __m512 w[PQ_EACH_MOST];
    PQ_EACH(p, panels, { w[p] = weights(type, a->panel + (size_t)p * a->panel_bytes, k); });
    PQ_EACH(t, n, {
        const __m512 x = pq_all_floats(a->x + t * a->cols + k);
        PQ_EACH(p, panels, { acc[p][t] = pq_fma(w[p], x, acc[p][t]); });
    });
}

PQ_INLINE void tile(const uint32_t type, const int panels, const int n, const float_tile *a) {
    __m512 even[PQ_EACH_MOST][PQ_EACH_MOST], odd[PQ_EACH_MOST][PQ_EACH_MOST];
    PQ_EACH(p, panels, { PQ_EACH(t, n, { even[p][t] = odd[p][t] = pq_float_zero(); }); });
    size_t k = 0;
    for (; k + 2 <= a->cols; k += 2) {
        column(type, panels, n, a, k, even);
        column(type, panels, n, a, k + 1, odd);
    }
    if (k < a->cols)
        column(type, panels, n, a, k, even);
    PQ_EACH(p, panels, {
        const size_t left = a->rows - (size_t)p * PQ_LANES;
        PQ_EACH(t, n, {
            pq_store_rows(a->y + t * a->y_stride + p * PQ_LANES, left,
                          _mm512_add_ps(even[p][t], odd[p][t]));
        });
    });
}

/* ----------------------------------------------------------------------------- its instances */

typedef void (*float_tile_fn)(const float_tile *tile);

#define TILE(name, type, panels, n)                                                                \
    static void name##_##panels##_##n(const float_tile *a) {                                       \
        tile(type, panels, n, a);                                                                  \
    }

#define TILES(name, type)                                                                          \
    TILE(name, type, 1, 1)                                                                         \
    TILE(name, type, 1, 2)                                                                         \
    TILE(name, type, 1, 3)                                                                         \
    TILE(name, type, 1, 4)                                                                         \
    TILE(name, type, 1, 5)                                                                         \
    TILE(name, type, 1, 6)                                                                         \
    TILE(name, type, 1, 7)                                                                         \
    TILE(name, type, 1, 8)                                                                         \
    TILE(name, type, 2, 1)                                                                         \
    TILE(name, type, 2, 2)                                                                         \
    TILE(name, type, 2, 3)                                                                         \
    TILE(name, type, 2, 4)                                                                         \
    TILE(name, type, 2, 5)                                                                         \
    TILE(name, type, 2, 6)                                                                         \
    static const float_tile_fn name##_single[MAX_TOKENS_SINGLE] = {                                \
        name##_1_1, name##_1_2, name##_1_3, name##_1_4,                                            \
        name##_1_5, name##_1_6, name##_1_7, name##_1_8};                                           \
    static const float_tile_fn name##_double[MAX_TOKENS] = {name##_2_1, name##_2_2, name##_2_3,    \
                                                            name##_2_4, name##_2_5, name##_2_6};

TILES(f32, PQ_F32)
TILES(f16, PQ_F16)
TILES(bf16, PQ_BF16)

/* All tokens times one panel, or two. `fns` has an entry for every number of tokens up to `most`. */
static void run_tokens(const float_tile_fn *fns, size_t most, float_tile tile, size_t tokens) {
    while (tokens > 0) {
        const size_t tiles = (tokens + most - 1) / most, n = (tokens + tiles - 1) / tiles;
        fns[n - 1](&tile);
        tile.x += n * tile.cols;
        tile.y += n * tile.y_stride;
        tokens -= n;
    }
}

static void gemm(const float_tile_fn *singles, const float_tile_fn *doubles, const pq_matrix *w,
                 size_t panel0, size_t panel1, const pq_acts *x, size_t token0, size_t token1,
                 float *y, size_t y_stride) {
    for (size_t p = panel0; p < panel1;) {
        const int two = p + 1 < panel1;
        const float_tile tile = {.panel = w->data + p * w->panel_bytes,
                                 .panel_bytes = w->panel_bytes,
                                 .cols = w->cols,
                                 .x = x->x + token0 * x->cols,
                                 .y = y + token0 * y_stride + p * PQ_LANES,
                                 .y_stride = y_stride,
                                 .rows = w->rows - p * PQ_LANES};
        run_tokens(two ? doubles : singles, two ? MAX_TOKENS : MAX_TOKENS_SINGLE, tile,
                   token1 - token0);
        p += two ? 2 : 1;
    }
}

PQ_GEMM(f32) {
    (void)scratch;
    gemm(f32_single, f32_double, w, panel0, panel1, x, token0, token1, y, y_stride);
}

PQ_GEMM(f16) {
    (void)scratch;
    gemm(f16_single, f16_double, w, panel0, panel1, x, token0, token1, y, y_stride);
}

PQ_GEMM(bf16) {
    (void)scratch;
    gemm(bf16_single, bf16_double, w, panel0, panel1, x, token0, token1, y, y_stride);
}

/* -------------------------------------------------------------------------------- exact mode */

enum { SPAN = 256 }; /* a multiple of every block */

/* Dequantizes up to 16 rows in file format into one panel of float32; lanes without a row are zero. */
static void dequantize_panel(const pq_matrix *w, size_t row, size_t rows, float *panel) {
    const size_t block = pq_type_block(w->type), bytes = pq_type_bytes(w->type);
    float values[SPAN];
    memset(panel, 0, w->cols * PQ_LANES * sizeof *panel);
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *src = w->data + (row + r) * w->panel_bytes;
        for (size_t k = 0; k < w->cols; k += SPAN) {
            const size_t n = w->cols - k < SPAN ? w->cols - k : SPAN;
            pq_dequantize_row(w->type, src + k / block * bytes, n, values);
            for (size_t i = 0; i < n; i++)
                panel[(k + i) * PQ_LANES + r] = values[i];
        }
    }
}

void pq_gemm_exact_avx512vnni(const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x,
                              size_t token0, size_t token1, float *y, size_t y_stride,
                              void *scratch) {
    for (size_t row = panel0; row < panel1; row += PQ_LANES) {
        const size_t rows = panel1 - row < PQ_LANES ? panel1 - row : PQ_LANES;
        dequantize_panel(w, row, rows, scratch);
        const float_tile tile = {.panel = scratch,
                                 .cols = w->cols,
                                 .x = x->x + token0 * x->cols,
                                 .y = y + token0 * y_stride + row,
                                 .y_stride = y_stride,
                                 .rows = rows};
        run_tokens(f32_single, MAX_TOKENS_SINGLE, tile, token1 - token0);
    }
}
