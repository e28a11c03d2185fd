/* SPDX-License-Identifier: MIT */
/* Headers of the PROXY protocol: read, and built. */
#include "check.h"
#include "proxyproto.h"

#include <stdlib.h>

/* From memory of exactly that size, so that a sanitizer sees any read past it. */
static enum tux_outcome parse(const void *bytes, size_t len, struct tux_proxy *proxy)
{
    uint8_t *copy = malloc(len == 0 ? 1 : len);
    if (len > 0)
        memcpy(copy, bytes, len);
    memset(proxy, 0xa5, sizeof *proxy);
    enum tux_outcome outcome = tux_proxy_parse(copy, len, proxy);
    free(copy);
    return outcome;
}

/* The outcome is MORE at each shorter length, or MALFORMED for all from some length on. */
static enum tux_outcome parse_in_steps(const void *bytes, size_t len, struct tux_proxy *proxy)
{
    enum tux_outcome outcome = TUX_MORE;
    for (size_t n = 0; n <= len && outcome == TUX_MORE; n++) {
        outcome = parse(bytes, n, proxy);
        CHECK(outcome != TUX_DONE || n == proxy->length);
    }
    CHECK(parse(bytes, len, proxy) == outcome);
    return outcome;
}

static bool is(const struct tux_proxy *proxy, const char *address, uint16_t port)
{
    char text[TUX_ADDRESS_TEXT_BYTES];
    tux_address_format(&proxy->source, text);
    return proxy->named && strcmp(text, address) == 0 && proxy->source.port == port;
}

#define LONG6 "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

static void test_lines(void)
{
    static const struct {
        const char *text, *address; /* NULL: malformed; "": nobody is named */
        uint16_t port;
    } rows[] = {
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n", "192.0.2.1", 1234},
        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", 65535},
        {"PROXY TCP6 2001:db8::1 ::1 0 80\r\n", "2001:db8::1", 0},
        {"PROXY TCP6 ::ffff:192.0.2.1 ::1 5 80\r\n", "192.0.2.1", 5},
        {"PROXY TCP6 " LONG6 " " LONG6 " 65535 65535\r\n", LONG6, 65535},
        {"PROXY UNKNOWN\r\n", "", 0},
        {"PROXY UNKNOWN " LONG6 " " LONG6 " 65535 65535\r\n", "", 0},
        {"PROXY UNKNOWN what ever\r\n", "", 0},
        {"PROXY UNKNOWN x\ny\r\n", NULL, 0},
        {"PROXY UNKNOWN x\ry\r\n", NULL, 0},
        {"PROXY \r\n", NULL, 0},
        {"PROXY  TCP4 192.0.2.1 192.0.2.2 1 80\r\n", NULL, 0},
        {"PROXY TCP4\r\n", NULL, 0},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", NULL, 0},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", NULL, 0},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 80 \r\n", NULL, 0},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 80 x\r\n", NULL, 0},
        {"PROXY TCP4 192.0.2.1  192.0.2.2 1 80\r\n", NULL, 0},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 01 80\r\n", NULL, 0},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n", NULL, 0},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 -1 80\r\n", NULL, 0},
        {"PROXY TCP4 192.0.2.01 192.0.2.2 1 80\r\n", NULL, 0},
        {"PROXY TCP4 ::1 ::1 1 80\r\n", NULL, 0},
        {"PROXY TCP6 192.0.2.1 192.0.2.2 1 80\r\n", NULL, 0},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 80\n", NULL, 0},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\r\n", NULL, 0},
        {"PROXY UDP4 192.0.2.1 192.0.2.2 1 80\r\n", NULL, 0},
        {"PROXY tcp4 192.0.2.1 192.0.2.2 1 80\r\n", NULL, 0},
        {"PROXY unknown\r\n", NULL, 0},
        {"proxy TCP4 192.0.2.1 192.0.2.2 1 80\r\n", NULL, 0},
        {"PROXY\r\n", NULL, 0},
        {"GET / HTTP/1.1\r\n", NULL, 0},
        {"PUT / HTTP/1.1\r\n", NULL, 0},
        {"\r\nGET / HTTP/1.1\r\n", NULL, 0},
        {"PROXY UNKNOWN 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\r\n",
         NULL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tux_proxy proxy;
        enum tux_outcome outcome = parse_in_steps(rows[i].text, strlen(rows[i].text), &proxy);
        if (!CHECK_ROW(outcome == (rows[i].address == NULL ? TUX_MALFORMED : TUX_DONE), rows[i].text) ||
            rows[i].address == NULL)
            continue;
        CHECK_ROW(proxy.version == 1 && proxy.length == strlen(rows[i].text), rows[i].text);
        CHECK_ROW(rows[i].address[0] == 0 ? !proxy.named : is(&proxy, rows[i].address, rows[i].port), rows[i].text);
    }
    /* What follows is not read. */
    struct tux_proxy proxy;
    static const char more[] = "PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n\r\n";
    CHECK(parse(more, sizeof more - 1, &proxy) == TUX_DONE && proxy.length == 15);
}

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\xc0\0\2\1\xc0\0\2\2\4\xd2\0\x50"
#define V6 "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1\4\xd2\0\x50"

