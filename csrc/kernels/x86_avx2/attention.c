/* attention.c - one block of the KV cache, for a tile of up to six query rows at a time.
 *
 * Each vector of keys or values is loaded and widened once for all rows of a tile; what differs
 * between the rows is broadcast from memory. Lanes are keys in the scores and dimensions in the
 * weighted sum, so every number is accumulated in one lane, in the order of the scalar
 * specification. A tile keeps 8 to 12 accumulators in registers, which is what two fused
 * multiply-adds per cycle need: few rows take more vectors each.
 */
#include "avx2.h"

#include "../kv_layout.h"
#include "../next_lines.h"
#include "../scalar/scalar.h"
#include "exp.h"

#if defined(__GNUC__)
#define FORCE_INLINE static inline __attribute__((always_inline))
#else
#define FORCE_INLINE static __forceinline
#endif

enum { WIDTH = 8, MAX_ROWS = 6, MAX_VECTORS = 4 };
enum { FEW_ROWS = 16 }; /* so many do not compute long enough to hide the memory */

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

/* Eight neighboring numbers of a cache, widened; int8 without their scale. */
FORCE_INLINE __m256 load8(pq_kv_type type, const void *base, size_t index) {
    if (type == PQ_KV_F16)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)base + index)));
    if (type == PQ_KV_F32)
        return _mm256_loadu_ps((const float *)base + index);
    const __m128i bytes = _mm_loadl_epi64((const __m128i *)((const int8_t *)base + index));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}

/* --------------------------------------------------------------------------------------- scores */

/* A block that few rows attend to comes from memory, which is never to be idle: while keys are multiplied, as
 * many values are asked for (`ahead`), and the next group of 16 keys, which is new for the first block of a run
 * only; while values are summed, the keys of the next block. All into the second-level cache. */
FORCE_INLINE void prefetch_ahead(const uint8_t *line, size_t group_bytes, const uint8_t *ahead,
                                 size_t offset) {
    _mm_prefetch((const char *)line + group_bytes, _MM_HINT_T1);
    _mm_prefetch((const char *)ahead + offset, _MM_HINT_T1);
}

/* p[r][v] += q[r][d] * key[d][8 v ..] for d in [begin, end), where keys of 16 positions follow each
 * other at each d, and the next 16 positions are `group_bytes` further. */
FORCE_INLINE void multiply_keys(int rows, int vectors, pq_kv_type type, const float *q,
                                size_t q_stride, const uint8_t *numbers, size_t group_bytes,
                                size_t begin, size_t end, const uint8_t *ahead,
                                __m256 p[MAX_ROWS][MAX_VECTORS]) {
    const size_t groups = (size_t)(vectors + 1) / 2, step = pq_kv_dimension_bytes(type);
    for (size_t d = begin; d < end; d++) {
        __m256 k[MAX_VECTORS];
        for (size_t g = 0; ahead && d * step % 64 == 0 && g < groups; g++)
            prefetch_ahead(numbers + g * group_bytes + d * step, groups * group_bytes, ahead,
                           g * group_bytes + d * step);
        for (int v = 0; v < vectors; v++)
            k[v] = load8(type, numbers + (size_t)(v / 2) * group_bytes,
                         d * PQ_KV_LANES + (size_t)(v % 2) * WIDTH);
        for (int r = 0; r < rows; r++) {
            const __m256 broadcast = _mm256_broadcast_ss(q + (size_t)r * q_stride + d);
            for (int v = 0; v < vectors; v++)
                p[r][v] = _mm256_fmadd_ps(broadcast, k[v], p[r][v]);
        }
    }
}

FORCE_INLINE void clear(int rows, int vectors, __m256 p[MAX_ROWS][MAX_VECTORS]) {
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            p[r][v] = _mm256_setzero_ps();
    }
}

