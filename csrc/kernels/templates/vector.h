/* vector.h - norms, activation functions, rotary positions and conversions. A template over a folder's vectors.h. What
 * is left over at the end goes through the scalar functions, or through padded vectors where lanes are summed. */
#include <math.h>

#include "../scalar/scalar.h"
#include "exp.h"

enum { SUM_VECTORS = 16 / PQ_VEC }; /* of the 16 lanes that pq_sum16 adds up */

PQ_INLINE void clear_lanes(pq_vec lanes[SUM_VECTORS]) {
    for (int v = 0; v < SUM_VECTORS; v++)
        lanes[v] = v_all(0.0f);
}

void PQ_NAME(rms_norm)(const float *x, const float *w, float eps, size_t n, float *y) {
    pq_vec lanes[SUM_VECTORS];
    clear_lanes(lanes);
    for (size_t i = 0; i < n; i += 16) {
        for (int v = 0; v < SUM_VECTORS; v++) {
            const pq_vec a = v_load(x + i + v * PQ_VEC);
            lanes[v] = v_fma(a, a, lanes[v]);
        }
    }
    const pq_vec r = v_all(1.0f / sqrtf(v_sum16(lanes) / (float)n + eps));
    for (size_t i = 0; i < n; i += PQ_VEC)
        v_store(y + i, v_mul(v_mul(v_load(x + i), r), v_load(w + i)));
}

void PQ_NAME(add)(const float *x, size_t n, float *y) {
    size_t i = 0;
    for (; i + PQ_VEC <= n; i += PQ_VEC)
        v_store(y + i, v_add(v_load(y + i), v_load(x + i)));
    pq_add_scalar(x + i, n - i, y + i);
}

void PQ_NAME(silu_mul)(const float *gate, const float *up, size_t n, float *y) {
    size_t i = 0;
    for (; i + PQ_VEC <= n; i += PQ_VEC) {
        const pq_vec g = v_load(gate + i);
        const pq_vec silu = v_div(g, v_add(v_all(1.0f), v_exp(v_negate(g))));
        v_store(y + i, v_mul(silu, v_load(up + i)));
    }
    pq_silu_mul_scalar(gate + i, up + i, n - i, y + i);
}

/* Steps within a vector: lanes whose number has bit h become b - a, the others a + b. */
PQ_INLINE void add_and_subtract_lanes(float *x, size_t n, const int h) {
    float sign[PQ_VEC];
    for (int i = 0; i < PQ_VEC; i++)
        sign[i] = i & h ? -1.0f : 1.0f;
    const pq_vec signs = v_load(sign);
    for (size_t i = 0; i < n; i += PQ_VEC) {
        const pq_vec a = v_load(x + i);
        v_store(x + i, v_fma(a, signs, v_swap_neighbors(a, h)));
    }
}

void PQ_NAME(hadamard)(float *x, size_t n) {
    const size_t size = n & (~n + 1); /* the largest power of two in n */
    add_and_subtract_lanes(x, n, 1);
    add_and_subtract_lanes(x, n, 2);
    if (PQ_VEC > 4)
        add_and_subtract_lanes(x, n, 4);
    if (PQ_VEC > 8)
        add_and_subtract_lanes(x, n, 8);
    for (size_t h = PQ_VEC; h < size; h *= 2) {
        for (size_t i = 0; i < n; i += PQ_VEC) {
            if (i & h)
                continue;
            const pq_vec a = v_load(x + i), b = v_load(x + i + h);
            v_store(x + i, v_add(a, b));
            v_store(x + i + h, v_sub(a, b));
        }
    }
    const pq_vec scale = v_all((float)(1.0 / sqrt((double)size)));
    for (size_t i = 0; i < n; i += PQ_VEC)
        v_store(x + i, v_mul(v_load(x + i), scale));
}