static void test_binary(void)
{
    static char row_unix[16 + 216] = SIGNATURE "\x21\x31\0\xd8";
#define ROW(text, ...) {text, sizeof(text) - 1, __VA_ARGS__}
    static const struct {
        const char *bytes;
        size_t len;
        const char *address;
        uint16_t port;
    } rows[] = {
        ROW(SIGNATURE "\x21\x11\0\x0c" V4, "192.0.2.1", 1234),
        ROW(SIGNATURE "\x21\x11\0\x12" V4 "\4\0\3abc", "192.0.2.1", 1234),
        ROW(SIGNATURE "\x21\x11\0\x0d" V4 "\4", "192.0.2.1", 1234), /* a torn TLV is nobody's business */
        ROW(SIGNATURE "\x21\x21\0\x24" V6, "2001:db8::1", 1234),
        ROW(SIGNATURE "\x20\0\0\0", "", 0),
        ROW(SIGNATURE "\x20\x11\0\x0c" V4, "", 0),
        ROW(SIGNATURE "\x20\x11\0\3abc", "", 0),
        ROW(SIGNATURE "\x20\x12\0\0", "", 0),
        ROW(SIGNATURE "\x21\0\0\0", "", 0),
        ROW(SIGNATURE "\x21\1\0\3abc", "", 0),
        ROW(SIGNATURE "\x21\x10\0\x0c" V4, "", 0),
        {row_unix, sizeof row_unix, "", 0},
        ROW(SIGNATURE "\x21\x11\0\x0b" V4, NULL, 0),
        ROW(SIGNATURE "\x21\x21\0\x0c" V4, NULL, 0),
        ROW(SIGNATURE "\x21\x31\0\x0c" V4, NULL, 0),
        ROW(SIGNATURE "\x21\x12\0\x0c" V4, NULL, 0),
        ROW(SIGNATURE "\x21\x41\0\x0c" V4, NULL, 0),
        ROW(SIGNATURE "\x21\x13\0\x0c" V4, NULL, 0),
        ROW(SIGNATURE "\x22\x11\0\x0c" V4, NULL, 0),
        ROW(SIGNATURE "\x11\x11\0\x0c" V4, NULL, 0),
        ROW(SIGNATURE "\x31\x11\0\x0c" V4, NULL, 0),
        ROW(SIGNATURE "\x21\x11\x0f\xf1" V4, NULL, 0), /* 4097 bytes */
        ROW(SIGNATURE "\x20\x00\xff\xff", NULL, 0),
        ROW("\r\n\r\n\0\r\nQUIT\r", NULL, 0),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tux_proxy proxy;
        enum tux_outcome outcome = parse_in_steps(rows[i].bytes, rows[i].len, &proxy);
        char about[32];
        snprintf(about, sizeof about, "row %zu", i);
        if (!CHECK_ROW(outcome == (rows[i].address == NULL ? TUX_MALFORMED : TUX_DONE), about) || rows[i].address == NULL)
            continue;
        CHECK_ROW(proxy.version == 2 && proxy.length == rows[i].len, about);
        CHECK_ROW(rows[i].address[0] == 0 ? !proxy.named : is(&proxy, rows[i].address, rows[i].port), about);
    }
    static uint8_t longest[TUX_MAX_PROXY_BYTES] = SIGNATURE "\x21\x11\x0f\xf0";
    struct tux_proxy proxy;
    CHECK(parse(longest, sizeof longest - 1, &proxy) == TUX_MORE);
    CHECK(parse(longest, sizeof longest, &proxy) == TUX_DONE && proxy.length == sizeof longest);
}

static void test_build(void)
{
    static const struct {
        const char *source, *destination, *line; /* "": a unix socket */
        size_t binary;
    } rows[] = {
        {"192.0.2.1:1234", "192.0.2.2:80", "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n", 28},
        {"[2001:db8::1]:1", "[::1]:65535", "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", 52},
        {"192.0.2.1", "[2001:db8::1]:80", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 0 80\r\n", 52},
        {"[2001:db8::1]:1", "192.0.2.1:80", "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 1 80\r\n", 52},
        {"[" LONG6 "]:65535", "[" LONG6 "]:65535", "PROXY TCP6 " LONG6 " " LONG6 " 65535 65535\r\n", 52},
        {"", "192.0.2.1:80", "PROXY UNKNOWN\r\n", 16},
        {"192.0.2.1:80", "", "PROXY UNKNOWN\r\n", 16},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tux_address source = {.kind = TUX_ADDRESS_UNIX}, destination = source;
        uint8_t out[TUX_PROXY_BUILD_BYTES];
        struct tux_proxy proxy;
        if (rows[i].source[0] != 0)
            CHECK(tux_address_parse_node((const uint8_t *)rows[i].source, strlen(rows[i].source), &source));
        if (rows[i].destination[0] != 0)
            CHECK(tux_address_parse_node((const uint8_t *)rows[i].destination, strlen(rows[i].destination), &destination));
        bool named = source.kind != TUX_ADDRESS_UNIX && destination.kind != TUX_ADDRESS_UNIX;
        size_t len = tux_proxy_build(1, &source, &destination, out);
        CHECK_ROW(len == strlen(rows[i].line) && memcmp(out, rows[i].line, len) == 0, rows[i].line);
        for (unsigned version = 1; version <= 2; version++) {
            len = tux_proxy_build(version, &source, &destination, out);
            CHECK_ROW(version == 1 || len == rows[i].binary, rows[i].line);
            CHECK_ROW(parse(out, len, &proxy) == TUX_DONE && proxy.length == len && proxy.version == version, rows[i].line);
            CHECK_ROW(proxy.named == named, rows[i].line);
            CHECK_ROW(!named || memcmp(&proxy.source, &source, sizeof source) == 0, rows[i].line);
        }
    }
}

int main(void)
{
    test_lines();
    test_binary();
    test_build();
    return check_report();
}
