/* attention_integers.h - products with the integer types of the KV cache, for attention.h. A template over a folder's
 * vectors.h.
 *
 * Scores and weighted sums are the same operation: a row of 16-bit factors (a query over dimensions, weights over
 * positions) times squares of 16 x 16 numbers, summed exactly along one side. Two neighboring factors meet their pair of
 * numbers in one instruction, twice as many products as in float32.
 */
#include <math.h>
#include <string.h>

#include "../kv_layout.h"
#include "unroll.h"

/* Rows of factors times lines of squares: sums[r][16 l + lane] = over i and k: x[r][16 i + k] * n[k][lane] of the square
 * at base + i * stride + l * lane_stride. */
typedef struct squares {
    const uint8_t *base;
    size_t count, stride;      /* of what is summed, in squares */
    size_t lines, lane_stride; /* of what is not */
    const int16_t *x;          /* (rows, PQ_MAX_HEAD_DIM) */
    int32_t *sums;             /* (rows, PQ_MAX_HEAD_DIM) */
} squares;

/* Vector number v of a unit's numbers, widened. */
PQ_INLINE pq_pairs load_unit(pq_kv_type type, const uint8_t *square, int unit, int v) {
    const size_t at = (size_t)v * 2 * PQ_VEC;
    if (type == PQ_KV_Q8_0)
        return v_load_pairs(square + (size_t)unit * PQ_KV_UNIT + at);
    const uint8_t *line = square + (size_t)(unit / 2) * PQ_KV_UNIT + at;
    const pq_pairs low = unit % 2 ? v_load_high_nibbles(line) : v_load_low_nibbles(line);
    if (type == PQ_KV_Q4_0)
        return low;
    return v_add_fifth_bit(low, square + PQ_KV_UNITS / 2 * PQ_KV_UNIT + at, unit);
}

/* As many lines as `vectors` have lanes, from number `line` on. */
PQ_INLINE void multiply_squares(int rows, int vectors, pq_kv_type type, const squares *s,
                                size_t line, next_lines *next) {
    const uint8_t *square = s->base + line * s->lane_stride;
    const int16_t *x = s->x;
    pq_ints sum[PQ_ATTEND_ROWS][MOST_VECTORS];
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            sum[r][v] = pq_zero();
    }
    for (size_t i = 0; i < s->count; i++, square += s->stride, x += PQ_KV_LANES) {
        ask_for_next(next);
        for (int unit = 0; unit < PQ_KV_UNITS; unit++) {
            pq_pairs n[MOST_VECTORS];
            for (int v = 0; v < vectors; v++)
                n[v] = load_unit(type, square + (size_t)(v / GROUP_VECTORS) * s->lane_stride, unit,
                                 v % GROUP_VECTORS);
            for (int r = 0; r < rows; r++) {
                const pq_pairs pair = v_all_pair(x + r * PQ_MAX_HEAD_DIM + 2 * unit);
                for (int v = 0; v < vectors; v++)
                    sum[r][v] = v_dot_pairs(sum[r][v], n[v], pair);
            }
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            v_store_ints(s->sums + r * PQ_MAX_HEAD_DIM + line * PQ_KV_LANES + v * PQ_VEC,
                         sum[r][v]);
    }
}

/* All lines: as many at a time as there are accumulators for, then two, then one. */
PQ_INLINE void multiply_all_squares(int rows, pq_kv_type type, const squares *s, next_lines next) {
    const size_t most = PQ_ATTEND_VECTORS(rows) / GROUP_VECTORS;
    size_t line = 0;
#define MULTIPLY_LINES(number)                                                                     \
    for (; line + (number) <= s->lines; line += (number))                                          \
    multiply_squares(rows, (int)(number) * GROUP_VECTORS, type, s, line, &next)
    MULTIPLY_LINES(most);
    if (most > 2)
        MULTIPLY_LINES(2);
    if (most > 1)
        MULTIPLY_LINES(1);
#undef MULTIPLY_LINES
}

typedef void (*squares_fn)(const squares *s, next_lines next);

#define SQUARES_TILE(name, type, rows)                                                             \
    static void name##_##rows(const squares *s, next_lines next) {                                 \
        if (rows <= PQ_ATTEND_ROWS)                                                                \
            multiply_all_squares(PQ_AT_MOST(rows, PQ_ATTEND_ROWS), type, s, next);                 \
    }
#define SQUARES_TILES(name, type)                                                                  \
    PQ_FOR_12(SQUARES_TILE, name, type)                                                            \
    static const squares_fn name[] = {PQ_NAMES_12(name)};

SQUARES_TILES(squares_q8_0, PQ_KV_Q8_0)
SQUARES_TILES(squares_q4_0, PQ_KV_Q4_0)
SQUARES_TILES(squares_q5_1, PQ_KV_Q5_1)

