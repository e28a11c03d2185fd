/* SPDX-License-Identifier: MIT */
#include "validator.h"

#include <string.h>

#include "xxh64.h"

#define DAY_SECONDS 86400
#define LATEST INT64_C(253402300799) /* 9999-12-31T23:59:59: years have four digits */

static const char hex_digits[] = "0123456789abcdef";

static void put_two(char *out, unsigned number)
{
    out[0] = (char)('0' + number / 10 % 10);
    out[1] = (char)('0' + number % 10);
}

void tux_http_date(int64_t seconds, char out[TUX_HTTP_DATE_BYTES])
{
    static const char days[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"}; /* from 1970-01-01 on */
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    seconds = seconds < 0 ? 0 : seconds > LATEST ? LATEST : seconds;
    unsigned day = (unsigned)(seconds / DAY_SECONDS), second = (unsigned)(seconds % DAY_SECONDS);
    /* The Gregorian calendar repeats after 400 years of 146,097 days; counted from 1 March 0000, the leap day is a year's
     * last (Hinnant, "chrono-compatible low-level date algorithms", days_from_civil and its inverse). */
    unsigned shifted = day + 719468u;
    unsigned era = shifted / 146097u, of_era = shifted % 146097u;
    unsigned year_of_era = (of_era - of_era / 1460u + of_era / 36524u - of_era / 146096u) / 365u;
    unsigned of_year = of_era - (365u * year_of_era + year_of_era / 4u - year_of_era / 100u);
    unsigned march_month = (5u * of_year + 2u) / 153u; /* 0: March */
    unsigned month = march_month < 10u ? march_month + 2u : march_month - 10u;
    unsigned year = era * 400u + year_of_era + (month < 2u);
    memcpy(out, "Ddd, dd Mmm yyyy hh:mm:ss GMT", TUX_HTTP_DATE_BYTES);
    memcpy(out, days[day % 7u], 3);
    put_two(out + 5, of_year - (153u * march_month + 2u) / 5u + 1u);
    memcpy(out + 8, months[month], 3);
    put_two(out + 12, year / 100u);
    put_two(out + 14, year);
    put_two(out + 17, second / 3600u);
    put_two(out + 20, second / 60u % 60u);
    put_two(out + 23, second % 60u);
}

void tux_content_tag(const void *body, size_t len, char out[TUX_CONTENT_TAG_BYTES])
{
    uint64_t hash = tux_xxh64(body, len);
    for (unsigned i = 0; i < TUX_CONTENT_TAG_BYTES; i++)
        out[i] = hex_digits[hash >> (60u - 4u * i) & 15u];
}

static char *put_hex(char *out, uint64_t number)
{
    char digits[16];
    unsigned n = 0;
    do
        digits[n++] = hex_digits[number & 15u];
    while ((number >>= 4) != 0);
    while (n > 0)
        *out++ = digits[--n];
    return out;
}

size_t tux_state_tag(uint64_t size, int64_t mtime_ns, char out[TUX_MAX_STATE_TAG_BYTES])
{
    char *end = put_hex(out, size);
    *end++ = '-';
    if (mtime_ns < 0)
        *end++ = '-';
    end = put_hex(end, mtime_ns < 0 ? 0u - (uint64_t)mtime_ns : (uint64_t)mtime_ns);
    return (size_t)(end - out);
}
