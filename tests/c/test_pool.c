/* The thread pool: every chunk once, callers side by side, cancel, nesting, fork, and what workers
 * inherit. Meant to be run under the thread sanitizer, too. */
#include <string.h>

#include "base/float_env.h"
#include "base/pool.h"
#include "base/thread.h"
#include "check.h"

#if !defined(_WIN32)
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

static void busy_ns(int64_t ns) {
    for (int64_t end = pq_monotonic_ns() + ns; pq_monotonic_ns() < end;)
        pq_thread_pause();
}

/* ----------------------------------------------------------------------------- every chunk once */

enum { MOST_CHUNKS = 1000 };

typedef struct tally {
    unsigned threads;
    atomic_int done[MOST_CHUNKS];
    atomic_int busy[PQ_MAX_THREADS]; /* a thread number stands for one piece of scratch memory */
    atomic_int bad;
} tally;

static void count_chunk(void *arg, size_t chunk, unsigned thread) {
    tally *t = arg;
    if (thread >= t->threads || atomic_fetch_add(&t->busy[thread], 1) != 0)
        atomic_fetch_add(&t->bad, 1);
    atomic_fetch_add(&t->done[chunk], 1);
    if (thread < t->threads)
        atomic_fetch_sub(&t->busy[thread], 1);
}

static void run_tally(unsigned threads, size_t chunks) {
    tally t;
    memset(&t, 0, sizeof t);
    t.threads = threads;
    CHECK(pq_pool_run(threads, chunks, count_chunk, &t, NULL, NULL) == PQ_OK);
    CHECK(atomic_load(&t.bad) == 0);
    for (size_t i = 0; i < MOST_CHUNKS; i++)
        CHECK(atomic_load(&t.done[i]) == (i < chunks));
}

static void test_every_chunk_once(void) {
    static const size_t chunks[] = {0, 1, 2, 3, 7, 100, MOST_CHUNKS};
    for (unsigned threads = 1; threads <= 6; threads++)
        for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
            run_tally(threads, chunks[i]);
    for (int i = 0; i < 2000; i++)
        run_tally(2 + (unsigned)i % 3, 5);
}

/* More threads than the pool may have is as many as it may have. */
static void test_huge_request(void) {
    run_tally(PQ_MAX_THREADS, MOST_CHUNKS);
    tally t;
    memset(&t, 0, sizeof t);
    t.threads = PQ_MAX_THREADS;
    CHECK(pq_pool_run(100000, MOST_CHUNKS, count_chunk, &t, NULL, NULL) == PQ_OK);
    CHECK(atomic_load(&t.bad) == 0);
}

static void test_pause_between_jobs(void) {
    for (int i = 0; i < 50; i++) {
        busy_ns(200 * 1000); /* longer than workers spin */
        run_tally(3, 50);
    }
}

static void slow_chunk(void *arg, size_t chunk, unsigned thread) {
    (void)arg;
    (void)thread;
    if (chunk == 1)
        busy_ns(2 * 1000 * 1000); /* the caller finishes first and has to sleep */
}

static void test_caller_waits_for_slow_worker(void) {
    for (int i = 0; i < 10; i++)
        CHECK(pq_pool_run(2, 2, slow_chunk, NULL, NULL, NULL) == PQ_OK);
}

/* --------------------------------------------------------------------------------- many callers */

static atomic_int callers_left;
static atomic_int caller_failures;

typedef struct sum {
    uint64_t parts[64]; /* plain memory: the pool alone orders its reads and writes */
} sum;

static void add_part(void *arg, size_t chunk, unsigned thread) {
    (void)thread;
    ((sum *)arg)->parts[chunk] = chunk + 1;
}

static void caller(void) {
    for (int i = 0; i < 1000; i++) {
        sum s; /* gone when this round ends: a late worker would be caught here */
        memset(&s, 0, sizeof s);
        if (pq_pool_run(3, 64, add_part, &s, NULL, NULL) != PQ_OK)
            atomic_fetch_add(&caller_failures, 1);
        uint64_t total = 0;
        for (int k = 0; k < 64; k++)
            total += s.parts[k];
        if (total != 64 * 65 / 2)
            atomic_fetch_add(&caller_failures, 1);
    }
    atomic_fetch_sub(&callers_left, 1);
}

