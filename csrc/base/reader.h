/* reader.h - a bounded cursor over little-endian bytes.
 *
 * No read goes past the end: the first that would sets `wanted` and yields zeros, and so does every
 * later one. A parser may therefore read a whole record and look for failure once. The bytes may be
 * the beginning of something longer: `wanted` then says how much of it the failed read needs.
 */
#ifndef PQ_READER_H
#define PQ_READER_H

#include <stdint.h>
#include <string.h>

typedef struct pq_reader {
    const uint8_t *data; /* (size) borrowed */
    uint64_t size;
    uint64_t pos;
    /* 0: all reads succeeded; else the size with which the failed one would have. */
    uint64_t wanted;
} pq_reader;

static inline pq_reader pq_reader_over(const uint8_t *data, uint64_t size) {
    pq_reader r = {data, size, 0, 0};
    return r;
}

static inline int pq_reader_failed(const pq_reader *r) {
    return r->wanted != 0;
}

/* The next n bytes, or NULL. */
static inline const uint8_t *pq_reader_bytes(pq_reader *r, uint64_t n) {
    if (r->wanted)
        return NULL;
    if (n > r->size - r->pos) {
        r->wanted = n > UINT64_MAX - r->pos ? UINT64_MAX : r->pos + n;
        return NULL;
    }
    const uint8_t *p = r->data + r->pos;
    r->pos += n;
    return p;
}

static inline uint64_t pq_little_endian(const uint8_t *p, unsigned bytes) {
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static inline uint32_t pq_reader_u32(pq_reader *r) {
    const uint8_t *p = pq_reader_bytes(r, 4);
    return p ? (uint32_t)pq_little_endian(p, 4) : 0;
}

static inline uint64_t pq_reader_u64(pq_reader *r) {
    const uint8_t *p = pq_reader_bytes(r, 8);
    return p ? pq_little_endian(p, 8) : 0;
}

#endif
