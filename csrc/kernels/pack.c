/* pack.c - the interleaved layout of weight matrices.
 *
 * `lanes` rows make a panel. A panel holds, block after block, the same block
 * of all its rows, and inside such a group of blocks, member after member of
 * the format (blocks.h), each cut into units that alternate between the rows:
 *
 *     panel  = [block 0 of all rows][block 1 of all rows]...
 *     group  = [member 0][member 1]...                                 at lanes
 * * its offset in the block member = [unit 0 of row 0][unit 0 of row 1]...[unit
 * 1 of row 0]...
 *
 * Quants come in units of 4 bytes: with 8 lanes one 32-byte vector holds, for 8
 * rows, 4 bytes that belong to the same columns, and 4 broadcast bytes of
 * activations multiply all of them; sums over columns then stay in their lane.
 * Numbers (f16, float32) are units by themselves. No byte is added, so a packed
 * matrix is as large as the file's, and it streams in one direction. The only
 * thing inside a unit that moves: the fifth bits of Q5_0 and Q5_1, bit 4 j + b
 * of which becomes bit 8 b + j, above the quant that it belongs to.
 */
#include "kernels.h"

#include <string.h>

#include "../quant/decode.h"
#include "unpacked.h"

typedef struct member {
    uint16_t offset, bytes, unit;
} member;

enum { MAX_MEMBERS = 5 };

/* In the order of blocks.h; a list ends with bytes == 0. */
static const member MEMBERS[PQ_TYPE_COUNT][MAX_MEMBERS] = {
    [PQ_F32] = {{0, 4, 4}},
    [PQ_F16] = {{0, 2, 2}},
    [PQ_BF16] = {{0, 2, 2}},
    [PQ_Q4_0] = {{0, 2, 2}, {2, 16, 4}},
    [PQ_Q4_1] = {{0, 2, 2}, {2, 2, 2}, {4, 16, 4}},
    [PQ_Q5_0] = {{0, 2, 2}, {2, 4, 4}, {6, 16, 4}},
    [PQ_Q5_1] = {{0, 2, 2}, {2, 2, 2}, {4, 4, 4}, {8, 16, 4}},
    [PQ_Q8_0] = {{0, 2, 2}, {2, 32, 4}},
    [PQ_IQ4_NL] = {{0, 2, 2}, {2, 16, 4}},
    [PQ_Q2_K] = {{0, 16, 4}, {16, 64, 4}, {80, 2, 2}, {82, 2, 2}},
    [PQ_Q3_K] = {{0, 32, 4}, {32, 64, 4}, {96, 12, 4}, {108, 2, 2}},
    [PQ_Q4_K] = {{0, 2, 2}, {2, 2, 2}, {4, 12, 4}, {16, 128, 4}},
    [PQ_Q5_K] = {{0, 2, 2}, {2, 2, 2}, {4, 12, 4}, {16, 32, 4}, {48, 128, 4}},
    [PQ_Q6_K] = {{0, 128, 4}, {128, 64, 4}, {192, 16, 4}, {208, 2, 2}},
    [PQ_IQ4_XS] = {{0, 2, 2}, {2, 2, 2}, {4, 4, 4}, {8, 128, 4}},
};

/* Where a block has fifth bits to transpose; 0: nowhere. Single rows stay as in the file. */
static size_t fifth_bits(uint32_t type, uint32_t lanes) {
    return lanes == 1 ? 0 : type == PQ_Q5_0 ? 2 : type == PQ_Q5_1 ? 4 : 0;
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

static void pack_block(uint32_t type, uint32_t lanes, uint32_t lane, const uint8_t *block,
                       uint8_t *group) {
    for (const member *m = MEMBERS[type]; m < MEMBERS[type] + MAX_MEMBERS && m->bytes > 0; m++) {
        uint8_t *dst = group + (size_t)m->offset * lanes + (size_t)lane * m->unit;
        for (size_t i = 0; i < m->bytes; i += m->unit, dst += (size_t)lanes * m->unit)
            copy_unit(dst, block + m->offset + i, m->unit);
    }
    const size_t fifth = fifth_bits(type, lanes);
    if (fifth)
        transpose_fifth_bits(group + fifth * lanes + (size_t)lane * 4);
}

/* The same for a whole panel of a type whose blocks are single numbers. */
static void pack_numbers(uint32_t lanes, const uint8_t *rows, size_t n_rows, size_t cols,
                         size_t bytes, uint8_t *panel) {
    for (size_t lane = 0; lane < n_rows; lane++)
        for (size_t k = 0; k < cols; k++)
            copy_unit(panel + (k * lanes + lane) * bytes, rows + (lane * cols + k) * bytes, bytes);
}

static void unpack_block(uint32_t type, uint32_t lanes, uint32_t lane, const uint8_t *group,
                         uint8_t *block) {
    for (const member *m = MEMBERS[type]; m < MEMBERS[type] + MAX_MEMBERS && m->bytes > 0; m++) {
        const uint8_t *src = group + (size_t)m->offset * lanes + (size_t)lane * m->unit;
        for (size_t i = 0; i < m->bytes; i += m->unit, src += (size_t)lanes * m->unit)
            copy_unit(block + m->offset + i, src, m->unit);
    }
    const size_t fifth = fifth_bits(type, lanes);
    if (fifth)
        restore_fifth_bits(block + fifth);
}

size_t pq_panel_bytes(uint32_t type, size_t cols, uint32_t lanes) {
    return cols / pq_type_block(type) * pq_type_bytes(type) * lanes;
}

void pq_pack_panel(uint32_t type, size_t cols, uint32_t lanes, const uint8_t *rows, size_t n_rows,
                   uint8_t *panel) {
    const size_t blocks = cols / pq_type_block(type), bytes = pq_type_bytes(type);
    const size_t row_bytes = blocks * bytes;
    if (n_rows < lanes)
        memset(panel, 0, row_bytes * lanes);
    if (pq_type_block(type) == 1) {
        pack_numbers(lanes, rows, n_rows, cols, bytes, panel);
        return;
    }
    for (size_t b = 0; b < blocks; b++)
        for (uint32_t lane = 0; lane < n_rows; lane++)
            pack_block(type, lanes, lane, rows + lane * row_bytes + b * bytes,
                       panel + b * bytes * lanes);
}

void pq_unpack_row(const pq_matrix *w, size_t row, uint8_t *out) {
    const size_t blocks = w->cols / pq_type_block(w->type), bytes = pq_type_bytes(w->type);
    const uint8_t *panel = w->data + row / w->lanes * w->panel_bytes;
    for (size_t b = 0; b < blocks; b++)
        unpack_block(w->type, w->lanes, (uint32_t)(row % w->lanes), panel + b * bytes * w->lanes,
                     out + b * bytes);
}

int pq_quantizes(uint32_t type) {
    return pq_type_family(type) != PQ_FAMILY_FLOAT;
}

/* The float panel of the exact kernels: they interleave up to 16 rows as they dequantize. */
enum { EXACT_ROWS = 16 };

size_t pq_gemm_scratch(const pq_matrix *w) {
    if (w->lanes == 1)
        return EXACT_ROWS * w->cols * sizeof(float);
    return pq_quantizes(w->type) ? pq_unpacked_scratch(w->cols, w->lanes) : 0;
}
