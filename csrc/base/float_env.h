/* float_env.h - the floating-point modes that the core computes in: round to nearest even, no
 * flushing of small numbers to zero, no traps. A host program may have set others (a library linked
 * with -ffast-math is enough), and they would change results.
 */
#ifndef PQ_FLOAT_ENV_H
#define PQ_FLOAT_ENV_H

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
typedef unsigned pq_float_env;
static inline pq_float_env pq_float_env_read(void) {
    return _mm_getcsr();
}
static inline void pq_float_env_write(pq_float_env env) {
    _mm_setcsr(env);
}
#define PQ_FLOAT_ENV_DEFAULT 0x1F80u /* all exceptions masked */

#elif defined(__aarch64__)
typedef uint64_t pq_float_env;
static inline pq_float_env pq_float_env_read(void) {
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
}
static inline void pq_float_env_write(pq_float_env env) {
    __asm__ volatile("msr fpcr, %0" : : "r"(env));
}
#define PQ_FLOAT_ENV_DEFAULT 0u

#elif defined(_M_ARM64)
#include <intrin.h>
typedef uint64_t pq_float_env;
static inline pq_float_env pq_float_env_read(void) {
    return (uint64_t)_ReadStatusReg(ARM64_FPCR);
}
static inline void pq_float_env_write(pq_float_env env) {
    _WriteStatusReg(ARM64_FPCR, (int64_t)env);
}
#define PQ_FLOAT_ENV_DEFAULT 0u

#else /* what standard C can say: the rounding, not the flushing */
#include <fenv.h>
typedef int pq_float_env;
static inline pq_float_env pq_float_env_read(void) {
    return fegetround();
}
static inline void pq_float_env_write(pq_float_env env) {
    fesetround(env);
}
#define PQ_FLOAT_ENV_DEFAULT FE_TONEAREST
#endif

/* Switches this thread to the core's modes; the result goes to pq_float_env_write afterwards. */
static inline pq_float_env pq_float_env_enter(void) {
    pq_float_env before = pq_float_env_read();
    pq_float_env_write(PQ_FLOAT_ENV_DEFAULT);
    return before;
}

#endif