/* Scores of 8 * vectors keys beginning at `group`, into scores (rows, PQ_KV_BLOCK). */
FORCE_INLINE void score_group(int rows, int vectors, pq_kv_type type, size_t head_dim,
                              const float *q, size_t q_stride, const uint8_t *group,
                              size_t group_bytes, const uint8_t *ahead, float *scores) {
    __m256 p[MAX_ROWS][MAX_VECTORS];
    clear(rows, vectors, p);
    if (type != PQ_KV_Q8_0) {
        multiply_keys(rows, vectors, type, q, q_stride, group, group_bytes, 0, head_dim, ahead, p);
        for (int r = 0; r < rows; r++) {
            for (int v = 0; v < vectors; v++)
                _mm256_storeu_ps(scores + r * PQ_KV_BLOCK + v * WIDTH, p[r][v]);
        }
        return;
    }
    /* The registers hold the products of 32 dimensions; the sum over those waits in memory. */
    const size_t n_scales = head_dim / PQ_KV_SCALE_DIMS;
    const uint8_t *numbers = group + n_scales * PQ_KV_LANES * sizeof(float);
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            _mm256_storeu_ps(scores + r * PQ_KV_BLOCK + v * WIDTH, _mm256_setzero_ps());
    }
    for (size_t b = 0; b < n_scales; b++) {
        clear(rows, vectors, p);
        multiply_keys(rows, vectors, type, q, q_stride, numbers, group_bytes, b * PQ_KV_SCALE_DIMS,
                      (b + 1) * PQ_KV_SCALE_DIMS, ahead, p);
        for (int v = 0; v < vectors; v++) {
            const float *scales = (const float *)(group + (size_t)(v / 2) * group_bytes);
            const __m256 scale =
                _mm256_loadu_ps(scales + b * PQ_KV_LANES + (size_t)(v % 2) * WIDTH);
            for (int r = 0; r < rows; r++) {
                float *s = scores + r * PQ_KV_BLOCK + v * WIDTH;
                _mm256_storeu_ps(s, _mm256_fmadd_ps(scale, p[r][v], _mm256_loadu_ps(s)));
            }
        }
    }
}

/* Scores of `groups` groups of 16 keys. */
FORCE_INLINE void score_tile(int rows, pq_kv_type type, size_t head_dim, const float *q,
                             size_t q_stride, const uint8_t *keys, size_t groups,
                             const uint8_t *ahead, float *scores) {
    const size_t bytes = pq_kv_key_group_bytes(type, head_dim);
    size_t g = 0;
    for (; rows <= 3 && g + 2 <= groups; g += 2)
        score_group(rows, 4, type, head_dim, q, q_stride, keys + g * bytes, bytes,
                    ahead ? ahead + g * bytes : NULL, scores + g * PQ_KV_LANES);
    for (; g < groups; g++)
        score_group(rows, 2, type, head_dim, q, q_stride, keys + g * bytes, bytes,
                    ahead ? ahead + g * bytes : NULL, scores + g * PQ_KV_LANES);
}

/* Turns a row's scores into weights, in place. The numbers up to the next multiple of 16 are
 * overwritten. */
static pq_softmax weigh(float *w, size_t visible) {
    const size_t end = (visible + PQ_KV_LANES - 1) / PQ_KV_LANES * PQ_KV_LANES;
    for (size_t j = visible; j < end; j++)
        w[j] = -INFINITY;
    __m256 maxes = _mm256_set1_ps(-INFINITY);
    for (size_t j = 0; j < end; j += WIDTH)
        maxes = _mm256_max_ps(_mm256_loadu_ps(w + j), maxes);
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(maxes), _mm256_extractf128_ps(maxes, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_movehdup_ps(m));

    pq_softmax state = {.max = _mm_cvtss_f32(m)};
    const __m256 max = _mm256_set1_ps(state.max);
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
    for (size_t j = 0; j < end; j += PQ_KV_LANES) {
        const __m256 a = pq_exp8(_mm256_sub_ps(_mm256_loadu_ps(w + j), max));
        const __m256 b = pq_exp8(_mm256_sub_ps(_mm256_loadu_ps(w + j + WIDTH), max));
        _mm256_storeu_ps(w + j, a);
        _mm256_storeu_ps(w + j + WIDTH, b);
        low = _mm256_add_ps(low, a);
        high = _mm256_add_ps(high, b);
    }
    state.sum = pq_sum16_avx2(low, high);
    if (isnan(state.sum))
        state.max = state.sum;
    return state;
}