static void test_many_callers(void) {
    atomic_store(&callers_left, 4);
    for (int i = 0; i < 4; i++)
        CHECK(pq_thread_start(caller));
    while (atomic_load(&callers_left) > 0)
        busy_ns(1000 * 1000);
    CHECK(atomic_load(&caller_failures) == 0);
}

/* --------------------------------------------------------------------------------------- cancel */

typedef struct cancelling {
    atomic_int flag;
    atomic_size_t done;
    size_t at; /* the chunk that sets the flag */
} cancelling;

static void cancel_at(void *arg, size_t chunk, unsigned thread) {
    (void)thread;
    cancelling *c = arg;
    atomic_fetch_add(&c->done, 1);
    if (chunk == c->at)
        atomic_store(&c->flag, 1);
}

static void test_cancel(void) {
    for (unsigned threads = 1; threads <= 3; threads++) {
        pq_error err;
        cancelling before = {.flag = 1, .at = 1000};
        CHECK(pq_pool_run(threads, 10, cancel_at, &before, &before.flag, &err) == PQ_ERR_CANCELLED);
        CHECK(atomic_load(&before.done) == 0);
        CHECK(strstr(err.text, "cancelled") != NULL);

        cancelling amid = {.at = 5};
        CHECK(pq_pool_run(threads, 1000000, cancel_at, &amid, &amid.flag, NULL) ==
              PQ_ERR_CANCELLED);
        CHECK(atomic_load(&amid.done) >= 6 && atomic_load(&amid.done) < 1000000);

        /* When everything is done already, there is nothing to cancel. */
        cancelling last = {.at = 0};
        CHECK(pq_pool_run(threads, 1, cancel_at, &last, &last.flag, NULL) == PQ_OK);
        cancelling never = {.at = 1000};
        CHECK(pq_pool_run(threads, 100, cancel_at, &never, &never.flag, NULL) == PQ_OK);
        CHECK(atomic_load(&never.done) == 100);
    }
}

/* -------------------------------------------------------------------------------------- nesting */

static void nested_chunk(void *arg, size_t chunk, unsigned thread) {
    (void)chunk;
    (void)thread;
    sum s;
    memset(&s, 0, sizeof s);
    if (pq_pool_run(4, 64, add_part, &s, NULL, NULL) == PQ_OK && s.parts[63] == 64)
        atomic_fetch_add((atomic_int *)arg, 1);
}

static void test_nested(void) {
    atomic_int good;
    atomic_init(&good, 0);
    CHECK(pq_pool_run(3, 40, nested_chunk, &good, NULL, NULL) == PQ_OK);
    CHECK(atomic_load(&good) == 40);
}

/* ------------------------------------------------------------------- floating-point environment */

static volatile float one = 1.0f, tiny = 0x1p-30f, smallest = 0x1p-126f;

static bool rounds_to_nearest(void) {
    return one + tiny == 1.0f && smallest * 0.5f != 0.0f;
}

static void check_rounding(void *arg, size_t chunk, unsigned thread) {
    (void)chunk;
    (void)thread;
    busy_ns(20 * 1000); /* long enough for others to take part */
    if (!rounds_to_nearest())
        atomic_fetch_add((atomic_int *)arg, 1);
}

static void test_float_env(void) {
#if defined(__x86_64__) || defined(_M_X64)
    const pq_float_env odd =
        0x1F80u | 0x4000u | 0x8040u; /* round up, flush to zero, denormals are 0 */
#elif defined(__aarch64__)
    const pq_float_env odd = (1u << 22) | (1u << 24); /* round up, flush to zero */
#else
    const pq_float_env odd = PQ_FLOAT_ENV_DEFAULT;
#endif
    const pq_float_env before = pq_float_env_read();
    for (unsigned threads = 1; threads <= 4; threads++) {
        atomic_int wrong;
        atomic_init(&wrong, 0);
        pq_float_env_write(odd);
        pq_status status = pq_pool_run(threads, 64, check_rounding, &wrong, NULL, NULL);
        pq_float_env after = pq_float_env_read();
        bool still_odd = odd == PQ_FLOAT_ENV_DEFAULT || !rounds_to_nearest();
        pq_float_env_write(before);
        CHECK(status == PQ_OK);
        CHECK(atomic_load(&wrong) == 0);
        CHECK(after == odd && still_odd);
    }
}

