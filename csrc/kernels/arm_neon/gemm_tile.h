/* gemm_tile.h - what the quantized products of the Arm folders have in common.
 *
 * A panel comes in units of 4 columns (pack.c), so a vector of 16 bytes is 4 columns of 4 rows, and what is added up
 * in a 32-bit lane belongs to one row; a panel is two such vectors side by side, the lower and the
 * upper rows. Weights are made signed as they are unpacked, offset and all, since Arm multiplies
 * signed bytes by signed bytes.
 *
 * The nests are Arm's own (gemm_block.h, gemm_super.h), over the tiles of all: those of templates/x86 have one vector per
 * panel and one broadcast per four columns, while 16 activations are loaded once here and then named by their lane.
 */
#ifndef PQ_NEON_GEMM_TILE_H
#define PQ_NEON_GEMM_TILE_H

#include "vectors.h"

/* Four tokens leave room for two vectors of weights and the intermediate sums among 32 registers. */
#define PQ_MAX_TILE 4
#include "../templates/gemm_tile.h"

/* HALVES: the vectors that a panel is wide. More than DIRECT tokens are worth unpacking a panel for: at most two tiles
 * read it packed. */
enum { PQ_HALVES = 2, PQ_DIRECT_TOKENS = 2 * PQ_MAX_TILE };

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

#endif
