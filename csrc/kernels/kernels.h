/* kernels.h - the contract of the kernels: one table of function pointers per instruction set.
 *
 * scalar/ is the specification. Every other folder computes the same bits, also in float: the order of
 * every accumulation is written down here, fused multiply-adds are explicit everywhere (fmaf in C, the
 * intrinsic in SIMD) and the compiler may not form others (-ffp-contract=off). So results do not depend on
 * the instruction set, the number of threads, or how rows of tokens were grouped into calls; tests
 * compare with memcmp. Kernels know nothing of models, files or threads; they cannot fail.
 *
 * Pointers need no alignment unless said. No argument may be NULL; counts are >= 1 unless said.
 */
#ifndef PQ_KERNELS_H
#define PQ_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "../pyqwen.h"
#include "../formats/types.h"

/* ------------------------------------------------------------------------------------- activations */

/* Rows of activations, quantized once and used by every matrix that multiplies them, in blocks of 32
 * (blocks of 256 would cost the K types less, but an outlier would blur 255 neighbors):
 *   x[i] ~ d[i / 32] * q[i],   d = max|x| / 127 over the block,   q = round-half-even(x * (127 / max|x|))
 * (max and both divisions in float32; |q| <= 127). A block of zeros, or of numbers so small that
 * 127 / max|x| is not finite, has d = 0 and q = 0. cols is a multiple of 32, except for float types and in exact
 * mode, which use x only; there a matrix may also have fewer columns than x, and meets the first of each row. */
typedef struct pq_acts {
    size_t rows, cols;
    const float *x;      /* (rows, cols) unquantized: for float types and exact mode only */
    const int8_t *q;     /* (rows, cols) */
    const float *d;      /* (rows, cols / 32) */
    const int16_t *sums; /* (rows, cols / 16) of 16 neighboring q: for offsets and Q2_K's minima */
    const float *s;      /* (rows, cols / 32) d * (float)(the sum of the block's q): for minima */
} pq_acts;

/* 1 if a weight type multiplies quantized activations, 0 for F32, F16 and BF16. */
int pq_quantizes(uint32_t type);

/* Quantizes one row: n is a multiple of 32. A block with NaN or infinity in x has q = 0 and a d that is
 * NaN or infinite, so that it is not lost. */
typedef void (*pq_quantize_activations_fn)(const float *x, size_t n, int8_t *q, float *d,
                                           int16_t *sums, float *s);

/* ----------------------------------------------------------------------------------------- matrices */

/* A weight matrix as the kernels of one instruction set want it. `lanes` rows are interleaved into a panel;
 * panels follow each other; the last one is padded with zero blocks. lanes == 1: rows as in the file. */
typedef struct pq_matrix {
    uint32_t type;
    uint32_t lanes;      /* rows per panel: 1, 8 or 16 */
    size_t rows, cols;   /* logical */
    size_t panel_bytes;  /* of one panel of `lanes` rows */
    const uint8_t *data; /* (ceil(rows / lanes), panel_bytes); 64-byte aligned when lanes > 1 */
} pq_matrix;

