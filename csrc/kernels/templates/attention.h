/* attention.h - one block of the KV cache, for a tile of a few query rows at a time. A template over a folder's
 * vectors.h; the file that includes it says how large a tile is:
 *   PQ_ATTEND_ROWS           query rows, at most; no more than PQ_ATTEND_TILE
 *   PQ_ATTEND_VECTORS(rows)  vectors that each of them has as accumulators; at least 2, whole groups of keys
 *   PQ_ATTEND_AHEAD          query rows, at most, that do not compute long enough to hide the memory; 0: never ask ahead
 *
 * Each vector of keys or values is loaded and widened once for all rows of a tile; what differs between the rows is
 * broadcast from memory. Lanes are keys in the scores and dimensions in the weighted sum, so every number is
 * accumulated in one lane, in the order of the scalar specification. The accumulators of a tile are to fill the
 * registers, since two fused multiply-adds per cycle need 8 to 12 at least: few rows take more vectors each.
 */
#include <math.h>
#include <string.h>

#include "../kv_layout.h"
#include "../scalar/scalar.h"
#include "exp.h"
#include "unroll.h"

enum {
    GROUP_VECTORS = PQ_KV_LANES / PQ_VEC,      /* of 16 keys */
    SCALE_VECTORS = PQ_KV_SCALE_DIMS / PQ_VEC, /* of the dimensions of a value that share a scale */
    MOST_VECTORS = 8
};

/* A constant where the type is one; kv_layout.c has it, too. */
PQ_INLINE size_t number_bytes(pq_kv_type type) {
    return type == PQ_KV_F16 ? 2 : type == PQ_KV_F32 ? 4 : 1;
}

/* Neighboring numbers of a cache, widened; int8 without their scale. */
PQ_INLINE pq_vec load_numbers(pq_kv_type type, const uint8_t *base, size_t index) {
    const uint8_t *at = base + index * number_bytes(type);
    switch (type) {
    case PQ_KV_F16:
        return v_load_halves(at);
    case PQ_KV_F32:
        return v_load((const float *)(const void *)at);
    default:
        return v_load_bytes(at);
    }
}

/* -------------------------------------------------------------------------------------- asking ahead */

/* A block that few rows attend to comes from memory, which is never to be idle: while keys are multiplied, as
 * many values are asked for (`ahead`), and the next group of 16 keys, which is new for the first block of a run
 * only; while values are summed, the keys of the next block. All into the second-level cache. */
PQ_INLINE void ask_for_group(const uint8_t *line, size_t group_bytes, const uint8_t *ahead,
                             size_t offset) {
    v_prefetch(line + group_bytes);
    v_prefetch(ahead + offset);
}

/* What is still to be asked for, spread evenly over the steps of a loop. */
typedef struct next_lines {
    const uint8_t *at, *end; /* NULL: nothing */
    size_t per_step;
} next_lines;

enum { LINE = 64 };

/* `bytes` from `at` on (NULL: none) in `steps` >= 1 steps. */
PQ_INLINE next_lines spread_lines(const uint8_t *at, size_t bytes, size_t steps) {
    const size_t lines = bytes / LINE;
    return (next_lines){at, at ? at + lines * LINE : NULL, (lines + steps - 1) / steps};
}

PQ_INLINE void ask_for_next(next_lines *next) {
    for (size_t i = 0; i < next->per_step && next->at < next->end; i++, next->at += LINE)
        v_prefetch(next->at);
}

/* -------------------------------------------------------------------------------------------- scores */

/* p[r][v] += q[r][d] * key[d][PQ_VEC v ..] for d in [begin, end), where keys of 16 positions follow each other at each
 * d, and the next 16 positions are `group_bytes` further. */
PQ_INLINE void multiply_keys(int rows, int vectors, pq_kv_type type, const float *q,
                             size_t q_stride, const uint8_t *numbers, size_t group_bytes,
                             size_t begin, size_t end, const uint8_t *ahead,
                             pq_vec p[PQ_ATTEND_ROWS][MOST_VECTORS]) {
    const size_t groups = (size_t)(vectors + GROUP_VECTORS - 1) / GROUP_VECTORS;
    const size_t step = PQ_KV_LANES * number_bytes(type);
    for (size_t d = begin; d < end; d++) {
        pq_vec k[MOST_VECTORS];
        for (size_t g = 0; ahead && d * step % LINE == 0 && g < groups; g++)
            ask_for_group(numbers + g * group_bytes + d * step, groups * group_bytes, ahead,
                          g * group_bytes + d * step);
        for (int v = 0; v < vectors; v++)
            k[v] = load_numbers(type, numbers + (size_t)(v / GROUP_VECTORS) * group_bytes,
                                d * PQ_KV_LANES + (size_t)(v % GROUP_VECTORS) * PQ_VEC);
        for (int r = 0; r < rows; r++) {
            const pq_vec broadcast = v_all(q[(size_t)r * q_stride + d]);
            for (int v = 0; v < vectors; v++)
                p[r][v] = v_fma(broadcast, k[v], p[r][v]);
        }
    }
}

