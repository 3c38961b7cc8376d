/* lanes.h - the contract of the block search: 16 groups of weights side by side, one in each lane of a vector.
 *
 * A group is what shares one scale: a block of 32, or a sub-block (of 16 or 32) of a super-block. Each lane goes
 * through the same operations in the same order whatever the vectors' width, and nothing is fused; so every
 * instruction set finds the same integers. lane_search.h and lane_blocks.h are the search, written over
 * the operations in vectors.h of each folder of kernels/; lanes_<folder>.c compiles it.
 */
#ifndef PQ_LANES_H
#define PQ_LANES_H

#include <stddef.h>
#include <stdint.h>

#include "../formats/format.h"
#include "../pyqwen_quantize.h"
#include "levels.h"

enum { PQ_GROUPS = 16, PQ_GROUP_MAX = 32 }; /* groups; weights of one */

/* `count` blocks of `type`, block b of 32 or 256 weights at x + b * x_stride, to the integers and scales
 * that represent them best. w + b * w_stride: how much each weight's squared error counts (> 0); NULL: all alike. */
typedef void (*pq_search_blocks_fn)(uint32_t type, const pq_levels *levels, const float *x,
                                    size_t x_stride, const float *w, size_t w_stride, size_t count,
                                    pq_decoded *out);

/* Columns of a matrix that are quantized together by GPTQ: lane_gptq.h. */
enum { PQ_GPTQ_COLS = 256 };

typedef struct pq_gptq_columns {
    uint32_t type;
    const pq_levels *levels;
    size_t cols;          /* at most PQ_GPTQ_COLS, whole blocks */
    const float *factor;  /* (cols, cols), its upper triangle is read */
    const float *weights; /* (cols) what the squared rounding of each column costs, > 0 */
} pq_gptq_columns;

/* Quantizes the panel's columns of up to 16 rows, x + r * x_stride. errors (rows, cols) receives what the columns
 * right of the panel are lowered by, out (16, blocks of a row) the integers and scales. */
typedef void (*pq_gptq_panel_fn)(const pq_gptq_columns *panel, const float *x, size_t x_stride,
                                 size_t rows, float *errors, pq_decoded *out);

/* The search as one instruction set compiles it. */
typedef struct pq_lane_search {
    pq_search_blocks_fn search_blocks;
    pq_gptq_panel_fn gptq_panel;
} pq_lane_search;

/* For an instruction set by name; NULL is the best, and PQ_ERR_ARGUMENT names those there are. */
pq_status pq_lane_search_select(const pq_lane_search **out, const char *isa, pq_error *err);

#endif
