/* gemm_float.h - matrix products in float32: the types F32, F16 and BF16, and any type in exact mode. A template over
 * a folder's vectors.h; the file that includes it says how many tokens a tile has:
 *   PQ_FLOAT_SINGLE  with one panel, at most 8
 *   PQ_FLOAT_DOUBLE  with two panels, at most 8
 *   PQ_FLOAT_TWO     1 if two panels at a time are taken where there are two, 0 for PQ_FLOAT_DOUBLE tokens and less only
 *
 * Lanes are rows. Every element has two accumulators, for even and for odd columns, so that a single token is not held
 * up by the latency of the additions; two panels at a time, for the same reason and because a broadcast activation then
 * serves two multiplications.
 */
#include <string.h>

#include "../../formats/dequantize.h"
#include "../kernels.h"
#include "unroll.h"

enum { PANEL_VECTORS = PQ_LANES / PQ_VEC };

typedef struct float_tile {
    const uint8_t *panel; /* the first; the second follows at panel_bytes */
    size_t panel_bytes, cols;
    const float *x; /* (tokens, cols), rows x_stride apart */
    size_t x_stride;
    float *y;
    size_t y_stride;
    size_t rows; /* from the first panel's first row to the matrix's last */
} float_tile;

/* Vector r of column k of a panel. */
PQ_INLINE pq_vec float_weights(const uint32_t type, const uint8_t *panel, size_t k, const int r) {
    const size_t at = PQ_LANES * k + (size_t)r * PQ_VEC;
    switch (type) {
    case PQ_F32: {
        pq_vec w = v_load((const float *)(const void *)panel + at);
#if defined(__GNUC__) && defined(__x86_64__)
        __asm__("" : "+v"(w)); /* gcc otherwise loads it again for each token */
#endif
        return w;
    }
    case PQ_F16:
        return v_load_halves(panel + 2 * at);
    default:
        return v_load_upper(panel + 2 * at);
    }
}

/* acc[v][t]: vector v of all panels, token t. */
PQ_INLINE void float_column(const uint32_t type, const int panels, const int n, const float_tile *a,
                            size_t k, pq_vec (*acc)[PQ_EACH_MOST]) {
    pq_vec w[PQ_EACH_MOST];
    PQ_EACH(v, panels * PANEL_VECTORS, {
        w[v] = float_weights(type, a->panel + (size_t)(v / PANEL_VECTORS) * a->panel_bytes, k,
                             v % PANEL_VECTORS);
    });
    PQ_EACH(t, n, {
        const pq_vec x = v_all(a->x[t * a->x_stride + k]);
        PQ_EACH(v, panels * PANEL_VECTORS, { acc[v][t] = v_fma(w[v], x, acc[v][t]); });
    });
}

/* Asks for what a few tokens will want: they wait for memory, and what the processor asks for by itself comes late
 * where a panel has few columns. Two columns, from column k on. */
PQ_INLINE void ask_ahead(const uint32_t type, const int panels, const float_tile *a, size_t k) {
    const size_t column = (size_t)PQ_LANES * (type == PQ_F32 ? 4 : 2);
    for (int p = 0; p < panels; p++)
        for (size_t at = 0; at < 2 * column; at += 64)
            v_prefetch(a->panel + (size_t)p * a->panel_bytes + k * column + at + 4096);
}

PQ_INLINE void run_float_tile(const uint32_t type, const int panels, const int n,
                              const float_tile *a) {
    pq_vec even[PQ_EACH_MOST][PQ_EACH_MOST], odd[PQ_EACH_MOST][PQ_EACH_MOST];
    PQ_EACH(v, panels * PANEL_VECTORS,
            { PQ_EACH(t, n, { even[v][t] = odd[v][t] = v_all(0.0f); }); });
    size_t k = 0;
    for (; k + 2 <= a->cols; k += 2) {
        if (n <= 2)
            ask_ahead(type, panels, a, k);
        float_column(type, panels, n, a, k, even);
        float_column(type, panels, n, a, k + 1, odd);
    }
    if (k < a->cols)
        float_column(type, panels, n, a, k, even);
    PQ_EACH(v, panels * PANEL_VECTORS, {
        if (a->rows > v * PQ_VEC) {
            const size_t left = a->rows - v * PQ_VEC;
            PQ_EACH(t, n, {
                v_store_first(a->y + t * a->y_stride + v * PQ_VEC, left,
                              v_add(even[v][t], odd[v][t]));
            });
        }
    });
}

