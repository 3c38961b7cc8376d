/* mapfile.h - a regular file opened for reading, mapped into memory or not; POSIX and Windows.
 *
 * Its size is fixed when it is opened. Directories, pipes, devices and sockets are refused without
 * waiting for them. Knows nothing of what is in the file.
 */
#ifndef PQ_MAPFILE_H
#define PQ_MAPFILE_H

#include "status.h"

typedef struct pq_map {
    const uint8_t *data; /* (bytes) the mapping, or NULL: not mapped */
    uint64_t bytes;
    intptr_t handle;  /* file descriptor or HANDLE */
    int64_t modified; /* time of the last change, in the system's own unit */
} pq_map;

/* `path` is UTF-8 on Windows and the system's bytes elsewhere; `name` stands for the file in
 * messages. An empty file is opened, and not mapped. */
pq_status pq_map_open(pq_map *out, const char *path, const char *name, int mapped, pq_error *err);
void pq_map_close(pq_map *map);

/* Asks for huge pages, as memory of one's own gets them: what is read from the disk after this comes in pieces that
 * the processor maps as one, where kernel and file system can do that (Linux: ext4 since 6.16, XFS and others
 * earlier). Elsewhere nothing happens. */
void pq_map_ask_for_huge_pages(const pq_map *map);

/* Copies bytes offset .. offset + bytes - 1, which the caller knows to be inside the file. Any
 * number of threads at once. Goes through the system and not the mapping, so that a file which has
 * become shorter is an error and not a fault. */
pq_status pq_map_read(const pq_map *map, const char *name, uint64_t offset, uint64_t bytes,
                      void *dst, pq_error *err);

/* PQ_ERR_CHANGED if the file's size or time of change is not what it was when it was opened. A file
 * that was replaced by another of the same name has not changed: the old one stays open. */
pq_status pq_map_check(const pq_map *map, const char *name, pq_error *err);

#endif
