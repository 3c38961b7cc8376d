/* gemm_tile.h - what the matrix kernels of this folder have in common: tiles, and how a matrix is
 * cut into them.
 *
 * A tile is one panel of 8 rows times 1 to PQ_MAX_TILE tokens over all columns. Rows are the 8
 * lanes of a vector: 32 bytes of weights are 4 columns of 8 rows (pack.c), the same 4 columns of a
 * token are 4 bytes broadcast from memory, and vpmaddubsw multiplies them; nothing is ever added
 * across lanes. Its 16-bit sums are added up while they cannot overflow (the chain length of a
 * type), then widened to 32 bits by vpmaddwd, which multiplies by the sub-block's scale on the way.
 *
 * Few tokens multiply the packed panel as it streams in. For many, panels are first unpacked to
 * 8-bit quants and ready scales in scratch memory, as many as stay in the second-level cache, and
 * then meet all tokens.
 */
#ifndef PQ_AVX2_GEMM_TILE_H
#define PQ_AVX2_GEMM_TILE_H

#include "../templates/table.h"
#include "../unpacked.h"
#include "vectors.h"

/* Tokens of a tile, at most: six share the unpacking of packed quants; of unpacked ones, four
 * are as fast. */
enum { PQ_MAX_TILE = 6, PQ_MAX_UNPACKED_TILE = 4 };

/* Repeats statements for t = 0 .. n - 1, n <= 6, with `t` a constant each time. (Indexed by the
 * variable of a loop that is unrolled later, an array of vectors stays in memory with gcc.) */
#define PQ_EACH(t, n, ...)                                                                         \
    do {                                                                                           \
        PQ_ONCE(t, n, 0, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 1, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 2, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 3, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 4, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 5, __VA_ARGS__)                                                              \
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
    pq_tile_fn unpacked[PQ_MAX_UNPACKED_TILE];
    void (*unpack)(const uint8_t *panel, size_t blocks, uint8_t *out);
    size_t unpacked_block; /* bytes of one unpacked block of 8 rows */
    size_t direct_tokens;  /* up to so many tokens the packed panel is used */
} pq_tiles;

/* A gemm (pq_gemm_fn, with the kernels in front) of a quantized type. */
void pq_gemm_by_tiles(const pq_tiles *kernels, const pq_matrix *w, size_t panel0, size_t panel1,
                      const pq_acts *x, size_t token0, size_t token1, float *y, size_t y_stride,
                      void *scratch);

/* Asks for what comes 4 KB behind the next `bytes` of a packed panel, whose members are not read in their order: the
 * processor does not foresee such a stream by itself. Into the second-level cache, which waits for more lines at a
 * time than the first: benchmarks/PREDICTIONS.md. */
PQ_INLINE void pq_prefetch_stream(const uint8_t *packed, const size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64)
        _mm_prefetch((const char *)packed + 4096 + at, _MM_HINT_T1);
}

/* 4 neighboring activations, or two neighboring sums, in every lane. */
PQ_INLINE __m256i pq_broadcast4(const void *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
}

PQ_INLINE __m256i pq_load_32(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

/* x, opaque to the optimizer: gcc otherwise turns a chain of integer additions into a tree,
 * whose leaves do not fit the registers. */
PQ_INLINE __m256i pq_in_order(__m256i x) {
#if defined(__GNUC__)
    __asm__("" : "+x"(x));
#endif
    return x;
}

/* A pq_gemm_fn of this folder. */
#define PQ_GEMM(name) PQ_GEMM_HEAD(pq_gemm_##name##_avx2)

/* Defines pq_gemm_<name>_avx2 from a file's templates tile() and unpack() and its
 * UNPACKED_BLOCK. */
#define PQ_TILE(name, type, unpacked, n)                                                           \
    static void name##_##unpacked##_##n(const pq_tile *a) {                                        \
        tile(type, unpacked, n, a);                                                                \
    }

#define PQ_TILES(name, type, tokens)                                                               \
    PQ_TILE(name, type, 0, 1)                                                                      \
    PQ_TILE(name, type, 0, 2)                                                                      \
    PQ_TILE(name, type, 0, 3)                                                                      \
    PQ_TILE(name, type, 0, 4)                                                                      \
    PQ_TILE(name, type, 0, 5)                                                                      \
    PQ_TILE(name, type, 0, 6)                                                                      \
    PQ_TILE(name, type, 1, 1)                                                                      \
    PQ_TILE(name, type, 1, 2)                                                                      \
    PQ_TILE(name, type, 1, 3)                                                                      \
    PQ_TILE(name, type, 1, 4)                                                                      \
    static void name##_unpack(const uint8_t *panel, size_t blocks, uint8_t *out) {                 \
        unpack(type, panel, blocks, out);                                                          \
    }                                                                                              \
    PQ_GEMM(name) {                                                                                \
        static const pq_tiles kernels = {                                                          \
            {name##_0_1, name##_0_2, name##_0_3, name##_0_4, name##_0_5, name##_0_6},              \
            {name##_1_1, name##_1_2, name##_1_3, name##_1_4},                                      \
            name##_unpack,                                                                         \
            UNPACKED_BLOCK,                                                                        \
            tokens};                                                                               \
        pq_gemm_by_tiles(&kernels, w, panel0, panel1, x, token0, token1, y, y_stride, scratch);    \
    }

#endif
