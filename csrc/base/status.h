/* status.h - how the core reports failure: a status returned, and one sentence in a pq_error. */
#ifndef PQ_STATUS_H
#define PQ_STATUS_H

#include "../pyqwen.h"

#if defined(__MINGW32__)
#include <stdio.h> /* for the name of its C99 formats */
#define PQ_PRINTF(a, b) __attribute__((format(__MINGW_PRINTF_FORMAT, a, b)))
#elif defined(__GNUC__)
#define PQ_PRINTF(a, b) __attribute__((format(printf, a, b)))
#else
#define PQ_PRINTF(a, b)
#endif

/* Fills *err (unless NULL) and returns `status`: `return pq_fail(err, PQ_ERR_IO, "%s: ...", path);` */
pq_status pq_fail(pq_error *err, pq_status status, const char *format, ...) PQ_PRINTF(3, 4);

/* The same with the key or tensor (NULL: none) and the byte offset (-1: none) concerned. */
pq_status pq_fail_at(pq_error *err, pq_status status, const char *field, int64_t offset,
                     const char *format, ...) PQ_PRINTF(5, 6);

/* "out of memory: <what> needs <bytes> bytes" */
pq_status pq_fail_memory(pq_error *err, const char *what, uint64_t bytes);

#endif
