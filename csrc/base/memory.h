/* memory.h - aligned allocation, and one block of memory cut into arrays. */
#ifndef PQ_MEMORY_H
#define PQ_MEMORY_H

#include <stddef.h>
#include <stdint.h>

enum { PQ_ALIGN = 64 };

/* 64-byte aligned, zeroed or not; NULL if there is none. Freed by pq_aligned_free, which accepts NULL. */
void *pq_aligned_alloc(size_t bytes);
void *pq_aligned_calloc(size_t bytes);
void pq_aligned_free(void *p);

/* The same for megabytes that are streamed, or whose rows are far apart: from 2 MB on in huge pages where the
 * system has them, which saves most page faults and misses of the table of pages. Freed by pq_large_free with
 * the same size. */
void *pq_large_alloc(size_t bytes);
void *pq_large_calloc(size_t bytes);
void pq_large_free(void *p, size_t bytes);

/* Cuts arrays from one block. With base NULL it only adds up: run the same code twice, first to learn the
 * size, then to place the arrays. Sizes that overflow make `bytes` SIZE_MAX, which no allocation meets. */
typedef struct pq_arena {
    uint8_t *base;
    size_t bytes;
} pq_arena;

void *pq_arena_take(pq_arena *arena, uint64_t count, size_t element_bytes);

#endif
