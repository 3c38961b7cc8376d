/* pack.c - the interleaved layout of weight matrices.
 *
 * `lanes` rows make a panel. A panel holds, block after block, the same block of all its rows, and inside such a
 * group of blocks, member after member of the format (blocks.h), each cut into units that alternate between the rows:
 *
 *     panel  = [block 0 of all rows][block 1 of all rows]...
 *     group  = [member 0][member 1]...                            each at lanes * its offset in the block
 *     member = [unit 0 of row 0][unit 0 of row 1]...[unit 1 of row 0]...
 *
 * Quants come in units of 4 bytes: with 8 lanes one 32-byte vector holds, for 8 rows, 4 bytes that belong to the
 * same columns, and 4 broadcast bytes of activations multiply all of them; sums over columns then stay in their
 * lane. Numbers (f16, float32) are units by themselves. No byte is added, so a packed matrix is as large as the
 * file's, and it streams in one direction. The only thing inside a unit that moves: the fifth bits of Q5_0 and
 * Q5_1, bit 4 j + b of which becomes bit 8 b + j, above the quant that it belongs to.
 */
#include "kernels.h"

#include <string.h>

#include "../formats/format.h"
#include "interleave.h"
#include "unpacked.h"

/* Where a block has fifth bits to transpose; 0: nowhere. Single rows stay as in the file. */
static size_t fifth_bits(const pq_format *format, uint32_t lanes) {
    return lanes == 1 ? 0 : format->fifth_bits;
}

static void transpose_fifth_bits(uint8_t *unit) {
    uint8_t out[4] = {0};
    for (int j = 0; j < 8; j++)
        for (int b = 0; b < 4; b++)
            out[b] |= (uint8_t)((unit[j / 2] >> (4 * (j % 2) + b) & 1) << j);
    memcpy(unit, out, 4);
}

static void restore_fifth_bits(uint8_t *unit) {
    uint8_t out[4] = {0};
    for (int j = 0; j < 8; j++)
        for (int b = 0; b < 4; b++)
            out[j / 2] |= (uint8_t)((unit[b] >> j & 1) << (4 * (j % 2) + b));
    memcpy(unit, out, 4);
}

/* Constant sizes become single moves. */
static inline void copy_unit(uint8_t *dst, const uint8_t *src, size_t unit) {
    if (unit == 4)
        memcpy(dst, src, 4);
    else
        memcpy(dst, src, 2);
}

/* `units` units of each row, `row_step` bytes apart, alternating at `dst`; n_rows <= lanes. */
static inline void interleave_slowly(const uint8_t *rows, size_t row_step, size_t n_rows,
                                     uint32_t lanes, size_t units, size_t unit, uint8_t *dst) {
    for (size_t row = 0; row < n_rows; row++)
        for (size_t i = 0; i < units; i++)
            copy_unit(dst + (i * lanes + row) * unit, rows + row * row_step + i * unit, unit);
}

/* The same in squares, as far as there are rows and units that make one. */
static void interleave(const uint8_t *rows, size_t row_step, size_t n_rows, uint32_t lanes,
                       size_t units, size_t unit, uint8_t *dst) {
    const size_t side = 16 / unit, square = n_rows / side * side, whole = units / side * side;
    const size_t step = lanes * unit;
    for (size_t i = 0; i < whole; i += side)
        for (size_t row = 0; row < square; row += side) {
            const uint8_t *src = rows + row * row_step + i * unit;
            uint8_t *to = dst + i * step + row * unit;
            if (unit == 4)
                pq_interleave_4x4(src, row_step, to, step);
            else
                pq_interleave_8x8(src, row_step, to, step);
        }
    interleave_slowly(rows + whole * unit, row_step, square, lanes, units - whole, unit,
                      dst + whole * step);
    interleave_slowly(rows + square * row_step, row_step, n_rows - square, lanes, units, unit,
                      dst + square * unit);
}

static void unpack_block(const pq_format *format, uint32_t lanes, uint32_t lane,
                         const uint8_t *group, uint8_t *block) {
    for (const pq_member *m = format->members; m->bytes > 0; m++) {
        const uint8_t *src = group + (size_t)m->offset * lanes + (size_t)lane * m->unit;
        for (size_t i = 0; i < m->bytes; i += m->unit, src += (size_t)lanes * m->unit)
            copy_unit(block + m->offset + i, src, m->unit);
    }
    const size_t fifth = fifth_bits(format, lanes);
    if (fifth)
        restore_fifth_bits(block + fifth);
}

size_t pq_panel_bytes(uint32_t type, size_t cols, uint32_t lanes) {
    return cols / pq_type_block(type) * pq_type_bytes(type) * lanes;
}

void pq_pack_panel(uint32_t type, size_t cols, uint32_t lanes, const uint8_t *rows, size_t n_rows,
                   uint8_t *panel) {
    const pq_format *format = pq_type_format(type);
    const size_t blocks = cols / format->block, bytes = format->bytes;
    const size_t row_bytes = blocks * bytes, fifth = fifth_bits(format, lanes);
    if (n_rows < lanes)
        memset(panel, 0, row_bytes * lanes);
    if (format->block == 1) { /* single numbers: a row is as one long member */
        interleave(rows, row_bytes, n_rows, lanes, cols, bytes, panel);
        return;
    }
    for (size_t b = 0; b < blocks; b++, rows += bytes, panel += bytes * lanes) {
        for (const pq_member *m = format->members; m->bytes > 0; m++)
            interleave(rows + m->offset, row_bytes, n_rows, lanes, m->bytes / m->unit, m->unit,
                       panel + (size_t)m->offset * lanes);
        for (size_t row = 0; fifth && row < n_rows; row++)
            transpose_fifth_bits(panel + fifth * lanes + row * 4);
    }
}

void pq_unpack_row(const pq_matrix *w, size_t row, uint8_t *out) {
    const pq_format *format = pq_type_format(w->type);
    const size_t blocks = w->cols / format->block, bytes = format->bytes;
    const uint8_t *panel = w->data + row / w->lanes * w->panel_bytes;
    for (size_t b = 0; b < blocks; b++)
        unpack_block(format, w->lanes, (uint32_t)(row % w->lanes), panel + b * bytes * w->lanes,
                     out + b * bytes);
}

int pq_quantizes(uint32_t type) {
    return pq_type_family(type) != PQ_FAMILY_FLOAT;
}

/* The float panel of the exact kernels: they interleave up to 16 rows as they dequantize. */
enum { EXACT_ROWS = 16 };

size_t pq_gemm_scratch(const pq_kernels *kernels, const pq_matrix *w) {
    if (w->lanes == 1)
        return EXACT_ROWS * w->cols * sizeof(float);
    if (!pq_quantizes(w->type))
        return 0;
    const size_t bytes = pq_unpacked_scratch(w->cols, w->lanes);
    return bytes > kernels->least_scratch ? bytes : kernels->least_scratch;
}
