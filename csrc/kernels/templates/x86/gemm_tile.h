/* gemm_tile.h - what the quantized products of the x86 folders share. The files of this folder are templates for several
 * widths of vectors, over the operations in vectors.h.
 *
 * Lanes are rows. A vector of weights holds 4 columns of all rows of a panel (pack.c), the same 4 columns of a token are
 * 4 bytes broadcast from memory, and one instruction multiplies them; nothing is ever added across lanes. What is
 * multiplied and added in which order until it is a float differs between the instructions: dot_bytes.h (vpdpbusd) and
 * x86_avx2/dot_chains.h (vpmaddubsw) are the hearts of gemm_block.h and gemm_super.h.
 */
#ifndef PQ_X86_GEMM_TILE_H
#define PQ_X86_GEMM_TILE_H

#include "../gemm_tile.h"

enum { PQ_VECTOR_BYTES = 4 * PQ_LANES };

/* Asks for what comes 4 KB behind the next `bytes` of a packed panel. The members of a super-block
 * are not read in their order, and the processor does not foresee such a stream by itself. Into the
 * second-level cache, which waits for more lines at a time than the first: benchmarks/PREDICTIONS.md. */
PQ_INLINE void pq_prefetch_stream(const uint8_t *packed, const size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64)
        _mm_prefetch((const char *)packed + 4096 + at, _MM_HINT_T1);
}

#endif
