/* SPDX-License-Identifier: MIT */
/* The response head scanner: what is accepted and how it is framed, what is refused, and limits. Each text arrives at once,
 * and in pieces of every size. */
#include <stdlib.h>

#include "check.h"
#include "response.h"

static struct tux_response response; /* of the last text; large, so not on the stack */

/* From memory of exactly that size, so that a sanitizer sees any read past it. */
static enum tux_outcome scan_copy(const char *text, size_t len, size_t seen_len, bool is_head, struct tux_response *out)
{
    uint8_t *copy = calloc(1, len == 0 ? 1 : len);
    if (copy == NULL)
        abort();
    memcpy(copy, text, len);
    memset(out, 0xa5, sizeof *out); /* so that a member that is not set is seen */
    enum tux_outcome outcome = tux_response_scan(copy, len, seen_len, is_head, out);
    free(copy);
    return outcome;
}

static bool same_span(struct tux_span a, struct tux_span b)
{
    return a.off == b.off && a.len == b.len;
}

static bool same(const struct tux_response *a, const struct tux_response *b)
{
    bool equal = a->length == b->length && a->status == b->status && a->minor == b->minor && a->framing == b->framing &&
                 a->keep_alive == b->keep_alive && a->has_length == b->has_length &&
                 a->content_length == b->content_length && same_span(a->reason, b->reason) && a->seen == b->seen &&
                 a->n_fields == b->n_fields;
    for (uint32_t i = 0; equal && i < a->n_fields; i++)
        equal = same_span(a->fields[i].name, b->fields[i].name) && same_span(a->fields[i].value, b->fields[i].value) &&
                a->fields[i].id == b->fields[i].id;
    return equal;
}

/* All ways to deliver a text agree; what is refused at once is refused at the latest with its blank line. */
static enum tux_outcome deliver(const char *text, size_t len, bool is_head)
{
    static struct tux_response other;
    static char closed[2 * TUX_MAX_RESPONSE_HEAD_BYTES + 4];
    enum tux_outcome outcome = scan_copy(text, len, 0, is_head, &response);
    for (size_t step = 1; step <= len; step += len > 400 ? 4096 : 1) {
        enum tux_outcome piece = TUX_MORE;
        for (size_t at = 0; at < len && piece == TUX_MORE; at += step)
            piece = scan_copy(text, len - at < step ? len : at + step, at, is_head, &other);
        if (outcome != TUX_MALFORMED)
            CHECK_ROW(piece == outcome && (piece == TUX_MORE || same(&other, &response)), text);
        else if (piece != TUX_MALFORMED) {
            memcpy(closed, text, len);
            memcpy(closed + len, "\r\n\r\n", 4);
            CHECK_ROW(scan_copy(closed, len + 4, len, is_head, &other) == TUX_MALFORMED, text);
        }
    }
    if (outcome == TUX_MALFORMED)
        CHECK_ROW(response.error_reason != NULL && strlen(response.error_reason) > 0, text);
    return outcome;
}

#define OK11 "HTTP/1.1 200 OK\r\n"

