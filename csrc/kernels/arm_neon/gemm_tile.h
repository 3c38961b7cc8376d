/* gemm_tile.h - what the matrix kernels of the Arm folders have in common: tiles, and how a matrix
 * is cut into them.
 *
 * A tile is one panel of 8 rows times 1 to PQ_MAX_TILE tokens over all columns. A panel comes in
 * units of 4 columns (pack.c), so a vector of 16 bytes is 4 columns of 4 rows, and what is added up
 * in a 32-bit lane belongs to one row; a panel is two such vectors side by side, the lower and the
 * upper rows. Weights are made signed as they are unpacked, offset and all, since Arm multiplies
 * signed bytes by signed bytes.
 *
 * Few tokens multiply the packed panel as it streams in. For many, panels are first unpacked to
 * 8-bit quants and ready scales in scratch memory, as many as stay in the second-level cache, and
 * then meet all tokens.
 */
#ifndef PQ_NEON_GEMM_TILE_H
#define PQ_NEON_GEMM_TILE_H

#include "../templates/table.h"
#include "../unpacked.h"
#include "vectors.h"

/* HALVES: the vectors that a panel is wide. Four tokens leave room for two vectors of weights and
 * the intermediate sums among 32 registers. */
enum { PQ_HALVES = 2, PQ_MAX_TILE = 4 };

/* More tokens than this are worth unpacking a panel for: at most two tiles read it packed. */
enum { PQ_DIRECT_TOKENS = 2 * PQ_MAX_TILE };

/* Repeats statements for t = 0 .. n - 1, n <= 4, with `t` a constant each time: lane numbers must be
 * constants, and an array of vectors then becomes registers. */
#define PQ_EACH(t, n, ...)                                                                         \
    do {                                                                                           \
        PQ_ONCE(t, n, 0, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 1, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 2, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 3, __VA_ARGS__)                                                              \
    } while (0)
#define PQ_ONCE(t, n, value, ...)                                                                  \
    if ((n) > value) {                                                                             \
        enum { t = value };                                                                        \
        __VA_ARGS__                                                                                \
    }

/* The operands of one tile. The arrays of activations begin at the tile's first token. */
typedef struct pq_tile {
    const uint8_t *panel; /* packed or unpacked */
    size_t blocks;
    const int8_t *q;
    const float *d, *s;
    const int16_t *sums;
    size_t cols; /* from token to token in q; in d and s a 32nd of it, in sums a 16th */
    float *y;    /* of the panel's first row */
    size_t y_stride;
    size_t rows; /* of the panel that are real, 1 .. 8 */
} pq_tile;

typedef void (*pq_tile_fn)(const pq_tile *tile);

/* The kernels of one type, by number of tokens - 1. */
typedef struct pq_tiles {
    pq_tile_fn direct[PQ_MAX_TILE];
    pq_tile_fn unpacked[PQ_MAX_TILE];
    void (*unpack)(const uint8_t *panel, size_t blocks, uint8_t *out);
    size_t unpacked_block; /* bytes of one unpacked block of 8 rows */
} pq_tiles;

/* A gemm (pq_gemm_fn, with the kernels in front) of a quantized type. */
void pq_gemm_by_tiles_arm(const pq_tiles *kernels, const pq_matrix *w, size_t panel0, size_t panel1,
                          const pq_acts *x, size_t token0, size_t token1, float *y, size_t y_stride,
                          void *scratch);

/* 16 activations, loaded now: gcc otherwise loads every lane by itself, and mixes the work of all
 * rows and columns of a super-block so thoroughly that half of the instructions are spills. */
PQ_INLINE int8x16_t pq_load_activations(const int8_t *q) {
    int8x16_t x = vld1q_s8(q);
#if defined(__GNUC__)
    __asm__ volatile("" : "+w"(x) : : "memory");
#endif
    return x;
}

/* One token's results: 8 rows, or what is left of them. */
PQ_INLINE void pq_store_rows(float *y, size_t rows, const float32x4_t acc[PQ_HALVES]) {
    if (rows == PQ_LANES) {
        vst1q_f32(y, acc[0]);
        vst1q_f32(y + 4, acc[1]);
    } else {
        float all[PQ_LANES];
        vst1q_f32(all, acc[0]);
        vst1q_f32(all + 4, acc[1]);
        memcpy(y, all, rows * sizeof *y);
    }
}

/* A pq_gemm_fn of instruction set `isa`. */
#define PQ_GEMM(name, isa) PQ_GEMM_HEAD(pq_gemm_##name##_##isa)

/* Defines pq_gemm_<name>_<isa> of a family, block or super, from its templates <family>_tile() and <family>_unpack()
 * and its type <family>_unpacked. */
#define PQ_TILE(family, name, type, unpacked, n)                                                   \
    static void name##_##unpacked##_##n(const pq_tile *a) {                                        \
        family##_tile(type, unpacked, n, a);                                                       \
    }

#define PQ_TILES(family, name, type, isa)                                                          \
    PQ_TILE(family, name, type, 0, 1)                                                              \
    PQ_TILE(family, name, type, 0, 2)                                                              \
    PQ_TILE(family, name, type, 0, 3)                                                              \
    PQ_TILE(family, name, type, 0, 4)                                                              \
    PQ_TILE(family, name, type, 1, 1)                                                              \
    PQ_TILE(family, name, type, 1, 2)                                                              \
    PQ_TILE(family, name, type, 1, 3)                                                              \
    PQ_TILE(family, name, type, 1, 4)                                                              \
    static void name##_unpack(const uint8_t *panel, size_t blocks, uint8_t *out) {                 \
        family##_unpack(type, panel, blocks, out);                                                 \
    }                                                                                              \
    PQ_GEMM(name, isa) {                                                                           \
        static const pq_tiles kernels = {{name##_0_1, name##_0_2, name##_0_3, name##_0_4},         \
                                         {name##_1_1, name##_1_2, name##_1_3, name##_1_4},         \
                                         name##_unpack,                                            \
                                         sizeof(family##_unpacked)};                               \
        pq_gemm_by_tiles_arm(&kernels, w, panel0, panel1, x, token0, token1, y, y_stride,          \
                             scratch);                                                             \
    }

#endif
