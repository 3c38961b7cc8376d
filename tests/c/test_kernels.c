/* Every instruction set that was compiled in and can run here gives the bits of the scalar kernels: matrix
 * products of all types, quantization, attention and vectors, with odd sizes, tails, extreme and damaged
 * numbers. Runs wherever C runs, so also under an emulator; tests/kernels/ has more of it in Python. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "kernels/gemm_any.h"
#include "formats/blocks.h"

static const pq_kernels *scalar, *kernels;

/* All but scalar that can run here. What the scalar kernels compute, most of the time in a sanitizer's build, is
 * computed once and compared with all of them. */
static const pq_kernels *others[16];
static size_t n_others;

#define EACH_ISA for (size_t isa = 0; isa < n_others && (kernels = others[isa], 1); isa++)

/* ------------------------------------------------------------------------------------------- helpers */

static uint64_t seed = 88172645463325252u;

static uint32_t random_bits(void) { /* xorshift64 */
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}

/* -1 .. 1 */
static float random_float(void) {
    return (float)(int32_t)random_bits() * 0x1p-31f;
}

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Memory is cut from one arena and given back all at once, by setting arena_used back. */
enum { ARENA = 64 << 20 };
static uint8_t *arena;
static size_t arena_used;

/* Zeros, aligned to 64 bytes. */
static void *make(size_t bytes) {
    void *p = arena + arena_used;
    arena_used += (bytes + 63) / 64 * 64;
    if (arena_used > ARENA) {
        fputs("the arena is too small\n", stderr);
        exit(1);
    }
    return memset(p, 0, bytes);
}

static void make_arena(void) {
    uint8_t *p = malloc(ARENA + 63);
    if (!p) {
        fputs("no memory for the arena\n", stderr);
        exit(1);
    }
    arena = p + (64 - (uintptr_t)p % 64) % 64;
}

static float *make_floats(size_t n, float scale) {
    float *x = make(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float() * scale;
    return x;
}

/* The same bits; of NaN, the sign and payload may differ. */
static int same(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i])))
            return 0;
    return 1;
}

/* A failure names the instruction set, what was computed, and its sizes. */
static void check_equal(int equal, const char *what, uint32_t type, size_t a, size_t b) {
    if (!equal)
        fprintf(stderr, "%s: %s of type %u, %u, %u differs from scalar\n", kernels->isa, what,
                (unsigned)type, (unsigned)a, (unsigned)b);
    check_failures += !equal;
}

/* ---------------------------------------------------------------------------------- matrix products */

enum { MAX_TOKENS = 33, UNTOUCHED = 12345 };

/* Where the f16 numbers of a block are; -1: there is none. */
static void number_offsets(uint32_t type, int offsets[2]) {
    offsets[0] = 0;
    offsets[1] = -1;
    switch (type) {
    case PQ_Q4_1:
    case PQ_Q5_1:
    case PQ_Q4_K:
    case PQ_Q5_K:
        offsets[1] = 2;
        break;
    case PQ_Q2_K:
        offsets[0] = offsetof(pq_block_q2_k, d);
        offsets[1] = offsetof(pq_block_q2_k, dmin);
        break;
    case PQ_Q3_K:
        offsets[0] = offsetof(pq_block_q3_k, d);
        break;
    case PQ_Q6_K:
        offsets[0] = offsetof(pq_block_q6_k, d);
        break;
    }
}

static void set_number(uint8_t *block, int offset, float value) {
    const uint16_t half = pq_f32_to_f16(value);
    if (offset >= 0) {
        block[offset] = (uint8_t)half;
        block[offset + 1] = (uint8_t)(half >> 8);
    }
}

typedef struct weights {
    uint32_t type;
    size_t rows, cols, row_bytes;
    uint8_t *bytes; /* in file format */
} weights;

/* Random quants, or all bytes `fill` if that is not negative; the f16 numbers are `scale`, or ordinary
 * random ones if that is 0. */
