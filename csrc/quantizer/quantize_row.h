/* quantize_row.h - a row of float32 weights to a tensor type. */
#ifndef PQ_QUANTIZE_ROW_H
#define PQ_QUANTIZE_ROW_H

#include <stddef.h>
#include <stdint.h>

#include "lanes.h"

/* What all rows of a tensor share. */
typedef struct pq_quantizer {
    uint32_t type;
    size_t cols;
    const float *importance; /* (cols), above 0; or NULL: all alike */
    pq_levels levels;
    signed char nearest[PQ_NEAREST];
    pq_search_blocks_fn search; /* of an instruction set; the caller sets it */
} pq_quantizer;

/* `type` is a supported one and cols a multiple of its block. The quantizer must not be moved after that. */
void pq_quantizer_init(pq_quantizer *out, uint32_t type, size_t cols, const float *importance);

/* The largest magnitude that the type can hold. */
float pq_quantizer_limit(uint32_t type);

/* x: (cols) within that limit; scratch: (cols); dst: the row's bytes. */
void pq_quantize_weight_row(const pq_quantizer *quantizer, const float *x, float *scratch,
                            uint8_t *dst);

#endif
