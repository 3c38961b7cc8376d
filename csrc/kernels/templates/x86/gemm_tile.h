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
#ifndef PQ_X86_GEMM_TILE_H
#define PQ_X86_GEMM_TILE_H

#include "../table.h"
#include "../unroll.h"
#include "../../unpacked.h"

enum {
    PQ_VECTOR_BYTES = 4 * PQ_LANES,
    /* Up to so many tokens multiply packed panels: where unpacking is cheap, where it is not. */
    PQ_DIRECT_CHEAP = 4 * PQ_MAX_TILE,
    PQ_DIRECT_COSTLY = PQ_MAX_TILE
};

/* PQ_IQ4_VALUES + 128 */
#define PQ_IQ4_UNSIGNED {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241}

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
    pq_vnni_tile_fn direct[PQ_EACH_MOST];
    pq_vnni_tile_fn unpacked[PQ_EACH_MOST];
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

/* Defines gemm_<name> of a family, block or super, from its templates <family>_tile() and <family>_unpack() and its
 * type <family>_unpacked. `tokens`: up to so many the packed panel is multiplied as it is. */
#define PQ_TILE(family, name, type, n)                                                             \
    static void name##_direct_##n(const pq_vnni_tile *a) {                                         \
        if (n <= PQ_MAX_TILE)                                                                      \
            family##_tile(type, 0, PQ_AT_MOST(n, PQ_MAX_TILE), a);                                 \
    }                                                                                              \
    static void name##_unpacked_##n(const pq_vnni_tile *a) {                                       \
        if (n <= PQ_MAX_TILE)                                                                      \
            family##_tile(type, 1, PQ_AT_MOST(n, PQ_MAX_TILE), a);                                 \
    }
#define PQ_BLOCK_TILE(name, type, n) PQ_TILE(block, name, type, n)
#define PQ_SUPER_TILE(name, type, n) PQ_TILE(super, name, type, n)

#define PQ_TILES(family, define, name, type, tokens)                                               \
    PQ_FOR_8(define, name, type)                                                                   \
    static void name##_unpack(const uint8_t *panel, size_t blocks, uint8_t *out) {                 \
        family##_unpack(type, panel, blocks, out);                                                 \
    }                                                                                              \
    PQ_GEMM(name) {                                                                                \
        static const pq_vnni_tiles kernels = {                                                     \
            {PQ_NAMES_8(name##_direct)},                                                           \
            {PQ_NAMES_8(name##_unpacked)},                                                         \
            name##_unpack,                                                                         \
            sizeof(family##_unpacked),                                                             \
            tokens,                                                                                \
        };                                                                                         \
        PQ_NAME(gemm_by_tiles)                                                                     \
        (&kernels, w, panel0, panel1, x, token0, token1, y, y_stride, scratch);                    \
    }

#endif
