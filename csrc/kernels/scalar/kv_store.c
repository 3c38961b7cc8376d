/* kv_store.c - a key or value into a block of the KV cache. The specification; the integer types have no other. */
#include "scalar.h"

#include <math.h>
#include <string.h>

#include "../../formats/f16.h"
#include "../kv_layout.h"

/* ------------------------------------------------------------------------------- one position's integers */

typedef struct integers {
    float d, m;
    uint8_t n[PQ_MAX_HEAD_DIM]; /* as they are stored, but for their place */
} integers;

static int limit(float x, int low, int high) {
    const long n = lrintf(x);
    return n < low ? low : n > high ? high : (int)n;
}

static void to_q8_0(const float *x, size_t head_dim, float largest, integers *out) {
    const float inverse = 127.0f / largest;
    if (!isfinite(inverse))
        return;
    out->d = largest / 127.0f;
    for (size_t i = 0; i < head_dim; i++)
        out->n[i] = (uint8_t)(int8_t)limit(x[i] * inverse, -127, 127);
}

static void to_q4_0(const float *x, size_t head_dim, float largest, integers *out) {
    size_t at = 0;
    while (fabsf(x[at]) != largest)
        at++;
    const float d = x[at] / -8.0f, inverse = 1.0f / d;
    memset(out->n, 8, head_dim);
    if (!isfinite(inverse))
        return;
    out->d = d;
    for (size_t i = 0; i < head_dim; i++)
        out->n[i] = (uint8_t)(limit(x[i] * inverse, -8, 7) + 8);
}

static void to_q5_1(const float *x, size_t head_dim, integers *out) {
    float low = x[0], high = x[0];
    for (size_t i = 1; i < head_dim; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    const float d = (high - low) / 31.0f, inverse = 1.0f / d;
    out->m = low;
    if (!isfinite(inverse))
        return;
    out->d = d;
    for (size_t i = 0; i < head_dim; i++)
        out->n[i] = (uint8_t)limit((x[i] - low) * inverse, 0, 31);
}

static integers to_integers(pq_kv_type type, const float *x, size_t head_dim) {
    integers out = {0};
    const float largest = pq_largest_magnitude(x, head_dim);
    if (!isfinite(largest))
        out.d = largest; /* times 0 it is NaN */
    else if (type == PQ_KV_Q8_0)
        to_q8_0(x, head_dim, largest, &out);
    else if (type == PQ_KV_Q4_0)
        to_q4_0(x, head_dim, largest, &out);
    else
        to_q5_1(x, head_dim, &out);
    if (!isfinite(largest))
        memset(out.n, pq_kv_offset(type), head_dim);
    return out;
}

/* ----------------------------------------------------------------------------------------- in their place */

static void put_bits(uint8_t *byte, int shift, int mask, int n) {
    *byte = (uint8_t)((*byte & ~(mask << shift)) | (n & mask) << shift);
}

/* Number `place` of unit `unit` of a square. */
static void put_in_square(pq_kv_type type, uint8_t *square, size_t unit, size_t place, uint8_t n) {
    if (type == PQ_KV_Q8_0) {
        square[unit * PQ_KV_UNIT + place] = n;
        return;
    }
    put_bits(square + unit / 2 * PQ_KV_UNIT + place, unit % 2 ? 4 : 0, 15, n);
    if (type == PQ_KV_Q5_1)
        put_bits(square + PQ_KV_UNITS / 2 * PQ_KV_UNIT + place, (int)unit, 1, n >> 4);
}

static void store_integers(pq_kv_type type, size_t head_dim, size_t slot, const float *x,
                           uint8_t *numbers, int is_key) {
    const integers in = to_integers(type, x, head_dim);
    const size_t lane = slot % PQ_KV_LANES;
    uint8_t *group = numbers + slot / PQ_KV_LANES * pq_kv_group_bytes(type, head_dim);
    float *scales = (float *)(void *)group;
    scales[lane] = in.d;
    if (pq_kv_has_minimum(type))
        scales[PQ_KV_LANES + lane] = in.m;
    uint8_t *squares = group + pq_kv_scale_bytes(type);
    for (size_t d = 0; d < head_dim; d++) {
        uint8_t *square = squares + d / PQ_KV_LANES * pq_kv_square_bytes(type);
        const size_t pair = is_key ? d % PQ_KV_LANES : lane,
                     place = is_key ? lane : d % PQ_KV_LANES;
        put_in_square(type, square, pair / 2, 2 * place + pair % 2, in.n[d]);
    }
}

/* One number of a cache without scales. */
static void put_float(pq_kv_type type, void *numbers, size_t i, float x) {
    if (type == PQ_KV_F16)
        ((uint16_t *)numbers)[i] = pq_f32_to_f16(x);
    else
        ((float *)numbers)[i] = x;
}

void pq_kv_store_key_scalar(pq_kv_type type, size_t head_dim, size_t slot, const float *x,
                            void *numbers) {
    if (pq_kv_is_integer(type)) {
        store_integers(type, head_dim, slot, x, numbers, 1);
        return;
    }
    uint8_t *group = (uint8_t *)numbers + slot / PQ_KV_LANES * pq_kv_group_bytes(type, head_dim);
    for (size_t d = 0; d < head_dim; d++)
        put_float(type, group, d * PQ_KV_LANES + slot % PQ_KV_LANES, x[d]);
}

void pq_kv_store_value_scalar(pq_kv_type type, size_t head_dim, size_t slot, const float *x,
                              void *numbers) {
    if (pq_kv_is_integer(type)) {
        store_integers(type, head_dim, slot, x, numbers, 0);
        return;
    }
    for (size_t d = 0; d < head_dim; d++)
        put_float(type, numbers, slot * head_dim + d, x[d]);
}
