/* SPDX-License-Identifier: MIT */
/* The plain byte range: what is one, and which bytes it means. */
#include <stdlib.h>

#include "check.h"
#include "range.h"

#define MAX 999999999999999999u /* 18 digits */

static const struct {
    const char *value;
    uint8_t kind;
    uint64_t first, last;
} values[] = {
    {"bytes=0-0", TUX_RANGE_CLOSED, 0, 0},
    {"bytes=0-1023", TUX_RANGE_CLOSED, 0, 1023},
    {"bytes=007-10", TUX_RANGE_CLOSED, 7, 10},
    {"bytes=5-5", TUX_RANGE_CLOSED, 5, 5},
    {"bytes=0-999999999999999999", TUX_RANGE_CLOSED, 0, MAX},
    {"bytes=10-", TUX_RANGE_OPEN, 10, 0},
    {"bytes=999999999999999999-", TUX_RANGE_OPEN, MAX, 0},
    {"bytes=-500", TUX_RANGE_SUFFIX, 0, 500},
    {"bytes=-0", TUX_RANGE_SUFFIX, 0, 0},
    /* Everything else is Python's. */
    {"", TUX_RANGE_NONE, 0, 0},
    {"bytes", TUX_RANGE_NONE, 0, 0},
    {"bytes=", TUX_RANGE_NONE, 0, 0},
    {"bytes=-", TUX_RANGE_NONE, 0, 0},
    {"bytes=1", TUX_RANGE_NONE, 0, 0},
    {"bytes=5-4", TUX_RANGE_NONE, 0, 0},
    {"bytes=0-1,3-4", TUX_RANGE_NONE, 0, 0},
    {"bytes=0-,", TUX_RANGE_NONE, 0, 0},
    {"bytes=,0-1", TUX_RANGE_NONE, 0, 0},
    {"Bytes=0-1", TUX_RANGE_NONE, 0, 0},
    {"bytes =0-1", TUX_RANGE_NONE, 0, 0},
    {"bytes= 0-1", TUX_RANGE_NONE, 0, 0},
    {"bytes=0 -1", TUX_RANGE_NONE, 0, 0},
    {"bytes=0- 1", TUX_RANGE_NONE, 0, 0},
    {"bytes=0-1 ", TUX_RANGE_NONE, 0, 0},
    {"bytes=+0-1", TUX_RANGE_NONE, 0, 0},
    {"bytes=0-+1", TUX_RANGE_NONE, 0, 0},
    {"bytes=--1", TUX_RANGE_NONE, 0, 0},
    {"bytes=0--1", TUX_RANGE_NONE, 0, 0},
    {"bytes=0x1-0x2", TUX_RANGE_NONE, 0, 0},
    {"bytes=1_0-20", TUX_RANGE_NONE, 0, 0},
    {"bytes=0-1000000000000000000", TUX_RANGE_NONE, 0, 0}, /* 19 digits */
    {"bytes=0000000000000000000-", TUX_RANGE_NONE, 0, 0},  /* also of zeros */
    {"bytes=-18446744073709551617", TUX_RANGE_NONE, 0, 0}, /* 2^64 + 1 must not be 1 */
    {"bytes=18446744073709551616-18446744073709551617", TUX_RANGE_NONE, 0, 0},
    {"items=0-1", TUX_RANGE_NONE, 0, 0},
};

static const struct {
    const char *value;
    uint64_t size;
    int satisfiable;
    uint64_t first, last;
} resolved[] = {
    {"bytes=0-0", 1, 1, 0, 0},
    {"bytes=0-0", 0, 0, 0, 0},
    {"bytes=0-1023", 10, 1, 0, 9},
    {"bytes=2-4", 10, 1, 2, 4},
    {"bytes=9-9", 10, 1, 9, 9},
    {"bytes=9-10", 10, 1, 9, 9},
    {"bytes=10-10", 10, 0, 0, 0},
    {"bytes=9-", 10, 1, 9, 9},
    {"bytes=10-", 10, 0, 0, 0},
    {"bytes=0-", 0, 0, 0, 0},
    {"bytes=-1", 10, 1, 9, 9},
    {"bytes=-10", 10, 1, 0, 9},
    {"bytes=-11", 10, 1, 0, 9},
    {"bytes=-0", 10, 0, 0, 0},
    {"bytes=-1", 0, 0, 0, 0},
    {"bytes=0-999999999999999999", UINT64_MAX, 1, 0, MAX},
    {"bytes=999999999999999999-", UINT64_MAX, 1, MAX, UINT64_MAX - 1},
    {"bytes=-999999999999999999", UINT64_MAX, 1, UINT64_MAX - MAX, UINT64_MAX - 1},
    {"bytes=1,2", 10, 0, 0, 0},
};

/* Parse from memory of exactly that size, so that a sanitizer sees any read past it. */
static struct tux_range parse(const char *value)
{
    size_t len = strlen(value);
    uint8_t *copy = malloc(len == 0 ? 1 : len);
    if (copy == NULL)
        abort();
    memcpy(copy, value, len);
    struct tux_range range = tux_range_parse(copy, len);
    free(copy);
    return range;
}

int main(void)
{
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct tux_range range = parse(values[i].value);
        CHECK_ROW(range.kind == values[i].kind, values[i].value);
        if (values[i].kind == TUX_RANGE_CLOSED || values[i].kind == TUX_RANGE_OPEN)
            CHECK_ROW(range.first == values[i].first, values[i].value);
        if (values[i].kind == TUX_RANGE_CLOSED || values[i].kind == TUX_RANGE_SUFFIX)
            CHECK_ROW(range.last == values[i].last, values[i].value);
    }
    for (size_t i = 0; i < sizeof(resolved) / sizeof(resolved[0]); i++) {
        uint64_t first = 0, last = 0;
        bool satisfiable = tux_range_resolve(parse(resolved[i].value), resolved[i].size, &first, &last);
        CHECK_ROW(satisfiable == (resolved[i].satisfiable != 0), resolved[i].value);
        CHECK_ROW(first == resolved[i].first && last == resolved[i].last, resolved[i].value);
    }
    return check_report();
}