static weights make_weights(uint32_t type, size_t rows, size_t cols, int fill, float scale) {
    const size_t block = pq_type_block(type), bytes = pq_type_bytes(type);
    weights w = {type, rows, cols, cols / block * bytes, NULL};
    int offsets[2];
    w.bytes = make(rows * w.row_bytes);
    number_offsets(type, offsets);
    for (size_t i = 0; i < rows * w.row_bytes; i++)
        w.bytes[i] = (uint8_t)(fill >= 0 ? fill : (int)random_bits());
    for (uint8_t *b = w.bytes; block > 1 && b < w.bytes + rows * w.row_bytes; b += bytes) {
        set_number(b, offsets[0], scale != 0.0f ? scale : random_float() * 0.01f);
        set_number(b, offsets[1], scale != 0.0f ? scale : random_float() * 0.01f);
    }
    return w;
}

static pq_matrix pack(const weights *w, uint32_t lanes) {
    const size_t panels = (w->rows + lanes - 1) / lanes;
    const size_t panel_bytes = pq_panel_bytes(w->type, w->cols, lanes);
    uint8_t *data = make(panels * panel_bytes);
    for (size_t p = 0; p < panels; p++) {
        const size_t row = p * lanes, left = w->rows - row;
        pq_pack_panel(w->type, w->cols, lanes, w->bytes + row * w->row_bytes,
                      left < lanes ? left : lanes, data + p * panel_bytes);
    }
    return (pq_matrix){w->type, lanes, w->rows, w->cols, panel_bytes, data};
}

/* Quantized by the scalar kernel; cols need not be a multiple of 32 for float types. */
static pq_acts make_acts(const float *x, size_t rows, size_t cols) {
    int8_t *q = make(rows * cols);
    float *d = make(rows * cols / 32 * sizeof *d), *s = make(rows * cols / 32 * sizeof *s);
    int16_t *sums = make(rows * cols / 16 * sizeof *sums);
    for (size_t t = 0; t < rows && cols % 32 == 0; t++)
        scalar->quantize_activations(x + t * cols, cols, q + t * cols, d + t * (cols / 32),
                                     sums + t * (cols / 16), s + t * (cols / 32));
    return (pq_acts){rows, cols, x, q, d, sums, s};
}

/* Tokens token0 .. token1 - 1 of (x->rows, rows + 1) floats; the others are left alone. */
static float *product(pq_gemm_fn gemm, const pq_matrix *w, const pq_acts *x, size_t token0,
                      size_t token1) {
    float *y = make(x->rows * (w->rows + 1) * sizeof *y);
    for (size_t i = 0; i < x->rows * (w->rows + 1); i++)
        y[i] = UNTOUCHED;
    gemm(w, 0, (w->rows + w->lanes - 1) / w->lanes, x, token0, token1, y, w->rows + 1,
         make(pq_gemm_scratch(kernels, w)));
    return y;
}

/* Token counts[i] from the first one on, and one range that begins later; both packed and exact. */
static void compare_products(const weights *w, const pq_acts *x, const size_t *counts, size_t n) {
    const size_t stride = w->rows + 1, from = x->rows / 2 * stride;
    const pq_matrix plain = pack(w, 1);
    for (int exact = 0; exact < 2; exact++) {
        const float *expected = product(exact ? scalar->gemm_exact : pq_gemm_for(scalar, w->type),
                                        &plain, x, 0, x->rows);
        const size_t used = arena_used;
        EACH_ISA {
            arena_used = used;
            const pq_gemm_fn gemm = exact ? kernels->gemm_exact : pq_gemm_for(kernels, w->type);
            const pq_matrix matrix = exact ? plain : pack(w, kernels->lanes);
            for (size_t i = 0; i < n; i++) {
                const float *y = product(gemm, &matrix, x, 0, counts[i]);
                check_equal(same(y, expected, counts[i] * stride), exact ? "exact gemm" : "gemm",
                            w->type, w->rows, counts[i]);
                CHECK(counts[i] == x->rows || y[counts[i] * stride] == UNTOUCHED);
            }
            if (!exact && pq_quantizes(w->type)) {
                const float *y = product(pq_gemm_any, &matrix, x, 0, x->rows);
                check_equal(same(y, expected, x->rows * stride), "gemm of any type", w->type,
                            w->rows, x->rows);
            }
            const float *part = product(gemm, &matrix, x, x->rows / 2, x->rows);
            check_equal(same(part + from, expected + from, x->rows * stride - from),
                        "part of a gemm", w->type, w->rows, x->rows);
        }
    }
}

