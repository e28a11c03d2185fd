/* SPDX-License-Identifier: MIT */
/* A small test harness: counts checks, names the place of each that fails, and says "N passed, N failed" at the end.
 * Each test program is one .c file that ends with `return check_report();`. */
#ifndef TUX_CHECK_H
#define TUX_CHECK_H

#include <stdio.h>
#include <string.h>

static unsigned check_passed, check_failed;

static inline int check_that(int holds, const char *file, int line, const char *what)
{
    if (holds) {
        check_passed++;
    } else {
        check_failed++;
        fprintf(stderr, "%s:%d: %s\n", file, line, what);
    }
    return holds;
}

static inline int check_equal(unsigned long long got, unsigned long long want, const char *file, int line,
                              const char *what)
{
    if (got == want) {
        check_passed++;
        return 1;
    }
    check_failed++;
    fprintf(stderr, "%s:%d: %s: got %llu (0x%llx), expected %llu (0x%llx)\n", file, line, what, got, got, want, want);
    return 0;
}

/* The condition holds. Gives its truth, so that what follows may depend on it. */
#define CHECK(condition) check_that((condition) != 0, __FILE__, __LINE__, #condition)

/* The same, for a row of a table: `about` names the row when it fails. */
#define CHECK_ROW(condition, about) check_that((condition) != 0, __FILE__, __LINE__, about)

/* Two whole numbers are equal. */
#define CHECK_EQ(got, want)                                                                                            \
    check_equal((unsigned long long)(got), (unsigned long long)(want), __FILE__, __LINE__, #got " == " #want)

/* Print the totals; the exit status of main. */
static inline int check_report(void)
{
    printf("%u passed, %u failed\n", check_passed, check_failed);
    return check_failed == 0 && check_passed > 0 ? 0 : 1;
}

#endif