/* ------------------------------------------------------------------------------------- its instances */

typedef void (*float_tile_fn)(const float_tile *tile);

#define FLOAT_TILE(name, type, n)                                                                  \
    static void name##_single_##n(const float_tile *a) {                                           \
        if (n <= PQ_FLOAT_SINGLE)                                                                  \
            run_float_tile(type, 1, PQ_AT_MOST(n, PQ_FLOAT_SINGLE), a);                            \
    }                                                                                              \
    static void name##_double_##n(const float_tile *a) {                                           \
        if (n <= PQ_FLOAT_DOUBLE)                                                                  \
            run_float_tile(type, 2, PQ_AT_MOST(n, PQ_FLOAT_DOUBLE), a);                            \
    }
#define FLOAT_TILES(name, type)                                                                    \
    PQ_FOR_8(FLOAT_TILE, name, type)                                                               \
    static const float_tile_fn name##_single[] = {PQ_NAMES_8(name##_single)};                      \
    static const float_tile_fn name##_double[] = {PQ_NAMES_8(name##_double)};

FLOAT_TILES(f32, PQ_F32)
FLOAT_TILES(f16, PQ_F16)
FLOAT_TILES(bf16, PQ_BF16)

/* All tokens times one panel, or two. `fns` has an entry for every number of tokens up to `most`. */
static void run_tokens(const float_tile_fn *fns, size_t most, float_tile tile, size_t tokens) {
    while (tokens > 0) {
        const size_t tiles = (tokens + most - 1) / most, n = (tokens + tiles - 1) / tiles;
        fns[n - 1](&tile);
        tile.x += n * tile.x_stride;
        tile.y += n * tile.y_stride;
        tokens -= n;
    }
}

static void float_gemm(const float_tile_fn *singles, const float_tile_fn *doubles,
                       const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x,
                       size_t token0, size_t token1, float *y, size_t y_stride) {
    const size_t tokens = token1 - token0;
    const int doubled = PQ_FLOAT_TWO || tokens <= PQ_FLOAT_DOUBLE;
    for (size_t p = panel0; p < panel1;) {
        const int two = doubled && p + 1 < panel1;
        const float_tile tile = {.panel = w->data + p * w->panel_bytes,
                                 .panel_bytes = w->panel_bytes,
                                 .cols = w->cols,
                                 .x = x->x + token0 * x->cols,
                                 .x_stride = x->cols,
                                 .y = y + token0 * y_stride + p * PQ_LANES,
                                 .y_stride = y_stride,
                                 .rows = w->rows - p * PQ_LANES};
        run_tokens(two ? doubles : singles, two ? PQ_FLOAT_DOUBLE : PQ_FLOAT_SINGLE, tile, tokens);
        p += two ? 2 : 1;
    }
}

#define FLOAT_GEMM(name)                                                                           \
    PQ_GEMM_HEAD(PQ_NAME(gemm_##name)) {                                                           \
        (void)scratch;                                                                             \
        float_gemm(name##_single, name##_double, w, panel0, panel1, x, token0, token1, y,          \
                   y_stride);                                                                      \
    }
FLOAT_GEMM(f32)
FLOAT_GEMM(f16)
FLOAT_GEMM(bf16)

/* ---------------------------------------------------------------------------------------- exact mode */

enum { SPAN = 256 }; /* a multiple of every block */

/* Dequantizes up to PQ_LANES rows in file format into one panel of float32; lanes without a row are zero. */
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

PQ_GEMM_HEAD(PQ_NAME(gemm_exact)) {
    for (size_t row = panel0; row < panel1; row += PQ_LANES) {
        const size_t rows = panel1 - row < PQ_LANES ? panel1 - row : PQ_LANES;
        dequantize_panel(w, row, rows, scratch);
        const float_tile tile = {.panel = scratch,
                                 .cols = w->cols,
                                 .x = x->x + token0 * x->cols,
                                 .x_stride = x->cols,
                                 .y = y + token0 * y_stride + row,
                                 .y_stride = y_stride,
                                 .rows = rows};
        run_tokens(f32_single, PQ_FLOAT_SINGLE, tile, token1 - token0);
    }
}
