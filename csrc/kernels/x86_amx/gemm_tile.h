/* gemm_tile.h - what the quantized matrix kernels with AMX share: tiles of 16 tokens times two panels.
 *
 * One tile instruction multiplies 32 columns of 16 tokens with 32 columns of the 16 rows of a panel: 8,192
 * products, exact in 32 bits. The panel's layout (pack.c) is what the instruction wants of its second
 * operand, and activations are its first operand as they lie in memory. The sums go through memory to
 * AVX-512, which applies the scales in the order of the contract.
 *
 * Panels are unpacked first, to signed bytes and ready scales in groups of 256 columns; scales of
 * sub-blocks of 16 are multiplied into the bytes. Q6_K, where they do not fit, has two bytes per weight, with
 * sums of their own.
 */
#ifndef PQ_AMX_GEMM_TILE_H
#define PQ_AMX_GEMM_TILE_H

#include "../x86_avx512vnni/vectors.h"

#include "../templates/x86/gemm_tile.h"

/* The scratch memory: a slice of some panels, and the sums of some tokens with them. A panel's slice is 8 groups
 * of 256 columns with two bytes per weight, or 12 with one. */
enum {
    PQ_AMX_PANELS = 8,
    PQ_AMX_PANEL = 66048, /* bytes of a slice */
    PQ_AMX_BATCH = 512,   /* tokens */
    PQ_AMX_SCRATCH = PQ_AMX_PANELS * PQ_AMX_PANEL +
        PQ_AMX_BATCH * PQ_AMX_PANELS * 16 * (int)sizeof(float)
};

enum {
    PQ_AMX_TOKENS = 16,    /* of a tile */
    PQ_AMX_BLOCKS = 8,     /* of a group, 32 columns each */
    PQ_AMX_QUANTS = 512,   /* bytes of one block of a panel */
    PQ_AMX_FEW_TOKENS = 32 /* fewer are for AVX-512: unpacking would take longer than it saves */
};

/* The scales of a group of all rows; they follow its quants. Q6_K has no more than d. */
typedef struct pq_amx_scales {
    pq_vec d, dmin;               /* of a super-block */
    pq_vec factor[PQ_AMX_BLOCKS]; /* of the blocks, or of a super-block's sub-blocks of 32 */
    pq_vec min[PQ_AMX_BLOCKS];    /* Q2_K: the minima of both 16s, as 16-bit integers */
} pq_amx_scales;

enum {
    PQ_AMX_BYTES = PQ_AMX_BLOCKS * PQ_AMX_QUANTS, /* one for each weight of a group */
    PQ_AMX_UNPACKED = PQ_AMX_BYTES + sizeof(pq_amx_scales),
    PQ_AMX_UNPACKED_TWICE = 2 * PQ_AMX_BYTES + sizeof(pq_vec)
};

/* A weight of two bytes is 2^PQ_AMX_HIGH * the first + the second, -64 .. 63. */
enum { PQ_AMX_HIGH = 7 };

/* The sums of a group: [panel, or byte][block][token][row]. */
typedef struct pq_amx_sums {
    _Alignas(64) int32_t at[2][PQ_AMX_BLOCKS][PQ_AMX_TOKENS][PQ_LANES];
} pq_amx_sums;

/* The operands of some tokens and two panels that are neighbors. The arrays of activations begin at the first
 * token. */
typedef struct pq_amx_run {
    const uint8_t *panel[2]; /* unpacked */
    size_t blocks;           /* of 32 columns */
    size_t tokens;           /* of a tile */
    const int8_t *q;
    const float *d, *s;
    const int16_t *sums;
    size_t cols; /* from token to token, as in pq_acts */
    /* (tokens, PQ_AMX_PANELS * PQ_LANES) sums of the columns before, or NULL */
    const float *before;
    float *y; /* of the first panel's first row */
    size_t y_stride;
    size_t rows[2]; /* of each panel that are to be written; 0: it is there to fill the pair */
} pq_amx_run;

/* One type's kernels. `blocks` are of 32 columns. */
typedef struct pq_amx_kernels {
    void (*unpack)(const uint8_t *panel, size_t blocks, uint8_t *out);
    size_t unpacked; /* bytes of a group */
    void (*run)(const pq_amx_run *run);
    pq_gemm_fn few_tokens;
} pq_amx_kernels;

void pq_gemm_by_tiles_amx(const pq_amx_kernels *kernels, const pq_matrix *w, size_t panel0,
                          size_t panel1, const pq_acts *x, size_t token0, size_t token1, float *y,
                          size_t y_stride, void *scratch);

#define PQ_AMX_GEMM(name) PQ_GEMM_HEAD(pq_gemm_##name##_amx)
PQ_DECLARE_QUANTIZED_GEMMS(amx);
PQ_DECLARE_QUANTIZED_GEMMS(avx512vnni); /* for few tokens */