PQ_INLINE void clear(int rows, int vectors, pq_vec p[PQ_ATTEND_ROWS][MOST_VECTORS]) {
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            p[r][v] = v_all(0.0f);
    }
}

/* Scores of as many keys as `vectors` have lanes, beginning at `group`, into scores (rows, PQ_KV_BLOCK). */
PQ_INLINE void score_groups(int rows, int vectors, pq_kv_type type, size_t head_dim, const float *q,
                            size_t q_stride, const uint8_t *group, size_t group_bytes,
                            const uint8_t *ahead, float *scores) {
    pq_vec p[PQ_ATTEND_ROWS][MOST_VECTORS];
    clear(rows, vectors, p);
    if (type != PQ_KV_Q8_0) {
        multiply_keys(rows, vectors, type, q, q_stride, group, group_bytes, 0, head_dim, ahead, p);
        for (int r = 0; r < rows; r++) {
            for (int v = 0; v < vectors; v++)
                v_store(scores + r * PQ_KV_BLOCK + v * PQ_VEC, p[r][v]);
        }
        return;
    }
    /* The registers hold the products of 32 dimensions; the sum over those waits in memory. */
    const size_t n_scales = head_dim / PQ_KV_SCALE_DIMS;
    const uint8_t *numbers = group + n_scales * PQ_KV_LANES * sizeof(float);
    for (size_t b = 0; b < n_scales; b++) {
        clear(rows, vectors, p);
        multiply_keys(rows, vectors, type, q, q_stride, numbers, group_bytes, b * PQ_KV_SCALE_DIMS,
                      (b + 1) * PQ_KV_SCALE_DIMS, ahead, p);
        for (int v = 0; v < vectors; v++) {
            const float *scales =
                (const float *)(const void *)(group + (size_t)(v / GROUP_VECTORS) * group_bytes);
            const pq_vec scale =
                v_load(scales + b * PQ_KV_LANES + (size_t)(v % GROUP_VECTORS) * PQ_VEC);
            for (int r = 0; r < rows; r++) {
                float *s = scores + r * PQ_KV_BLOCK + v * PQ_VEC;
                v_store(s, v_fma(scale, p[r][v], b == 0 ? v_all(0.0f) : v_load(s)));
            }
        }
    }
}

/* Scores of `groups` groups of 16 keys: as many at a time as there are accumulators for, then two, then one. */
PQ_INLINE void score_tile(int rows, pq_kv_type type, size_t head_dim, const float *q,
                          size_t q_stride, const uint8_t *keys, size_t groups, const uint8_t *ahead,
                          float *scores) {
    const size_t bytes = pq_kv_key_group_bytes(type, head_dim);
    const size_t most = PQ_ATTEND_VECTORS(rows) / GROUP_VECTORS;
    size_t g = 0;
#define SCORE_GROUPS(count)                                                                        \
    for (; g + (count) <= groups; g += (count))                                                    \
    score_groups(rows, (int)(count) * GROUP_VECTORS, type, head_dim, q, q_stride,                  \
                 keys + g * bytes, bytes, ahead ? ahead + g * bytes : NULL,                        \
                 scores + g * PQ_KV_LANES)
    SCORE_GROUPS(most);
    if (most > 2)
        SCORE_GROUPS(2);
    if (most > 1)
        SCORE_GROUPS(1);
#undef SCORE_GROUPS
}

/* Turns a row's scores into weights, in place. The numbers up to the next multiple of 16 are overwritten. */
static pq_softmax weigh(float *w, size_t visible) {
    const size_t end = (visible + PQ_KV_LANES - 1) / PQ_KV_LANES * PQ_KV_LANES;
    for (size_t j = visible; j < end; j++)
        w[j] = -INFINITY;
    pq_vec largest = v_all(-INFINITY); /* leaves NaN out, as > does */
    for (size_t j = 0; j < end; j += PQ_VEC)
        largest = v_max(v_load(w + j), largest);
    pq_softmax state = {.max = v_largest(largest)};
    const pq_vec max = v_all(state.max);
    pq_vec lanes[GROUP_VECTORS];
    for (int v = 0; v < GROUP_VECTORS; v++)
        lanes[v] = v_all(0.0f);
    for (size_t j = 0; j < end; j += PQ_KV_LANES) {
        for (int v = 0; v < GROUP_VECTORS; v++) {
            const pq_vec e = v_exp(v_sub(v_load(w + j + v * PQ_VEC), max));
            v_store(w + j + v * PQ_VEC, e);
            lanes[v] = v_add(lanes[v], e);
        }
    }
    state.sum = v_sum16(lanes);
    if (isnan(state.sum))
        state.max = state.sum;
    return state;
}