static void test_gemm_sizes(uint32_t type) {
    static const size_t rows[] = {1, 7, 8, 9, 17}, counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 33};
    const size_t block = pq_type_block(type);
    const size_t cols = block == 1 ? 77 : block == 32 ? 96 : 512;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        arena_used = 0;
        const weights w = make_weights(type, rows[i], cols, -1, 0.0f);
        const pq_acts x = make_acts(make_floats(MAX_TOKENS * cols, 2.0f), MAX_TOKENS, cols);
        compare_products(&w, &x, counts, sizeof counts / sizeof counts[0]);
    }
}

/* More panels than are unpacked at a time. */
static void test_gemm_panels(uint32_t type) {
    static const size_t counts[] = {1, 17};
    const size_t cols = pq_type_block(type) == 1 ? 255 : 4096;
    arena_used = 0;
    const weights w = make_weights(type, 67, cols, -1, 0.0f);
    const pq_acts x = make_acts(make_floats(17 * cols, 1.0f), 17, cols);
    compare_products(&w, &x, counts, 2);
}

/* All quants and scales at one extreme, activations at +127, -127, and alternating: sums as large as they
 * get. Then numbers of blocks and activations that overflow, vanish, or are damaged. */
static void test_gemm_extremes(uint32_t type) {
    static const int fills[] = {0x00, 0xFF, 0x80, 0x7F, 0x0F, 0xF0, 0x55, -1};
    static const float scales[] = {6e-8f, 65504.0f, INFINITY, NAN};
    static const float sizes[] = {0.0f, 1e-41f, 1e-30f, 1.0f, 1e33f, 3e38f, INFINITY, NAN};
    static const size_t counts[] = {1, 3, 4, 12};
    enum { ROWS = 9, COLS = 512, TOKENS = 12 };
    for (size_t i = 0; i < sizeof fills / sizeof fills[0]; i++) {
        arena_used = 0;
        const weights w = make_weights(type, ROWS, COLS, fills[i], 0.5f);
        float *x = make(TOKENS * COLS * sizeof *x);
        for (size_t k = 0; k < TOKENS * COLS; k++) {
            const size_t t = k / COLS % 6, c = k % COLS;
            x[k] = t == 0   ? 1.0f
                   : t == 1 ? -1.0f
                   : t < 4  ? (c % 2 == t % 2 ? 1.0f : -1.0f)
                   : t == 4 ? (c % 4 < 2 ? 1.0f : -1.0f)
                            : (c % 32 < 16 ? 1.0f : -1.0f);
        }
        const pq_acts acts = make_acts(x, TOKENS, COLS);
        compare_products(&w, &acts, counts, 4);
    }
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        arena_used = 0;
        const weights w = make_weights(type, ROWS, COLS, -1, scales[i]);
        float *x = make_floats(TOKENS * COLS, 1.0f);
        for (size_t k = 0; k < TOKENS * COLS; k++)
            x[k] *= sizes[k / COLS % 8];
        const pq_acts acts = make_acts(x, TOKENS, COLS);
        compare_products(&w, &acts, counts, 4);
    }
}

/* -------------------------------------------------------------------------------------- quantization */

