/* The matrix kernels touch nothing outside their operands: every array ends at a page that may
 * not be touched, and begins behind one, so that a step too far is a crash. */
#include <stdlib.h>
#include <string.h>
#if defined(_WIN32)
#include <windows.h>
#else
#include <sys/mman.h>
#endif

#include "check.h"
#include "kernels/gemm_any.h"
#include "kernels/kernels.h"

enum { PAGE = 65536, BLOCKS = 4, ROWS = 19, MAX_TOKENS = 37 };

static void *reserve(size_t bytes) {
#if defined(_WIN32)
    return VirtualAlloc(NULL, bytes, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
#else
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
#endif
}

static int forbid(void *p, size_t bytes) {
#if defined(_WIN32)
    DWORD before;
    return VirtualProtect(p, bytes, PAGE_NOACCESS, &before) != 0;
#else
    return mprotect(p, bytes, PROT_NONE) == 0;
#endif
}

/* `bytes` of memory whose end is the end of what may be touched, but for rounding to `align`. */
static void *guarded(size_t bytes, size_t align) {
    const size_t room = (bytes + PAGE - 1) / PAGE * PAGE + 2 * PAGE;
    uint8_t *base = reserve(room);
    if (!base || !forbid(base, PAGE) || !forbid(base + room - PAGE, PAGE)) {
        fputs("no memory for guarded arrays\n", stderr);
        exit(1);
    }
    return base + room - PAGE - (bytes + align - 1) / align * align;
}

/* A copy of `bytes` bytes at p, guarded. */
static void *guarded_copy(const void *p, size_t bytes, size_t align) {
    return memcpy(guarded(bytes, align), p, bytes);
}

static uint32_t seed = 1;

static uint8_t random_byte(void) {
    seed = seed * 1664525 + 1013904223;
    return (uint8_t)(seed >> 24);
}

static float *random_floats(size_t n) {
    float *x = guarded(n * sizeof *x, 4);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)random_byte() - 127.5f;
    return x;
}

static pq_matrix random_matrix(uint32_t type, size_t n_rows, size_t cols, uint32_t lanes) {
    const size_t row_bytes = cols / pq_type_block(type) * pq_type_bytes(type);
    const size_t panels = (n_rows + lanes - 1) / lanes;
    pq_matrix w = {.type = type,
                   .lanes = lanes,
                   .rows = n_rows,
                   .cols = cols,
                   .panel_bytes = pq_panel_bytes(type, cols, lanes)};
    uint8_t *rows = guarded(n_rows * row_bytes, 1);
    for (size_t i = 0; i < n_rows * row_bytes; i++)
        rows[i] = random_byte() & 0x3B; /* as f16 and float32: ordinary numbers */
    uint8_t *data = guarded(panels * w.panel_bytes, lanes > 1 ? 64 : 1);
    for (size_t p = 0; p < panels; p++) {
        const size_t row = p * lanes, n = n_rows - row < lanes ? n_rows - row : lanes;
        pq_pack_panel(type, cols, lanes, rows + row * row_bytes, n, data + p * w.panel_bytes);
    }
    w.data = data;
    uint8_t *unpacked = guarded(row_bytes, 1);
    for (size_t r = 0; r < n_rows; r++) {
        pq_unpack_row(&w, r, unpacked);
        CHECK(memcmp(unpacked, rows + r * row_bytes, row_bytes) == 0);
    }
    return w;
}

static pq_acts random_acts(const pq_kernels *kernels, size_t rows, size_t cols, int quantized) {
    pq_acts a = {.rows = rows, .cols = cols, .x = random_floats(rows * cols)};
    if (!quantized)
        return a;
    int8_t *q = guarded(rows * cols, 1);
    float *d = guarded(rows * cols / 32 * sizeof *d, 4);
    int16_t *sums = guarded(rows * cols / 16 * sizeof *sums, 2);
    float *s = guarded(rows * cols / 32 * sizeof *s, 4);
    for (size_t t = 0; t < rows; t++) {
        const float *x = guarded_copy(a.x + t * cols, cols * sizeof *x, 4);
        kernels->quantize_activations(x, cols, q + t * cols, d + t * (cols / 32),
                                      sums + t * (cols / 16), s + t * (cols / 32));
    }
    a.q = q;
    a.d = d;
    a.sums = sums;
    a.s = s;
    return a;
}

