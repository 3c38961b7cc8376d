/* gemm_tile.c - cuts products of quantized types into runs of tiles, and lists the products of all types. */
#include "gemm_tile.h"

#include "amx.h"

/* What LDTILECFG reads. */
typedef struct tile_config {
    _Alignas(64) uint8_t palette;
    uint8_t start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

_Static_assert(sizeof(tile_config) == 64, "as the processor lays it out");

/* Tile 0: activations; 1 and 2: weights; 4 to 7: sums. */
static void configure(size_t tokens) {
    volatile tile_config c = {.palette = 1}; /* or gcc 12 sees no use of all but the first bytes */
    c.rows[0] = (uint8_t)tokens;
    c.row_bytes[0] = 32;
    for (int i = 1; i <= 2; i++) {
        c.rows[i] = PQ_AMX_QUANTS / PQ_VECTOR_BYTES;
        c.row_bytes[i] = PQ_VECTOR_BYTES;
    }
    for (int i = 4; i <= 7; i++) {
        c.rows[i] = (uint8_t)tokens;
        c.row_bytes[i] = PQ_VECTOR_BYTES;
    }
    _tile_loadconfig((const void *)&c);
}

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* A few unpacked panels. */
typedef struct strip {
    const pq_amx_kernels *kernels;
    const pq_matrix *w;
    const pq_acts *x;
    size_t panel0, panel1;
    size_t panel_bytes; /* unpacked */
    const uint8_t *unpacked;
} strip;

static void multiply(const strip *s, size_t token, size_t tokens, float *y, size_t y_stride) {
    const size_t cols = s->x->cols;
    for (size_t p = s->panel0; p < s->panel1; p += 2) {
        const size_t row = p * PQ_LANES;
        const uint8_t *panel = s->unpacked + (p - s->panel0) * s->panel_bytes;
        const int paired = p + 1 < s->panel1;
        const pq_amx_run run = {
            .panel = {panel, paired ? panel + s->panel_bytes : panel},
            .blocks = cols / 32,
            .tokens = tokens,
            .q = s->x->q + token * cols,
            .d = s->x->d + token * (cols / 32),
            .s = s->x->s + token * (cols / 32),
            .sums = s->x->sums + token * (cols / 16),
            .cols = cols,
            .y = {y + token * y_stride + row, y + token * y_stride + row + PQ_LANES},
            .y_stride = y_stride,
            .rows = {min_size(PQ_LANES, s->w->rows - row),
                     paired ? min_size(PQ_LANES, s->w->rows - row - PQ_LANES) : 0},
        };
        s->kernels->run(&run);
    }
}

/* As many full tiles as a run takes; what is left after the last is a tile with fewer rows. */
static size_t next_tokens(size_t left) {
    if (left < PQ_AMX_TOKENS)
        return left;
    return min_size(left / PQ_AMX_TOKENS, PQ_AMX_TILES) * PQ_AMX_TOKENS;
}

/* The panels stay in the second-level cache, the tokens of a tile in the first. */
void pq_gemm_by_tiles_amx(const pq_amx_kernels *kernels, const pq_matrix *w, size_t panel0,
                          size_t panel1, const pq_acts *x, size_t token0, size_t token1, float *y,
                          size_t y_stride, void *scratch) {
    if (token1 - token0 < PQ_AMX_FEW_TOKENS) {
        kernels->few_tokens(w, panel0, panel1, x, token0, token1, y, y_stride, scratch);
        return;
    }
    const size_t groups = (w->cols / 32 + PQ_AMX_BLOCKS - 1) / PQ_AMX_BLOCKS;
    const size_t bytes = groups * PQ_AMX_UNPACKED;
    const size_t fit = pq_amx_scratch(w->cols) / bytes;
    const size_t step = fit - fit % 2;
    size_t configured = 0;
    for (size_t p = panel0; p < panel1; p += step) {
        const strip s = {kernels, w, x, p, min_size(p + step, panel1), bytes, scratch};
        for (size_t i = p; i < s.panel1; i++)
            kernels->unpack(w->data + i * w->panel_bytes, w->cols / 32,
                            (uint8_t *)scratch + (i - p) * bytes);
        for (size_t t = token0; t < token1;) {
            const size_t tokens = next_tokens(token1 - t);
            const size_t tile = min_size(tokens, PQ_AMX_TOKENS);
            if (tile != configured)
                configure(tile);
            configured = tile;
            multiply(&s, t, tokens, y, y_stride);
            t += tokens;
        }
    }
    _tile_release(); /* threads with tiles in use are slower to switch */
}

const pq_gemm_fn pq_gemm_table_amx[PQ_TYPE_COUNT] = {
    [PQ_F32] = PQ_NAME(gemm_f32),     [PQ_F16] = PQ_NAME(gemm_f16),
    [PQ_BF16] = PQ_NAME(gemm_bf16),   [PQ_Q4_0] = pq_gemm_q4_0_amx,
    [PQ_Q4_1] = pq_gemm_q4_1_amx,     [PQ_Q5_0] = pq_gemm_q5_0_amx,
    [PQ_Q5_1] = pq_gemm_q5_1_amx,     [PQ_Q8_0] = pq_gemm_q8_0_amx,
    [PQ_Q2_K] = pq_gemm_q2_k_amx,     [PQ_Q3_K] = pq_gemm_q3_k_amx,
    [PQ_Q4_K] = pq_gemm_q4_k_amx,     [PQ_Q5_K] = pq_gemm_q5_k_amx,
    [PQ_Q6_K] = PQ_NAME(gemm_q6_k),   [PQ_IQ4_NL] = pq_gemm_iq4_nl_amx,
    [PQ_IQ4_XS] = pq_gemm_iq4_xs_amx,
};