/* ----------------------------------------------------------------------------------- weighted values */

/* out[r][at ..] = the weighted sum of as many dimensions as `vectors` have lanes over the values j in [begin, end),
 * going on from what is in out unless begin is 0. */
PQ_INLINE void sum_values_at(int rows, int vectors, pq_kv_type type, size_t head_dim,
                             const float *w, const uint8_t *values, size_t begin, size_t end,
                             size_t at, next_lines *next, float *out, size_t out_stride) {
    const size_t row_bytes = pq_kv_value_row_bytes(type, head_dim);
    const size_t numbers = type == PQ_KV_Q8_0 ? head_dim / PQ_KV_SCALE_DIMS * sizeof(float) : 0;
    pq_vec o[PQ_ATTEND_ROWS][MOST_VECTORS];
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            o[r][v] =
                begin == 0 ? v_all(0.0f) : v_load(out + (size_t)r * out_stride + at + v * PQ_VEC);
    }
    for (size_t j = begin; j < end; j++) {
        const uint8_t *row = values + j * row_bytes;
        const float *scales = (const float *)(const void *)row + at / PQ_KV_SCALE_DIMS;
        ask_for_next(next);
        pq_vec x[MOST_VECTORS];
        for (int v = 0; v < vectors; v++) {
            x[v] = load_numbers(type, row + numbers, at + (size_t)v * PQ_VEC);
            if (type == PQ_KV_Q8_0)
                x[v] = v_mul(v_all(scales[v / SCALE_VECTORS]), x[v]);
        }
        for (int r = 0; r < rows; r++) {
            const pq_vec broadcast = v_all(w[(size_t)r * PQ_KV_BLOCK + j]);
            for (int v = 0; v < vectors; v++)
                o[r][v] = v_fma(broadcast, x[v], o[r][v]);
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            v_store(out + (size_t)r * out_stride + at + v * PQ_VEC, o[r][v]);
    }
}

PQ_INLINE void sum_values(int rows, pq_kv_type type, size_t head_dim, const float *w,
                          const uint8_t *values, size_t begin, size_t end, const uint8_t *next_keys,
                          float *out, size_t out_stride) {
    const size_t vectors = PQ_ATTEND_VECTORS(rows), span = vectors * PQ_VEC;
    const size_t passes = head_dim / span + head_dim % span / PQ_KV_SCALE_DIMS;
    next_lines next =
        spread_lines(next_keys, pq_kv_key_bytes(type, head_dim), passes * (end - begin));
    size_t at = 0;
    for (; at + span <= head_dim; at += span)
        sum_values_at(rows, (int)vectors, type, head_dim, w, values, begin, end, at, &next, out,
                      out_stride);
    for (; vectors > SCALE_VECTORS && at < head_dim; at += PQ_KV_SCALE_DIMS)
        sum_values_at(rows, SCALE_VECTORS, type, head_dim, w, values, begin, end, at, &next, out,
                      out_stride);
}

/* ----------------------------------------------------------------------------------------- the block */

/* A block, and what of it a tile's rows see. */
typedef struct attend_block {
    size_t head_dim, q_stride, out_stride;
    const uint8_t *keys, *values, *next_keys;
    int from_memory; /* ask for what comes next */
    float *w;        /* (rows, PQ_KV_BLOCK) */
} attend_block;

/* A tile's rows together over the keys that all of them see, then each alone over its last ones: a
 * weight of 0 is not the same as no value where that value is infinite. */
PQ_INLINE void attend_tile(int rows, pq_kv_type type, const attend_block *b, const float *q,
                           const uint32_t *visible, pq_softmax *state, float *out) {
    size_t fewest = visible[0], most = visible[0];
    for (int r = 1; r < rows; r++) {
        fewest = visible[r] < fewest ? visible[r] : fewest;
        most = visible[r] > most ? visible[r] : most;
    }
    const int ask = PQ_ATTEND_AHEAD && b->from_memory;
    score_tile(rows, type, b->head_dim, q, b->q_stride, b->keys,
               (most + PQ_KV_LANES - 1) / PQ_KV_LANES, ask ? b->values : NULL, b->w);
    for (int r = 0; r < rows; r++)
        state[r] = weigh(b->w + r * PQ_KV_BLOCK, visible[r]);
    sum_values(rows, type, b->head_dim, b->w, b->values, 0, fewest, ask ? b->next_keys : NULL, out,
               b->out_stride);
    for (int r = 0; fewest < most && r < rows; r++) {
        if (fewest < visible[r])
            sum_values(1, type, b->head_dim, b->w + r * PQ_KV_BLOCK, b->values, fewest, visible[r],
                       NULL, out + (size_t)r * b->out_stride, b->out_stride);
    }
}

