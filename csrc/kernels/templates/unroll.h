/* unroll.h - code that is repeated with a constant each time, so that arrays of vectors become registers. (Indexed by
 * the variable of a loop that is unrolled later, such an array stays in memory with gcc.) */
#ifndef PQ_UNROLL_H
#define PQ_UNROLL_H

/* The length of arrays that PQ_EACH goes through: 8, or 4 where vectors.h says so. */
#ifndef PQ_EACH_MOST
#define PQ_EACH_MOST 8
#endif

/* Repeats statements for t = 0 .. n - 1, n <= PQ_EACH_MOST, with `t` a constant each time. */
#define PQ_EACH(t, n, ...)                                                                         \
    do {                                                                                           \
        PQ_ONCE(t, n, 0, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 1, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 2, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 3, __VA_ARGS__)                                                              \
        PQ_MORE(t, n, __VA_ARGS__)                                                                 \
    } while (0)
#if PQ_EACH_MOST == 4
#define PQ_MORE(t, n, ...)
#define PQ_FOR_EACH PQ_FOR_4
#define PQ_NAMES_EACH PQ_NAMES_4
#else
#define PQ_MORE(t, n, ...)                                                                         \
    PQ_ONCE(t, n, 4, __VA_ARGS__)                                                                  \
    PQ_ONCE(t, n, 5, __VA_ARGS__)                                                                  \
    PQ_ONCE(t, n, 6, __VA_ARGS__)                                                                  \
    PQ_ONCE(t, n, 7, __VA_ARGS__)
#define PQ_FOR_EACH PQ_FOR_8
#define PQ_NAMES_EACH PQ_NAMES_8
#endif
/* For n <= 2, where arrays are no longer. */
#define PQ_EACH_2(t, n, ...)                                                                       \
    do {                                                                                           \
        PQ_ONCE(t, n, 0, __VA_ARGS__)                                                              \
        PQ_ONCE(t, n, 1, __VA_ARGS__)                                                              \
    } while (0)
#define PQ_ONCE(t, n, value, ...)                                                                  \
    if ((n) > value) {                                                                             \
        enum { t = value };                                                                        \
        __VA_ARGS__                                                                                \
    }

/* Defines functions: define(name, type, count) for each count, and their names for a table by count - 1. What an
 * instruction set does not call, for want of registers, is defined with PQ_AT_MOST of them, and empty. */
#define PQ_FOR_4(define, name, type)                                                               \
    define(name, type, 1) define(name, type, 2) define(name, type, 3) define(name, type, 4)
#define PQ_FOR_8(define, name, type)                                                               \
    PQ_FOR_4(define, name, type)                                                                   \
    define(name, type, 5) define(name, type, 6) define(name, type, 7) define(name, type, 8)
#define PQ_FOR_12(define, name, type)                                                              \
    PQ_FOR_8(define, name, type)                                                                   \
    define(name, type, 9) define(name, type, 10) define(name, type, 11) define(name, type, 12)
#define PQ_NAMES_4(name) name##_1, name##_2, name##_3, name##_4
#define PQ_NAMES_8(name) PQ_NAMES_4(name), name##_5, name##_6, name##_7, name##_8
#define PQ_NAMES_12(name) PQ_NAMES_8(name), name##_9, name##_10, name##_11, name##_12
#define PQ_AT_MOST(count, most) ((count) <= (most) ? (count) : (most))

#endif
