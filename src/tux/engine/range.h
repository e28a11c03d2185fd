/* SPDX-License-Identifier: MIT */
/* The plain byte range: the one form of Range (RFC 9110 section 14.1.2) that the engine fills into a plan by itself. */
#ifndef TUX_RANGE_H
#define TUX_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tux_range_kind {
    TUX_RANGE_NONE,   /* no Range, or not one plain range: Python decides, and the value is part of every signature */
    TUX_RANGE_CLOSED, /* bytes=first-last */
    TUX_RANGE_OPEN,   /* bytes=first- */
    TUX_RANGE_SUFFIX, /* bytes=-last: the last `last` bytes */
};

struct tux_range {
    uint8_t kind;
    uint64_t first, last;
};

/* Parse the trimmed value of a Range field. Plain is exactly "bytes=" (that case; anything else is left to Python) and one
 * range of 1 to 18 digits a number, first <= last, without any white space. Everything else gives TUX_RANGE_NONE. */
struct tux_range tux_range_parse(const uint8_t *value, size_t len);

/* Resolve against a representation of `size` bytes: true and *first <= *last < size when satisfiable. */
bool tux_range_resolve(struct tux_range range, uint64_t size, uint64_t *first, uint64_t *last);

#endif
