/* gemm_driver.h - cuts a product into tiles: see gemm_tile.h. */
#ifndef PQ_TEMPLATES_GEMM_DRIVER_H
#define PQ_TEMPLATES_GEMM_DRIVER_H

#include "gemm_tile.h"

typedef struct job {
    const pq_tiles *kernels;
    const pq_matrix *w;
    const pq_acts *x;
    float *y;
    size_t y_stride;
} job;

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

static void run_tile(const job *j, pq_tile_fn fn, const uint8_t *data, size_t panel, size_t panels,
                     size_t token) {
    const pq_acts *x = j->x;
    const size_t row = panel * PQ_LANES;
    const pq_tile tile = {
        .panel = data,
        .blocks = x->cols / pq_type_block(j->w->type),
        .q = x->q + token * x->cols,
        .d = x->d + token * (x->cols / 32),
        .s = x->s + token * (x->cols / 32),
        .sums = x->sums + token * (x->cols / 16),
        .cols = x->cols,
        .y = j->y + token * j->y_stride + row,
        .y_stride = j->y_stride,
        .rows = min_size(panels * PQ_LANES, j->w->rows - row),
    };
    fn(&tile);
}

/* Token ranges are cut into tiles of nearly equal size: 9 tokens are 5 and 4, not 8 and 1. */
static size_t next_tile(size_t tokens, size_t most) {
    const size_t tiles = (tokens + most - 1) / most;
    return (tokens + tiles - 1) / tiles;
}

static void multiply_packed(const job *j, size_t panel0, size_t panel1, size_t token0,
                            size_t token1) {
    for (size_t p = panel0; p < panel1; p++) {
        for (size_t t = token0; t < token1;) {
            const size_t n = next_tile(token1 - t, PQ_MAX_TILE);
            run_tile(j, j->kernels->direct[n - 1], j->w->data + p * j->w->panel_bytes, p, 1, t);
            t += n;
        }
    }
}

/* The panels stay in the second-level cache, a tile's tokens in the first. */
static void multiply_unpacked(const job *j, size_t panel0, size_t panel1, size_t token0,
                              size_t token1, uint8_t *scratch) {
    const size_t blocks = j->x->cols / pq_type_block(j->w->type);
    const size_t bytes = blocks * j->kernels->unpacked_block;
    for (size_t p = panel0; p < panel1; p++)
        j->kernels->unpack(j->w->data + p * j->w->panel_bytes, blocks,
                           scratch + (p - panel0) * bytes);
    for (size_t t = token0; t < token1;) {
        const size_t n = next_tile(token1 - t, PQ_MAX_UNPACKED_TILE);
        size_t p = panel0;
        for (; p + PQ_PANELS <= panel1 && PQ_PANELS == 2; p += 2)
            run_tile(j, j->kernels->doubled[n - 1], scratch + (p - panel0) * bytes, p, 2, t);
        for (; p < panel1; p++)
            run_tile(j, j->kernels->unpacked[n - 1], scratch + (p - panel0) * bytes, p, 1, t);
        t += n;
    }
}

void PQ_NAME(gemm_by_tiles)(const pq_tiles *kernels, const pq_matrix *w, size_t panel0,
                            size_t panel1, const pq_acts *x, size_t token0, size_t token1, float *y,
                            size_t y_stride, void *scratch) {
    const job j = {.kernels = kernels, .w = w, .x = x, .y = y, .y_stride = y_stride};
    if (token1 - token0 <= kernels->direct_tokens) {
        multiply_packed(&j, panel0, panel1, token0, token1);
        return;
    }
    const size_t step = pq_unpacked_panels(w->cols, PQ_LANES);
    for (size_t p = panel0; p < panel1; p += step)
        multiply_unpacked(&j, p, min_size(p + step, panel1), token0, token1, scratch);
}

#endif
