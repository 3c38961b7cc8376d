/* attention.c - one block of the KV cache: storing into it and attending to it. The specification. */
#include "scalar.h"

#include "../../formats/f16.h"
#include "../kv_layout.h"
#include "exp.h"
#include "sum16.h"

/* -------------------------------------------------------------------------------------- storing */

/* One number of a cache without scales. */
static void put_number(pq_kv_type type, void *numbers, size_t i, float x) {
    if (type == PQ_KV_F16)
        ((uint16_t *)numbers)[i] = pq_f32_to_f16(x);
    else
        ((float *)numbers)[i] = x;
}

static void store_plain(pq_kv_type type, size_t head_dim, size_t slot, const float *key,
                        const float *value, uint8_t *keys, uint8_t *values) {
    uint8_t *group = keys + slot / PQ_KV_LANES * pq_kv_key_group_bytes(type, head_dim);
    uint8_t *row = values + slot * pq_kv_value_row_bytes(type, head_dim);
    for (size_t d = 0; d < head_dim; d++) {
        put_number(type, group, d * PQ_KV_LANES + slot % PQ_KV_LANES, key[d]);
        put_number(type, row, d, value[d]);
    }
}

static void store_q8(size_t head_dim, size_t slot, const float *key, const float *value,
                     uint8_t *keys, uint8_t *values) {
    int8_t q[PQ_MAX_HEAD_DIM];
    float scales[PQ_MAX_HEAD_DIM / PQ_KV_SCALE_DIMS], scaled_sums[PQ_MAX_HEAD_DIM / 32];
    int16_t sums[PQ_MAX_HEAD_DIM / 16];
    const size_t n_scales = head_dim / PQ_KV_SCALE_DIMS;

    pq_quantize_activations_scalar(key, head_dim, q, scales, sums, scaled_sums);
    uint8_t *group = keys + slot / PQ_KV_LANES * pq_kv_key_group_bytes(PQ_KV_Q8_0, head_dim);
    float *group_scales = (float *)group;
    int8_t *group_q = (int8_t *)(group_scales + n_scales * PQ_KV_LANES);
    for (size_t b = 0; b < n_scales; b++)
        group_scales[b * PQ_KV_LANES + slot % PQ_KV_LANES] = scales[b];
    for (size_t d = 0; d < head_dim; d++)
        group_q[d * PQ_KV_LANES + slot % PQ_KV_LANES] = q[d];

    pq_quantize_activations_scalar(value, head_dim, q, scales, sums, scaled_sums);
    uint8_t *row = values + slot * pq_kv_value_row_bytes(PQ_KV_Q8_0, head_dim);
    memcpy(row, scales, n_scales * sizeof(float));
    memcpy(row + n_scales * sizeof(float), q, head_dim);
}

void pq_kv_store_scalar(pq_kv_type type, size_t head_dim, size_t slot, const float *key,
                        const float *value, void *keys, void *values) {
    if (type == PQ_KV_Q8_0)
        store_q8(head_dim, slot, key, value, keys, values);
    else
        store_plain(type, head_dim, slot, key, value, keys, values);
}

/* ------------------------------------------------------------------------------------ attending */

/* A number of a cache; int8 without its scale. */
static inline float number_at(pq_kv_type type, const uint8_t *numbers, size_t i) {
    const void *p = numbers;
    switch (type) {
    case PQ_KV_F16:
        return pq_f16_to_f32(((const uint16_t *)p)[i]);
    case PQ_KV_F32:
        return ((const float *)p)[i];
    default:
        return (float)((const int8_t *)p)[i];
    }
}

/* The product of a query row and the key at position j of the block. */
static float score(pq_kv_type type, size_t head_dim, const float *q, const void *keys, size_t j) {
    const uint8_t *group =
        (const uint8_t *)keys + j / PQ_KV_LANES * pq_kv_key_group_bytes(type, head_dim);
    const size_t lane = j % PQ_KV_LANES;
    float s = 0.0f;
    if (type != PQ_KV_Q8_0) {
        for (size_t d = 0; d < head_dim; d++)
            s = fmaf(q[d], number_at(type, group, d * PQ_KV_LANES + lane), s);
        return s;
    }
    const size_t n_scales = head_dim / PQ_KV_SCALE_DIMS;
    const float *scales = (const float *)(const void *)group + lane;
    const uint8_t *numbers = group + n_scales * PQ_KV_LANES * sizeof(float);
    for (size_t b = 0; b < n_scales; b++) {
        float p = 0.0f;
        for (size_t d = b * PQ_KV_SCALE_DIMS; d < (b + 1) * PQ_KV_SCALE_DIMS; d++)
            p = fmaf(q[d], number_at(type, numbers, d * PQ_KV_LANES + lane), p);
        s = fmaf(scales[b * PQ_KV_LANES], p, s);
    }
    return s;
}

/* out[d] += w * value[d] for the value at position j of the block. */
static void add_value(pq_kv_type type, size_t head_dim, float w, const void *values, size_t j,
                      float *out) {
    const uint8_t *row = (const uint8_t *)values + j * pq_kv_value_row_bytes(type, head_dim);
    if (type != PQ_KV_Q8_0) {
        for (size_t d = 0; d < head_dim; d++)
            out[d] = fmaf(w, number_at(type, row, d), out[d]);
        return;
    }
    const float *scales = (const float *)(const void *)row;
    const uint8_t *numbers = row + head_dim / PQ_KV_SCALE_DIMS * sizeof(float);
    for (size_t d = 0; d < head_dim; d++)
        out[d] = fmaf(w, scales[d / PQ_KV_SCALE_DIMS] * number_at(type, numbers, d), out[d]);
}

static pq_softmax attend_row(pq_kv_type type, size_t head_dim, const float *q, size_t visible,
                             const void *keys, const void *values, float *out, float *w) {
    pq_softmax state = {.max = -INFINITY};
    for (size_t j = 0; j < visible; j++) {
        w[j] = score(type, head_dim, q, keys, j);
        state.max = w[j] > state.max ? w[j] : state.max;
    }
    float lanes[PQ_KV_LANES] = {0};
    memset(out, 0, head_dim * sizeof *out);
    for (size_t j = 0; j < visible; j++) {
        w[j] = pq_exp(w[j] - state.max);
        lanes[j % PQ_KV_LANES] += w[j];
        add_value(type, head_dim, w[j], values, j, out);
    }
    state.sum = pq_sum16(lanes);
    if (isnan(state.sum))
        state.max = state.sum;
    return state;
}

void pq_attend_scalar(pq_kv_type type, size_t head_dim, const float *q, size_t q_stride, size_t n,
                      const uint32_t *visible, const void *keys, const void *values,
                      const void *next_keys, pq_softmax *state, float *out, size_t out_stride,
                      void *scratch) {
    (void)next_keys;
    for (size_t i = 0; i < n; i++)
        state[i] = attend_row(type, head_dim, q + i * q_stride, visible[i], keys, values,
                              out + i * out_stride, scratch);
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
