/* thread.h - what the core needs of threads, the same on POSIX systems and Windows. C11's
 * <threads.h> is missing on some of them. Knows nothing of jobs: that is pool.h.
 */
#ifndef PQ_THREAD_H
#define PQ_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#if defined(_WIN32)

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

typedef SRWLOCK pq_mutex;
typedef CONDITION_VARIABLE pq_cond;
#define PQ_MUTEX_INIT SRWLOCK_INIT
#define PQ_COND_INIT CONDITION_VARIABLE_INIT

static inline void pq_mutex_lock(pq_mutex *mutex) {
    AcquireSRWLockExclusive(mutex);
}
static inline void pq_mutex_unlock(pq_mutex *mutex) {
    ReleaseSRWLockExclusive(mutex);
}
static inline void pq_cond_wait(pq_cond *cond, pq_mutex *mutex) {
    SleepConditionVariableSRW(cond, mutex, INFINITE, 0);
}
static inline void pq_cond_signal(pq_cond *cond) {
    WakeConditionVariable(cond);
}
static inline void pq_thread_yield(void) {
    SwitchToThread();
}

#else

#include <pthread.h>
#include <sched.h>

typedef pthread_mutex_t pq_mutex;
typedef pthread_cond_t pq_cond;
#define PQ_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define PQ_COND_INIT PTHREAD_COND_INITIALIZER

static inline void pq_mutex_lock(pq_mutex *mutex) {
    pthread_mutex_lock(mutex);
}
static inline void pq_mutex_unlock(pq_mutex *mutex) {
    pthread_mutex_unlock(mutex);
}
static inline void pq_cond_wait(pq_cond *cond, pq_mutex *mutex) {
    pthread_cond_wait(cond, mutex);
}
static inline void pq_cond_signal(pq_cond *cond) {
    pthread_cond_signal(cond);
}
static inline void pq_thread_yield(void) {
    sched_yield();
}

#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define PQ_THREAD_LOCAL __declspec(thread)
#else
#define PQ_THREAD_LOCAL _Thread_local
#endif

/* Tells the processor that this thread waits for another one's store. */
static inline void pq_thread_pause(void) {
#if defined(_WIN32)
    YieldProcessor();
#elif defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* `yield` does nothing on most cores */
#endif
}

/* Starts a thread that runs `body` and is never joined: named "pyqwen", with all asynchronous
 * signals blocked, so that Ctrl-C reaches the host's own threads. False if the system refuses. */
bool pq_thread_start(void (*body)(void));

/* Has `handler` called in the child of every later fork. False if that cannot be arranged. */
bool pq_thread_at_fork(void (*handler)(void));

/* Nanoseconds on a clock that never goes back; only differences mean something. */
int64_t pq_monotonic_ns(void);

#endif
