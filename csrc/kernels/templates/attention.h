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
    GROUP_VECTORS = PQ_KV_LANES / PQ_VEC, /* of 16 keys */
    LEAST_VECTORS = 32 / PQ_VEC, /* of 32 dimensions, which every head size is a multiple of */
    MOST_VECTORS = 8
};

/* Neighboring numbers of a float type, widened. */
PQ_INLINE size_t number_bytes(pq_kv_type type) {
    return type == PQ_KV_F16 ? 2 : 4;
}

PQ_INLINE pq_vec load_numbers(pq_kv_type type, const uint8_t *base, size_t index) {
    const uint8_t *at = base + index * number_bytes(type);
    return type == PQ_KV_F16 ? v_load_halves(at) : v_load((const float *)(const void *)at);
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

#include "attention_integers.h"

/* -------------------------------------------------------------------------------------------- scores */

PQ_INLINE void clear(int rows, int vectors, pq_vec p[PQ_ATTEND_ROWS][MOST_VECTORS]) {
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            p[r][v] = v_all(0.0f);
    }
}

/* Scores of as many keys as `vectors` have lanes, beginning at `group`, into scores (rows, PQ_KV_BLOCK): keys of 16
 * positions follow each other at each dimension, and the next 16 positions are `group_bytes` further. */
