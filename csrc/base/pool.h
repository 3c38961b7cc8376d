/* pool.h - the process's one pool of worker threads.
 *
 * Created at first use, grown to the largest request, never shrunk; workers spin briefly between jobs, then
 * sleep. A job is a number of chunks; threads claim chunks from an atomic counter, so a core that is
 * slower or taken away simply claims fewer. Jobs of different callers run one after the other.
 */
#ifndef PQ_POOL_H
#define PQ_POOL_H

#include <stdatomic.h>

#include "status.h"

enum { PQ_MAX_THREADS = 256 };

/* Does chunk `chunk` of a job; `thread` < the job's threads tells which scratch memory is free to use. */
typedef void (*pq_chunk_fn)(void *arg, size_t chunk, unsigned thread);

/* Runs fn for the chunks 0 .. chunks - 1 on `threads` threads, the caller among them, and returns when all
 * are done. `cancel` (may be NULL) is read before each chunk; once nonzero, no more are claimed and the
 * result is PQ_ERR_CANCELLED. PQ_ERR_FORKED in a process forked from one whose pool had started. Threads
 * that the system refuses are no error: the job is done by those there are. Called from inside a chunk, it
 * runs there, on that thread. Chunks see the floating-point modes of float_env.h, whatever the caller's. */
pq_status pq_pool_run(unsigned threads, size_t chunks, pq_chunk_fn fn, void *arg,
                      const atomic_int *cancel, pq_error *err);

#endif