/* y[t * y_stride + r] = sum over k of w[r][k] * x[t][k], for the rows r of the panels [panel0, panel1) and
 * the tokens t in [token0, token1). Rows beyond w->rows are not written.
 * `scratch`: pq_gemm_scratch() bytes, 64-byte aligned, of the calling thread.
 *
 * The order of one element y, for every kernel and any grouping of tokens (acc starts at +0):
 *   blocks of 32 (such as Q4_0; formats/format.h), ascending: i = the exact integer sum of value * q over the
 *       block (value with its offset taken off, or from the table):  acc = fmaf(dw * dx, (float)i, acc)
 *   blocks of 32 with a minimum (such as Q4_1), w = dw * u + mw:      acc = fmaf(dw * dx, (float)i, acc)
 *       and then                                                      acc = fmaf(mw, s, acc)
 *   super-blocks of 256 (such as Q6_K), ascending: t = +0; for its 8 blocks of 32, ascending,
 *       i = the exact integer sum of scale * value * q over the block:    t = fmaf(dx, (float)i, t)
 *       and then                                                      acc = fmaf(dw, t, acc)
 *     minima of 32 (Q4_K Q5_K): u = +0; for the 8 blocks, ascending:  u = fmaf((float)min, s, u)
 *       and then                                                      acc = fmaf(-dmin, u, acc)
 *     minima of 16 (Q2_K): u = +0; for the 8 blocks, m = the exact integer sum of
 *       min * (sum of 16 q) over the block's two halves:                  u = fmaf(dx, (float)m, u)
 *       and then                                                      acc = fmaf(-dmin, u, acc)
 *   F32 F16 BF16 (and every type in exact mode, after dequantization to float32): two accumulators, one for
 *       even k and one for odd k, ascending, acc[k & 1] = fmaf(w, x, acc[k & 1]); y = acc[0] + acc[1].
 * dw, mw, dmin are the block's f16 numbers widened to float32; int to float rounds to nearest even. */
typedef void (*pq_gemm_fn)(const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x,
                           size_t token0, size_t token1, float *y, size_t y_stride, void *scratch);

/* The head of a function of that type. */
#define PQ_GEMM_HEAD(name)                                                                         \
    void name(const pq_matrix *w, size_t panel0, size_t panel1, const pq_acts *x, size_t token0,   \
              size_t token1, float *y, size_t y_stride, void *scratch)

/* ---------------------------------------------------------------------------------------- attention */

/* Attention walks one grid of key blocks anchored at position 0. Inside the KV cache, for one layer and KV head, a
 * block holds the keys of PQ_KV_BLOCK positions, and behind them their values. In float16 and float32:
 *   keys    [PQ_KV_BLOCK / 16][head_dim][16]   16 neighboring positions interleaved: lanes are keys
 *   values  [PQ_KV_BLOCK][head_dim]
 * In the integer types a position's numbers are d * n + m, one d (and in q5_1 one m) per position. Both keys and
 * values are groups of 16 positions, made of squares of 16 dimensions:
 *   keys, values  [PQ_KV_BLOCK / 16]{ d [16], m [16] in q5_1, squares [head_dim / 16] }
 * A square has eight units of 32 numbers, which are pairs that a product adds up at once:
 *   unit u of keys    [16 keys]{ dimensions 2 u, 2 u + 1 }
 *   unit u of values  [16 dimensions]{ positions 2 u, 2 u + 1 }
 *   q8_0  n in -127 .. 127, a byte each
 *   q4_0  n + 8 in 0 .. 15; byte i of line l: number i of unit 2 l, and << 4 that of unit 2 l + 1; four lines of 32
 *   q5_1  n in 0 .. 31; the lower four bits like q4_0, then a line whose byte i has bit 4 of number i of unit u
 *         as its bit u
 * Positions not yet written hold zeros. head_dim is a multiple of 32, at most PQ_MAX_HEAD_DIM. */
enum { PQ_KV_BLOCK = 128, PQ_KV_LANES = 16, PQ_MAX_HEAD_DIM = 256 };

size_t pq_kv_block_part(pq_kv_type type,
                        size_t head_dim); /* bytes of a block's keys, or of its values */
int pq_kv_is_integer(pq_kv_type type);

/* Stores one position's key or value (head_dim floats) at `slot` < PQ_KV_BLOCK of a block's keys or values.
 *   f16   rounds to nearest even (beyond its range: infinity)
 *   q8_0  d = max|x| / 127,  n = round-half-even(x * (127 / max|x|))
 *   q4_0  d = e / -8, where e is the first x of the largest magnitude,  n = round-half-even(x * (1 / d)), at most 7
 *   q5_1  m = the smallest x, d = (the largest x - m) / 31,  n = round-half-even((x - m) * (1 / d)), at most 31
 * A position with NaN or infinity has n = 0 (m = 0) and the d that makes its products NaN; where 1 / d (127 / max|x|)
 * is not finite, d and n are 0. */