static void compare_quantize_activations(const float *x, size_t n) {
    int8_t *q[2];
    float *d[2], *s[2];
    int16_t *sums[2];
    for (int i = 0; i < 2; i++) {
        q[i] = make(n);
        d[i] = make(n / 32 * sizeof(float));
        s[i] = make(n / 32 * sizeof(float));
        sums[i] = make(n / 16 * sizeof(int16_t));
        (i ? kernels : scalar)->quantize_activations(x, n, q[i], d[i], sums[i], s[i]);
    }
    check_equal(memcmp(q[0], q[1], n) == 0 && memcmp(sums[0], sums[1], n / 16 * 2) == 0, "quants",
                0, n, 0);
    check_equal(same(d[0], d[1], n / 32) && same(s[0], s[1], n / 32), "scales", 0, n, 0);
}

static void test_quantize_activations(void) {
    enum { N = 32 * 64 };
    for (int exponent = -149; exponent < 128; exponent += 3) {
        arena_used = 0;
        compare_quantize_activations(make_floats(N, ldexpf(1.0f, exponent)), N);
    }
    arena_used = 0;
    float *x = make(N * sizeof *x); /* halves between two quants, and damaged blocks */
    for (size_t i = 0; i < N; i++)
        x[i] = i % 32 == 0 ? 127.0f : (float)(int)(random_bits() % 254) - 126.5f;
    x[40] = NAN;
    x[80] = INFINITY;
    x[100] = -INFINITY;
    x[101] = -NAN;
    memset(x + 160, 0, 32 * sizeof *x);
    compare_quantize_activations(x, N);
    for (size_t i = 0; i < N; i++)
        x[i] = from_bits(random_bits());
    compare_quantize_activations(x, N);
}

/* ----------------------------------------------------------------------------------------- attention */

enum { MAX_ROWS = 9 };

/* A full block; the kernels must store the same bytes. */
static pq_kv_view make_cache(pq_kv_type key_type, pq_kv_type value_type, size_t head_dim,
                             int damaged) {
    const size_t key_bytes = pq_kv_block_part(key_type, head_dim);
    const size_t value_bytes = pq_kv_block_part(value_type, head_dim);
    uint8_t *k0 = make(key_bytes), *v0 = make(value_bytes);
    float *keys = make_floats(PQ_KV_BLOCK * head_dim, 4.0f);
    float *values = make_floats(PQ_KV_BLOCK * head_dim, 2.0f);
    for (size_t slot = 0; slot < PQ_KV_BLOCK; slot++) {
        float *key = keys + slot * head_dim, *value = values + slot * head_dim;
        if (damaged && slot % 29 == 11) {
            key[slot % head_dim] = slot % 2 ? NAN : INFINITY;
            value[slot % head_dim] = slot % 2 ? -INFINITY : NAN;
        }
        scalar->kv_store_key(key_type, head_dim, slot, key, k0);
        scalar->kv_store_value(value_type, head_dim, slot, value, v0);
    }
    EACH_ISA {
        uint8_t *k = make(key_bytes), *v = make(value_bytes);
        for (size_t slot = 0; slot < PQ_KV_BLOCK; slot++) {
            kernels->kv_store_key(key_type, head_dim, slot, keys + slot * head_dim, k);
            kernels->kv_store_value(value_type, head_dim, slot, values + slot * head_dim, v);
        }
        check_equal(memcmp(k, k0, key_bytes) == 0 && memcmp(v, v0, value_bytes) == 0, "kv_store",
                    (uint32_t)key_type, head_dim, value_type);
    }
    return (pq_kv_view){.key_type = key_type,
                        .value_type = value_type,
                        .head_dim = head_dim,
                        .keys = k0,
                        .values = v0,
                        .next_keys = k0,
                        .key_constant = pq_kv_is_integer(key_type) && head_dim != 64
                                            ? make_floats(head_dim, 8.0f)
                                            : NULL};
}

