/* SPDX-License-Identifier: MIT */
/* The head scanner: what is accepted and how it is read, what is refused and with which status, and limits. Each text
 * arrives at once, and in pieces of every size. Signatures are in test_signature.c. */
#include <stdio.h>

#include "check.h"
#include "field.h"
#include "head_text.h"

#define HOST "Host: a\r\n"
#define GET11 "GET / HTTP/1.1\r\n"

static struct tux_head head; /* of the last text; large, so not on the stack */

/* All ways to deliver a text agree. A text that is refused at once may be refused later when it comes in pieces, but at
 * the latest with its blank line. */
static enum tux_outcome deliver(const char *text, size_t len, const struct tux_head_limits *limits)
{
    static struct tux_head other;
    static char closed[TUX_MAX_HEAD_BYTES * 3];
    enum tux_outcome outcome = scan_copy(text, len, 0, limits, &default_rules, &head);

    for (size_t step = 1; step <= len; step++) {
        enum tux_outcome piece = scan_in_steps(text, len, step, limits, &default_rules, &other);
        if (outcome == TUX_DONE)
            CHECK_ROW(piece == TUX_DONE && same_head(&head, &other), text);
        else if (outcome == TUX_MORE)
            CHECK_ROW(piece == TUX_MORE, text);
        else if (piece != TUX_MALFORMED) {
            memcpy(closed, text, len);
            memcpy(closed + len, "\r\n\r\n", 4);
            CHECK_ROW(piece == TUX_MORE, text);
            CHECK_ROW(scan_copy(closed, len + 4, len, limits, &default_rules, &other) == TUX_MALFORMED, text);
        }
    }
    if (outcome == TUX_DONE)
        CHECK_ROW(head.length <= len && spans_inside(&head), text);
    if (outcome == TUX_MALFORMED)
        CHECK_ROW(head.error_reason != NULL && strlen(head.error_reason) > 0, text);
    CHECK_ROW((size_t)head.host.off + head.host.len <= len, text);
    return outcome;
}

static bool span_is(const char *text, struct tux_span span, const char *want)
{
    return span.len == strlen(want) && memcmp(text + span.off, want, span.len) == 0;
}

static bool accept(const char *text)
{
    return CHECK_ROW(deliver(text, strlen(text), &default_limits) == TUX_DONE, text) &&
           CHECK_ROW(head.length == strlen(text), text);
}

/* -- refused ----------------------------------------------------------------------------------------------------- */

struct refusal {
    const char *text;
    size_t len;
    uint16_t status;
};

#define REFUSE(status, text)                                                                                           \
    {                                                                                                                  \
        text, sizeof(text) - 1, status                                                                                 \
    }

