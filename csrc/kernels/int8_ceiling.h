/* int8_ceiling.h - loops of int8 products and nothing else, one for each instruction set, for measuring
 * what no matrix product can exceed. See int8_ceiling.c.
 */
#ifndef PQ_INT8_CEILING_H
#define PQ_INT8_CEILING_H

#include <stddef.h>
#include <stdint.h>

/* The operands fit the first-level cache; sums are as many as the latency of the products needs. */
enum { PQ_CEILING_SUMS = 12, PQ_CEILING_BYTES = PQ_CEILING_SUMS * 64 * 32 };

/* step(k) for each sum. Every sum is a variable of its own: an array that a loop goes through stays in memory with gcc,
 * and a store for each product is then what is measured. */
#define PQ_EACH_SUM(step)                                                                          \
    step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10)       \
        step(11)

/* What the optimizer must take for changed: a sum after each step, or it does several steps of all sums at once and keeps
 * them in memory after all; and the vector that stays, with memory, or it multiplies once for all rounds. */
#if defined(__GNUC__) && defined(__aarch64__)
#define PQ_CHANGED_SUM(x) __asm__ volatile("" : "+w"(x))
#define PQ_CHANGED(x) __asm__ volatile("" : "+w"(x) : : "memory")
#elif defined(__GNUC__)
#define PQ_CHANGED_SUM(x) __asm__ volatile("" : "+v"(x))
#define PQ_CHANGED(x) __asm__ volatile("" : "+v"(x) : : "memory")
#else
#define PQ_CHANGED_SUM(x) (void)(x)
#define PQ_CHANGED(x) (void)(x)
#endif

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