/* ------------------------------------------------------------------------------ weighted values */

/* out[r][at ..] = the weighted sum of 8 * vectors dimensions over the values j in [begin, end),
 * going on from what is in out unless begin is 0. */
FORCE_INLINE void sum_values_at(int rows, int vectors, pq_kv_type type, size_t head_dim,
                                const float *w, const uint8_t *values, size_t begin, size_t end,
                                size_t at, pq_next_lines *next, float *out, size_t out_stride) {
    const size_t row_bytes = pq_kv_value_row_bytes(type, head_dim);
    const size_t numbers = type == PQ_KV_Q8_0 ? head_dim / PQ_KV_SCALE_DIMS * sizeof(float) : 0;
    __m256 o[MAX_ROWS][MAX_VECTORS];
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            o[r][v] = begin == 0 ? _mm256_setzero_ps()
                                 : _mm256_loadu_ps(out + (size_t)r * out_stride + at + v * WIDTH);
    }
    for (size_t j = begin; j < end; j++) {
        const uint8_t *row = values + j * row_bytes;
        pq_prefetch_next(next);
        __m256 x[MAX_VECTORS];
        for (int v = 0; v < vectors; v++)
            x[v] = load8(type, row + numbers, at + (size_t)v * WIDTH);
        if (type == PQ_KV_Q8_0) {
            const __m256 scale = _mm256_broadcast_ss((const float *)row + at / PQ_KV_SCALE_DIMS);
            for (int v = 0; v < vectors; v++)
                x[v] = _mm256_mul_ps(scale, x[v]);
        }
        for (int r = 0; r < rows; r++) {
            const __m256 broadcast = _mm256_broadcast_ss(w + (size_t)r * PQ_KV_BLOCK + j);
            for (int v = 0; v < vectors; v++)
                o[r][v] = _mm256_fmadd_ps(broadcast, x[v], o[r][v]);
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++)
            _mm256_storeu_ps(out + (size_t)r * out_stride + at + v * WIDTH, o[r][v]);
    }
}

FORCE_INLINE void sum_values(int rows, pq_kv_type type, size_t head_dim, const float *w,
                             const uint8_t *values, size_t begin, size_t end,
                             const uint8_t *next_keys, float *out, size_t out_stride) {
    const size_t vectors = rows <= 3 ? 4 : 2;
    const size_t steps = head_dim / (vectors * WIDTH) * (end - begin);
    pq_next_lines next = pq_spread_lines(next_keys, pq_kv_key_bytes(type, head_dim), steps);
    for (size_t at = 0; at < head_dim; at += vectors * WIDTH)
        sum_values_at(rows, (int)vectors, type, head_dim, w, values, begin, end, at, &next, out,
                      out_stride);
}

/* ------------------------------------------------------------------------------------ the block */

/* A tile's rows together over the keys that all of them see, then each alone over its last ones: a
 * weight of 0 is not the same as no value where that value is infinite. */