/* Defines gemm_<name> from a file's templates run() and unpack(). */
#define PQ_AMX_TYPE(name, type)                                                                    \
    static void name##_run(const pq_amx_run *a) {                                                  \
        run(type, a);                                                                              \
    }                                                                                              \
    static void name##_unpack(const uint8_t *panel, size_t blocks, uint8_t *out) {                 \
        unpack(type, panel, blocks, out);                                                          \
    }                                                                                              \
    PQ_AMX_GEMM(name) {                                                                            \
        static const pq_amx_kernels kernels = {name##_unpack, unpacked_bytes(type), name##_run,    \
                                               PQ_NAME(gemm_##name)};                              \
        pq_gemm_by_tiles_amx(&kernels, w, panel0, panel1, x, token0, token1, y, y_stride,          \
                             scratch);                                                             \
    }

/* ----------------------------------------------------------------------------------- the pieces of a run */

/* What is to be scaled: the sums of a group, and the activations' scales of its first column. */
typedef struct pq_amx_group {
    const pq_amx_sums *sums;
    const pq_amx_scales *scales;
    size_t panel;
    size_t blocks; /* 8; fewer at the end of rows that are no multiple of 256 long */
    const float *d, *s;
    const int16_t *act_sums;
    size_t cols;
} pq_amx_group;

/* One block of a group, 16 tokens times both panels, or both bytes of one, in two halves. The numbers of tiles
 * must be constants: activations, and the sums of both. */
#define PQ_AMX_MULTIPLY(acts, sum0, sum1, b)                                                       \
    _tile_loadd(acts, q + (b) * 32, (long long)cols);                                              \
    _tile_loadd(1, quants[0] + (b) * PQ_AMX_QUANTS, PQ_VECTOR_BYTES);                              \
    _tile_zero(sum0);                                                                              \
    _tile_dpbssd(sum0, acts, 1);                                                                   \
    _tile_loadd(2, quants[1] + (b) * PQ_AMX_QUANTS, PQ_VECTOR_BYTES);                              \
    _tile_zero(sum1);                                                                              \
    _tile_dpbssd(sum1, acts, 2);
#define PQ_AMX_STORE(sum0, sum1, b)                                                                \
    _tile_stored(sum0, sums->at[0][b], PQ_VECTOR_BYTES);                                           \
    _tile_stored(sum1, sums->at[1][b], PQ_VECTOR_BYTES);

/* A group, 16 tokens times two arrays of quants. A product takes 52 cycles and tiles are not renamed, so a block's sums
 * are stored only when the next block's products, in other tiles, have begun. */
PQ_INLINE void pq_amx_multiply(const int8_t *q, size_t cols, const uint8_t *const quants[2],
                               size_t blocks, pq_amx_sums *sums) {
    PQ_AMX_MULTIPLY(0, 4, 5, 0)
    for (size_t b = 0; b + 1 < blocks; b += 2) {
        PQ_AMX_MULTIPLY(3, 6, 7, b + 1)
        PQ_AMX_STORE(4, 5, b)
        if (b + 2 < blocks) {
            PQ_AMX_MULTIPLY(0, 4, 5, b + 2)
        }
        PQ_AMX_STORE(6, 7, b + 1)
    }
    if (blocks % 2) {
        PQ_AMX_STORE(4, 5, blocks - 1)
    }
}

PQ_INLINE pq_vec pq_amx_sum(const pq_amx_sums *sums, size_t panel, size_t block, size_t token) {
    return pq_to_float(pq_load_ints(sums->at[panel][block][token]));
}

PQ_INLINE void pq_amx_load(const pq_amx_run *a, pq_vec (*acc)[PQ_AMX_TOKENS]) {
    for (size_t p = 0; p < 2; p++) {
        for (size_t t = 0; t < a->tokens; t++)
            acc[p][t] =
                a->before ? v_load(a->before + (t * PQ_AMX_PANELS + p) * PQ_LANES) : v_all(0.0f);
    }
}

/* The lines of y come while the run multiplies: stores would wait for them. */
PQ_INLINE void pq_amx_ask_for_results(const pq_amx_run *a) {
    for (size_t p = 0; p < 2 && a->rows[p] > 0; p++) {
        for (size_t t = 0; t < a->tokens; t++)
            _mm_prefetch((const char *)(a->y + t * a->y_stride + p * PQ_LANES), _MM_HINT_T0);
    }
}

PQ_INLINE void pq_amx_store(const pq_amx_run *a, pq_vec (*acc)[PQ_AMX_TOKENS]) {
    for (size_t p = 0; p < 2; p++) {
        if (a->rows[p] == 0)
            continue;
        for (size_t t = 0; t < a->tokens; t++)
            v_store_first(a->y + t * a->y_stride + p * PQ_LANES, a->rows[p], acc[p][t]);
    }
}

#endif
