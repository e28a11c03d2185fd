/* SPDX-License-Identifier: MIT */
/* The harness of the C tests: CHECK counts, prints the place of a failure, and goes on. A test's main ends with
 * `return check_report();`: the last line is "N passed, N failed", and the exit status says the same. */
#ifndef TUX_TESTS_CHECK_H
#define TUX_TESTS_CHECK_H

#include <stdio.h>

static unsigned long check_passed, check_failed;

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (condition) {                                                          \
            check_passed++;                                                       \
        } else {                                                                  \
            check_failed++;                                                       \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
        }                                                                         \
    } while (0)

static inline int check_report(void) {
    printf("%lu passed, %lu failed\n", check_passed, check_failed);
    return check_failed == 0 && check_passed > 0 ? 0 : 1;
}

#endif
