/* SPDX-License-Identifier: MIT */
/* Small readers that heads of requests and of responses share. */
#ifndef TUX_LINE_H
#define TUX_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "scan.h"
#include "span.h"

#define TUX_MAX_LENGTH_DIGITS 18u /* of Content-Length: below 2^63, so that no sum overflows */

/* Compare with a lower-case text, ASCII case folded. */
static inline bool tux_line_equals(const uint8_t *bytes, size_t len, const char *lower)
{
    if (len != strlen(lower))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (tux_byte_lower(bytes[i]) != (uint8_t)lower[i])
            return false;
    }
    return true;
}

/* 1*DIGIT and nothing else: no sign, no list, no white space inside. */
static inline bool tux_line_number(const uint8_t *p, size_t len, uint64_t *number)
{
    *number = 0;
    if (len == 0 || len > TUX_MAX_LENGTH_DIGITS)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!tux_byte_is_digit(p[i]))
            return false;
        *number = *number * 10 + (uint64_t)(p[i] - '0');
    }
    return true;
}

#define TUX_MAX_DECIMAL_BYTES 20u /* of a 64-bit number */

/* Write a number in decimal; the end of it. */
static inline uint8_t *tux_line_put_decimal(uint8_t *out, uint64_t number)
{
    uint8_t digits[TUX_MAX_DECIMAL_BYTES];
    size_t n = sizeof digits;
    do
        digits[--n] = (uint8_t)('0' + number % 10);
    while ((number /= 10) != 0);
    memcpy(out, digits + n, sizeof digits - n);
    return out + sizeof digits - n;
}

/* The next member of a comma-separated list in [*p, end), without outer white space; false at its end. Empty ones come as
 * empty spans. */
static inline bool tux_line_member(const uint8_t **p, const uint8_t *end, const uint8_t **member, size_t *len)
{
    const uint8_t *from = *p, *to;
    if (from >= end)
        return false;
    to = memchr(from, ',', (size_t)(end - from));
    if (to == NULL)
        to = end;
    *p = to < end ? to + 1 : end;
    while (from < to && tux_byte_is_space(*from))
        from++;
    while (to > from && tux_byte_is_space(to[-1]))
        to--;
    *member = from;
    *len = (size_t)(to - from);
    return true;
}

/* Is the lower-case text a member of the list? */
static inline bool tux_line_lists(const uint8_t *p, const uint8_t *end, const char *lower)
{
    const uint8_t *member;
    size_t len;
    while (tux_line_member(&p, end, &member, &len))
        if (tux_line_equals(member, len, lower))
            return true;
    return false;
}

#endif