typedef void (*pq_kv_store_fn)(pq_kv_type type, size_t head_dim, size_t slot, const float *x,
                               void *numbers);

/* What one query row gathered so far: max, sum of exponentials, and the weighted sum of values. */
typedef struct pq_softmax {
    float max; /* -INFINITY: nothing yet */
    float sum;
} pq_softmax;

/* One block of keys and values, aligned to 4 bytes. */
typedef struct pq_kv_view {
    pq_kv_type key_type, value_type;
    size_t head_dim;
    const void *keys, *values;
    const void
        *next_keys; /* those that will be attended to next, which may be asked for ahead, or NULL */
    const float
        *key_constant; /* (head_dim) what was taken off all keys of an integer type, or NULL */
} pq_kv_view;

/* One block against n query rows that share its KV head. q (n, q_stride), already scaled by 1 / sqrt(head_dim); row i
 * sees the keys 0 .. visible[i] - 1 of the block, 1 <= visible[i] <= PQ_KV_BLOCK. Writes state[i] and out
 * (n, out_stride) for this block alone, in this order:
 *   score[j] = over d ascending: s = fmaf(q[d], key[j][d], s) from +0, keys widened to float32
 *     integer types: i = the exact integer sum of Q[d] * n[j][d], where q[d] ~ D * Q[d] as of one row of weights below;
 *       s = d[j] * (float)i;  q5_1: s = fmaf(m[j], (float)(the sum of Q), s)
 *       score[j] = fmaf(D, s, g);  g = +0, or with a key_constant: 16 lanes, lane d % 16 takes
 *       fmaf(q[d], key_constant[d], lane) from +0, ascending; then pq_sum16
 *   max   = the largest of the visible scores (no order needed)
 *   w[j]  = pq_exp(score[j] - max) for visible keys, +0 for the others
 *   sum   = 16 lanes, lane l adds w[j] for j % 16 == l, ascending; then pq_sum16 of the lanes
 *   out[d] = over visible j ascending: o = fmaf(w[j], value[j][d], o) from +0
 *     integer types: x[j] = w[j] * d[j] for visible keys, +0 for the others; x[j] ~ D * X[j], where D = max|x| / 32767
 *       and X = round-half-even(x * (32767 / max|x|)), both as of q8_0 above; i[d] = the exact integer sum of X[j] * n[j][d];
 *       out[d] = fmaf(D, (float)i[d], t);  t = +0, in q5_1 16 lanes, lane j % 16 takes fmaf(w[j], m[j], lane) from +0
 *       for visible j, ascending; then pq_sum16
 * A score that is NaN or +infinity makes sum NaN, and then max is NaN too, so that no later block hides it.
 * `scratch`: pq_attend_scratch(n) bytes, 64-byte aligned. */
typedef void (*pq_attend_fn)(const pq_kv_view *block, const float *q, size_t q_stride, size_t n,
                             const uint32_t *visible, pq_softmax *state, float *out,
                             size_t out_stride, void *scratch);
size_t pq_attend_scratch(size_t n);

/* Adds a later block's result to what its row gathered from earlier blocks (blocks in ascending order):
 *   max = larger of both; a = pq_exp(into.max - max), b = pq_exp(block.max - max);
 *   sum = fmaf(into.sum, a, block.sum * b);  out[d] = fmaf(into_out[d], a, block_out[d] * b)
 * With into->max == -INFINITY the block is copied. */
typedef void (*pq_attend_merge_fn)(size_t head_dim, pq_softmax *into, float *into_out,
                                   const pq_softmax *block, const float *block_out);

/* ------------------------------------------------------------------------------------------ vectors */

/* pq_sum16: the fixed reduction of 16 lanes: l[i] += l[i + 8] (i < 8), then + 4, + 2, + 1.
 * pq_exp: see scalar/exp.h, the one definition of the exponential; within 1 ulp, 0 below -87.3, infinity where
 * float32 ends. */
