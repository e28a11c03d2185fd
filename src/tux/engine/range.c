/* SPDX-License-Identifier: MIT */
#include "range.h"

#include <string.h>

#include "scan.h"

#define MAX_DIGITS 18 /* of one number: below 10^18, so that no sum overflows */

/* Read 1 to MAX_DIGITS digits at *p; false when there are none or more. */
static bool range_number(const uint8_t **p, const uint8_t *end, uint64_t *number)
{
    const uint8_t *start = *p;
    *number = 0;
    while (*p < end && tux_byte_is_digit(**p)) {
        if (*p - start == MAX_DIGITS)
            return false;
        *number = *number * 10 + (uint64_t)(**p - '0');
        (*p)++;
    }
    return *p > start;
}

struct tux_range tux_range_parse(const uint8_t *value, size_t len)
{
    const struct tux_range none = {.kind = TUX_RANGE_NONE};
    static const char unit[6] = "bytes=";
    struct tux_range range = none;
    const uint8_t *p = value + sizeof(unit);
    const uint8_t *end = value + len;

    if (len <= sizeof(unit) || memcmp(value, unit, sizeof(unit)) != 0)
        return none;
    if (*p == '-') {
        p++;
        range.kind = TUX_RANGE_SUFFIX;
        return range_number(&p, end, &range.last) && p == end ? range : none;
    }
    if (!range_number(&p, end, &range.first) || p == end || *p != '-')
        return none;
    p++;
    if (p == end) {
        range.kind = TUX_RANGE_OPEN;
        return range;
    }
    range.kind = TUX_RANGE_CLOSED;
    return range_number(&p, end, &range.last) && p == end && range.first <= range.last ? range : none;
}

bool tux_range_resolve(struct tux_range range, uint64_t size, uint64_t *first, uint64_t *last)
{
    switch (range.kind) {
    case TUX_RANGE_CLOSED:
    case TUX_RANGE_OPEN:
        if (range.first >= size)
            return false;
        *first = range.first;
        *last = range.kind == TUX_RANGE_OPEN || range.last >= size ? size - 1 : range.last;
        return *first <= *last;
    case TUX_RANGE_SUFFIX:
        if (range.last == 0 || size == 0)
            return false;
        *first = range.last >= size ? 0 : size - range.last;
        *last = size - 1;
        return true;
    default:
        return false;
    }
}