PQ_INLINE void score_groups(int rows, int vectors, pq_kv_type type, size_t head_dim, const float *q,
                            size_t q_stride, const uint8_t *group, size_t group_bytes,
                            const uint8_t *ahead, float *scores) {
    const size_t groups = (size_t)(vectors + GROUP_VECTORS - 1) / GROUP_VECTORS;
    const size_t step = PQ_KV_LANES * number_bytes(type);
    pq_vec p[PQ_ATTEND_ROWS][MOST_VECTORS];
    clear(rows, vectors, p);
    for (size_t d = 0; d < head_dim; d++) {
        pq_vec k[MOST_VECTORS];
        for (size_t g = 0; ahead && d * step % LINE == 0 && g < groups; g++)
            ask_for_group(group + g * group_bytes + d * step, groups * group_bytes, ahead,
                          g * group_bytes + d * step);
        for (int v = 0; v < vectors; v++)
            k[v] = load_numbers(type, group + (size_t)(v / GROUP_VECTORS) * group_bytes,
                                d * PQ_KV_LANES + (size_t)(v % GROUP_VECTORS) * PQ_VEC);
        for (int r = 0; r < rows; r++) {
            const pq_vec broadcast = v_all(q[(size_t)r * q_stride + d]);
            for (int v = 0; v < vectors; v++)
                p[r][v] = v_fma(broadcast, k[v], p[r][v]);
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            v_store(scores + r * PQ_KV_BLOCK + v * PQ_VEC, p[r][v]);
    }
}

/* Scores of `groups` groups of 16 keys: as many at a time as there are accumulators for, then two, then one. */
PQ_INLINE void score_tile(int rows, pq_kv_type type, const pq_kv_view *b, const float *q,
                          size_t q_stride, size_t groups, const uint8_t *ahead, float *scores) {
    const size_t bytes = PQ_KV_LANES * b->head_dim * number_bytes(type);
    const size_t most = PQ_ATTEND_VECTORS(rows) / GROUP_VECTORS;
    const uint8_t *keys = b->keys;
    size_t g = 0;
#define SCORE_GROUPS(count)                                                                        \
    for (; g + (count) <= groups; g += (count))                                                    \
    score_groups(rows, (int)(count) * GROUP_VECTORS, type, b->head_dim, q, q_stride,               \
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
    const size_t row_bytes = head_dim * number_bytes(type);
    pq_vec o[PQ_ATTEND_ROWS][MOST_VECTORS];
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            o[r][v] =
                begin == 0 ? v_all(0.0f) : v_load(out + (size_t)r * out_stride + at + v * PQ_VEC);
    }
    for (size_t j = begin; j < end; j++) {
        const uint8_t *row = values + j * row_bytes;
        ask_for_next(next);
        pq_vec x[MOST_VECTORS];
        for (int v = 0; v < vectors; v++)
            x[v] = load_numbers(type, row, at + (size_t)v * PQ_VEC);
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

PQ_INLINE void sum_values(int rows, pq_kv_type type, const pq_kv_view *b, const float *w,
                          size_t begin, size_t end, const uint8_t *ahead, size_t ahead_bytes,
                          float *out, size_t out_stride) {
    const size_t vectors = PQ_ATTEND_VECTORS(rows), span = vectors * PQ_VEC, dim = b->head_dim;
    const size_t passes = dim / span + dim % span / 32;
    next_lines next = spread_lines(ahead, ahead_bytes, passes * (end - begin));
    size_t at = 0;
    for (; at + span <= dim; at += span)
        sum_values_at(rows, (int)vectors, type, dim, w, b->values, begin, end, at, &next, out,
                      out_stride);
    for (; vectors > LEAST_VECTORS && at < dim; at += 32)
        sum_values_at(rows, LEAST_VECTORS, type, dim, w, b->values, begin, end, at, &next, out,
                      out_stride);
}

/* A tile's rows together over the values that all of them see, then each alone over its last ones: a
 * weight of 0 is not the same as no value where that value is infinite. */
PQ_INLINE void sum_tile(int rows, pq_kv_type type, const pq_kv_view *b, const uint32_t *visible,
                        const float *w, const uint8_t *ahead, size_t ahead_bytes, float *out,
                        size_t out_stride) {
    size_t fewest = visible[0];
    for (int r = 1; r < rows; r++)
        fewest = visible[r] < fewest ? visible[r] : fewest;
    sum_values(rows, type, b, w, 0, fewest, ahead, ahead_bytes, out, out_stride);
    for (int r = 0; r < rows; r++) {
        if (fewest < visible[r])
            sum_values(1, type, b, w + r * PQ_KV_BLOCK, fewest, visible[r], NULL, 0,
                       out + (size_t)r * out_stride, out_stride);
    }
}

/* ----------------------------------------------------------------------------------------- the block */

/* With the number of rows a constant, so that a tile's accumulators become registers. Those beyond PQ_ATTEND_ROWS are
 * never called, and empty. */
typedef void (*score_fn)(const pq_kv_view *b, const float *q, size_t q_stride, size_t groups,
                         const uint8_t *ahead, float *scores);
typedef void (*sum_fn)(const pq_kv_view *b, const uint32_t *visible, const float *w,
                       const uint8_t *ahead, size_t ahead_bytes, float *out, size_t out_stride);

#define SCORE_TILE(name, type, rows)                                                               \
    static void name##_##rows(const pq_kv_view *b, const float *q, size_t q_stride, size_t groups, \
                              const uint8_t *ahead, float *scores) {                               \
        if (rows <= PQ_ATTEND_ROWS)                                                                \
            score_tile(PQ_AT_MOST(rows, PQ_ATTEND_ROWS), type, b, q, q_stride, groups, ahead,      \
                       scores);                                                                    \
    }
#define SUM_TILE(name, type, rows)                                                                 \
    static void name##_##rows(const pq_kv_view *b, const uint32_t *visible, const float *w,        \
                              const uint8_t *ahead, size_t ahead_bytes, float *out,                \
                              size_t out_stride) {                                                 \
        if (rows <= PQ_ATTEND_ROWS)                                                                \
            sum_tile(PQ_AT_MOST(rows, PQ_ATTEND_ROWS), type, b, visible, w, ahead, ahead_bytes,    \
                     out, out_stride);                                                             \
    }
#define ATTEND_TILES(scores, sums, type)                                                           \
    PQ_FOR_12(SCORE_TILE, scores, type)                                                            \
    PQ_FOR_12(SUM_TILE, sums, type)                                                                \
    static const score_fn scores[] = {PQ_NAMES_12(scores)};                                        \
    static const sum_fn sums[] = {PQ_NAMES_12(sums)};

ATTEND_TILES(scores_f16, sums_f16, PQ_KV_F16)
ATTEND_TILES(scores_f32, sums_f32, PQ_KV_F32)

/* `from_memory`: ask for what comes next. */
static void attend_tile(int rows, const pq_kv_view *b, int from_memory, const float *q,
                        size_t q_stride, const uint32_t *visible, pq_softmax *state, float *out,
                        size_t out_stride, const pq_attend_memory *m) {
    size_t most = visible[0];
    for (int r = 1; r < rows; r++)
        most = visible[r] > most ? visible[r] : most;
    const size_t groups = (most + PQ_KV_LANES - 1) / PQ_KV_LANES;
    const int ask = PQ_ATTEND_AHEAD && from_memory;
    const uint8_t *values = ask ? b->values : NULL, *next_keys = ask ? b->next_keys : NULL;
    const size_t key_bytes = pq_kv_block_part(b->key_type, b->head_dim);
    if (pq_kv_is_integer(b->key_type))
        score_integers(rows, b, q, q_stride, groups, values,
                       groups * pq_kv_group_bytes(b->value_type, b->head_dim), m);
    else
        (b->key_type == PQ_KV_F16 ? scores_f16 : scores_f32)[rows - 1](
            b, q, q_stride, groups, b->key_type == b->value_type ? values : NULL, m->w);
    for (int r = 0; r < rows; r++)
        state[r] = weigh(m->w + r * PQ_KV_BLOCK, visible[r]);
    if (pq_kv_is_integer(b->value_type))
        sum_integers(rows, b, visible, most, next_keys, key_bytes, m, out, out_stride);
    else
        (b->value_type == PQ_KV_F16 ? sums_f16 : sums_f32)[rows - 1](b, visible, m->w, next_keys,
                                                                     key_bytes, out, out_stride);
}

void PQ_NAME(attend)(const pq_kv_view *block, const float *q, size_t q_stride, size_t n,
                     const uint32_t *visible, pq_softmax *state, float *out, size_t out_stride,
                     void *scratch) {
    const pq_attend_memory memory = pq_attend_lay_out(scratch);
    for (size_t i = 0; i < n;) {
        const size_t left = (n - i + PQ_ATTEND_ROWS - 1) / PQ_ATTEND_ROWS;
        const size_t rows = (n - i + left - 1) / left; /* 16 rows are 8 + 8, not 12 + 4 */
        attend_tile((int)rows, block, i == 0 && n <= PQ_ATTEND_AHEAD, q + i * q_stride, q_stride,
                    visible + i, state + i, out + i * out_stride, out_stride, &memory);
        i += rows;
    }
}

/* ------------------------------------------------------------------------------- storing and merging */

void PQ_NAME(kv_store_key)(pq_kv_type type, size_t head_dim, size_t slot, const float *x,
                           void *numbers) {
    if (type != PQ_KV_F16) {
        pq_kv_store_key_scalar(type, head_dim, slot, x, numbers);
        return;
    }
    uint16_t half[PQ_MAX_HEAD_DIM];
    uint16_t *group = (uint16_t *)numbers + slot / PQ_KV_LANES * head_dim * PQ_KV_LANES;
    PQ_NAME(to_f16)(x, head_dim, half);
    for (size_t d = 0; d < head_dim; d++)
        group[d * PQ_KV_LANES + slot % PQ_KV_LANES] = half[d];
}

void PQ_NAME(kv_store_value)(pq_kv_type type, size_t head_dim, size_t slot, const float *x,
                             void *numbers) {
    if (type == PQ_KV_F16)
        PQ_NAME(to_f16)(x, head_dim, (uint16_t *)numbers + slot * head_dim);
    else
        pq_kv_store_value_scalar(type, head_dim, slot, x, numbers);
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