typedef struct attended {
    pq_softmax state[MAX_ROWS];
    float *out; /* (rows, head_dim + 16) */
} attended;

static attended attend(const pq_kernels *table, const pq_kv_view *c, const float *q, size_t rows,
                       const uint32_t *visible) {
    const size_t stride = c->head_dim + 16;
    attended a = {.out = make(rows * stride * sizeof(float))};
    table->attend(c, q, stride, rows, visible, a.state, a.out, stride,
                  make(pq_attend_scratch(rows)));
    return a;
}

/* Each row into the next one. */
static void merge(const pq_kernels *table, const pq_kv_view *c, size_t rows, attended *a) {
    const size_t stride = c->head_dim + 16;
    for (size_t r = 0; r + 1 < rows; r++)
        table->attend_merge(c->head_dim, &a->state[r + 1], a->out + (r + 1) * stride, &a->state[r],
                            a->out + r * stride);
}

static int same_attended(const pq_kv_view *c, size_t rows, const attended *a, const attended *b) {
    return same(&a->state[0].max, &b->state[0].max, 2 * rows) &&
           same(a->out, b->out, rows * (c->head_dim + 16));
}

static void compare_attention(const pq_kv_view *c, size_t rows, const uint32_t *visible) {
    const size_t stride = c->head_dim + 16;
    const float *q = make_floats(rows * stride, 1.0f);
    const attended expected = attend(scalar, c, q, rows, visible);
    attended merged = expected;
    merged.out =
        memcpy(make(rows * stride * sizeof(float)), expected.out, rows * stride * sizeof(float));
    merge(scalar, c, rows, &merged);
    EACH_ISA {
        attended a = attend(kernels, c, q, rows, visible);
        check_equal(same_attended(c, rows, &expected, &a), "attention", (uint32_t)c->key_type, rows,
                    visible[0]);
        merge(kernels, c, rows, &a);
        check_equal(same_attended(c, rows, &merged, &a), "attend_merge", (uint32_t)c->key_type,
                    rows, visible[0]);
    }
}

static void test_attention(pq_kv_type key_type, pq_kv_type value_type, size_t head_dim,
                           int damaged) {
    static const uint32_t edges[] = {1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 64, 127, 128};
    enum { EDGES = sizeof edges / sizeof edges[0] };
    arena_used = 0;
    const pq_kv_view c = make_cache(key_type, value_type, head_dim, damaged);
    const size_t start = arena_used;
    for (size_t rows = 1; rows <= MAX_ROWS; rows++) {
        uint32_t visible[MAX_ROWS];
        for (size_t e = 0; e < EDGES; e++) { /* all rows alike, then each a little more */
            arena_used = start;
            for (size_t r = 0; r < rows; r++)
                visible[r] = edges[e];
            compare_attention(&c, rows, visible);
            for (size_t r = 0; r < rows; r++)
                visible[r] = edges[(e + r) % EDGES];
            compare_attention(&c, rows, visible);
        }
    }
}

/* A row that has seen nothing yet takes over the block's result. */
static void test_merge_into_nothing(void) {
    arena_used = 0;
    const float *block_out = make_floats(64, 1.0f);
    float *out = make_floats(64, 1.0f);
    pq_softmax nothing = {-INFINITY, 0.0f};
    const pq_softmax block = {0.5f, 3.0f};
    kernels->attend_merge(64, &nothing, out, &block, block_out);
    CHECK(nothing.max == 0.5f && nothing.sum == 3.0f && memcmp(out, block_out, 256) == 0);
}

/* ------------------------------------------------------------------------------------------- vectors */

typedef void (*unary_fn)(const float *x, size_t n, float *y);

static void compare_unary(unary_fn expected, unary_fn actual, const char *what, const float *x,
                          size_t n) {
    float *a = make((n + 1) * sizeof *a), *b = make((n + 1) * sizeof *b);
    expected(x, n, a);
    actual(x, n, b);
    check_equal(same(a, b, n + 1), what, 0, n, 0);
}

