/* check.h - assertions of the C tests: a failed CHECK is reported and counted, and the test goes
 * on. */
#ifndef PQ_CHECK_H
#define PQ_CHECK_H

#include <stdio.h>

static int check_failures;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);              \
            check_failures++;                                                                      \
        }                                                                                          \
    } while (0)

/* The value that main returns. */
static int check_result(void) {
    if (check_failures > 0)
        fprintf(stderr, "%d checks failed\n", check_failures);
    return check_failures > 0;
}

#endif