/* With the number of rows a constant, so that a tile's accumulators become registers. Those beyond PQ_ATTEND_ROWS are
 * never called, and empty. */
typedef void (*attend_fn)(const attend_block *block, const float *q, const uint32_t *visible,
                          pq_softmax *state, float *out);

#define ATTEND_TILE(name, type, rows)                                                              \
    static void name##_##rows(const attend_block *block, const float *q, const uint32_t *visible,  \
                              pq_softmax *state, float *out) {                                     \
        if (rows <= PQ_ATTEND_ROWS)                                                                \
            attend_tile(PQ_AT_MOST(rows, PQ_ATTEND_ROWS), type, block, q, visible, state, out);    \
    }
#define ATTEND_TILES(name, type)                                                                   \
    PQ_FOR_12(ATTEND_TILE, name, type)                                                             \
    static const attend_fn name[] = {PQ_NAMES_12(name)};

ATTEND_TILES(tiles_f16, PQ_KV_F16)
ATTEND_TILES(tiles_q8, PQ_KV_Q8_0)
ATTEND_TILES(tiles_f32, PQ_KV_F32)

void PQ_NAME(attend)(pq_kv_type type, size_t head_dim, const float *q, size_t q_stride, size_t n,
                     const uint32_t *visible, const void *keys, const void *values,
                     const void *next_keys, pq_softmax *state, float *out, size_t out_stride,
                     void *scratch) {
    const attend_fn *tiles = type == PQ_KV_F16    ? tiles_f16
                             : type == PQ_KV_Q8_0 ? tiles_q8
                                                  : tiles_f32;
    attend_block block = {.head_dim = head_dim,
                          .q_stride = q_stride,
                          .out_stride = out_stride,
                          .keys = keys,
                          .values = values,
                          .next_keys = next_keys,
                          .from_memory = n <= PQ_ATTEND_AHEAD,
                          .w = scratch};
    for (size_t i = 0; i < n;) {
        const size_t left = (n - i + PQ_ATTEND_ROWS - 1) / PQ_ATTEND_ROWS;
        const size_t rows = (n - i + left - 1) / left; /* 16 rows are 8 + 8, not 12 + 4 */
        tiles[rows - 1](&block, q + i * q_stride, visible + i, state + i, out + i * out_stride);
        block.from_memory = 0;
        i += rows;
    }
}

/* ------------------------------------------------------------------------------- storing and merging */

void PQ_NAME(kv_store)(pq_kv_type type, size_t head_dim, size_t slot, const float *key,
                       const float *value, void *keys, void *values) {
    if (type != PQ_KV_F16) {
        pq_kv_store_scalar(type, head_dim, slot, key, value, keys, values);
        return;
    }
    uint16_t half[PQ_MAX_HEAD_DIM];
    uint16_t *group = (uint16_t *)keys + slot / PQ_KV_LANES * head_dim * PQ_KV_LANES;
    PQ_NAME(to_f16)(key, head_dim, half);
    for (size_t d = 0; d < head_dim; d++)
        group[d * PQ_KV_LANES + slot % PQ_KV_LANES] = half[d];
    PQ_NAME(to_f16)(value, head_dim, (uint16_t *)values + slot * head_dim);
}

void PQ_NAME(attend_merge)(size_t head_dim, pq_softmax *into, float *into_out,
                           const pq_softmax *block, const float *block_out) {
    if (into->max == -INFINITY) {
        *into = *block;
        memcpy(into_out, block_out, head_dim * sizeof *into_out);
        return;
    }
    const float max = block->max > into->max ? block->max : into->max;
    const float a = pq_exp(into->max - max), b = pq_exp(block->max - max);
    into->max = max;
    into->sum = fmaf(into->sum, a, block->sum * b);
    for (size_t d = 0; d < head_dim; d += PQ_VEC) {
        const pq_vec later = v_mul(v_load(block_out + d), v_all(b));
        v_store(into_out + d, v_fma(v_load(into_out + d), v_all(a), later));
    }
}