static void test_lengths(size_t n) {
    arena_used = 0;
    const float *x = make_floats(n, 30.0f), *z = make_floats(n, 3.0f);
    compare_unary(scalar->exp, kernels->exp, "exp", x, n);
    compare_unary(scalar->add, kernels->add, "add", x, n);
    float *a = make((n + 1) * sizeof *a), *b = make((n + 1) * sizeof *b);
    scalar->silu_mul(x, z, n, a);
    kernels->silu_mul(x, z, n, b);
    check_equal(same(a, b, n + 1), "silu_mul", 0, n, 0);
    a[0] = scalar->logsumexp(x, n);
    b[0] = kernels->logsumexp(x, n);
    check_equal(same(a, b, 1), "logsumexp", 0, n, 0);
    if (n % 32 == 0) {
        memcpy(a, x, n * sizeof *a);
        memcpy(b, x, n * sizeof *b);
        scalar->hadamard(a, n);
        kernels->hadamard(b, n);
        check_equal(same(a, b, n + 1), "hadamard", 0, n, 0);
    }
    if (n % 16 == 0) {
        scalar->rms_norm(x, z, 1e-6f, n, a);
        kernels->rms_norm(x, z, 1e-6f, n, b);
        check_equal(same(a, b, n + 1), "rms_norm", 0, n, 0);
    }
    for (int neox = 0; neox < 2 && n % 2 == 0; neox++) {
        memcpy(a, x, n * sizeof *a);
        memcpy(b, x, n * sizeof *b);
        scalar->rope(a, z, z + n / 2, n, neox, 1.25f);
        kernels->rope(b, z, z + n / 2, n, neox, 1.25f);
        check_equal(same(a, b, n + 1), neox ? "rope of halves" : "rope of pairs", 0, n, 0);
    }
}

/* Numbers of every exponent, infinities and NaN among them. */
static void test_all_floats(void) {
    enum { N = 1 << 15, STEP = 1 << 17 };
    arena_used = 0;
    float *x = make(N * sizeof *x);
    for (uint32_t offset = 0; offset < 24; offset++) {
        const size_t start = arena_used;
        for (uint32_t i = 0; i < N; i++)
            x[i] = from_bits(i * STEP + random_bits() % STEP);
        compare_unary(scalar->exp, kernels->exp, "exp of any float", x, N);
        float *gate = make(N * sizeof *gate), *expected = make(N * sizeof *expected);
        scalar->silu_mul(x, x, N, expected);
        kernels->silu_mul(x, x, N, gate);
        check_equal(same(gate, expected, N), "silu_mul of any float", 0, N, offset);
        uint16_t *a = make(N * sizeof *a), *b = make(N * sizeof *b);
        scalar->to_f16(x, N, a);
        kernels->to_f16(x, N, b);
        check_equal(memcmp(a, b, N * sizeof *a) == 0, "to_f16", 0, N, offset);
        arena_used = start;
    }
    for (float v = -110.0f; v < 95.0f; v += 0.37f) { /* where exp is neither 0 nor infinite */
        const size_t start = arena_used;
        for (size_t i = 0; i < 1024; i++)
            x[i] = v + random_float() * 0.4f;
        compare_unary(scalar->exp, kernels->exp, "exp", x, 1024);
        arena_used = start;
    }
}

