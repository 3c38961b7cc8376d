/* int8_ceiling.h - loops of int8 products and nothing else, one for each instruction set, for measuring
 * what no matrix product can exceed. See int8_ceiling.c.
 */
#ifndef PQ_INT8_CEILING_H
#define PQ_INT8_CEILING_H

#include <stddef.h>
#include <stdint.h>

/* The operands fit the first-level cache; sums are as many as the latency of the products needs. */
enum { PQ_CEILING_SUMS = 12, PQ_CEILING_BYTES = PQ_CEILING_SUMS * 64 * 8 };

/* Multiplies all of `operands` (PQ_CEILING_BYTES of small numbers, 64-byte aligned) `rounds` times with a
 * vector that stays in its register. Adds something of every sum to *sink, so that none can be left out.
 * Returns the number of products of one round. */
typedef size_t (*pq_int8_products_fn)(const int8_t *operands, size_t rounds, int32_t *sink);

size_t pq_int8_products_avx2(const int8_t *operands, size_t rounds, int32_t *sink);
size_t pq_int8_products_avxvnni(const int8_t *operands, size_t rounds, int32_t *sink);
size_t pq_int8_products_avx512vnni(const int8_t *operands, size_t rounds, int32_t *sink);
size_t pq_int8_products_amx(const int8_t *operands, size_t rounds, int32_t *sink);
size_t pq_int8_products_neon(const int8_t *operands, size_t rounds, int32_t *sink);
size_t pq_int8_products_dotprod(const int8_t *operands, size_t rounds, int32_t *sink);
size_t pq_int8_products_i8mm(const int8_t *operands, size_t rounds, int32_t *sink);

#endif