static const struct refusal refusals[] = {
    /* before the request line */
    REFUSE(400, "\r\n\r\n" GET11 HOST "\r\n"),
    REFUSE(400, "\n" GET11 HOST "\r\n"),
    REFUSE(400, "\r" GET11 HOST "\r\n"),
    REFUSE(400, " " GET11 HOST "\r\n"),
    REFUSE(400, "\r\n " GET11 HOST "\r\n"),
    REFUSE(400, "\r\n\n"),
    REFUSE(400, "\x16\x03\x01\x02"), /* a TLS hello */
    REFUSE(400, "\0"),
    REFUSE(400, "\xff"),
    /* method */
    REFUSE(400, "G(T / HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET\t/ HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET\r\n\r\n"),
    REFUSE(400, "GET\0 / HTTP/1.1\r\n"),
    REFUSE(400, "GE\x80 / HTTP/1.1\r\n"),
    REFUSE(400, "GET: / HTTP/1.1\r\n"),
    REFUSE(501, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-ABCDEF / HTTP/1.1\r\n" HOST "\r\n"),
    /* target */
    REFUSE(400, "GET  / HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET /  HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET / a HTTP/1.1\r\n"),
    REFUSE(400, "GET /\tHTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET /a#b HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET /?a#b HTTP/1.1\r\n"),
    REFUSE(400, "GET /a\0b HTTP/1.1\r\n"),
    REFUSE(400, "GET /a\x7f HTTP/1.1\r\n"),
    REFUSE(400, "GET /a\x01 HTTP/1.1\r\n"),
    REFUSE(400, "GET /a\rb HTTP/1.1\r\n"),
    REFUSE(400, "GET index.html HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET ? HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET * HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "OPTIONS ** HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "OPTIONS *?a HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET a:80 HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET ftp://a/ HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET http:/a HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET unix:/run/x HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET http:// HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET http:///a HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET http://?a HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET http://u@a/ HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET http://u:p@a/ HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET http://a,b/ HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET http://a:0/ HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET http://a\\b/ HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET @a/ HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET http://a/ HTTP/1.1\r\n\r\n"), /* Host is needed all the same */
    REFUSE(400, "CONNECT / HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "CONNECT a HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "CONNECT a: HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "CONNECT a:1?b HTTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "CONNECT http://a:1/ HTTP/1.1\r\n" HOST "\r\n"),
    /* version */
    REFUSE(400, "GET /\r\n\r\n"),
    REFUSE(400, "GET / \r\n\r\n"),
    REFUSE(400, "GET / http/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET / HTTP/1\r\n" HOST "\r\n"),
    REFUSE(400, "GET / HTTP/1.\r\n" HOST "\r\n"),
    REFUSE(400, "GET / HTTP/1.10\r\n" HOST "\r\n"),
    REFUSE(400, "GET / HTTP/11.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET / HTTP/+1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET / HTTP/1.1 \r\n" HOST "\r\n"),
    REFUSE(400, "GET / HTTP/1.1\n" HOST "\n"),
    REFUSE(400, "GET / HTTP/1.1\r\r\n" HOST "\r\n"),
    REFUSE(400, "GET / HTP/1.1\r\n" HOST "\r\n"),
    REFUSE(400, "GET / HTTPS/1.1\r\n"),
    REFUSE(505, "GET / HTTP/0.9\r\n" HOST "\r\n"),
    REFUSE(505, "GET / HTTP/2.0\r\n" HOST "\r\n"),
    REFUSE(505, "GET / HTTP/3.1\r\n\r\n"),
    REFUSE(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), /* a client of HTTP/2 without TLS */
    /* field lines */
    REFUSE(400, GET11 HOST "A : b\r\n\r\n"),
    REFUSE(400, GET11 HOST "A\t: b\r\n\r\n"),
    REFUSE(400, GET11 HOST ": b\r\n\r\n"),
    REFUSE(400, GET11 HOST "A\r\n\r\n"),
    REFUSE(400, GET11 HOST "A b: c\r\n\r\n"),
    REFUSE(400, GET11 HOST "A: b\r\n c\r\n\r\n"),
    REFUSE(400, GET11 HOST "A: b\r\n\tc\r\n\r\n"),
    REFUSE(400, GET11 " " HOST "\r\n"),
    REFUSE(400, GET11 HOST " \r\n\r\n"),
    REFUSE(400, GET11 HOST "A\0: b\r\n\r\n"),
    REFUSE(400, GET11 HOST "A\x80: b\r\n\r\n"),
    REFUSE(400, GET11 HOST "A(: b\r\n\r\n"),
    REFUSE(400, GET11 HOST "A: b\0c\r\n\r\n"),
    REFUSE(400, GET11 HOST "A: b\x01\r\n\r\n"),
    REFUSE(400, GET11 HOST "A: b\x7f\r\n\r\n"),
    REFUSE(400, GET11 HOST "A: b\x0b\r\n\r\n"),
    REFUSE(400, GET11 HOST "A: b\rC: d\r\n\r\n"),
    REFUSE(400, GET11 HOST "A: b\rXC: d\r\n\r\n"),
    REFUSE(400, GET11 HOST "A: b\nC: d\r\n\r\n"),
    REFUSE(400, GET11 HOST "A: b\n\r\n"),
    REFUSE(400, GET11 HOST "A: b\r\n\n"),
    REFUSE(400, GET11 HOST "\n"),
    REFUSE(400, GET11 HOST "A: b\r\n\rGET"),
    REFUSE(400, GET11 HOST "A: b\r\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length\x0b: 5\r\n\r\n"),
    /* Host */
    REFUSE(400, GET11 "\r\n"),
    REFUSE(400, GET11 HOST HOST "\r\n"),
    REFUSE(400, GET11 HOST "hOST: b\r\n\r\n"),
    REFUSE(400, "GET / HTTP/1.0\r\n" HOST HOST "\r\n"),
    REFUSE(400, GET11 "Host:\r\n\r\n"),
    REFUSE(400, GET11 "Host: \r\n\r\n"),
    REFUSE(400, "GET / HTTP/1.0\r\nHost:\r\n\r\n"),
    REFUSE(400, GET11 "Host: a b\r\n\r\n"),
    REFUSE(400, GET11 "Host: a,b\r\n\r\n"),
    REFUSE(400, GET11 "Host: u@a\r\n\r\n"),
    REFUSE(400, GET11 "Host: a/b\r\n\r\n"),
    REFUSE(400, GET11 "Host: a\\b\r\n\r\n"),
    REFUSE(400, GET11 "Host: a\tb\r\n\r\n"),
    REFUSE(400, GET11 "Host: a?\r\n\r\n"),
    REFUSE(400, GET11 "Host: a\x80\r\n\r\n"),
    REFUSE(400, GET11 "Host: \"a\"\r\n\r\n"),
    REFUSE(400, GET11 "Host: :80\r\n\r\n"),
    REFUSE(400, GET11 "Host: a:b\r\n\r\n"),
    REFUSE(400, GET11 "Host: a:0\r\n\r\n"),
    REFUSE(400, GET11 "Host: a:65536\r\n\r\n"),
    REFUSE(400, GET11 "Host: a:000080\r\n\r\n"),
    REFUSE(400, GET11 "Host: a:80:80\r\n\r\n"),
    REFUSE(400, GET11 "Host: a:-1\r\n\r\n"),
    REFUSE(400, GET11 "Host: a:+1\r\n\r\n"),
    REFUSE(400, GET11 "Host: a:80@b\r\n\r\n"),
    REFUSE(400, GET11 "Host: a%\r\n\r\n"),
    REFUSE(400, GET11 "Host: a%2\r\n\r\n"),
    REFUSE(400, GET11 "Host: a%2g\r\n\r\n"),
    REFUSE(400, GET11 "Host: [\r\n\r\n"),
    REFUSE(400, GET11 "Host: []\r\n\r\n"),
    REFUSE(400, GET11 "Host: [::1\r\n\r\n"),
    REFUSE(400, GET11 "Host: [abcd]\r\n\r\n"),
    REFUSE(400, GET11 "Host: [::1]a\r\n\r\n"),
    REFUSE(400, GET11 "Host: [::1]:\x30\r\n\r\n"),
    REFUSE(400, GET11 "Host: [::g]\r\n\r\n"),
    REFUSE(400, GET11 "Host: ::1\r\n\r\n"),
    REFUSE(400, GET11 "Host: [fe80::1%25eth0]\r\n\r\n"),
    REFUSE(400, GET11 "Host: [v1.a]\r\n\r\n"),
    REFUSE(400, GET11 "Host: [0000:0000:0000:0000:0000:0000:000.000.000.0000]\r\n\r\n"),
    /* Content-Length */
    REFUSE(400, GET11 HOST "Content-Length:\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: +1\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: -1\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: 0x1\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: 1_0\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: 1 0\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: 5,5\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: 5, 5\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: 1.0\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: 1e1\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: \xb2\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: \"5\"\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: 1000000000000000000\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: 18446744073709551616\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: 5\r\ncontent-length: 6\r\n\r\n"),
    /* Transfer-Encoding */
    REFUSE(400, GET11 HOST "Transfer-Encoding:\r\n\r\n"),
    REFUSE(400, GET11 HOST "Transfer-Encoding: gzip\r\n\r\n"),
    REFUSE(400, GET11 HOST "Transfer-Encoding: identity\r\n\r\n"),
    REFUSE(400, GET11 HOST "Transfer-Encoding: gzip, chunked\r\n\r\n"),
    REFUSE(400, GET11 HOST "Transfer-Encoding: chunked, chunked\r\n\r\n"),
    REFUSE(400, GET11 HOST "Transfer-Encoding: xchunked\r\n\r\n"),
    REFUSE(400, GET11 HOST "Transfer-Encoding: chunked;q=1\r\n\r\n"),
    REFUSE(400, GET11 HOST "Transfer-Encoding: \"chunked\"\r\n\r\n"),
    REFUSE(400, GET11 HOST "Transfer-Encoding: \x0b"
                           "chunked\r\n\r\n"),
    REFUSE(400, GET11 HOST "Transfer-Encoding: chunked,\r\n\r\n"),
    REFUSE(400, GET11 HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    REFUSE(400, GET11 HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n"),
    REFUSE(400, "GET / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"),
    REFUSE(400, GET11 HOST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
    REFUSE(400, GET11 HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
};

static void test_refusals(void)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct refusal *row = &refusals[i];
        if (CHECK_ROW(deliver(row->text, row->len, &default_limits) == TUX_MALFORMED, row->text))
            CHECK_ROW(head.error_status == row->status, row->text);
    }
}

/* Bare LF, NUL and other controls are refused with the byte that shows them, not only at the end of the head. */
static void test_refused_at_once(void)
{
    static const struct refusal rows[] = {
        REFUSE(400, GET11 HOST "A: b\n"),
    REFUSE(400, GET11 "\n"),
        REFUSE(400, GET11 HOST "A: \0"),  REFUSE(400, GET11 HOST "A: b\rc"),
        REFUSE(400, GET11 HOST "A\x01"),  REFUSE(400, GET11 HOST "A: \x7f"),
        REFUSE(400, "GET / HTTP/1.1\n"),  REFUSE(400, "G\x7f"),
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CHECK_ROW(scan_copy(rows[i].text, rows[i].len - 1, 0, &default_limits, &default_rules, &head) == TUX_MORE,
                  rows[i].text);
        CHECK_ROW(scan_copy(rows[i].text, rows[i].len, rows[i].len - 1, &default_limits, &default_rules, &head) ==
                      TUX_MALFORMED,
                  rows[i].text);
        CHECK_EQ(head.error_status, rows[i].status);
    }
}

/* -- accepted ---------------------------------------------------------------------------------------------------- */

static void test_a_browser_head(void)
{
    const char *text = "GET /a/b.html?x=1&y HTTP/1.1\r\nHost: Example.org:8080\r\nUser-Agent:  Mozilla/5.0 (X11)\t \r\n"
                       "accept: */*\r\nX_Custom.1~: \r\nIf-None-Match: \"a\"\r\nIF-NONE-MATCH: \"b\"\r\n\r\n";
    if (!accept(text))
        return;
    CHECK_EQ(head.method, TUX_METHOD_GET);
    CHECK_EQ(head.minor, 1);
    CHECK(head.keep_alive && head.is_signed && head.has_query && !head.same);
    CHECK(!head.has_length && !head.chunked && !head.expect_continue && !head.expect_other && !head.upgrade);
    CHECK_EQ(head.content_length, 0);
    CHECK_EQ(head.range.kind, TUX_RANGE_NONE);
    CHECK(span_is(text, head.method_name, "GET"));
    CHECK(span_is(text, head.target, "/a/b.html?x=1&y"));
    CHECK(span_is(text, head.path, "/a/b.html"));
    CHECK(span_is(text, head.query, "x=1&y"));
    CHECK(span_is(text, head.host, "Example.org:8080"));
    CHECK_EQ(head.n_fields, 6);
    CHECK(span_is(text, head.fields[1].name, "User-Agent") && span_is(text, head.fields[1].value, "Mozilla/5.0 (X11)"));
    CHECK(span_is(text, head.fields[2].name, "accept") && head.fields[2].id == TUX_FIELD_ACCEPT);
    CHECK(span_is(text, head.fields[3].name, "X_Custom.1~") && span_is(text, head.fields[3].value, ""));
    CHECK_EQ(head.fields[3].id, TUX_FIELD_OTHER);
    CHECK(head.fields[4].id == TUX_FIELD_IF_NONE_MATCH && head.fields[5].id == TUX_FIELD_IF_NONE_MATCH);
    CHECK_EQ(head.seen, 1u << TUX_FIELD_HOST | 1u << TUX_FIELD_USER_AGENT | 1u << TUX_FIELD_ACCEPT |
                            1u << TUX_FIELD_OTHER | 1u << TUX_FIELD_IF_NONE_MATCH);
}

static void test_methods(void)
{
    static const struct {
        const char *name;
        uint8_t method;
    } rows[] = {
        {"GET", TUX_METHOD_GET},
        {"HEAD", TUX_METHOD_HEAD},
        {"OPTIONS", TUX_METHOD_OPTIONS},
        {"POST", TUX_METHOD_POST},
        {"PUT", TUX_METHOD_PUT},
        {"DELETE", TUX_METHOD_DELETE},
        {"PATCH", TUX_METHOD_PATCH},
        {"TRACE", TUX_METHOD_TRACE},
        {"get", TUX_METHOD_OTHER},
        {"GETS", TUX_METHOD_OTHER},
        {"GE", TUX_METHOD_OTHER},
        {"PROPFIND", TUX_METHOD_OTHER},
        {"!#$%&'*+-.^_`|~09", TUX_METHOD_OTHER},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZ-ABCDE", TUX_METHOD_OTHER},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[128];
        snprintf(text, sizeof(text), "%s / HTTP/1.1\r\n" HOST "\r\n", rows[i].name);
        if (accept(text)) {
            CHECK_ROW(head.method == rows[i].method, text);
            CHECK_ROW(span_is(text, head.method_name, rows[i].name), text);
            CHECK_ROW(head.is_signed == (rows[i].method >= TUX_METHOD_GET && rows[i].method <= TUX_METHOD_OPTIONS),
                      text);
        }
    }
}

static void test_targets(void)
{
    static const struct {
        const char *method, *target, *path, *query, *host; /* query NULL: none */
    } rows[] = {
        {"GET", "/", "/", NULL, "a"},
        {"GET", "/?", "/", "", "a"},
        {"GET", "/a?b?c", "/a", "b?c", "a"},
        {"GET", "//evil.example/", "//evil.example/", NULL, "a"},
        {"GET", "/%00/../%2e", "/%00/../%2e", NULL, "a"}, /* not the scanner's business */
        {"GET", "/\\\"<>^`{|}", "/\\\"<>^`{|}", NULL, "a"},
        {"GET", "/\x80\xff", "/\x80\xff", NULL, "a"},
        {"GET", "/0123456789abcdefghijklmnopqrstuvwxyz?q", "/0123456789abcdefghijklmnopqrstuvwxyz", "q", "a"},
        {"OPTIONS", "*", "*", NULL, "a"},
        {"OPTIONS", "/*", "/*", NULL, "a"},
        {"GET", "http://b.example:81/c?d", "/c", "d", "b.example:81"},
        {"GET", "HTTPS://b/", "/", NULL, "b"},
        {"GET", "http://b", "/", NULL, "b"},
        {"GET", "http://b?c/d@e", "/", "c/d@e", "b"},
        {"GET", "http://[::1]:80/", "/", NULL, "[::1]:80"},
        {"CONNECT", "b:443", "", NULL, "a"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[160];
        snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\n" HOST "\r\n", rows[i].method, rows[i].target);
        if (!accept(text))
            continue;
        CHECK_ROW(span_is(text, head.target, rows[i].target), text);
        CHECK_ROW(span_is(text, head.path, rows[i].path), text);
        CHECK_ROW(head.has_query == (rows[i].query != NULL), text);
        CHECK_ROW(span_is(text, head.query, rows[i].query != NULL ? rows[i].query : ""), text);
        CHECK_ROW(span_is(text, head.host, rows[i].host), text);
    }
}

static void test_hosts(void)
{
    static const char *const hosts[] = {
        "a",     "example.org",     "EXAMPLE.ORG", "a_b.example", "127.0.0.1:8080", "a:",
        "a:1",   "a:65535",         "a:00080",     "[::1]",       "[::1]:",         "[2001:DB8::ffff:192.0.2.1]:443",
        "a%20b", "a-b.~!$&'()*+;=", "a.",          "0000:1",
    };
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        char text[160];
        snprintf(text, sizeof(text), GET11 "Host: %s\r\n\r\n", hosts[i]);
        if (accept(text))
            CHECK_ROW(span_is(text, head.host, hosts[i]), text);
    }
    CHECK(accept("GET / HTTP/1.0\r\n\r\n") && head.host.len == 0 && head.n_fields == 0);
    CHECK(accept("GET http://b/ HTTP/1.0\r\n\r\n") && head.host.len == 1);
}

static void test_versions(void)
{
    CHECK(accept("GET / HTTP/1.0\r\n" HOST "\r\n") && head.minor == 0 && !head.keep_alive);
    CHECK(accept("GET / HTTP/1.1\r\n" HOST "\r\n") && head.minor == 1 && head.keep_alive);
    CHECK(accept("GET / HTTP/1.2\r\n" HOST "\r\n") && head.minor == 1 && head.keep_alive);
    CHECK(accept("GET / HTTP/1.9\r\n" HOST "\r\n") && head.minor == 1);
    CHECK(accept("\r\nGET / HTTP/1.1\r\n" HOST "\r\n") && head.method_name.off == 2);
}

static void test_connection(void)
{
    static const struct {
        const char *version, *lines;
        bool keep_alive;
    } rows[] = {
        {"1.1", "", true},
        {"1.1", "Connection: keep-alive\r\n", true},
        {"1.1", "Connection: close\r\n", false},
        {"1.1", "CONNECTION: Close\r\n", false},
        {"1.1", "Connection: keep-alive, close\r\n", false},
        {"1.1", "Connection: close, keep-alive\r\n", false},
        {"1.1", "Connection: keep-alive\r\nConnection: close\r\n", false},
        {"1.1", "Connection: , ,\tclose\t,\r\n", false},
        {"1.1", "Connection: closed\r\n", true},
        {"1.1", "Connection: \"close\"\r\n", true},
        {"1.1", "Connection: not close\r\n", true},
        {"1.1", "Connection:\r\n", true},
        {"1.1", "Connection: upgrade\r\n", true},
        {"1.0", "", false},
        {"1.0", "Connection: keep-alive\r\n", true},
        {"1.0", "Connection: x, Keep-Alive\r\n", true},
        {"1.0", "Connection: keep-alive, close\r\n", false},
        {"1.0", "Connection: keep\r\n", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[160];
        snprintf(text, sizeof(text), "GET / HTTP/%s\r\n" HOST "%s\r\n", rows[i].version, rows[i].lines);
        if (accept(text))
            CHECK_ROW(head.keep_alive == rows[i].keep_alive, text);
    }
}

static void test_bodies(void)
{
    CHECK(accept("POST / HTTP/1.1\r\n" HOST "Content-Length: 010\r\n\r\n") && head.has_length &&
          head.content_length == 10);
    CHECK(accept("POST / HTTP/1.1\r\n" HOST "Content-Length: \t0 \r\n\r\n") && head.has_length &&
          head.content_length == 0);
    CHECK(accept("GET / HTTP/1.1\r\n" HOST "Content-Length: 999999999999999999\r\n\r\n") &&
          head.content_length == 999999999999999999u);
    CHECK(accept("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n") && head.chunked && !head.has_length);
    CHECK(accept("POST / HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\n\r\n") && head.expect_continue &&
          !head.expect_other);
    CHECK(accept("POST / HTTP/1.0\r\n" HOST "Expect: 100-continue\r\n\r\n") && !head.expect_continue &&
          !head.expect_other);
    CHECK(accept("POST / HTTP/1.1\r\n" HOST "Expect: 100-continue, x\r\n\r\n") && !head.expect_continue &&
          head.expect_other);
    CHECK(accept("POST / HTTP/1.1\r\n" HOST "Expect: 200-ok\r\n\r\n") && !head.expect_continue && head.expect_other);
    CHECK(accept("POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nExpect: x\r\n\r\n") && head.expect_other);
    CHECK(accept("GET / HTTP/1.1\r\n" HOST "Upgrade: h2c\r\n\r\n") && head.upgrade);
}

static void test_ranges(void)
{
    CHECK(accept(GET11 HOST "Range: bytes=5-9\r\n\r\n") && head.range.kind == TUX_RANGE_CLOSED &&
          head.range.first == 5 && head.range.last == 9 && !head.same);
    CHECK(accept(GET11 HOST "Range: bytes=5-9,11-12\r\n\r\n") && head.range.kind == TUX_RANGE_NONE && head.same);
    CHECK(accept(GET11 HOST "Range: bytes=5-9\r\nRange: bytes=5-9\r\n\r\n") && head.range.kind == TUX_RANGE_NONE &&
          !head.is_signed);
}

static void test_pipelined(void)
{
    static const char first[] = "GET /1 HTTP/1.1\r\n" HOST "\r\n",
                      both[] = "GET /1 HTTP/1.1\r\n" HOST "\r\nGET /2\n\0 broken";
    CHECK_EQ(deliver(both, sizeof(both) - 1, &default_limits), TUX_DONE);
    CHECK_EQ(head.length, sizeof(first) - 1);
}

static void test_incomplete(void)
{
    static const char text[] = "\r\nOPTIONS http://a.example/?b HTTP/1.1\r\nHost: b\r\nA: c\r\n\r\n";
    for (size_t len = 0; len < sizeof(text) - 1; len++)
        CHECK_EQ(deliver(text, len, &default_limits), TUX_MORE);
    CHECK_EQ(deliver(text, sizeof(text) - 1, &default_limits), TUX_DONE);
}

/* -- limits ------------------------------------------------------------------------------------------------------ */

static void test_limits(void)
{
    const struct tux_head_limits limits = {10, 60, 3};
    const char *longest = "GET /2345678901 HTTP/1.1\r\nHost: a\r\n";
    char text[256];

    CHECK_EQ(deliver("GET /234567890 HTTP/1.1\r\nHost: a\r\n\r\n", 36, &limits), TUX_DONE);
    CHECK(deliver(longest, strlen(longest), &limits) == TUX_MALFORMED && head.error_status == 414);
    CHECK(deliver("GET /2345678901", 15, &limits) == TUX_MALFORMED && head.error_status == 414);

    snprintf(text, sizeof(text), GET11 "Host: a\r\nA: %025d\r\n\r\n", 0); /* 57 bytes */
    CHECK_EQ(strlen(text), 57);
    CHECK_EQ(deliver(text, strlen(text), &limits), TUX_DONE);
    snprintf(text, sizeof(text), GET11 "Host: a\r\nA: %028d\r\n\r\n", 0);
    CHECK_EQ(deliver(text, 60, &limits), TUX_DONE);
    snprintf(text, sizeof(text), GET11 "Host: a\r\nA: %029d\r\n\r\n", 0);
    CHECK(deliver(text, 61, &limits) == TUX_MALFORMED && head.error_status == 431);
    CHECK(deliver(text, 60, &limits) == TUX_MALFORMED && head.error_status == 431); /* known without the last byte */
    CHECK_EQ(deliver(text, 59, &limits), TUX_MORE);

    CHECK_EQ(deliver(GET11 "Host: a\r\nA:\r\nB:\r\n\r\n", 35, &limits), TUX_DONE);
    CHECK(deliver(GET11 "Host: a\r\nA:\r\nB:\r\nC:\r\n\r\n", 40, &limits) == TUX_MALFORMED && head.error_status == 431);
}

/* Errors have the pages of their site, as far as the host is known. */
static void test_host_of_what_is_malformed(void)
{
    static const struct {
        const char *text, *host;
    } rows[] = {
        {GET11 "Host: a.org:80\r\nbroken\r\n\r\n", "a.org:80"},
        {GET11 "broken\r\nHost: a.org\r\n\r\n", ""},
        {GET11 "Host: a b\r\n\r\n", ""},
        {"GET http://b.org/ HTTP/1.1\r\nHost: a.org\r\nbroken\r\n\r\n", "b.org"},
        {"GET / HTTP/2.0\r\nHost: a.org\r\n\r\n", ""},
        {"G\x01T", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_ROW(deliver(rows[i].text, strlen(rows[i].text), &default_limits) == TUX_MALFORMED, rows[i].text);
        CHECK_ROW(span_is(rows[i].text, head.host, rows[i].host), rows[i].text);
    }
    const struct tux_head_limits limits = {10, 60, 3};
    char text[80];
    snprintf(text, sizeof(text), GET11 "Host: a.org\r\nA: %040d", 0);
    for (size_t step = 1; step <= 60; step++) {
        CHECK(scan_in_steps(text, 70, step, &limits, &default_rules, &head) == TUX_MALFORMED && head.error_status == 431);
        CHECK(span_is(text, head.host, "a.org"));
    }
}

/* A request line that never ends is refused when it has outgrown its limits, however it is delivered. */
static void test_endless_request_line(void)
{
    const struct tux_head_limits limits = {100, 4000, 3};
    static char text[3000];
    memset(text, 'a', sizeof(text));
    memcpy(text, "GET /", 5);
    for (size_t step = 1; step < 300; step += 7) {
        CHECK_EQ(scan_in_steps(text, 300, step, &limits, &default_rules, &head), TUX_MALFORMED);
        CHECK_EQ(head.error_status, 414);
    }
    /* But a long head with a short request line is none. */
    memcpy(text, GET11 HOST "A: ", strlen(GET11 HOST "A: "));
    for (size_t step = 1; step < 300; step += 7)
        CHECK_EQ(scan_in_steps(text, 300, step, &limits, &default_rules, &head), TUX_MORE);
}

static void test_most_fields(void)
{
    static char text[TUX_MAX_HEAD_BYTES];
    for (unsigned extra = 0; extra < 2; extra++) {
        size_t len = (size_t)snprintf(text, sizeof(text), GET11 HOST);
        for (unsigned i = 1; i < TUX_MAX_FIELDS + extra; i++)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "X-%u: %u\r\n", i, i);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "\r\n");
        struct tux_head_limits limits = default_limits;
        limits.fields = UINT32_MAX; /* a setting cannot overrun the array */
        CHECK_EQ(scan_copy(text, len, 0, &limits, &default_rules, &head), extra == 0 ? TUX_DONE : TUX_MALFORMED);
        if (extra == 0)
            CHECK_EQ(head.n_fields, TUX_MAX_FIELDS);
        else
            CHECK_EQ(head.error_status, 431);
    }
}

/* -- names of fields --------------------------------------------------------------------------------------------- */

static void test_field_ids(void)
{
    unsigned known = 0;
    for (unsigned slot = 0; slot < TUX_FIELD_SLOTS; slot++) {
        const struct tux_field_slot *entry = &tux_field_slots[slot];
        uint8_t name[32];
        if (entry->len == 0)
            continue;
        known++;
        memcpy(name, entry->name, entry->len);
        CHECK_ROW(strlen(entry->name) == entry->len, entry->name);
        CHECK_ROW(entry->len >= TUX_FIELD_NAME_MIN_BYTES && entry->len <= TUX_FIELD_NAME_MAX_BYTES, entry->name);
        CHECK_ROW(tux_field_id(name, entry->len) == entry->id, entry->name);
        CHECK_ROW(tux_field_id(name, entry->len - 1u) != entry->id, entry->name);
        for (unsigned i = 0; i < entry->len; i++) {
            uint8_t kept = name[i];
            for (unsigned byte = 0; byte < 256; byte++) { /* one byte changed: the same name only when its case is */
                name[i] = (uint8_t)byte;
                bool same = byte == kept || (kept != '-' && byte == (kept & ~0x20u));
                CHECK_ROW((tux_field_id(name, entry->len) == entry->id) == same, entry->name);
            }
            name[i] = kept;
        }
        name[entry->len] = 's';
        CHECK_ROW(tux_field_id(name, entry->len + 1u) != entry->id, entry->name);
    }
    CHECK_EQ(known, TUX_FIELD_COUNT - 1);
    CHECK_EQ(tux_field_id((const uint8_t *)"", 0), TUX_FIELD_OTHER);
    CHECK_EQ(tux_field_id((const uint8_t *)"HoSt", 4), TUX_FIELD_HOST);
    CHECK_EQ(tux_field_id((const uint8_t *)"X_Forwarded_For", 15), TUX_FIELD_OTHER);
}

int main(void)
{
    test_refusals();
    test_refused_at_once();
    test_a_browser_head();
    test_methods();
    test_targets();
    test_hosts();
    test_versions();
    test_connection();
    test_bodies();
    test_ranges();
    test_pipelined();
    test_incomplete();
    test_limits();
    test_host_of_what_is_malformed();
    test_endless_request_line();
    test_most_fields();
    test_field_ids();
    return check_report();
}