static const struct {
    const char *text;
    uint16_t status;
    uint8_t framing;
    bool keep_alive;
    uint64_t length;
} accepted[] = {
    {OK11 "Content-Length: 5\r\n\r\n", 200, TUX_FRAMING_LENGTH, true, 5},
    {OK11 "content-LENGTH:5 \t\r\n\r\n", 200, TUX_FRAMING_LENGTH, true, 5},
    {OK11 "Content-Length: 000000000000000005\r\n\r\n", 200, TUX_FRAMING_LENGTH, true, 5},
    {OK11 "Content-Length: 999999999999999999\r\n\r\n", 200, TUX_FRAMING_LENGTH, true, 999999999999999999u},
    {OK11 "Transfer-Encoding: Chunked\r\n\r\n", 200, TUX_FRAMING_CHUNKED, true, 0},
    {OK11 "\r\n", 200, TUX_FRAMING_CLOSE, false, 0},
    {OK11 "Connection: keep-alive\r\n\r\n", 200, TUX_FRAMING_CLOSE, false, 0},
    {"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, TUX_FRAMING_LENGTH, true, 0},
    {"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, TUX_FRAMING_LENGTH, true, 0},
    {"HTTP/1.1 404 Not \xe9 Found\t!\r\nContent-Length: 0\r\n\r\n", 404, TUX_FRAMING_LENGTH, true, 0},
    {"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", 200, TUX_FRAMING_LENGTH, false, 3},
    {"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: Keep-Alive\r\n\r\n", 200, TUX_FRAMING_LENGTH, true, 3},
    {"HTTP/1.2 200 OK\r\nContent-Length: 3\r\n\r\n", 200, TUX_FRAMING_LENGTH, true, 3},
    {OK11 "Content-Length: 5\r\nConnection: close\r\n\r\n", 200, TUX_FRAMING_LENGTH, false, 5},
    {OK11 "Content-Length: 5\r\nConnection: a, CLOSE ,b\r\n\r\n", 200, TUX_FRAMING_LENGTH, false, 5},
    {OK11 "Content-Length: 5\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", 200, TUX_FRAMING_LENGTH, false, 5},
    {OK11 "Content-Length: 5\r\nConnection: closed\r\n\r\n", 200, TUX_FRAMING_LENGTH, true, 5},
    {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, TUX_FRAMING_NONE, true, 5},
    {"HTTP/1.1 204 No Content\r\n\r\n", 204, TUX_FRAMING_NONE, true, 0},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, TUX_FRAMING_NONE, true, 5},
    {"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, TUX_FRAMING_NONE, true, 0},
    {"HTTP/1.1 100 Continue\r\n\r\n", 100, TUX_FRAMING_NONE, true, 0},
    {"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n", 103, TUX_FRAMING_NONE, true, 0},
    {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 101, TUX_FRAMING_NONE, true, 0},
    {"HTTP/1.1 599 Late\r\nContent-Length: 0\r\n\r\n", 599, TUX_FRAMING_LENGTH, true, 0},
    {OK11 "Content-Length: 0\r\nEmpty:\r\nX: a:b\xff\r\n\r\n", 200, TUX_FRAMING_LENGTH, true, 0},
};

static const char *const incomplete[] = {
    "", "H", "HTTP/1.1", "HTTP/1.1 2", "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r", OK11,
    OK11 "\r", OK11 "A", OK11 "A:", OK11 "A: b\r", OK11 "A: b\r\n", OK11 "A: b\r\n\r",
};

struct refusal {
    const char *text;
    size_t len;
};

#define REFUSE(text)                                                                                                   \
    {                                                                                                                  \
        text, sizeof(text) - 1                                                                                         \
    }

static const struct refusal refused[] = {
    /* status line */
    REFUSE("\r\n" OK11 "\r\n"),
    REFUSE(" " OK11 "\r\n"),
    REFUSE("http/1.1 200 OK\r\n\r\n"),
    REFUSE("HTTP/2.0 200 OK\r\n\r\n"),
    REFUSE("HTTP/1 200 OK\r\n\r\n"),
    REFUSE("HTTP/1.10 200 OK\r\n\r\n"),
    REFUSE("HTTP/1.1  200 OK\r\n\r\n"),
    REFUSE("HTTP/1.1\t200 OK\r\n\r\n"),
    REFUSE("HTTP/1.1 20 OK\r\n\r\n"),
    REFUSE("HTTP/1.1 2000 OK\r\n\r\n"),
    REFUSE("HTTP/1.1 2e2 OK\r\n\r\n"),
    REFUSE("HTTP/1.1 099 OK\r\n\r\n"),
    REFUSE("HTTP/1.1 600 OK\r\n\r\n"),
    REFUSE("HTTP/1.1 200OK\r\n\r\n"),
    REFUSE("HTTP/1.1 200\tOK\r\n\r\n"),
    REFUSE("HTTP/1.1 200 OK\n\r\n"),
    REFUSE("HTTP/1.1 200 OK\rX: y\r\n\r\n"),
    REFUSE("HTTP/1.1 200 O\0K\r\n\r\n"),
    REFUSE("HTTP/1.1 200 \x7f\r\n\r\n"),
    REFUSE("<html>"),
    REFUSE("ICY 200 OK\r\n\r\n"),
    /* fields */
    REFUSE(OK11 " A: b\r\n\r\n"),
    REFUSE(OK11 "A: b\r\n c\r\n\r\n"),
    REFUSE(OK11 "A: b\r\n\tc\r\n\r\n"),
    REFUSE(OK11 "A : b\r\n\r\n"),
    REFUSE(OK11 ": b\r\n\r\n"),
    REFUSE(OK11 "A\r\n\r\n"),
    REFUSE(OK11 "A b: c\r\n\r\n"),
    REFUSE(OK11 "A\x80: c\r\n\r\n"),
    REFUSE(OK11 "A: b\n\r\n"),
    REFUSE(OK11 "A: b\nB: c\r\n\r\n"),
    REFUSE(OK11 "A: b\rc\r\n\r\n"),
    REFUSE(OK11 "A: \0\r\n\r\n"),
    REFUSE(OK11 "A: \x7f\r\n\r\n"),
    REFUSE(OK11 "\n"),
    REFUSE(OK11 "\r\r\n"),
    /* framing */
    REFUSE(OK11 "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    REFUSE(OK11 "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
    REFUSE(OK11 "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
    REFUSE(OK11 "Content-Length: 5, 5\r\n\r\n"),
    REFUSE(OK11 "Content-Length: +5\r\n\r\n"),
    REFUSE(OK11 "Content-Length: -5\r\n\r\n"),
    REFUSE(OK11 "Content-Length: 0x5\r\n\r\n"),
    REFUSE(OK11 "Content-Length: 1_0\r\n\r\n"),
    REFUSE(OK11 "Content-Length: 5 5\r\n\r\n"),
    REFUSE(OK11 "Content-Length:\r\n\r\n"),
    REFUSE(OK11 "Content-Length: 1000000000000000000\r\n\r\n"),
    REFUSE(OK11 "Content-Length: 18446744073709551621\r\n\r\n"),
    REFUSE(OK11 "Transfer-Encoding: gzip, chunked\r\n\r\n"),
    REFUSE(OK11 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    REFUSE(OK11 "Transfer-Encoding: identity\r\n\r\n"),
    REFUSE(OK11 "Transfer-Encoding: \x0b" "chunked\r\n\r\n"),
    REFUSE(OK11 "Transfer-Encoding: chunked;a=b\r\n\r\n"),
    REFUSE(OK11 "Transfer-Encoding:\r\n\r\n"),
    REFUSE("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    REFUSE("HTTP/1.1 304 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
};

static void test_head_method(void)
{
    const char *text = OK11 "Content-Length: 5\r\n\r\n";
    CHECK_EQ(deliver(text, strlen(text), true), TUX_DONE);
    CHECK_EQ(response.framing, TUX_FRAMING_NONE);
    CHECK(response.has_length && response.content_length == 5 && response.keep_alive);
    text = OK11 "\r\n";
    CHECK_EQ(deliver(text, strlen(text), true), TUX_DONE);
    CHECK_EQ(response.framing, TUX_FRAMING_NONE);
    CHECK(!response.has_length && response.keep_alive);
}

static void test_spans(void)
{
    const char *text = OK11 "A:  b c \r\nDate: now\r\nX-Sendfile: /x\r\n\r\nbody";
    CHECK_EQ(deliver(text, strlen(text), false), TUX_DONE);
    CHECK_EQ(response.length, strlen(text) - 4);
    CHECK_EQ(response.n_fields, 3);
    CHECK(response.reason.len == 2 && memcmp(text + response.reason.off, "OK", 2) == 0);
    CHECK(response.fields[0].value.len == 3 && memcmp(text + response.fields[0].value.off, "b c", 3) == 0);
    CHECK_EQ(response.fields[1].id, TUX_RESPONSE_DATE);
    CHECK_EQ(response.fields[2].id, TUX_RESPONSE_X_SENDFILE);
    CHECK_EQ(response.seen, 1u << TUX_RESPONSE_OTHER | 1u << TUX_RESPONSE_DATE | 1u << TUX_RESPONSE_X_SENDFILE);
}

static void test_names(void)
{
    static const struct {
        const char *name;
        uint8_t id;
    } names[] = {
        {"TE", TUX_RESPONSE_HOP},
        {"date", TUX_RESPONSE_DATE},
        {"Server", TUX_RESPONSE_SERVER},
        {"Trailer", TUX_RESPONSE_TRAILER},
        {"UPGRADE", TUX_RESPONSE_UPGRADE},
        {"Connection", TUX_RESPONSE_CONNECTION},
        {"Keep-Alive", TUX_RESPONSE_HOP},
        {"X-Sendfile", TUX_RESPONSE_X_SENDFILE},
        {"Content-Length", TUX_RESPONSE_CONTENT_LENGTH},
        {"X-Accel-Redirect", TUX_RESPONSE_X_ACCEL_REDIRECT},
        {"Proxy-Connection", TUX_RESPONSE_HOP},
        {"Transfer-Encoding", TUX_RESPONSE_TRANSFER_ENCODING},
        {"Proxy-Authenticate", TUX_RESPONSE_HOP},
        {"Proxy-Authentication-Info", TUX_RESPONSE_HOP},
        {"", TUX_RESPONSE_OTHER},
        {"a", TUX_RESPONSE_OTHER},
        {"Data", TUX_RESPONSE_OTHER},
        {"Set-Cookie", TUX_RESPONSE_OTHER},
        {"Content-Lengthy", TUX_RESPONSE_OTHER},
        {"Content_Length", TUX_RESPONSE_OTHER},
        {"A-Name-That-Is-Longer-Than-All", TUX_RESPONSE_OTHER},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK_ROW(tux_response_field_id((const uint8_t *)names[i].name, strlen(names[i].name)) == names[i].id,
                  names[i].name);
}

static void test_limits(void)
{
    static char text[TUX_MAX_RESPONSE_HEAD_BYTES + 16];
    for (size_t extra = 0; extra < 2; extra++) { /* a head of the greatest length, and one byte more */
        size_t len = TUX_MAX_RESPONSE_HEAD_BYTES + extra;
        memset(text, 'a', len);
        memcpy(text, OK11 "A:", sizeof(OK11 "A:") - 1);
        memcpy(text + len - 4, "\r\n\r\n", 4);
        CHECK_EQ(deliver(text, len, false), extra == 0 ? TUX_DONE : TUX_MALFORMED);
        CHECK_EQ(deliver(text, TUX_MAX_RESPONSE_HEAD_BYTES - 1, false), TUX_MORE);
    }
    for (size_t extra = 0; extra < 2; extra++) {
        size_t at = (size_t)snprintf(text, sizeof text, OK11);
        for (size_t i = 0; i < TUX_MAX_RESPONSE_FIELDS + extra; i++)
            at += (size_t)snprintf(text + at, sizeof text - at, "a:b\r\n");
        memcpy(text + at, "\r\n", 2);
        CHECK_EQ(deliver(text, at + 2, false), extra == 0 ? TUX_DONE : TUX_MALFORMED);
    }
}

int main(void)
{
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
        const char *text = accepted[i].text;
        CHECK_ROW(deliver(text, strlen(text), false) == TUX_DONE, text);
        CHECK_ROW(response.length == strlen(text) && response.status == accepted[i].status, text);
        CHECK_ROW(response.framing == accepted[i].framing && response.keep_alive == accepted[i].keep_alive, text);
        CHECK_ROW(response.content_length == accepted[i].length, text);
    }
    for (size_t i = 0; i < sizeof incomplete / sizeof *incomplete; i++)
        CHECK_ROW(deliver(incomplete[i], strlen(incomplete[i]), false) == TUX_MORE, incomplete[i]);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        CHECK_ROW(deliver(refused[i].text, refused[i].len, false) == TUX_MALFORMED, refused[i].text);
    test_head_method();
    test_spans();
    test_names();
    test_limits();
    return check_report();
}
