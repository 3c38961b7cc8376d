/* attention.c - one block of the KV cache, for a tile of up to six query rows at a time.
 *
 * Each vector of keys or values is loaded and widened once for all rows of a tile; what differs
 * between the rows is broadcast. Lanes are keys in the scores and dimensions in the weighted sum, so
 * every number is accumulated in one lane, in the order of the scalar specification. A tile keeps 8
 * to 24 accumulators in registers: few rows take more vectors each.
 */
#include "neon.h"

#include "../kv_layout.h"
#include "../scalar/scalar.h"
#include "exp.h"

#if defined(__GNUC__)
#define FORCE_INLINE static inline __attribute__((always_inline))
#else
#define FORCE_INLINE static __forceinline
#endif

enum { WIDTH = 4, MAX_ROWS = 6, MAX_VECTORS = 8, GROUP_VECTORS = PQ_KV_LANES / WIDTH };

/* Calls f(.., rows, ..) with `rows` a constant, so that a tile's accumulators become registers. */
#define WITH_CONSTANT_ROWS(rows, f, ...)                                                           \
    switch (rows) {                                                                                \
    case 1:                                                                                        \
        f(1, __VA_ARGS__);                                                                         \
        break;                                                                                     \
    case 2:                                                                                        \
        f(2, __VA_ARGS__);                                                                         \
        break;                                                                                     \
    case 3:                                                                                        \
        f(3, __VA_ARGS__);                                                                         \
        break;                                                                                     \
    case 4:                                                                                        \
        f(4, __VA_ARGS__);                                                                         \
        break;                                                                                     \
    case 5:                                                                                        \
        f(5, __VA_ARGS__);                                                                         \
        break;                                                                                     \
    default:                                                                                       \
        f(6, __VA_ARGS__);                                                                         \
        break;                                                                                     \
    }

/* Four neighboring numbers of a cache, widened; int8 without their scale. */
FORCE_INLINE float32x4_t load4(pq_kv_type type, const void *base, size_t index) {
    if (type == PQ_KV_F16)
        return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)base + index)));
    if (type == PQ_KV_F32)
        return vld1q_f32((const float *)base + index);
    int32_t four;
    memcpy(&four, (const int8_t *)base + index, sizeof four);
    const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(four));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}

/* --------------------------------------------------------------------------------------- scores */

/* p[r][v] += q[r][d] * key[d][4 v ..] for d in [begin, end), where keys of 16 positions follow each
 * other at each d, and the next 16 positions are `group_bytes` further. */
FORCE_INLINE void multiply_keys(int rows, int vectors, pq_kv_type type, const float *q,
                                size_t q_stride, const uint8_t *numbers, size_t group_bytes,
                                size_t begin, size_t end, float32x4_t p[MAX_ROWS][MAX_VECTORS]) {
    for (size_t d = begin; d < end; d++) {
        float32x4_t k[MAX_VECTORS];
        for (int v = 0; v < vectors; v++)
            k[v] = load4(type, numbers + (size_t)(v / GROUP_VECTORS) * group_bytes,
                         d * PQ_KV_LANES + (size_t)(v % GROUP_VECTORS) * WIDTH);
        for (int r = 0; r < rows; r++) {
            const float x = q[(size_t)r * q_stride + d];
            for (int v = 0; v < vectors; v++)
                p[r][v] = vfmaq_n_f32(p[r][v], k[v], x);
        }
    }
}

FORCE_INLINE void clear(int rows, int vectors, float32x4_t p[MAX_ROWS][MAX_VECTORS]) {
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            p[r][v] = vdupq_n_f32(0.0f);
    }
}

/* Scores of 4 * vectors keys beginning at `group`, into scores (rows, PQ_KV_BLOCK). */
FORCE_INLINE void score_group(int rows, int vectors, pq_kv_type type, size_t head_dim,
                              const float *q, size_t q_stride, const uint8_t *group,
                              size_t group_bytes, float *scores) {
    float32x4_t p[MAX_ROWS][MAX_VECTORS];
    clear(rows, vectors, p);
    if (type != PQ_KV_Q8_0) {
        multiply_keys(rows, vectors, type, q, q_stride, group, group_bytes, 0, head_dim, p);
        for (int r = 0; r < rows; r++) {
            for (int v = 0; v < vectors; v++)
                vst1q_f32(scores + r * PQ_KV_BLOCK + v * WIDTH, p[r][v]);
        }
        return;
    }
    /* The registers hold the products of 32 dimensions; the sum over those waits in memory. */
    const size_t n_scales = head_dim / PQ_KV_SCALE_DIMS;
    const uint8_t *numbers = group + n_scales * PQ_KV_LANES * sizeof(float);
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            vst1q_f32(scores + r * PQ_KV_BLOCK + v * WIDTH, vdupq_n_f32(0.0f));
    }
    for (size_t b = 0; b < n_scales; b++) {
        clear(rows, vectors, p);
        multiply_keys(rows, vectors, type, q, q_stride, numbers, group_bytes, b * PQ_KV_SCALE_DIMS,
                      (b + 1) * PQ_KV_SCALE_DIMS, p);
        for (int v = 0; v < vectors; v++) {
            const float *scales =
                (const float *)(group + (size_t)(v / GROUP_VECTORS) * group_bytes);
            const float32x4_t scale =
                vld1q_f32(scales + b * PQ_KV_LANES + (size_t)(v % GROUP_VECTORS) * WIDTH);
            for (int r = 0; r < rows; r++) {
                float *s = scores + r * PQ_KV_BLOCK + v * WIDTH;
                vst1q_f32(s, vfmaq_f32(vld1q_f32(s), scale, p[r][v]));
            }
        }
    }
}

