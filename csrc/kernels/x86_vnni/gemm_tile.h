/* gemm_tile.h - what the quantized matrix kernels with vpdpbusd share: a tile is one panel of rows
 * times a few tokens.
 *
 * The files of this folder are templates for several widths of vectors. A folder that uses them
 * includes its own vectors.h before, which has the vectors' operations, PQ_LANES, PQ_MAX_TILE and
 * PQ_NAME.
 *
 * Lanes are rows. A vector of weights holds 4 columns of all rows of a panel (pack.c), the same 4
 * columns of a token are 4 bytes broadcast from memory, and vpdpbusd adds the four products to a
 * 32-bit sum; nothing is ever added across lanes, and nothing can overflow. The instruction wants
 * unsigned weights: signed ones are offset by 128, and a sum begins with -offset times the sum of
 * its activations.
 *
 * Few tokens multiply the packed panel as it streams in. For many, panels are first unpacked to
 * bytes and ready scales in scratch memory, as many as stay in the second-level cache, and then
 * meet all tokens.
 */
#ifndef PQ_VNNI_GEMM_TILE_H
#define PQ_VNNI_GEMM_TILE_H

#include "../unpacked.h"

#if defined(_MSC_VER)
#define PQ_UNROLL
#elif defined(__clang__)
#define PQ_UNROLL _Pragma("clang loop unroll(full)")
#else
#define PQ_UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    PQ_VECTOR_BYTES = 4 * PQ_LANES,
    /* Up to so many tokens multiply packed panels: where unpacking is cheap, where it is not. */
    PQ_DIRECT_CHEAP = 4 * PQ_MAX_TILE,
    PQ_DIRECT_COSTLY = PQ_MAX_TILE,
    PQ_EACH_MOST = 8 /* the length of arrays that PQ_EACH goes through */
};

/* PQ_IQ4_VALUES + 128 */
#define PQ_IQ4_UNSIGNED {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241}

/* Repeats statements for t = 0 .. n - 1, n <= PQ_EACH_MOST, with `t` a constant each time. (Indexed
 * by the variable of a loop that is unrolled later, an array of vectors stays in memory with gcc.)
 */
#define PQ_EACH(t, n, ...)                                                                         \
    do {                                                                                           \
        PQ_ONCE(t, n, 0, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 1, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 2, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 3, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 4, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 5, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 6, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 7, __VA_ARGS__)                                                              \
    } while (0)
#define PQ_ONCE(t, n, value, ...)                                                                  \
    if ((n) > value) {                                                                             \
        enum { t = value };                                                                        \
        __VA_ARGS__                                                                                \
    }

/* Asks for what comes 4 KB behind the next `bytes` of a packed panel. The members of a super-block
 * are not read in their order, and the processor does not foresee such a stream by itself. Into the
 * second-level cache, which waits for more lines at a time than the first: benchmarks/PREDICTIONS.md. */
PQ_INLINE void pq_prefetch_stream(const uint8_t *packed, const size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64)
        _mm_prefetch((const char *)packed + 4096 + at, _MM_HINT_T1);
}

/* The operands of one tile. The arrays of activations begin at the tile's first token. */
typedef struct pq_vnni_tile {
    const uint8_t *panel; /* packed or unpacked */
    size_t blocks;
    const int8_t *q;
    const float *d, *s;
    const int16_t *sums;
    size_t cols; /* from token to token: of q; a 32nd of it: of d and s; a 16th: of sums */
    float *y;    /* of the panel's first row */
    size_t y_stride;
    size_t rows; /* of the panel that are real, at least 1 */
} pq_vnni_tile;

typedef void (*pq_vnni_tile_fn)(const pq_vnni_tile *tile);

/* The kernels of one type, by number of tokens - 1. */
typedef struct pq_vnni_tiles {
    pq_vnni_tile_fn direct[PQ_MAX_TILE];
    pq_vnni_tile_fn unpacked[PQ_MAX_TILE];
    void (*unpack)(const uint8_t *panel, size_t blocks, uint8_t *out);
    size_t unpacked_block; /* bytes of one unpacked block of all rows */
    size_t direct_tokens;  /* up to so many tokens the packed panel is used */
} pq_vnni_tiles;

/* A gemm (pq_gemm_fn, with the kernels in front) of a quantized type: gemm_driver.h. */
void PQ_NAME(gemm_by_tiles)(const pq_vnni_tiles *kernels, const pq_matrix *w, size_t panel0,
                            size_t panel1, const pq_acts *x, size_t token0, size_t token1, float *y,
                            size_t y_stride, void *scratch);

