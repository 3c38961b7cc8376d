/* gemm_tile.h - how products of quantized types are cut, for all instruction sets: a tile is one panel of rows times a few
 * tokens, over all columns. A template: the file that includes it has included its vectors.h and says
 *   PQ_MAX_TILE           tokens of a tile, at most PQ_EACH_MOST: their sums and totals are to stay in registers
 *   PQ_MAX_UNPACKED_TILE  those of a tile with an unpacked panel; PQ_MAX_TILE if it is not defined
 *   PQ_PANELS             1 or 2: unpacked panels of a tile where there are so many; 1 if it is not defined
 *   PQ_GEMM_NAME(name)    of a product; PQ_NAME(gemm_<name>) if it is not defined
 *
 * Few tokens multiply the packed panel as it streams in. For many, panels are first unpacked to quants of one byte and
 * ready scales in scratch memory, as many as stay in the second-level cache, and then meet all tokens.
 */
#ifndef PQ_TEMPLATES_GEMM_TILE_H
#define PQ_TEMPLATES_GEMM_TILE_H

#include "../unpacked.h"
#include "table.h"
#include "types.h"
#include "unroll.h"

#ifndef PQ_MAX_UNPACKED_TILE
#define PQ_MAX_UNPACKED_TILE PQ_MAX_TILE
#endif
#ifndef PQ_PANELS
#define PQ_PANELS 1
#endif
#ifndef PQ_GEMM_NAME
#define PQ_GEMM_NAME(name) PQ_NAME(gemm_##name)
#endif

/* The operands of one tile. The arrays of activations begin at the tile's first token. */
typedef struct pq_tile {
    const uint8_t *panel; /* packed or unpacked; an unpacked one may have another behind it */
    size_t blocks;
    const int8_t *q;
    const float *d, *s;
    const int16_t *sums;
    size_t cols; /* from token to token: of q; a 32nd of it: of d and s; a 16th: of sums */
    float *y;    /* of the panel's first row */
    size_t y_stride;
    size_t rows; /* of the panel that are real, at least 1; of two panels, more than one has */
} pq_tile;

typedef void (*pq_tile_fn)(const pq_tile *tile);

/* The kernels of one type, by number of tokens - 1. */
typedef struct pq_tiles {
    pq_tile_fn direct[PQ_EACH_MOST];
    pq_tile_fn unpacked[PQ_EACH_MOST];
    pq_tile_fn doubled[PQ_EACH_MOST]; /* two unpacked panels, if PQ_PANELS is 2 */
    void (*unpack)(const uint8_t *panel, size_t blocks, uint8_t *out);
    size_t unpacked_block; /* bytes of one unpacked block of all rows */
    size_t direct_tokens;  /* up to so many tokens the packed panel is used */
} pq_tiles;

/* A gemm (pq_gemm_fn, with the kernels in front) of a quantized type: gemm_driver.h. */
void PQ_NAME(gemm_by_tiles)(const pq_tiles *kernels, const pq_matrix *w, size_t panel0,
                            size_t panel1, const pq_acts *x, size_t token0, size_t token1, float *y,
                            size_t y_stride, void *scratch);

/* ----------------------------------------------------------------------------------------- instances */

/* Defines the product `name` of a family, block or super, from its templates <family>_tile() and <family>_unpack() and its
 * type <family>_unpacked. `tokens`: up to so many the packed panel is multiplied as it is. */
#define PQ_TILE(family, name, type, n)                                                             \
    static void name##_direct_##n(const pq_tile *a) {                                              \
        if (n <= PQ_MAX_TILE)                                                                      \
            family##_tile(type, 0, 1, PQ_AT_MOST(n, PQ_MAX_TILE), a);                              \
    }                                                                                              \
    static void name##_unpacked_##n(const pq_tile *a) {                                            \
        if (n <= PQ_MAX_UNPACKED_TILE)                                                             \
            family##_tile(type, 1, 1, PQ_AT_MOST(n, PQ_MAX_UNPACKED_TILE), a);                     \
    }                                                                                              \
    static void name##_doubled_##n(const pq_tile *a) {                                             \
        if (PQ_PANELS == 2 && n <= PQ_MAX_UNPACKED_TILE)                                           \
            family##_tile(type, 1, PQ_PANELS, PQ_AT_MOST(n, PQ_MAX_UNPACKED_TILE), a);             \
    }
#define PQ_BLOCK_TILE(name, type, n) PQ_TILE(block, name, type, n)
#define PQ_SUPER_TILE(name, type, n) PQ_TILE(super, name, type, n)

#define PQ_TILES(family, define, name, type, tokens)                                               \
    PQ_FOR_EACH(define, name, type)                                                                \
    static void name##_unpack(const uint8_t *panel, size_t blocks, uint8_t *out) {                 \
        family##_unpack(type, panel, blocks, out);                                                 \
    }                                                                                              \
    PQ_GEMM_HEAD(PQ_GEMM_NAME(name)) {                                                             \
        static const pq_tiles kernels = {                                                          \
            {PQ_NAMES_EACH(name##_direct)},  {PQ_NAMES_EACH(name##_unpacked)},                     \
            {PQ_NAMES_EACH(name##_doubled)}, name##_unpack,                                        \
            sizeof(family##_unpacked),       tokens,                                               \
        };                                                                                         \
        PQ_NAME(gemm_by_tiles)                                                                     \
        (&kernels, w, panel0, panel1, x, token0, token1, y, y_stride, scratch);                    \
    }

#endif