/* Scores of `groups` groups of 16 keys. */
FORCE_INLINE void score_tile(int rows, pq_kv_type type, size_t head_dim, const float *q,
                             size_t q_stride, const uint8_t *keys, size_t groups, float *scores) {
    const size_t bytes = pq_kv_key_group_bytes(type, head_dim);
    size_t g = 0;
    for (; rows <= 2 && g + 2 <= groups; g += 2)
        score_group(rows, 8, type, head_dim, q, q_stride, keys + g * bytes, bytes,
                    scores + g * PQ_KV_LANES);
    for (; g < groups; g++)
        score_group(rows, 4, type, head_dim, q, q_stride, keys + g * bytes, bytes,
                    scores + g * PQ_KV_LANES);
}

/* Turns a row's scores into weights, in place. The numbers up to the next multiple of 16 are
 * overwritten. */
static pq_softmax weigh(float *w, size_t visible) {
    const size_t end = (visible + PQ_KV_LANES - 1) / PQ_KV_LANES * PQ_KV_LANES;
    for (size_t j = visible; j < end; j++)
        w[j] = -INFINITY;
    float32x4_t maxes = vdupq_n_f32(-INFINITY); /* fmaxnm leaves NaN out, as > does */
    for (size_t j = 0; j < end; j += WIDTH)
        maxes = vmaxnmq_f32(maxes, vld1q_f32(w + j));

    pq_softmax state = {.max = vmaxnmvq_f32(maxes)};
    const float32x4_t max = vdupq_n_f32(state.max);
    float32x4_t lanes[GROUP_VECTORS] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0),
                                        vdupq_n_f32(0)};
    for (size_t j = 0; j < end; j += PQ_KV_LANES) {
        for (int l = 0; l < GROUP_VECTORS; l++) {
            const float32x4_t e = pq_exp4(vsubq_f32(vld1q_f32(w + j + l * WIDTH), max));
            vst1q_f32(w + j + l * WIDTH, e);
            lanes[l] = vaddq_f32(lanes[l], e);
        }
    }
    state.sum = pq_sum16_neon(lanes);
    if (isnan(state.sum))
        state.max = state.sum;
    return state;
}

/* ------------------------------------------------------------------------------ weighted values */

/* out[r][at ..] = the weighted sum of 4 * vectors dimensions over the values j in [begin, end),
 * going on from what is in out unless begin is 0. */
FORCE_INLINE void sum_values_at(int rows, int vectors, pq_kv_type type, size_t head_dim,
                                const float *w, const uint8_t *values, size_t begin, size_t end,
                                size_t at, float *out, size_t out_stride) {
    const size_t row_bytes = pq_kv_value_row_bytes(type, head_dim);
    const size_t numbers = type == PQ_KV_Q8_0 ? head_dim / PQ_KV_SCALE_DIMS * sizeof(float) : 0;
    float32x4_t o[MAX_ROWS][MAX_VECTORS];
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            o[r][v] = begin == 0 ? vdupq_n_f32(0.0f)
                                 : vld1q_f32(out + (size_t)r * out_stride + at + v * WIDTH);
    }
    for (size_t j = begin; j < end; j++) {
        const uint8_t *row = values + j * row_bytes;
        float32x4_t x[MAX_VECTORS];
        for (int v = 0; v < vectors; v++)
            x[v] = load4(type, row + numbers, at + (size_t)v * WIDTH);
        if (type == PQ_KV_Q8_0) {
            const float scale = ((const float *)row)[at / PQ_KV_SCALE_DIMS];
            for (int v = 0; v < vectors; v++)
                x[v] = vmulq_n_f32(x[v], scale);
        }
        for (int r = 0; r < rows; r++) {
            const float weight = w[(size_t)r * PQ_KV_BLOCK + j];
            for (int v = 0; v < vectors; v++)
                o[r][v] = vfmaq_n_f32(o[r][v], x[v], weight);
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            vst1q_f32(out + (size_t)r * out_stride + at + v * WIDTH, o[r][v]);
    }
}

