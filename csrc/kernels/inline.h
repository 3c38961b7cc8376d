/* inline.h - what makes a function or a loop part of the code around it, whatever the compiler would choose. */
#ifndef PQ_INLINE_H
#define PQ_INLINE_H

#if defined(_MSC_VER) && !defined(__clang__)
#define PQ_INLINE static __forceinline
#else
#define PQ_INLINE static inline __attribute__((always_inline))
#endif

#if defined(__clang__)
#define PQ_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define PQ_UNROLL _Pragma("GCC unroll 16")
#else
#define PQ_UNROLL
#endif

#endif
