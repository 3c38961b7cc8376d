/* gemm.c - matrix products in plain C: the specification of every other gemm, in the order that
 * kernels.h gives. Rows are as in the file (lanes == 1). A block is decoded once and multiplied
 * with a tile of tokens.
 */
#include "scalar.h"

#include <math.h>

#include "../../formats/decode.h"
#include "../../formats/dequantize.h"

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
    const size_t elements = pq_type_block(w->type), bytes = pq_type_bytes(w->type);
    pq_decoded decoded;
    for (size_t t = 0; t < tokens; t++)
        acc[t] = 0.0f;
    for (size_t b = 0; b < w->cols / elements; b++) {
        pq_decode_block(w->type, row + b * bytes, &decoded);
        for (size_t t = 0; t < tokens; t++) {
            const size_t k = (token0 + t) * x->cols + b * elements;
            const operand block = {x->q + k, x->d + k / 32, x->sums + k / 16, x->s + k / 32};
            acc[t] = multiply(&decoded, block, acc[t]);
        }
    }
}

static void gemm(block_fn multiply, const pq_matrix *w, size_t row0, size_t row1, const pq_acts *x,
                 size_t token0, size_t token1, float *y, size_t y_stride) {
    float acc[TILE];
    for (size_t r = row0; r < row1; r++) {
        for (size_t t = token0; t < token1; t += TILE) {
            const size_t n = token1 - t < TILE ? token1 - t : TILE;
            multiply_row(w, w->data + r * w->panel_bytes, multiply, x, t, n, acc);
            for (size_t i = 0; i < n; i++)
                y[(t + i) * y_stride + r] = acc[i];
        }
    }
}

static void gemm_block(const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x,
                       size_t token0, size_t token1, float *y, size_t y_stride, void *scratch) {
    (void)scratch;
    gemm(block_32, w, panel0, panel1, x, token0, token1, y, y_stride);
}

static void gemm_block_min(const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x,
                           size_t token0, size_t token1, float *y, size_t y_stride, void *scratch) {
    (void)scratch;
    gemm(block_32_min, w, panel0, panel1, x, token0, token1, y, y_stride);
}

static void gemm_super(const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x,
                       size_t token0, size_t token1, float *y, size_t y_stride, void *scratch) {
    (void)scratch;
    gemm(super_block, w, panel0, panel1, x, token0, token1, y, y_stride);
}

static void gemm_super_min_32(const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x,
                              size_t token0, size_t token1, float *y, size_t y_stride,
                              void *scratch) {
    (void)scratch;
    gemm(super_block_min_32, w, panel0, panel1, x, token0, token1, y, y_stride);
}

static void gemm_super_min_16(const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x,
                              size_t token0, size_t token1, float *y, size_t y_stride,
                              void *scratch) {
    (void)scratch;
    gemm(super_block_min_16, w, panel0, panel1, x, token0, token1, y, y_stride);
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

void pq_gemm_exact_scalar(const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x,
                          size_t token0, size_t token1, float *y, size_t y_stride, void *scratch) {
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

const pq_gemm_fn pq_gemm_table_scalar[PQ_TYPE_COUNT] = {
    [PQ_F32] = pq_gemm_exact_scalar,  [PQ_F16] = pq_gemm_exact_scalar,
    [PQ_BF16] = pq_gemm_exact_scalar, [PQ_Q4_0] = gemm_block,
    [PQ_Q5_0] = gemm_block,           [PQ_Q8_0] = gemm_block,
    [PQ_IQ4_NL] = gemm_block,         [PQ_Q4_1] = gemm_block_min,
    [PQ_Q5_1] = gemm_block_min,       [PQ_Q3_K] = gemm_super,
    [PQ_Q6_K] = gemm_super,           [PQ_IQ4_XS] = gemm_super,
    [PQ_Q2_K] = gemm_super_min_16,    [PQ_Q4_K] = gemm_super_min_32,
    [PQ_Q5_K] = gemm_super_min_32,
};
