/* dequantize.h - weights of any supported type as float32. */
#ifndef PQ_DEQUANTIZE_H
#define PQ_DEQUANTIZE_H

#include <stddef.h>
#include <stdint.h>

/* As pq_dequantize of pyqwen.h, for callers that have checked: the type is supported and n is a
 * multiple of its block. `src` need not be aligned. */
void pq_dequantize_row(uint32_t type, const uint8_t *src, size_t n, float *dst);

#endif
