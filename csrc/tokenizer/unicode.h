/* unicode.h - UTF-8 to code points, and what the tables say of them. */
#ifndef PQ_UNICODE_H
#define PQ_UNICODE_H

#include <stddef.h>
#include <stdint.h>

enum {
    PQ_OTHER = 0, /* symbols, marks, controls, and bytes that are not UTF-8 */
    PQ_LETTER = 1,
    PQ_NUMBER = 2,
    PQ_SPACE = 3,
    PQ_CLASS_MASK = 3,
    PQ_DIGIT = 4,     /* what Digits of `tokenizers` isolates */
    PQ_COMPOSING = 8, /* may change in normalization form C, or combine with what stands before */
    PQ_NOT_UTF8 = 0x110000 /* | the byte: what pq_decode makes of a byte that is not UTF-8 */
};

/* The code point at p, of which *bytes bytes (1..4) are its own; `left` >= 1 may be read. A byte that
 * does not begin a character is one of its own, PQ_NOT_UTF8. */
uint32_t pq_decode(const uint8_t *p, size_t left, unsigned *bytes);
/* Writes 1..4 bytes, the one byte for PQ_NOT_UTF8, and returns how many. */
unsigned pq_encode(uint32_t point, uint8_t *dst);

/* PQ_OTHER ... PQ_COMPOSING of a code point or PQ_NOT_UTF8. *hint is where the last one was found; begin with 0. */
unsigned pq_properties_of(uint32_t point, uint32_t *hint);
unsigned pq_combining_class(uint32_t point);

/* Canonical decomposition of one step: 0 if there is none, else 1, and *second is 0 if it is a single one. */
int pq_decompose(uint32_t point, uint32_t *first, uint32_t *second);
/* The character that is canonically first and second, or 0. */
uint32_t pq_compose(uint32_t first, uint32_t second);

#endif
