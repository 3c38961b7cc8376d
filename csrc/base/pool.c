/* pool.c - see pool.h.
 *
 * One word, the door, decides who may touch a job: it counts the job's free seats and the workers
 * inside. The caller opens it with one seat per worker it wants; a worker enters by exchanging a
 * seat for a place inside, in one atomic step; whoever finds no chunk left closes it by taking the
 * seats away. The caller returns when nobody is inside. So a worker that was descheduled and comes
 * late finds the door closed, or open for a later job, but never touches a job that has returned;
 * and nobody waits for it.
 *
 * Idle workers watch the door for a moment, then sleep. Falling asleep and opening the door each
 * write one word and then read the other's, sequentially consistent, so one of the two always
 * notices; the same holds for a caller that sleeps until the last worker has left.
 */
#include "pool.h"

#include <stdbool.h>

#include "float_env.h"
#include "thread.h"

enum {
    LINE = 128,           /* two cache lines: some processors fetch them in pairs */
    SEAT = 1 << 16,       /* the door: seats * SEAT + inside */
    SPIN_NS = 40 * 1000,  /* about the cost of a sleep and a wake-up */
    PAUSES_PER_LOOK = 32, /* between two looks at the clock */
};
#define RETRY_NS INT64_C(1000000000) /* before asking again for a thread that was refused */

typedef struct job {
    pq_chunk_fn fn;
    void *arg;
    size_t chunks;
    const atomic_int *cancel;
} job;

static struct {
    _Alignas(LINE) atomic_uint door;
    _Alignas(LINE) atomic_size_t next; /* the first chunk nobody has claimed */
    _Alignas(LINE) job current;        /* written while the door is 0, read from inside */
    atomic_uint awake;                 /* workers not asleep */
    atomic_bool caller_asleep;

    _Alignas(LINE) pq_mutex jobs; /* held by the caller of the current job */
    unsigned workers;             /* guarded by jobs, as the next two */
    int64_t retry_at;             /* 0: no thread was refused */
    bool fork_handled;

    pq_mutex sleep;
    pq_cond opened;  /* workers wait here */
    pq_cond emptied; /* a caller waits here */
} pool = {
    .jobs = PQ_MUTEX_INIT,
    .sleep = PQ_MUTEX_INIT,
    .opened = PQ_COND_INIT,
    .emptied = PQ_COND_INIT,
};

static atomic_bool forked;
static PQ_THREAD_LOCAL bool in_chunk;

static bool is_cancelled(const job *work) {
    return work->cancel && atomic_load_explicit(work->cancel, memory_order_relaxed) != 0;
}

/* Claims and does chunks until none is left. */
static void do_chunks(const job *work, unsigned thread) {
    while (!is_cancelled(work)) {
        size_t chunk = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed);
        if (chunk >= work->chunks)
            return;
        work->fn(work->arg, chunk, thread);
    }
}

/* ------------------------------------------------------------------------------------- the door */

static bool is_open(void) {
    return atomic_load(&pool.door) >= SEAT;
}

static bool is_empty(void) {
    return atomic_load(&pool.door) == 0;
}

/* Takes a seat. Seats are numbered 1, 2, ... within a job (the caller is 0); 0: there is none. */
static unsigned enter(void) {
    unsigned door = atomic_load(&pool.door);
    while (door >= SEAT) {
        if (atomic_compare_exchange_weak(&pool.door, &door, door - SEAT + 1))
            return door / SEAT;
    }
    return 0;
}

static void close_door(void) {
    if (is_open())
        atomic_fetch_and(&pool.door, SEAT - 1);
}

static void leave(void) {
    close_door();
    bool last = atomic_fetch_sub(&pool.door, 1) == 1;
    if (last && atomic_load(&pool.caller_asleep)) {
        pq_mutex_lock(&pool.sleep);
        pq_cond_signal(&pool.emptied);
        pq_mutex_unlock(&pool.sleep);
    }
}

/* Watches for a bounded time: true as soon as `ready` is. */
static bool spin_until(bool (*ready)(void)) {
    int64_t end = pq_monotonic_ns() + SPIN_NS;
    do {
        for (int i = 0; i < PAUSES_PER_LOOK; i++) {
            if (ready())
                return true;
            pq_thread_pause();
        }
    } while (pq_monotonic_ns() < end);
    return false;
}

/* ---------------------------------------------------------------------------------- the workers */