/* ----------------------------------------------------------------------------- signals and fork */

#if !defined(_WIN32)

static void check_signals(void *arg, size_t chunk, unsigned thread) {
    (void)chunk;
    atomic_int *counts = arg; /* chunks on workers, and of those the ones with a wrong mask */
    busy_ns(50 * 1000);
    if (thread == 0)
        return;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    atomic_fetch_add(&counts[0], 1);
    if (!sigismember(&mask, SIGINT) || !sigismember(&mask, SIGTERM) || sigismember(&mask, SIGSEGV))
        atomic_fetch_add(&counts[1], 1);
}

static void test_signals(void) {
    atomic_int counts[2];
    atomic_init(&counts[0], 0);
    atomic_init(&counts[1], 0);
    for (int i = 0; i < 100 && atomic_load(&counts[0]) == 0; i++)
        CHECK(pq_pool_run(4, 100, check_signals, counts, NULL, NULL) == PQ_OK);
    CHECK(atomic_load(&counts[0]) > 0);
    CHECK(atomic_load(&counts[1]) == 0);
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    CHECK(!sigismember(&mask, SIGINT));
}

/* Runs `body` in a child process; its return value comes back as the exit code. */
static int in_child(int (*body)(void)) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(body());
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int use_pool(void) {
    pq_error err;
    int job = 0;
    pq_status status = pq_pool_run(2, 10, slow_chunk, &job, NULL, &err);
    return status == PQ_ERR_FORKED ? 100 * (strstr(err.text, "fork") != NULL) : (int)status;
}

/* Sanitizers need address space themselves. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* With no address space left for their stacks, threads are refused. */
static int use_pool_without_memory(void) {
#if defined(SANITIZED)
    return 0;
#endif
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_AS, &none);
    atomic_size_t done;
    atomic_init(&done, 0);
    cancelling c = {.at = 1000};
    for (int i = 0; i < 100; i++)
        if (pq_pool_run(8, 100, cancel_at, &c, NULL, NULL) != PQ_OK)
            return 1;
    return atomic_load(&c.done) == 100 * 100 ? 0 : 2;
}

#endif

/* ----------------------------------------------------------------------------------------- cost */

static void nothing(void *arg, size_t chunk, unsigned thread) {
    (void)arg;
    (void)chunk;
    (void)thread;
}

/* Each of two chunks waits until the other has begun, so that both threads have to take part (on a busy
 * machine not for ever). */
static void meet(void *arg, size_t chunk, unsigned thread) {
    (void)chunk;
    (void)thread;
    atomic_int *begun = arg;
    atomic_fetch_add(begun, 1);
    for (int i = 0; i < 100000 && atomic_load(begun) < 2; i++)
        pq_thread_pause();
}

static double job_ns(unsigned threads, size_t chunks, pq_chunk_fn fn) {
    enum { JOBS = 200 };
    double best = 1e9;
    for (int round = 0; round < 10; round++) {
        int64_t start = pq_monotonic_ns();
        for (int i = 0; i < JOBS; i++) {
            atomic_int begun;
            atomic_init(&begun, 0);
            pq_pool_run(threads, chunks, fn, &begun, NULL, NULL);
        }
        double each = (double)(pq_monotonic_ns() - start) / JOBS;
        best = each < best ? each : best;
    }
    return best;
}

/* Prints, and does not judge: machines and sanitizers differ. */
static void measure_latency(void) {
    printf("an empty chunk on the calling thread: %.0f ns\n", job_ns(1, 1, nothing));
    printf("two empty chunks that two warm threads may do: %.0f ns\n", job_ns(2, 2, nothing));
    printf("two chunks that take two warm threads: %.0f ns\n", job_ns(2, 2, meet));
}

int main(void) {
#if !defined(_WIN32)
    CHECK(in_child(use_pool_without_memory) == 0);
    CHECK(in_child(use_pool) == PQ_OK); /* forked before the pool was there */
#endif
    measure_latency();
    test_every_chunk_once();
    test_pause_between_jobs();
    test_caller_waits_for_slow_worker();
    test_many_callers();
    test_cancel();
    test_nested();
    test_float_env();
#if !defined(_WIN32)
    test_signals();
    CHECK(in_child(use_pool) == 100); /* and after: refused, in a sentence */
#endif
    test_huge_request();
    return check_result();
}
