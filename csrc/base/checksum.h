/* checksum.h - a fast checksum against accidents, not against intent. */
#ifndef PQ_CHECKSUM_H
#define PQ_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Of `bytes` bytes and a seed. Any change within one word of 8 bytes changes it for certain, others but for one
 * in 2^64. Depends on the order of bytes of the machine. */
uint64_t pq_checksum(uint64_t seed, const void *data, size_t bytes);

#endif