/* a' = fmaf(a, c, -(b * s)), b' = fmaf(a, s, b * c) */
PQ_INLINE void rotate(pq_vec *a, pq_vec *b, pq_vec c, pq_vec s, pq_vec scale) {
    const pq_vec first = v_fms(*a, c, v_mul(*b, s));
    const pq_vec second = v_fma(*a, s, v_mul(*b, c));
    *a = v_mul(first, scale);
    *b = v_mul(second, scale);
}

PQ_INLINE void rope_halves(float *x, const float *c, const float *s, size_t half, pq_vec scale) {
    for (size_t i = 0; i < half; i += PQ_VEC) {
        pq_vec a = v_load(x + i), b = v_load(x + i + half);
        rotate(&a, &b, v_load(c + i), v_load(s + i), scale);
        v_store(x + i, a);
        v_store(x + i + half, b);
    }
}

PQ_INLINE void rope_pairs(float *x, const float *c, const float *s, size_t half, pq_vec scale) {
    for (size_t i = 0; i < half; i += PQ_VEC) {
        const pq_vec u = v_load(x + 2 * i), v = v_load(x + 2 * i + PQ_VEC);
        pq_vec a = v_unzip_first(u, v), b = v_unzip_second(u, v);
        rotate(&a, &b, v_as_unzipped(v_load(c + i)), v_as_unzipped(v_load(s + i)), scale);
        v_store(x + 2 * i, v_zip_low(a, b));
        v_store(x + 2 * i + PQ_VEC, v_zip_high(a, b));
    }
}

void PQ_NAME(rope)(float *x, const float *c, const float *s, size_t dim, int neox, float scale) {
    if (dim % (2 * PQ_VEC))
        pq_rope_scalar(x, c, s, dim, neox, scale);
    else if (neox)
        rope_halves(x, c, s, dim / 2, v_all(scale));
    else
        rope_pairs(x, c, s, dim / 2, v_all(scale));
}

void PQ_NAME(exp)(const float *x, size_t n, float *y) {
    size_t i = 0;
    for (; i + PQ_VEC <= n; i += PQ_VEC)
        v_store(y + i, v_exp(v_load(x + i)));
    pq_exp_scalar(x + i, n - i, y + i);
}

/* As the scalar comparison does, leaves NaN out; the exponentials bring it back. */
static float largest_of(const float *x, size_t n) {
    pq_vec lanes = v_all(-INFINITY);
    size_t i = 0;
    for (; i + PQ_VEC <= n; i += PQ_VEC)
        lanes = v_max(v_load(x + i), lanes);
    float max = v_largest(lanes);
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

float PQ_NAME(logsumexp)(const float *x, size_t n) {
    const float max = largest_of(x, n);
    const pq_vec maxes = v_all(max);
    pq_vec lanes[SUM_VECTORS];
    clear_lanes(lanes);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int v = 0; v < SUM_VECTORS; v++)
            lanes[v] = v_add(lanes[v], v_exp(v_sub(v_load(x + i + v * PQ_VEC), maxes)));
    }
    if (i < n) {
        float rest[16] = {0}; /* of the exponentials: lanes without a number add 0 */
        for (size_t l = 0; i + l < n; l++)
            rest[l] = pq_exp(x[i + l] - max);
        for (int v = 0; v < SUM_VECTORS; v++)
            lanes[v] = v_add(lanes[v], v_load(rest + v * PQ_VEC));
    }
    return max + logf(v_sum16(lanes));
}

void PQ_NAME(to_f16)(const float *x, size_t n, uint16_t *y) {
    size_t i = 0;
    for (; i + PQ_VEC <= n; i += PQ_VEC)
        v_store_halves(y + i, v_load(x + i));
    pq_to_f16_scalar(x + i, n - i, y + i);
}

void PQ_NAME(from_f16)(const uint16_t *x, size_t n, float *y) {
    size_t i = 0;
    for (; i + PQ_VEC <= n; i += PQ_VEC)
        v_store(y + i, v_load_halves(x + i));
    pq_from_f16_scalar(x + i, n - i, y + i);
}