/* ---------------------------------------------------------------------------------- instances */

/* A pq_gemm_fn of the folder that includes this. */
#define PQ_GEMM(name) PQ_GEMM_HEAD(PQ_NAME(gemm_##name))
PQ_GEMM(q4_0);
PQ_GEMM(q4_1);
PQ_GEMM(q5_0);
PQ_GEMM(q5_1);
PQ_GEMM(q8_0);
PQ_GEMM(iq4_nl);
PQ_GEMM(q2_k);
PQ_GEMM(q3_k);
PQ_GEMM(q4_k);
PQ_GEMM(q5_k);
PQ_GEMM(q6_k);
PQ_GEMM(iq4_xs);

/* The gemms of a table; those of float types are functions of `floats`. */
#define PQ_GEMM_TABLE(floats)                                                                      \
    {                                                                                              \
        [PQ_F32] = pq_gemm_f32_##floats,    [PQ_F16] = pq_gemm_f16_##floats,                       \
        [PQ_BF16] = pq_gemm_bf16_##floats,  [PQ_Q4_0] = PQ_NAME(gemm_q4_0),                        \
        [PQ_Q4_1] = PQ_NAME(gemm_q4_1),     [PQ_Q5_0] = PQ_NAME(gemm_q5_0),                        \
        [PQ_Q5_1] = PQ_NAME(gemm_q5_1),     [PQ_Q8_0] = PQ_NAME(gemm_q8_0),                        \
        [PQ_Q2_K] = PQ_NAME(gemm_q2_k),     [PQ_Q3_K] = PQ_NAME(gemm_q3_k),                        \
        [PQ_Q4_K] = PQ_NAME(gemm_q4_k),     [PQ_Q5_K] = PQ_NAME(gemm_q5_k),                        \
        [PQ_Q6_K] = PQ_NAME(gemm_q6_k),     [PQ_IQ4_NL] = PQ_NAME(gemm_iq4_nl),                    \
        [PQ_IQ4_XS] = PQ_NAME(gemm_iq4_xs),                                                        \
    }

/* Defines gemm_<name> of a family, block or super, from its templates <family>_tile() and <family>_unpack() and its
 * type <family>_unpacked. `tokens`: up to so many the packed panel is multiplied as it is. */
#define PQ_TILE(family, name, type, n)                                                             \
    static void name##_direct_##n(const pq_vnni_tile *a) {                                         \
        family##_tile(type, 0, n, a);                                                              \
    }                                                                                              \
    static void name##_unpacked_##n(const pq_vnni_tile *a) {                                       \
        family##_tile(type, 1, n, a);                                                              \
    }

#if PQ_MAX_TILE == 8
#define PQ_LARGE_TILES(family, name, type)                                                         \
    PQ_TILE(family, name, type, 7) PQ_TILE(family, name, type, 8)
#define PQ_TILE_NAMES(name)                                                                        \
    name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8
#elif PQ_MAX_TILE == 6
#define PQ_LARGE_TILES(family, name, type)
#define PQ_TILE_NAMES(name) name##_1, name##_2, name##_3, name##_4, name##_5, name##_6
#else
#error "tiles of 6 or 8 tokens"
#endif

#define PQ_TILES(family, name, type, tokens)                                                       \
    PQ_TILE(family, name, type, 1)                                                                 \
    PQ_TILE(family, name, type, 2)                                                                 \
    PQ_TILE(family, name, type, 3)                                                                 \
    PQ_TILE(family, name, type, 4)                                                                 \
    PQ_TILE(family, name, type, 5)                                                                 \
    PQ_TILE(family, name, type, 6)                                                                 \
    PQ_LARGE_TILES(family, name, type)                                                             \
    static void name##_unpack(const uint8_t *panel, size_t blocks, uint8_t *out) {                 \
        family##_unpack(type, panel, blocks, out);                                                 \
    }                                                                                              \
    PQ_GEMM(name) {                                                                                \
        static const pq_vnni_tiles kernels = {                                                     \
            {PQ_TILE_NAMES(name##_direct)},                                                        \
            {PQ_TILE_NAMES(name##_unpacked)},                                                      \
            name##_unpack,                                                                         \
            sizeof(family##_unpacked),                                                             \
            tokens,                                                                                \
        };                                                                                         \
        PQ_NAME(gemm_by_tiles)                                                                     \
        (&kernels, w, panel0, panel1, x, token0, token1, y, y_stride, scratch);                    \
    }

#endif