FORCE_INLINE void sum_values(int rows, pq_kv_type type, size_t head_dim, const float *w,
                             const uint8_t *values, size_t begin, size_t end, float *out,
                             size_t out_stride) {
    const int vectors = rows <= 2 ? 8 : 4;
    for (size_t at = 0; at < head_dim; at += (size_t)vectors * WIDTH)
        sum_values_at(rows, vectors, type, head_dim, w, values, begin, end, at, out, out_stride);
}

/* ------------------------------------------------------------------------------------ the block */

/* A tile's rows together over the keys that all of them see, then each alone over its last ones: a
 * weight of 0 is not the same as no value where that value is infinite. */
FORCE_INLINE void attend_tile(int rows, pq_kv_type type, size_t head_dim, const float *q,
                              size_t q_stride, const uint32_t *visible, const uint8_t *keys,
                              const uint8_t *values, pq_softmax *state, float *out,
                              size_t out_stride, float *w) {
    size_t fewest = visible[0], most = visible[0];
    for (int r = 1; r < rows; r++) {
        fewest = visible[r] < fewest ? visible[r] : fewest;
        most = visible[r] > most ? visible[r] : most;
    }
    score_tile(rows, type, head_dim, q, q_stride, keys, (most + PQ_KV_LANES - 1) / PQ_KV_LANES, w);
    for (int r = 0; r < rows; r++)
        state[r] = weigh(w + r * PQ_KV_BLOCK, visible[r]);
    sum_values(rows, type, head_dim, w, values, 0, fewest, out, out_stride);
    for (int r = 0; fewest < most && r < rows; r++) {
        if (fewest < visible[r])
            sum_values(1, type, head_dim, w + r * PQ_KV_BLOCK, values, fewest, visible[r],
                       out + (size_t)r * out_stride, out_stride);
    }
}

#define ATTEND_TYPE(name, type)                                                                    \
    static void name(size_t rows, size_t head_dim, const float *q, size_t q_stride,                \
                     const uint32_t *visible, const uint8_t *keys, const uint8_t *values,          \
                     pq_softmax *state, float *out, size_t out_stride, float *w) {                 \
        WITH_CONSTANT_ROWS(rows, attend_tile, type, head_dim, q, q_stride, visible, keys, values,  \
                           state, out, out_stride, w)                                              \
    }

ATTEND_TYPE(attend_tile_f16, PQ_KV_F16)
ATTEND_TYPE(attend_tile_q8, PQ_KV_Q8_0)
ATTEND_TYPE(attend_tile_f32, PQ_KV_F32)

void pq_attend_neon(pq_kv_type type, size_t head_dim, const float *q, size_t q_stride, size_t n,
                    const uint32_t *visible, const void *keys, const void *values,
                    const void *next_keys, pq_softmax *state, float *out, size_t out_stride,
                    void *scratch) {
    (void)next_keys;
    for (size_t i = 0; i < n;) {
        const size_t tiles = (n - i + MAX_ROWS - 1) / MAX_ROWS;
        const size_t rows = (n - i + tiles - 1) / tiles; /* 8 rows are 4 + 4, not 6 + 2 */
        (type == PQ_KV_F16    ? attend_tile_f16
         : type == PQ_KV_Q8_0 ? attend_tile_q8
                              : attend_tile_f32)(rows, head_dim, q + i * q_stride, q_stride,
                                                 visible + i, keys, values, state + i,
                                                 out + i * out_stride, out_stride, scratch);
        i += rows;
    }
}

/* -------------------------------------------------------------------------- storing and merging */

void pq_kv_store_neon(pq_kv_type type, size_t head_dim, size_t slot, const float *key,
                      const float *value, void *keys, void *values) {
    if (type != PQ_KV_F16) {
        pq_kv_store_scalar(type, head_dim, slot, key, value, keys, values);
        return;
    }
    uint16_t half[PQ_MAX_HEAD_DIM];
    uint16_t *group = (uint16_t *)keys + slot / PQ_KV_LANES * head_dim * PQ_KV_LANES;
    pq_to_f16_neon(key, head_dim, half);
    for (size_t d = 0; d < head_dim; d++)
        group[d * PQ_KV_LANES + slot % PQ_KV_LANES] = half[d];
    pq_to_f16_neon(value, head_dim, (uint16_t *)values + slot * head_dim);
}

void pq_attend_merge_neon(size_t head_dim, pq_softmax *into, float *into_out,
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
    for (size_t d = 0; d < head_dim; d += WIDTH) {
        const float32x4_t later = vmulq_n_f32(vld1q_f32(block_out + d), b);
        vst1q_f32(into_out + d, vfmaq_n_f32(later, vld1q_f32(into_out + d), a));
    }
}
