/* gemm_tile.c - cuts products of quantized types into runs of tiles. */
#include "gemm_tile.h"

/* What LDTILECFG reads. */
typedef struct tile_config {
    _Alignas(64) uint8_t palette;
    uint8_t start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

_Static_assert(sizeof(tile_config) == 64, "as the processor lays it out");

/* Tiles 0 and 3: activations; 1 and 2: weights; 4 to 7: sums. */
static void configure(size_t tokens) {
    volatile tile_config c = {.palette = 1}; /* or gcc 12 sees no use of all but the first bytes */
    for (int i = 0; i <= 3; i += 3) {
        c.rows[i] = (uint8_t)tokens;
        c.row_bytes[i] = 32;
    }
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

static size_t ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

/* A thread's scratch memory. All of it stays in the second-level cache: the activations of a product come from
 * the third one, which is slow, and do so once for all panels here. */
typedef struct memory {
    _Alignas(64) uint8_t panels[PQ_AMX_PANELS][PQ_AMX_PANEL];
    float sums[PQ_AMX_BATCH][PQ_AMX_PANELS * PQ_LANES]; /* of the slices so far */
} memory;

_Static_assert(sizeof(memory) == PQ_AMX_SCRATCH, "scratch memory is for this");
_Static_assert((int)PQ_AMX_PANEL == 8 * (int)PQ_AMX_UNPACKED_TWICE, "2,048 columns in one slice");

/* A slice of columns of a few panels, and the tokens that meet it. */
typedef struct slice {
    const pq_amx_kernels *kernels;
    const pq_matrix *w;
    const pq_acts *x;
    size_t panel0, panel1;
    size_t block0, block1; /* of 32 columns */
    size_t token0, token1;
    float *y; /* of token 0 */
    size_t y_stride;
    memory *memory;
} slice;

static void unpack(const slice *s) {
    const size_t row_bytes = s->block0 * 32 / pq_type_block(s->w->type) * pq_type_bytes(s->w->type);
    for (size_t p = s->panel0; p < s->panel1; p++)
        s->kernels->unpack(s->w->data + p * s->w->panel_bytes + row_bytes * PQ_LANES,
                           s->block1 - s->block0, s->memory->panels[p - s->panel0]);
}

/* Where a panel's sums of a token are between slices. */
static float *kept(const slice *s, size_t panel, size_t token) {
    return &s->memory->sums[token - s->token0][(panel - s->panel0) * PQ_LANES];
}

static void multiply(const slice *s, size_t token, size_t tokens) {
    const size_t blocks = s->x->cols / 32, at = token * blocks + s->block0;
    for (size_t p = s->panel0; p < s->panel1; p += 2) {
        const size_t row = p * PQ_LANES, next = p + 1 < s->panel1 ? p + 1 : p;
        pq_amx_run run = {
            .panel = {s->memory->panels[p - s->panel0], s->memory->panels[next - s->panel0]},
            .blocks = s->block1 - s->block0,
            .tokens = tokens,
            .q = s->x->q + at * 32,
            .d = s->x->d + at,
            .s = s->x->s + at,
            .sums = s->x->sums + 2 * at,
            .cols = s->x->cols,
            .rows = {PQ_LANES, next > p ? PQ_LANES : 0},
        };
        if (s->block0 > 0)
            run.before = kept(s, p, token);
        if (s->block1 < blocks) {
            run.y = kept(s, p, token);
            run.y_stride = PQ_AMX_PANELS * PQ_LANES;
        } else {
            run.y = s->y + token * s->y_stride + row;
            run.y_stride = s->y_stride;
            run.rows[0] = min_size(PQ_LANES, s->w->rows - row);
            if (next > p)
                run.rows[1] = min_size(PQ_LANES, s->w->rows - row - PQ_LANES);
        }
        s->kernels->run(&run);
    }
}

/* A run is one tile of tokens: of 16 rows in memory the processor fetches what comes next by itself, of more it
 * does not. */
static void multiply_all(const slice *s) {
    size_t configured = 0;
    for (size_t t = s->token0; t < s->token1; t += PQ_AMX_TOKENS) {
        const size_t tokens = min_size(s->token1 - t, PQ_AMX_TOKENS);
        if (tokens != configured)
            configure(tokens);
        configured = tokens;
        multiply(s, t, tokens);
    }
}

void pq_gemm_by_tiles_amx(const pq_amx_kernels *kernels, const pq_matrix *w, size_t panel0,
                          size_t panel1, const pq_acts *x, size_t token0, size_t token1, float *y,
                          size_t y_stride, void *scratch) {
    if (token1 - token0 < PQ_AMX_FEW_TOKENS) {
        kernels->few_tokens(w, panel0, panel1, x, token0, token1, y, y_stride, scratch);
        return;
    }
    const size_t blocks = w->cols / 32, groups = ceil_div(blocks, PQ_AMX_BLOCKS);
    const size_t slices = ceil_div(groups, PQ_AMX_PANEL / kernels->unpacked);
    const size_t block_step = ceil_div(groups, slices) * PQ_AMX_BLOCKS;
    slice s = {.kernels = kernels, .w = w, .x = x, .y = y, .y_stride = y_stride, .memory = scratch};
    for (s.panel0 = panel0; s.panel0 < panel1; s.panel0 = s.panel1) {
        s.panel1 = min_size(s.panel0 + PQ_AMX_PANELS, panel1);
        for (s.token0 = token0; s.token0 < token1; s.token0 = s.token1) {
            s.token1 = min_size(s.token0 + PQ_AMX_BATCH, token1);
            for (s.block0 = 0; s.block0 < blocks; s.block0 = s.block1) {
                s.block1 = min_size(s.block0 + block_step, blocks);
                unpack(&s);
                multiply_all(&s);
            }
        }
    }
    _tile_release(); /* threads with tiles in use are slower to switch */
}