/* `ahead`: `ahead_bytes` from there on (NULL: none) are asked for meanwhile. */
static void multiply_rows(int rows, pq_kv_type type, const squares *s, const uint8_t *ahead,
                          size_t ahead_bytes) {
    const size_t passes =
        (s->lines * GROUP_VECTORS + PQ_ATTEND_VECTORS(rows) - 1) / PQ_ATTEND_VECTORS(rows);
    const next_lines next = spread_lines(ahead, ahead_bytes, passes * s->count);
    const squares_fn *tiles = type == PQ_KV_Q8_0   ? squares_q8_0
                              : type == PQ_KV_Q4_0 ? squares_q4_0
                                                   : squares_q5_1;
    tiles[rows - 1](s, next);
}

/* ------------------------------------------------------------------------------------ rows of factors */

/* A row x ~ d * (float)n; sum is that of n. */
typedef struct factors {
    float d;
    int32_t sum;
} factors;

PQ_INLINE int32_t sum_of_words(const int16_t *n, size_t count) {
    const int16_t ones[2] = {1, 1};
    int32_t lanes[PQ_VEC], sum = 0;
    pq_ints total = pq_zero();
    for (size_t i = 0; i < count; i += 2 * PQ_VEC)
        total = v_dot_pairs(total, v_load_words(n + i), v_all_pair(ones));
    v_store_ints(lanes, total);
    for (int i = 0; i < PQ_VEC; i++)
        sum += lanes[i];
    return sum;
}

/* count is a multiple of 32; n may not be x. */
static factors to_factors(const float *x, size_t count, int want_sum, int16_t *n) {
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i += 32) {
        pq_vec values[32 / PQ_VEC];
        for (int v = 0; v < 32 / PQ_VEC; v++)
            values[v] = v_load(x + i + v * PQ_VEC);
        const float m = v_largest_magnitude(values);
        uint32_t bits;
        memcpy(&bits, &m, sizeof bits);
        largest = bits > largest ? bits : largest;
    }
    float max;
    memcpy(&max, &largest, sizeof max);
    const float inverse = 32767.0f / max;
    if (!isfinite(max) || !isfinite(inverse)) { /* damaged, or too small to matter */
        memset(n, 0, count * sizeof *n);
        return (factors){isfinite(max) ? 0.0f : max, 0};
    }
    for (size_t i = 0; i < count; i += 16) {
        pq_vec values[16 / PQ_VEC];
        for (int v = 0; v < 16 / PQ_VEC; v++)
            values[v] = v_mul(v_load(x + i + v * PQ_VEC), v_all(inverse));
        v_store_words(n + i, values);
    }
    return (factors){max / 32767.0f, want_sum ? sum_of_words(n, count) : 0};
}

PQ_INLINE float dot16(const float *x, const float *y, size_t n) {
    pq_vec lanes[GROUP_VECTORS];
    for (int v = 0; v < GROUP_VECTORS; v++)
        lanes[v] = v_all(0.0f);
    for (size_t i = 0; i < n; i += PQ_KV_LANES) {
        for (int v = 0; v < GROUP_VECTORS; v++)
            lanes[v] = v_fma(v_load(x + i + v * PQ_VEC), v_load(y + i + v * PQ_VEC), lanes[v]);
    }
    return v_sum16(lanes);
}

PQ_INLINE pq_vec load_sums(const int32_t *sums, int32_t too_large) {
    return pq_to_float(pq_subtract(pq_load_ints(sums), pq_all_ints(too_large)));
}

/* --------------------------------------------------------------------------------------------- the block */

/* Scores of `groups` groups of 16 keys into m->w. */
static void score_integers(int rows, const pq_kv_view *b, const float *q, size_t q_stride,
                           size_t groups, const uint8_t *ahead, size_t ahead_bytes,
                           const pq_attend_memory *m) {
    const pq_kv_type type = b->key_type;
    const int minimum = pq_kv_has_minimum(type), offset = pq_kv_offset(type);
    const size_t group_bytes = pq_kv_group_bytes(type, b->head_dim);
    factors f[PQ_ATTEND_ROWS];
    for (int r = 0; r < rows; r++)
        f[r] = to_factors(q + (size_t)r * q_stride, b->head_dim, minimum || offset,
                          m->x + r * PQ_MAX_HEAD_DIM);
    const squares s = {.base = (const uint8_t *)b->keys + pq_kv_scale_bytes(type),
                       .count = b->head_dim / PQ_KV_LANES,
                       .stride = pq_kv_square_bytes(type),
                       .lines = groups,
                       .lane_stride = group_bytes,
                       .x = m->x,
                       .sums = m->sums};
    multiply_rows(rows, type, &s, ahead, ahead_bytes);
    for (int r = 0; r < rows; r++) {
        const pq_vec constant = v_all(
            b->key_constant ? dot16(q + (size_t)r * q_stride, b->key_constant, b->head_dim) : 0.0f);
        for (size_t g = 0; g < groups; g++) {
            const float *scales =
                (const float *)(const void *)((const uint8_t *)b->keys + g * group_bytes);
            for (int v = 0; v < GROUP_VECTORS; v++) {
                const size_t at = g * PQ_KV_LANES + (size_t)v * PQ_VEC;
                pq_vec score =
                    v_mul(v_load(scales + v * PQ_VEC),
                          load_sums(m->sums + r * PQ_MAX_HEAD_DIM + at, offset * f[r].sum));
                if (minimum)
                    score = v_fma(v_load(scales + PQ_KV_LANES + v * PQ_VEC), v_all((float)f[r].sum),
                                  score);
                v_store(m->w + r * PQ_KV_BLOCK + at, v_fma(v_all(f[r].d), score, constant));
            }
        }
    }
}

