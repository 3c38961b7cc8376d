/* gemm.c - matrix products in plain C: the specification of every other gemm, in the order that
 * kernels.h gives. Rows are as in the file (lanes == 1). A block is decoded once and multiplied
 * with a tile of tokens.
 */
#include "scalar.h"

#include <math.h>

#include "../../formats/dequantize.h"
#include "../../formats/format.h"

enum { TILE = 32 }; /* tokens that share the decoding of a block */

static int32_t dot(const int8_t *w, const int8_t *q, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += w[i] * q[i];
    return sum;
}

/* -------------------------------------------------------------------- one block times one token */

/* The activations that a block or super-block of weights meets. */
typedef struct operand {
    const int8_t *q;
    const float *d;
    const int16_t *sums;
    const float *s;
} operand;

static float block_32(const pq_decoded *w, operand x, float acc) {
    return fmaf(w->d * x.d[0], (float)dot(w->value, x.q, 32), acc);
}

static float block_32_min(const pq_decoded *w, operand x, float acc) {
    return fmaf(w->m, x.s[0], block_32(w, x, acc));
}

static float super_block(const pq_decoded *w, operand x, float acc) {
    float total = 0.0f;
    for (int b = 0; b < PQ_SUPER / 32; b++) {
        const int k = 32 * b;
        const int32_t low = w->scale[2 * b] * dot(w->value + k, x.q + k, 16);
        const int32_t high = w->scale[2 * b + 1] * dot(w->value + k + 16, x.q + k + 16, 16);
        total = fmaf(x.d[b], (float)(low + high), total);
    }
    return fmaf(w->d, total, acc);
}

/* One minimum per 32: Q4_K, Q5_K. */
static float super_block_min_32(const pq_decoded *w, operand x, float acc) {
    float minima = 0.0f;
    for (int b = 0; b < PQ_SUPER / 32; b++)
        minima = fmaf((float)w->min[2 * b], x.s[b], minima);
    return fmaf(-w->m, minima, super_block(w, x, acc));
}

/* One minimum per 16: Q2_K. */
static float super_block_min_16(const pq_decoded *w, operand x, float acc) {
    float minima = 0.0f;
    for (int b = 0; b < PQ_SUPER / 32; b++) {
        const int sum = w->min[2 * b] * x.sums[2 * b] + w->min[2 * b + 1] * x.sums[2 * b + 1];
        minima = fmaf(x.d[b], (float)sum, minima);
    }
    return fmaf(-w->m, minima, super_block(w, x, acc));
}

/* --------------------------------------------------------------------------- quantized matrices */

typedef float (*block_fn)(const pq_decoded *w, operand x, float acc);

static void multiply_row(const pq_matrix *w, const uint8_t *row, block_fn multiply,
                         const pq_acts *x, size_t token0, size_t tokens, float *acc) {
    const pq_format *format = pq_type_format(w->type);
    const size_t elements = format->block;
    pq_decoded decoded;
    for (size_t t = 0; t < tokens; t++)
        acc[t] = 0.0f;
    for (size_t b = 0; b < w->cols / elements; b++) {
        format->decode(row + b * format->bytes, &decoded);
        for (size_t t = 0; t < tokens; t++) {
            const size_t k = (token0 + t) * x->cols + b * elements;
            const operand block = {x->q + k, x->d + k / 32, x->sums + k / 16, x->s + k / 32};
            acc[t] = multiply(&decoded, block, acc[t]);
        }
    }
}

static block_fn multiply_of(const pq_format *format) {
    switch (format->family) {
    case PQ_FAMILY_BLOCK:
        return block_32;
    case PQ_FAMILY_BLOCK_MIN:
        return block_32_min;
    case PQ_FAMILY_SUPER_MIN:
        return format->sub == 32 ? super_block_min_32 : super_block_min_16;
    default:
        return super_block;
    }
}

PQ_GEMM_HEAD(pq_gemm_scalar) {
    (void)scratch;
    const block_fn multiply = multiply_of(pq_type_format(w->type));
    float acc[TILE];
    for (size_t r = panel0; r < panel1; r++) {
        for (size_t t = token0; t < token1; t += TILE) {
            const size_t n = token1 - t < TILE ? token1 - t : TILE;
            multiply_row(w, w->data + r * w->panel_bytes, multiply, x, t, n, acc);
            for (size_t i = 0; i < n; i++)
                y[(t + i) * y_stride + r] = acc[i];
        }
    }
}

/* ------------------------------------------------------------------------------- float matrices */

enum { SPAN = 256 }; /* elements dequantized at a time: even, and a multiple of every block */

static void multiply_span(const float *w, const float *x, size_t n, float acc[2]) {
    for (size_t k = 0; k < n; k++)
        acc[k & 1] = fmaf(w[k], x[k], acc[k & 1]);
}

static void multiply_float_row(const pq_matrix *w, const uint8_t *row, const pq_acts *x,
                               size_t token0, size_t tokens, float (*acc)[2]) {
    const size_t block = pq_type_block(w->type), bytes = pq_type_bytes(w->type);
    float values[SPAN];
    for (size_t t = 0; t < tokens; t++)
        acc[t][0] = acc[t][1] = 0.0f;
    for (size_t k = 0; k < w->cols; k += SPAN) {
        const size_t n = w->cols - k < SPAN ? w->cols - k : SPAN;
        pq_dequantize_row(w->type, row + k / block * bytes, n, values);
        for (size_t t = 0; t < tokens; t++)
            multiply_span(values, x->x + (token0 + t) * x->cols + k, n, acc[t]);
    }
}

PQ_GEMM_HEAD(pq_gemm_exact_scalar) {
    (void)scratch;
    float acc[TILE][2];
    for (size_t r = panel0; r < panel1; r++) {
        for (size_t t = token0; t < token1; t += TILE) {
            const size_t n = token1 - t < TILE ? token1 - t : TILE;
            multiply_float_row(w, w->data + r * w->panel_bytes, x, t, n, acc);
            for (size_t i = 0; i < n; i++)
                y[(t + i) * y_stride + r] = acc[i][0] + acc[i][1];
        }
    }
}
