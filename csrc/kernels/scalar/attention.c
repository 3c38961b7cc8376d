/* attention.c - attending to one block of the KV cache. The specification. */
#include "scalar.h"

#include <math.h>
#include <string.h>

#include "../../formats/f16.h"
#include "../kv_layout.h"
#include "exp.h"
#include "sum16.h"

/* --------------------------------------------------------------------------------------- integer types */

/* A row of factors as integers: x[i] ~ d * (float)n[i]. */
typedef struct factors {
    float d;
    int32_t sum; /* of n */
    int16_t n[PQ_MAX_HEAD_DIM];
} factors;

static factors to_factors(const float *x, size_t count) {
    factors out = {0};
    uint32_t largest = 0; /* as bits, where NaN is above infinity is above every number */
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7FFFFFFF;
        largest = bits > largest ? bits : largest;
    }
    float max;
    memcpy(&max, &largest, sizeof max);
    const float inverse = 32767.0f / max;
    if (!isfinite(max) || !isfinite(inverse)) {
        out.d = isfinite(max) ? 0.0f : max;
        return out;
    }
    out.d = max / 32767.0f;
    for (size_t i = 0; i < count; i++) {
        out.n[i] = (int16_t)lrintf(x[i] * inverse);
        out.sum += out.n[i];
    }
    return out;
}

/* Number `place` of unit `unit` of a square, its offset taken off. */
static int number_of_square(pq_kv_type type, const uint8_t *square, size_t unit, size_t place) {
    if (type == PQ_KV_Q8_0)
        return ((const int8_t *)square)[unit * PQ_KV_UNIT + place];
    const int low = square[unit / 2 * PQ_KV_UNIT + place] >> (unit % 2 ? 4 : 0) & 15;
    if (type == PQ_KV_Q4_0)
        return low - pq_kv_offset(type);
    return low | (square[PQ_KV_UNITS / 2 * PQ_KV_UNIT + place] >> unit & 1) << 4;
}

static const uint8_t *group_at(pq_kv_type type, size_t head_dim, const void *numbers, size_t j) {
    return (const uint8_t *)numbers + j / PQ_KV_LANES * pq_kv_group_bytes(type, head_dim);
}

static float scale_of(const uint8_t *group, size_t j) {
    return ((const float *)(const void *)group)[j % PQ_KV_LANES];
}

static float minimum_of(const uint8_t *group, size_t j) {
    return ((const float *)(const void *)group)[PQ_KV_LANES + j % PQ_KV_LANES];
}

/* The number at dimension d of the position j of the block. */
static int integer_at(pq_kv_type type, const uint8_t *group, size_t j, size_t d, int is_key) {
    const uint8_t *square =
        group + pq_kv_scale_bytes(type) + d / PQ_KV_LANES * pq_kv_square_bytes(type);
    const size_t lane = j % PQ_KV_LANES, dim = d % PQ_KV_LANES;
    const size_t pair = is_key ? dim : lane, place = is_key ? lane : dim;
    return number_of_square(type, square, pair / 2, 2 * place + pair % 2);
}

static float integer_score(const pq_kv_view *b, const factors *q, float constant, size_t j) {
    const pq_kv_type type = b->key_type;
    const uint8_t *group = group_at(type, b->head_dim, b->keys, j);
    int32_t i = 0;
    for (size_t d = 0; d < b->head_dim; d++)
        i += q->n[d] * integer_at(type, group, j, d, 1);
    float s = scale_of(group, j) * (float)i;
    if (pq_kv_has_minimum(type))
        s = fmaf(minimum_of(group, j), (float)q->sum, s);
    return fmaf(q->d, s, constant);
}