/* Multiplies a row's weights, in place, by the values' d; returns the sum of those times the values' m. What is not
 * visible becomes 0, up to `end`. */
PQ_INLINE float scale_weights(const pq_kv_view *b, float *w, size_t visible, size_t end) {
    const int minimum = pq_kv_has_minimum(b->value_type);
    const size_t group_bytes = pq_kv_group_bytes(b->value_type, b->head_dim);
    const uint8_t *group = b->values;
    pq_vec lanes[GROUP_VECTORS];
    for (int v = 0; v < GROUP_VECTORS; v++)
        lanes[v] = v_all(0.0f);
    size_t j = 0;
    for (; j < visible; j += PQ_KV_LANES, group += group_bytes) {
        const float *scales = (const float *)(const void *)group;
        float cut[2 * PQ_KV_LANES] = {0};
        if (j + PQ_KV_LANES > visible) { /* behind them may be NaN */
            const size_t seen = visible - j;
            memcpy(cut, scales, seen * sizeof *cut);
            if (minimum)
                memcpy(cut + PQ_KV_LANES, scales + PQ_KV_LANES, seen * sizeof *cut);
            memset(w + visible, 0, (PQ_KV_LANES - seen) * sizeof *w);
            scales = cut;
        }
        for (int v = 0; v < GROUP_VECTORS; v++) {
            float *at = w + j + v * PQ_VEC;
            const pq_vec weights = v_load(at);
            if (minimum)
                lanes[v] = v_fma(weights, v_load(scales + PQ_KV_LANES + v * PQ_VEC), lanes[v]);
            v_store(at, v_mul(weights, v_load(scales + v * PQ_VEC)));
        }
    }
    if (j < end)
        memset(w + j, 0, (end - j) * sizeof *w);
    return v_sum16(lanes);
}

/* out (rows, out_stride) = the values of which row r sees visible[r] <= most, weighed with m->w. */
static void sum_integers(int rows, const pq_kv_view *b, const uint32_t *visible, size_t most,
                         const uint8_t *ahead, size_t ahead_bytes, const pq_attend_memory *m,
                         float *out, size_t out_stride) {
    const pq_kv_type type = b->value_type;
    const int offset = pq_kv_offset(type);
    const size_t groups = (most + PQ_KV_LANES - 1) / PQ_KV_LANES;
    const size_t end = (groups + 1) / 2 * 2 * PQ_KV_LANES;
    factors f[PQ_ATTEND_ROWS];
    float minima[PQ_ATTEND_ROWS];
    for (int r = 0; r < rows; r++) {
        float *w = m->w + r * PQ_KV_BLOCK;
        minima[r] = scale_weights(b, w, visible[r], end);
        f[r] = to_factors(w, end, offset != 0, m->x + r * PQ_MAX_HEAD_DIM);
    }
    const squares s = {.base = (const uint8_t *)b->values + pq_kv_scale_bytes(type),
                       .count = groups,
                       .stride = pq_kv_group_bytes(type, b->head_dim),
                       .lines = b->head_dim / PQ_KV_LANES,
                       .lane_stride = pq_kv_square_bytes(type),
                       .x = m->x,
                       .sums = m->sums};
    multiply_rows(rows, type, &s, ahead, ahead_bytes);
    for (int r = 0; r < rows; r++) {
        for (size_t d = 0; d < b->head_dim; d += PQ_VEC) {
            const pq_vec sum = load_sums(m->sums + r * PQ_MAX_HEAD_DIM + d, offset * f[r].sum);
            v_store(out + (size_t)r * out_stride + d, v_fma(v_all(f[r].d), sum, v_all(minima[r])));
        }
    }
}