FORCE_INLINE void attend_tile(int rows, pq_kv_type type, size_t head_dim, const float *q,
                              size_t q_stride, const uint32_t *visible, const uint8_t *keys,
                              const uint8_t *values, const uint8_t *next_keys, int from_memory,
                              pq_softmax *state, float *out, size_t out_stride, float *w) {
    size_t fewest = visible[0], most = visible[0];
    for (int r = 1; r < rows; r++) {
        fewest = visible[r] < fewest ? visible[r] : fewest;
        most = visible[r] > most ? visible[r] : most;
    }
    score_tile(rows, type, head_dim, q, q_stride, keys, (most + PQ_KV_LANES - 1) / PQ_KV_LANES,
               from_memory ? values : NULL, w);
    for (int r = 0; r < rows; r++)
        state[r] = weigh(w + r * PQ_KV_BLOCK, visible[r]);
    sum_values(rows, type, head_dim, w, values, 0, fewest, from_memory ? next_keys : NULL, out,
               out_stride);
    for (int r = 0; fewest < most && r < rows; r++) {
        if (fewest < visible[r])
            sum_values(1, type, head_dim, w + r * PQ_KV_BLOCK, values, fewest, visible[r], NULL,
                       out + (size_t)r * out_stride, out_stride);
    }
}

#define ATTEND_TYPE(name, type)                                                                    \
    static void name(size_t rows, size_t head_dim, const float *q, size_t q_stride,                \
                     const uint32_t *visible, const uint8_t *keys, const uint8_t *values,          \
                     const uint8_t *next_keys, int from_memory, pq_softmax *state, float *out,     \
                     size_t out_stride, float *w) {                                                \
        WITH_CONSTANT_ROWS(rows, attend_tile, type, head_dim, q, q_stride, visible, keys, values,  \
                           next_keys, from_memory, state, out, out_stride, w)                      \
    }

ATTEND_TYPE(attend_tile_f16, PQ_KV_F16)
ATTEND_TYPE(attend_tile_q8, PQ_KV_Q8_0)
ATTEND_TYPE(attend_tile_f32, PQ_KV_F32)

void pq_attend_avx2(pq_kv_type type, size_t head_dim, const float *q, size_t q_stride, size_t n,
                    const uint32_t *visible, const void *keys, const void *values,
                    const void *next_keys, pq_softmax *state, float *out, size_t out_stride,
                    void *scratch) {
    for (size_t i = 0; i < n;) {
        const size_t tiles = (n - i + MAX_ROWS - 1) / MAX_ROWS;
        const size_t rows = (n - i + tiles - 1) / tiles; /* 8 rows are 4 + 4, not 6 + 2 */
        (type == PQ_KV_F16    ? attend_tile_f16
         : type == PQ_KV_Q8_0 ? attend_tile_q8
                              : attend_tile_f32)(
            rows, head_dim, q + i * q_stride, q_stride, visible + i, keys, values, next_keys,
            i == 0 && n <= FEW_ROWS, state + i, out + i * out_stride, out_stride, scratch);
        i += rows;
    }
}

/* -------------------------------------------------------------------------- storing and merging */

void pq_kv_store_avx2(pq_kv_type type, size_t head_dim, size_t slot, const float *key,
                      const float *value, void *keys, void *values) {
    if (type != PQ_KV_F16) {
        pq_kv_store_scalar(type, head_dim, slot, key, value, keys, values);
        return;
    }
    uint16_t half[PQ_MAX_HEAD_DIM];
    uint16_t *group = (uint16_t *)keys + slot / PQ_KV_LANES * head_dim * PQ_KV_LANES;
    pq_to_f16_avx2(key, head_dim, half);
    for (size_t d = 0; d < head_dim; d++)
        group[d * PQ_KV_LANES + slot % PQ_KV_LANES] = half[d];
    pq_to_f16_avx2(value, head_dim, (uint16_t *)values + slot * head_dim);
}

void pq_attend_merge_avx2(size_t head_dim, pq_softmax *into, float *into_out,
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
    const __m256 as = _mm256_set1_ps(a), bs = _mm256_set1_ps(b);
    for (size_t d = 0; d < head_dim; d += WIDTH) {
        const __m256 later = _mm256_mul_ps(_mm256_loadu_ps(block_out + d), bs);
        _mm256_storeu_ps(into_out + d, _mm256_fmadd_ps(_mm256_loadu_ps(into_out + d), as, later));
    }
}