static float dot16(const float *x, const float *y, size_t n) {
    float lanes[PQ_KV_LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lanes[i % PQ_KV_LANES] = fmaf(x[i], y[i], lanes[i % PQ_KV_LANES]);
    return pq_sum16(lanes);
}

static void sum_integers(const pq_kv_view *b, size_t visible, const float *w, float *out) {
    const pq_kv_type type = b->value_type;
    float scaled[PQ_KV_BLOCK] = {0}, lanes[PQ_KV_LANES] = {0};
    for (size_t j = 0; j < visible; j++)
        scaled[j] = w[j] * scale_of(group_at(type, b->head_dim, b->values, j), j);
    const size_t end = (visible + PQ_KV_LANES - 1) / PQ_KV_LANES * PQ_KV_LANES;
    for (size_t j = 0; pq_kv_has_minimum(type) && j < end; j++) {
        const float m =
            j < visible ? minimum_of(group_at(type, b->head_dim, b->values, j), j) : 0.0f;
        lanes[j % PQ_KV_LANES] = fmaf(j < visible ? w[j] : 0.0f, m, lanes[j % PQ_KV_LANES]);
    }
    const factors x = to_factors(scaled, PQ_KV_BLOCK);
    const float minima = pq_sum16(lanes);
    for (size_t d = 0; d < b->head_dim; d++) {
        int32_t i = 0;
        for (size_t j = 0; j < visible; j++)
            i += x.n[j] * integer_at(type, group_at(type, b->head_dim, b->values, j), j, d, 0);
        out[d] = fmaf(x.d, (float)i, minima);
    }
}

/* ----------------------------------------------------------------------------------------- float types */

static inline float number_at(pq_kv_type type, const void *numbers, size_t i) {
    return type == PQ_KV_F16 ? pq_f16_to_f32(((const uint16_t *)numbers)[i])
                             : ((const float *)numbers)[i];
}

/* The product of a query row and the key at position j of the block. */
static float float_score(const pq_kv_view *b, const float *q, size_t j) {
    const uint8_t *group = group_at(b->key_type, b->head_dim, b->keys, j);
    float s = 0.0f;
    for (size_t d = 0; d < b->head_dim; d++)
        s = fmaf(q[d], number_at(b->key_type, group, d * PQ_KV_LANES + j % PQ_KV_LANES), s);
    return s;
}

static void sum_floats(const pq_kv_view *b, size_t visible, const float *w, float *out) {
    memset(out, 0, b->head_dim * sizeof *out);
    for (size_t j = 0; j < visible; j++) {
        for (size_t d = 0; d < b->head_dim; d++)
            out[d] = fmaf(w[j], number_at(b->value_type, b->values, j * b->head_dim + d), out[d]);
    }
}

/* ------------------------------------------------------------------------------------------- the block */

static void scores(const pq_kv_view *b, const float *q, size_t visible, float *w) {
    if (!pq_kv_is_integer(b->key_type)) {
        for (size_t j = 0; j < visible; j++)
            w[j] = float_score(b, q, j);
        return;
    }
    const factors x = to_factors(q, b->head_dim);
    const float constant = b->key_constant ? dot16(q, b->key_constant, b->head_dim) : 0.0f;
    for (size_t j = 0; j < visible; j++)
        w[j] = integer_score(b, &x, constant, j);
}

static pq_softmax attend_row(const pq_kv_view *b, const float *q, size_t visible, float *out,
                             float *w) {
    pq_softmax state = {.max = -INFINITY};
    scores(b, q, visible, w);
    for (size_t j = 0; j < visible; j++)
        state.max = w[j] > state.max ? w[j] : state.max;
    float lanes[PQ_KV_LANES] = {0};
    for (size_t j = 0; j < visible; j++) {
        w[j] = pq_exp(w[j] - state.max);
        lanes[j % PQ_KV_LANES] += w[j];
    }
    if (pq_kv_is_integer(b->value_type))
        sum_integers(b, visible, w, out);
    else
        sum_floats(b, visible, w, out);
    state.sum = pq_sum16(lanes);
    if (isnan(state.sum))
        state.max = state.sum;
    return state;
}

void pq_attend_scalar(const pq_kv_view *block, const float *q, size_t q_stride, size_t n,
                      const uint32_t *visible, pq_softmax *state, float *out, size_t out_stride,
                      void *scratch) {
    for (size_t i = 0; i < n; i++)
        state[i] = attend_row(block, q + i * q_stride, visible[i], out + i * out_stride, scratch);
}

void pq_attend_merge_scalar(size_t head_dim, pq_softmax *into, float *into_out,
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
    for (size_t d = 0; d < head_dim; d++)
        into_out[d] = fmaf(into_out[d], a, block_out[d] * b);
}
