/* int8_ceiling.c - as many products of int8 as there can be: tdpbssd, with four tiles of sums. */
#include <immintrin.h>

#include "../int8_ceiling.h"

enum { TILE_ROWS = 16, ROW_BYTES = 64, TILES = 6, TILE_BYTES = TILE_ROWS * ROW_BYTES };

/* The layout that ldtilecfg reads. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

size_t pq_int8_products_amx(const int8_t *operands, size_t rounds, int32_t *sink) {
    tile_config config = {.palette = 1};
    int32_t sums[TILE_ROWS * ROW_BYTES / 4];
    for (int tile = 0; tile < TILES; tile++) {
        config.row_bytes[tile] = ROW_BYTES;
        config.rows[tile] = TILE_ROWS;
    }
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, operands, ROW_BYTES);
    /* As in a product: each tile that is loaded multiplies two. */
    for (size_t round = 0; round < rounds; round++)
        for (int i = 0; i < PQ_CEILING_BYTES / TILE_BYTES; i += 2) {
            _tile_loadd(5, operands + (size_t)i * TILE_BYTES, ROW_BYTES);
            _tile_dpbssd(0, 4, 5);
            _tile_dpbssd(1, 5, 4);
            _tile_loadd(5, operands + (size_t)(i + 1) * TILE_BYTES, ROW_BYTES);
            _tile_dpbssd(2, 4, 5);
            _tile_dpbssd(3, 5, 4);
        }
    _tile_stored(0, sums, ROW_BYTES);
    *sink += sums[0];
    _tile_stored(1, sums, ROW_BYTES);
    *sink += sums[0];
    _tile_stored(2, sums, ROW_BYTES);
    *sink += sums[0];
    _tile_stored(3, sums, ROW_BYTES);
    *sink += sums[0];
    _tile_release();
    return (size_t)PQ_CEILING_BYTES / TILE_BYTES * 2 * TILE_ROWS * TILE_ROWS * ROW_BYTES;
}