static void test_all_halves(void) {
    enum { N = 1 << 16 };
    arena_used = 0;
    uint16_t *h = make(N * sizeof *h);
    float *a = make(N * sizeof *a), *b = make(N * sizeof *b);
    for (uint32_t i = 0; i < N; i++)
        h[i] = (uint16_t)i;
    scalar->from_f16(h, N, a);
    kernels->from_f16(h, N, b);
    check_equal(memcmp(a, b, N * sizeof *a) == 0, "from_f16", 0, N, 0);
    for (size_t n = 1; n < 20; n++) { /* tails */
        memset(b, 0, 64 * sizeof *b);
        kernels->from_f16(h + 0x3C00, n, b);
        CHECK(memcmp(b, a + 0x3C00, n * sizeof *b) == 0 && b[n] == 0.0f);
        uint16_t back[32] = {0};
        kernels->to_f16(a + 0x3C00, n, back);
        CHECK(memcmp(back, h + 0x3C00, n * sizeof back[0]) == 0 && back[n] == 0);
    }
}

static void test_logsumexp_of_damaged(void) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t n = 1; n < 40; n++) {
        for (size_t i = 0; i < 3 * n; i++) {
            arena_used = 0;
            float *x = make_floats(n, 5.0f);
            x[i % n] = bad[i / n];
            const float a = scalar->logsumexp(x, n), b = kernels->logsumexp(x, n);
            check_equal(same(&a, &b, 1), "logsumexp of damaged numbers", 0, n, i);
        }
    }
}

/* ---------------------------------------------------------------------------------------------- main */

static void test_products_and_attention(void) {
    for (uint32_t type = 0; type < PQ_TYPE_COUNT; type++) {
        if (!pq_type_block(type))
            continue;
        test_gemm_sizes(type);
        test_gemm_panels(type);
        test_gemm_extremes(type);
    }
    static const size_t dims[] = {32, 64, 96, 128, 256};
    for (uint32_t type = 0; pq_kv_type_name(type); type++) {
        for (size_t d = 0; d < 5; d++)
            test_attention((pq_kv_type)type, (pq_kv_type)type, dims[d], 0);
        test_attention((pq_kv_type)type, (pq_kv_type)type, 64, 1);
        const uint32_t next = pq_kv_type_name(type + 1) ? type + 1 : 0;
        test_attention((pq_kv_type)type, (pq_kv_type)next, 64, 0);
    }
}

static void test_vectors(void) {
    test_quantize_activations();
    test_merge_into_nothing();
    for (size_t n = 1; n <= 130; n++)
        test_lengths(n);
    test_lengths(4096);
    test_lengths(4099);
    test_all_floats();
    test_all_halves();
    test_logsumexp_of_damaged();
}

/* The default is the best that is available, but none of Arm's that only ran under an emulator. */
static void test_default(void) {
    const pq_kernels *chosen = NULL;
    const char *first = pq_isa_name(0);
    for (uint32_t i = 0; !pq_isa_available(first); i++)
        first = pq_isa_name(i);
    CHECK(pq_kernels_select(&chosen, NULL, NULL) == PQ_OK);
    CHECK(strcmp(chosen->isa, pq_isa_default()) == 0);
    CHECK(strcmp(chosen->summary, pq_isa_summary(chosen->isa)) == 0);
#if defined(__aarch64__)
    CHECK(strcmp(chosen->isa, "neon") == 0);
    CHECK(pq_isa_available("dotprod") == 0 || strcmp(first, chosen->isa) != 0);
#else
    CHECK(strcmp(chosen->isa, first) == 0);
#endif
    CHECK(pq_isa_summary("mmx") == NULL);
    CHECK(pq_isa_summary(NULL) == NULL);
}

int main(void) {
    make_arena();
    test_default();
    CHECK(pq_kernels_select(&scalar, "scalar", NULL) == PQ_OK);
    for (uint32_t i = 0; pq_isa_name(i); i++) {
        if (!pq_isa_available(pq_isa_name(i)) || strcmp(pq_isa_name(i), "scalar") == 0)
            continue;
        CHECK(pq_kernels_select(&others[n_others++], pq_isa_name(i), NULL) == PQ_OK);
    }
    test_products_and_attention();
    EACH_ISA {
        test_vectors();
        printf("%s: compared with scalar\n", kernels->isa);
    }
    return check_result();
}
