/* packed.h - the image of a model's weights as a file, which later loads map instead of packing.
 *
 *     header | checksums of the pieces, 8 bytes each | zeros up to a multiple of 2 MiB | image
 *
 * Written and read on one machine, in its byte order. A file is used only if its header is of this version and
 * of the very file and layout that are asked for, and every piece of the image has its checksum: so a file that
 * was torn, cut or damaged is no more than a file that is not there.
 */
#ifndef PQ_PACKED_H
#define PQ_PACKED_H

#include "model.h"

/* Changes whenever the same file would be packed into other bytes. */
enum { PQ_PACKED_VERSION = 2 };

/* What identifies an image: the source file and how it is packed. */
typedef struct pq_packed_id {
    uint64_t source[2]; /* pq_file_identity */
    uint64_t image_bytes;
    uint32_t lanes;
    uint32_t version;
} pq_packed_id;

/* Bytes in front of the image. */
uint64_t pq_packed_offset(uint64_t image_bytes);

/* Maps the image of that identity from the file at `path` and verifies it on `threads` threads; `step` (may be
 * NULL) is called now and then with the verified bytes, nonzero stops with PQ_ERR_CANCELLED. On success *out is
 * open and the image begins at pq_packed_offset. Every other failure says why the file cannot be used. */
pq_status pq_packed_map(pq_map *out, const char *path, const pq_packed_id *id, uint32_t threads,
                        int (*step)(void *arg, uint64_t bytes), void *arg, pq_error *err);

#endif
