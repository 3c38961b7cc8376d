/* thread.c - see thread.h. */
#include "thread.h"

/* Chunks of work get their scratch memory from the job; the stack only carries calls. The same
 * everywhere, for some systems give new threads as little as 128 KiB. */
enum { STACK_BYTES = 1 << 20 };

#if defined(_WIN32)

#include <process.h>

typedef HRESULT(WINAPI *set_description_fn)(HANDLE, PCWSTR);

/* SetThreadDescription is there since Windows 10. */
static void name_this_thread(void) {
    HMODULE kernel = GetModuleHandleW(L"kernel32.dll");
    FARPROC found = kernel ? GetProcAddress(kernel, "SetThreadDescription") : NULL;
    if (found) {
        set_description_fn set_description = (set_description_fn)(void (*)(void))found;
        set_description(GetCurrentThread(), L"pyqwen");
    }
}

static unsigned __stdcall run(void *body) {
    name_this_thread();
    ((void (*)(void))(uintptr_t)body)();
    return 0;
}

bool pq_thread_start(void (*body)(void)) {
    uintptr_t thread = _beginthreadex(NULL, STACK_BYTES, run, (void *)(uintptr_t)body,
                                      STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    if (thread == 0)
        return false;
    CloseHandle((HANDLE)thread);
    return true;
}

bool pq_thread_at_fork(void (*handler)(void)) {
    (void)handler; /* there is no fork */
    return true;
}

int64_t pq_monotonic_ns(void) {
    LARGE_INTEGER now, frequency;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&now);
    int64_t seconds = now.QuadPart / frequency.QuadPart;
    int64_t rest = now.QuadPart % frequency.QuadPart;
    return seconds * 1000000000 + rest * 1000000000 / frequency.QuadPart;
}

#else

#include <signal.h>
#include <time.h>

static void *run(void *body) {
#if defined(__APPLE__)
    pthread_setname_np("pyqwen");
#elif defined(__linux__)
    pthread_setname_np(pthread_self(), "pyqwen");
#endif
    ((void (*)(void))(uintptr_t)body)();
    return NULL;
}

/* All but those that report a fault of the thread itself: blocked, they would kill the process
 * before a handler such as Python's faulthandler could say where. */
static void asynchronous_signals(sigset_t *set) {
    sigfillset(set);
    sigdelset(set, SIGSEGV);
    sigdelset(set, SIGBUS);
    sigdelset(set, SIGFPE);
    sigdelset(set, SIGILL);
    sigdelset(set, SIGABRT);
    sigdelset(set, SIGTRAP);
}

bool pq_thread_start(void (*body)(void)) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0)
        return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);

    /* A thread begins with its creator's mask: blocking here leaves no moment in between. */
    sigset_t blocked, before;
    asynchronous_signals(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    pthread_t thread;
    int failure = pthread_create(&thread, &attributes, run, (void *)(uintptr_t)body);
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    pthread_attr_destroy(&attributes);
    return failure == 0;
}

bool pq_thread_at_fork(void (*handler)(void)) {
    return pthread_atfork(NULL, NULL, handler) == 0;
}

int64_t pq_monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