static void multiply(const pq_kernels *kernels, const pq_matrix *w, pq_gemm_fn gemm,
                     int quantized) {
    static const size_t tokens[] = {1, 2, 3, 5, 6, 7, MAX_TOKENS};
    void *scratch = guarded(pq_gemm_scratch(kernels, w), 64);
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        const pq_acts x = random_acts(kernels, tokens[i], w->cols, quantized);
        float *y = guarded(tokens[i] * ROWS * sizeof *y, 4);
        gemm(w, 0, (ROWS + w->lanes - 1) / w->lanes, &x, 0, tokens[i], y, ROWS, scratch);
    }
}

static void test_type(const pq_kernels *kernels, uint32_t type) {
    const size_t cols = pq_type_block(type) == 1 ? 77 : BLOCKS * pq_type_block(type);
    const pq_matrix packed = random_matrix(type, ROWS, cols, kernels->lanes);
    const pq_matrix plain = random_matrix(type, ROWS, cols, 1);
    multiply(kernels, &packed, pq_gemm_for(kernels, type), pq_quantizes(type));
    multiply(kernels, &plain, kernels->gemm_exact, 0);
}

/* More panels, columns and tokens than any kernel multiplies at a time, and an odd number of each. */
static void test_wide(const pq_kernels *kernels, uint32_t type, size_t cols) {
    enum { WIDE_ROWS = 145, TOKENS = 521 };
    const pq_matrix w = random_matrix(type, WIDE_ROWS, cols, kernels->lanes);
    const pq_acts x = random_acts(kernels, TOKENS, cols, 1);
    float *y = guarded((size_t)TOKENS * WIDE_ROWS * sizeof *y, 4);
    pq_gemm_for(kernels, type)(&w, 0, (WIDE_ROWS + w.lanes - 1) / w.lanes, &x, 0, TOKENS, y,
                               WIDE_ROWS, guarded(pq_gemm_scratch(kernels, &w), 64));
}

/* AMX alone keeps more than panels that are unpacked. */
static void test_scratch(const pq_kernels *kernels) {
    const pq_matrix w = {.type = PQ_Q4_K, .lanes = kernels->lanes, .rows = ROWS, .cols = 512};
    if (kernels->lanes > 1)
        CHECK((pq_gemm_scratch(kernels, &w) > 192 * 1024) == (strcmp(kernels->isa, "amx") == 0));
}

/* A part of the product leaves everything else alone. */
static void test_part(const pq_kernels *kernels) {
    const pq_matrix w = random_matrix(PQ_Q4_K, ROWS, 512, kernels->lanes);
    const pq_acts x = random_acts(kernels, 9, 512, 1);
    const size_t panel = w.rows / w.lanes / 2, row0 = panel * w.lanes;
    const size_t row1 = row0 + w.lanes < ROWS ? row0 + w.lanes : ROWS;
    void *scratch = guarded(pq_gemm_scratch(kernels, &w), 64);
    float y[9][ROWS + 2];
    for (size_t t = 0; t < 9; t++)
        for (size_t r = 0; r < ROWS + 2; r++)
            y[t][r] = -1.0f;
    pq_gemm_for(kernels, PQ_Q4_K)(&w, panel, panel + 1, &x, 2, 5, y[0], ROWS + 2, scratch);
    for (size_t t = 0; t < 9; t++)
        for (size_t r = 0; r < ROWS + 2; r++)
            CHECK((y[t][r] != -1.0f) == (t >= 2 && t < 5 && r >= row0 && r < row1));
}

int main(void) {
    for (uint32_t i = 0; pq_isa_name(i); i++) {
        const pq_kernels *kernels;
        if (!pq_isa_available(pq_isa_name(i)))
            continue;
        CHECK(pq_kernels_select(&kernels, pq_isa_name(i), NULL) == PQ_OK);
        for (uint32_t type = 0; type < PQ_TYPE_COUNT; type++)
            if (pq_type_block(type))
                test_type(kernels, type);
        test_part(kernels);
        test_scratch(kernels);
        if (kernels->lanes > 1) {
            test_wide(kernels, PQ_Q8_0, 3424);
            test_wide(kernels, PQ_Q6_K, 2304);
        }
    }
    return check_result();
}
