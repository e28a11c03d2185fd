/* SPDX-License-Identifier: MIT */
/* The searches of scan.h against a plain loop: every byte value, at every place, in every length and alignment. */
#include <stdlib.h>

#include "check.h"
#include "scan.h"

#define LENGTHS 70 /* four steps of 16 bytes and a rest */

static bool is_token(unsigned byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte != 0 && byte < 0x80 && strchr("!#$%&'*+-.^_`|~", (int)byte) != NULL);
}

static void test_classes(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t b = (uint8_t)byte;
        bool hex = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
        bool text = byte == '\t' || (byte >= 0x20 && byte != 0x7f);
        CHECK(tux_byte_is(b, TUX_BYTE_TOKEN) == is_token(byte));
        CHECK(tux_byte_is(b, TUX_BYTE_HEX) == hex);
        CHECK(tux_byte_is(b, TUX_BYTE_TEXT) == text);
        CHECK(tux_byte_is(b, TUX_BYTE_TARGET) == (text && byte != '\t' && byte != ' ' && byte != '#'));
        CHECK(tux_byte_is(b, TUX_BYTE_QUOTED) == (text && byte != '"' && byte != '\\'));
        CHECK(tux_byte_is(b, TUX_BYTE_HOST) ==
              (byte != 0 && byte < 0x80 &&
               ((is_token(byte) && strchr("#%^`|", (int)byte) == NULL) || strchr("();=", (int)byte) != NULL)));
        CHECK(tux_byte_lower(b) == (byte >= 'A' && byte <= 'Z' ? byte + 32 : byte));
        CHECK(tux_byte_is_space(b) == (byte == ' ' || byte == '\t'));
        CHECK(tux_byte_is_digit(b) == (byte >= '0' && byte <= '9'));
    }
}

static void test_searches(void)
{
    unsigned wrong = 0;
    for (size_t len = 0; len <= LENGTHS; len++) {
        uint8_t *bytes = malloc(len == 0 ? 1 : len); /* of exactly that size: a sanitizer sees any read past it */
        const uint8_t *query;
        if (bytes == NULL)
            abort();
        memset(bytes, 'a', len);
        wrong += tux_scan_text(bytes, bytes + len) != bytes + len;
        wrong += tux_scan_name(bytes, bytes + len) != bytes + len;
        wrong += tux_scan_target(bytes, bytes + len, &query) != bytes + len || query != NULL;
        for (size_t at = 0; at < len; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                const uint8_t *hit = bytes + at, *end = bytes + len;
                bytes[at] = (uint8_t)byte;
                wrong += tux_scan_text(bytes, end) != (tux_byte_is(bytes[at], TUX_BYTE_TEXT) ? end : hit);
                wrong += tux_scan_name(bytes, end) != (tux_byte_is(bytes[at], TUX_BYTE_TOKEN) ? end : hit);
                wrong += tux_scan_target(bytes, end, &query) != (tux_byte_is(bytes[at], TUX_BYTE_TARGET) ? end : hit);
                wrong += query != (byte == '?' ? hit : NULL);
            }
            bytes[at] = 'a';
        }
        free(bytes);
    }
    CHECK_EQ(wrong, 0);
}

/* The first "?" counts, and none after the end of the target does. */
static void test_query(void)
{
    const char *text = "/0123456789abcdefghijkl?0123456789?0123 ?0123456789abcdef";
    const uint8_t *start = (const uint8_t *)text, *query;
    for (size_t skip = 0; skip < 23; skip++) {
        CHECK(tux_scan_target(start + skip, start + strlen(text), &query) == (const uint8_t *)strchr(text, ' '));
        CHECK(query == (const uint8_t *)strchr(text, '?'));
    }
    start = (const uint8_t *)"/ab ?0123456789abcdef";
    CHECK(tux_scan_target(start, start + 21, &query) == start + 3 && query == NULL);
}

int main(void)
{
    test_classes();
    test_searches();
    test_query();
    return check_report();
}