static void sleep_until_open(void) {
    pq_mutex_lock(&pool.sleep);
    atomic_fetch_sub(&pool.awake, 1);
    while (!is_open())
        pq_cond_wait(&pool.opened, &pool.sleep);
    atomic_fetch_add(&pool.awake, 1);
    pq_mutex_unlock(&pool.sleep);
}

static void worker(void) {
    pq_float_env_enter();
    in_chunk = true; /* a worker runs nothing else */
    for (;;) {
        unsigned thread = enter();
        if (thread > 0) {
            job work = pool.current;
            do_chunks(&work, thread);
            leave();
        } else if (!spin_until(is_open)) {
            sleep_until_open();
        }
    }
}

static void on_fork(void) {
    atomic_store(&forked, true);
}

/* Sees to it that there are `wanted` workers, or as many as the system grants. */
static void grow(unsigned wanted) {
    if (pool.workers >= wanted || (pool.retry_at != 0 && pq_monotonic_ns() < pool.retry_at))
        return;
    if (!pool.fork_handled)
        pool.fork_handled = pq_thread_at_fork(on_fork);
    pool.retry_at = 0;
    while (pool.workers < wanted) {
        atomic_fetch_add(&pool.awake, 1);
        if (!pool.fork_handled || !pq_thread_start(worker)) {
            atomic_fetch_sub(&pool.awake, 1);
            pool.retry_at = pq_monotonic_ns() + RETRY_NS;
            return;
        }
        pool.workers++;
    }
}

/* ----------------------------------------------------------------------------------- the caller */

/* Workers that are awake come by themselves; of the others only as many as there are seats left. */
static void wake_workers(unsigned seats) {
    unsigned awake = atomic_load(&pool.awake);
    if (awake >= seats)
        return;
    pq_mutex_lock(&pool.sleep);
    for (unsigned i = awake; i < seats; i++)
        pq_cond_signal(&pool.opened);
    pq_mutex_unlock(&pool.sleep);
}

static void wait_until_empty(void) {
    if (is_empty() || spin_until(is_empty))
        return;
    pq_mutex_lock(&pool.sleep);
    atomic_store(&pool.caller_asleep, true);
    while (!is_empty())
        pq_cond_wait(&pool.emptied, &pool.sleep);
    atomic_store(&pool.caller_asleep, false);
    pq_mutex_unlock(&pool.sleep);
}

/* True if every chunk was done. */
static bool run_shared(const job *work, unsigned threads) {
    pq_mutex_lock(&pool.jobs);
    grow(threads - 1);
    unsigned seats = threads - 1 < pool.workers ? threads - 1 : pool.workers;
    pool.current = *work;
    atomic_store_explicit(&pool.next, 0, memory_order_relaxed);
    atomic_store(&pool.door, seats * SEAT);
    wake_workers(seats);

    do_chunks(work, 0);
    close_door();
    wait_until_empty();
    bool done = atomic_load_explicit(&pool.next, memory_order_relaxed) >= work->chunks;
    pq_mutex_unlock(&pool.jobs);
    return done;
}

static bool run_alone(const job *work) {
    for (size_t chunk = 0; chunk < work->chunks; chunk++) {
        if (is_cancelled(work))
            return false;
        work->fn(work->arg, chunk, 0);
    }
    return true;
}

pq_status pq_pool_run(unsigned threads, size_t chunks, pq_chunk_fn fn, void *arg,
                      const atomic_int *cancel, pq_error *err) {
    if (atomic_load_explicit(&forked, memory_order_relaxed))
        return pq_fail(
            err, PQ_ERR_FORKED,
            "this process was forked from one in which pyqwen was already running, and its "
            "worker threads stayed there: fork before the first model is opened, or start "
            "processes with multiprocessing's \"spawn\" method");
    if (threads > PQ_MAX_THREADS)
        threads = PQ_MAX_THREADS;
    if (threads > chunks)
        threads = (unsigned)chunks;

    const job work = {fn, arg, chunks, cancel};
    bool nested = in_chunk;
    pq_float_env before = pq_float_env_enter();
    in_chunk = true;
    /* A chunk's own job runs inside it: the workers are busy, and waiting for them would never end.
     */
    bool done = nested || threads <= 1 ? run_alone(&work) : run_shared(&work, threads);
    in_chunk = nested;
    pq_float_env_write(before);
    return done ? PQ_OK : pq_fail(err, PQ_ERR_CANCELLED, "the evaluation was cancelled");
}