typedef struct pq_kernels {
    const char *isa;
    const char *summary; /* one line for `doctor` */
    uint32_t lanes;      /* of the panels this table's gemm wants: 1, 8 or 16 */
    /* Bytes of scratch that gemm of a quantized type takes, if unpacked panels take less. */
    size_t least_scratch;
    /* Multiplications of one call of gemm at most, a few milliseconds: so long a cancel waits. */
    size_t chunk_macs;

    pq_quantize_activations_fn quantize_activations;
    /* gemm[type] (PQ_TYPE_COUNT of them) for lanes == this table's; NULL where gemm_any.h has to do */
    const pq_gemm_fn *gemm;
    /* float32 activations, any type, matrix with lanes == 1: dequantizes as it goes */
    pq_gemm_fn gemm_exact;

    pq_kv_store_fn kv_store_key, kv_store_value;
    pq_attend_fn attend;
    pq_attend_merge_fn attend_merge;

    /* y[i] = x[i] * r * w[i], (x[i] * r) rounded first; r = 1 / sqrtf(ss / n + eps), ss: 16 lanes, lane
     * i % 16 takes fmaf(x[i], x[i], lane) ascending, then pq_sum16. n a multiple of 16. y may be x. */
    void (*rms_norm)(const float *x, const float *w, float eps, size_t n, float *y);
    /* y[i] += x[i] */
    void (*add)(const float *x, size_t n, float *y);
    /* y[i] = gate[i] / (1 + pq_exp(-gate[i])) * up[i], division first. y may be gate or up. */
    void (*silu_mul)(const float *gate, const float *up, size_t n, float *y);
    /* Rotates x (dim) in place, dim even; c, s: (dim / 2). neox: pairs (i, i + dim / 2), else (2i, 2i + 1):
     * a' = fmaf(a, c, -(b * s)), b' = fmaf(a, s, b * c); then both are multiplied by `scale`. */
    void (*rope)(float *x, const float *c, const float *s, size_t dim, int neox, float scale);
    /* The Walsh-Hadamard transform of x (n a multiple of 32) in place, in blocks of the largest power of two that divides
     * n: for h = 1, 2, 4, ... below a block's size, each a = x[i] and b = x[i + h], where i has bit h clear, become
     * a + b and a - b; then all are multiplied by the float32 nearest to 1 / sqrt(size). It is its own inverse. */
    void (*hadamard)(float *x, size_t n);
    /* y[i] = pq_exp(x[i]). y may be x. */
    void (*exp)(const float *x, size_t n, float *y);
    /* max(x) + logf(sum of pq_exp(x - max)), 16 lanes as above. n any. NaN if there is a NaN or +infinity
     * in x, or nothing but -infinity. */
    float (*logsumexp)(const float *x, size_t n);
    /* float32 <-> float16, round to nearest even. */
    void (*to_f16)(const float *x, size_t n, uint16_t *y);
    void (*from_f16)(const uint16_t *x, size_t n, float *y);
} pq_kernels;

/* Scratch bytes that a gemm of these kernels needs for w; for gemm_exact w->lanes is 1. */
size_t pq_gemm_scratch(const pq_kernels *kernels, const pq_matrix *w);

/* By name, or pq_isa_default() for NULL. PQ_ERR_ARGUMENT names those there are. */
pq_status pq_kernels_select(const pq_kernels **out, const char *isa, pq_error *err);

/* ------------------------------------------------------------------------------------------- packing */

/* pack.c, shared by all instruction sets. The layout of a panel is described there. */
size_t pq_panel_bytes(uint32_t type, size_t cols, uint32_t lanes);
/* Interleaves `n_rows` <= lanes rows in file format, `row_bytes` apart, into one panel (zero padded). */
void pq_pack_panel(uint32_t type, size_t cols, uint32_t lanes, const uint8_t *rows, size_t n_rows,
                   uint8_t *panel);
/* The inverse for one row: its blocks in file format, for look-ups. */
void pq_unpack_row(const pq_matrix *w, size_t row, uint8_t *out);

#endif
