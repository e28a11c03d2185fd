/* SPDX-License-Identifier: MIT */
/* The chunked decoder. Every text is decoded at once, byte by byte, and cut in two at each place: the body and the
 * outcome must be the same, and nothing past the end may be read or eaten. */
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "chunked.h"

#define NEXT "GET / HTTP/1.1\r\n" /* the bytes of the request that follows */

struct result {
    enum tux_outcome outcome;
    size_t consumed, body_len;
    uint8_t body[8192];
};

/* Feed one piece, copied into memory of exactly its size. */
static void feed(struct tux_chunked *decoder, struct result *result, const char *text, size_t len)
{
    uint8_t *copy = malloc(len == 0 ? 1 : len);
    size_t done = 0;
    if (copy == NULL)
        abort();
    memcpy(copy, text, len);
    do {
        struct tux_span data;
        size_t consumed;
        result->outcome = tux_chunked_decode(decoder, copy + done, len - done, &consumed, &data);
        CHECK(consumed <= len - done);
        if (result->outcome == TUX_MALFORMED)
            break;
        CHECK(data.len == 0 || (size_t)data.off + data.len <= consumed);
        CHECK(consumed > 0 || len == done || result->outcome == TUX_DONE);
        if (result->body_len + data.len > sizeof(result->body))
            abort();
        memcpy(result->body + result->body_len, copy + done + data.off, data.len);
        result->body_len += data.len;
        done += consumed;
    } while (result->outcome == TUX_MORE && done < len);
    result->consumed += done;
    free(copy);
}

static void decode_in_pieces(struct result *result, const char *text, size_t len, size_t cut, size_t step)
{
    struct tux_chunked decoder = {0};
    memset(result, 0, sizeof(*result));
    feed(&decoder, result, text, cut);
    for (size_t at = cut; at < len && result->outcome == TUX_MORE; at += step)
        feed(&decoder, result, text + at, len - at < step ? len - at : step);
}

static enum tux_outcome decode(const char *text, size_t len, const char *body, size_t used)
{
    static struct result whole, pieces;
    decode_in_pieces(&whole, text, len, len, 1);
    CHECK_ROW(body == NULL || (whole.body_len == strlen(body) && memcmp(whole.body, body, whole.body_len) == 0), text);
    CHECK_ROW(whole.outcome != TUX_DONE || whole.consumed == used, text);
    for (size_t cut = 0; cut <= len; cut++) {
        decode_in_pieces(&pieces, text, len, cut, cut == 0 ? 1 : len);
        CHECK_ROW(pieces.outcome == whole.outcome, text);
        CHECK_ROW(pieces.body_len == whole.body_len && memcmp(pieces.body, whole.body, whole.body_len) == 0, text);
        CHECK_ROW(whole.outcome == TUX_MALFORMED || pieces.consumed == whole.consumed, text);
    }
    return whole.outcome;
}

static const struct {
    const char *text, *body;
} complete[] = {
    {"0\r\n\r\n", ""},
    {"000\r\n\r\n", ""},
    {"5\r\nhello\r\n0\r\n\r\n", "hello"},
    {"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"},
    {"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"},
    {"000000000000001\r\nx\r\n0\r\n\r\n", "x"},
    {"2\r\n\r\n\r\n0\r\n\r\n", "\r\n"},
    {"1;name\r\nx\r\n0\r\n\r\n", "x"},
    {"1;name=value;other=\"a;b \\\" \\\\\"\r\nx\r\n0;last\r\n\r\n", "x"},
    {"1 ; name = value ;b\t=\t\"\"\r\nx\r\n0\r\n\r\n", "x"},
    {"0\r\nExpires: never\r\nEmpty:\r\nX-Y:\ta\tb \r\n\r\n", ""},
    {"1\r\nx\r\n0\r\nContent-Length: 5\r\n\r\n", "x"},
};

static const char *const incomplete[] = {
    "",
    "5",
    "5\r",
    "5\r\n",
    "5\r\nhel",
    "5\r\nhello",
    "5\r\nhello\r",
    "5\r\nhello\r\n",
    "5\r\nhello\r\n0\r\n",
    "0\r\n",
    "0\r\n\r",
    "0\r\nA",
    "0\r\nA:",
    "0\r\nA: b\r",
    "0\r\nA: b\r\n",
    "0\r\nA: b\r\n\r",
    "1;",
    "1;a",
    "1;a=",
    "1;a=\"",
};

static const char *const broken[] = {
    /* line endings: LF alone, CR alone, in every place */
    "5\nhello\r\n0\r\n\r\n",
    "5\rhello\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r0\r\n",
    "0\n\r\n",
    "0\r\n\n",
    "0\r\nA: b\n\r\n",
    "0\r\nA: b\rC: d\r\n\r\n",
    "0\r\n\rx",
    "1;a\nx\r\n",
    "1;a=\"\n\"\r\n",
    "1;\n",
    "1;a\rb\r\n",
    "5\r\r\nhello",
    "\r\n0\r\n\r\n",
    /* sizes */
    "g\r\n",
    "-1\r\n",
    "+1\r\n",
    "0x1\r\n",
    "1_0\r\n",
    " 1\r\n",
    "1 \r\nx\r\n",
    "\t1\r\n",
    "1.0\r\n",
    "1,1\r\n",
    ";a\r\n",
    "0000000000000001\r\nx\r\n",
    "ffffffffffffffff\r\n",
    "10000000000000005\r\nhello",
    /* more or less data than announced */
    "5\r\nhello!\r\n0\r\n\r\n",
    "5\r\nhell\r\n0\r\n\r\n",
    "1\r\nxx\r\n",
    /* extensions */
    "1;\r\n",
    "1;;a\r\n",
    "1;a=\r\n",
    "1;=b\r\n",
    "1;a=b=c\r\n",
    "1;a b\r\n",
    "1;a \r\n",
    "1;a=b c\r\n",
    "1;a=b \r\n",
    "1;a=\"b\"c\r\n",
    "1;a=\"b\r\n",
    "1;a=\"\x7f\"\r\n",
    "1;a=\"\\\x01\"\r\n",
    "1;a\x01\r\n",
    "1;a=\x80\r\n",
    "1 a\r\n",
    /* trailers have the syntax of fields */
    "0\r\nA\r\n\r\n",
    "0\r\n: b\r\n\r\n",
    "0\r\nA : b\r\n\r\n",
    "0\r\nA: b\r\n c\r\n\r\n",
    "0\r\n A: b\r\n\r\n",
    "0\r\nA: \x01\r\n\r\n",
    "0\r\nA: \x7f\r\n\r\n",
    "0\r\nA\x80: b\r\n\r\n",
};

static void test_limits(void)
{
    static char text[TUX_MAX_TRAILER_BYTES + 64];
    /* A chunk line of the greatest length, its CRLF included, and one byte more. */
    for (size_t extra = 0; extra < 2; extra++) {
        size_t len = TUX_MAX_CHUNK_LINE_BYTES + extra;
        memset(text, 'a', len);
        memcpy(text, "0;", 2);
        memcpy(text + len - 2, "\r\n\r\n", 4);
        CHECK(decode(text, len + 2, "", len + 2) == (extra == 0 ? TUX_DONE : TUX_MALFORMED));
    }
    /* The same for the trailer section. Its first line is "A: aaa", its last the blank one. */
    for (size_t extra = 0; extra < 2; extra++) {
        struct tux_chunked decoder = {0};
        static struct result result;
        size_t len = 3 + TUX_MAX_TRAILER_BYTES + extra;
        memset(text, 'a', len);
        memcpy(text, "0\r\nA:", 5);
        memcpy(text + len - 4, "\r\n\r\n", 4);
        memset(&result, 0, sizeof(result));
        feed(&decoder, &result, text, len);
        CHECK(result.outcome == (extra == 0 ? TUX_DONE : TUX_MALFORMED));
    }
    /* Both count again from nothing: a line's limit is not a body's. */
    size_t at = 0;
    while (at < TUX_MAX_CHUNK_LINE_BYTES * 2)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "1;aaaaaa\r\nx\r\n");
    memcpy(text + at, "0\r\n\r\n", 5);
    CHECK(decode(text, at + 5, NULL, at + 5) == TUX_DONE);
}

/* NUL, which strings of C cannot hold. */
static void test_nul(void)
{
    static const char size[] = "1\0\r\nx\r\n", extension[] = "1;a=\"\0\"\r\n", trailer[] = "0\r\nA: \0\r\n\r\n";
    CHECK_EQ(decode(size, sizeof(size) - 1, "", 0), TUX_MALFORMED);
    CHECK_EQ(decode(extension, sizeof(extension) - 1, "", 0), TUX_MALFORMED);
    CHECK_EQ(decode(trailer, sizeof(trailer) - 1, "", 0), TUX_MALFORMED);
}

/* What is decided stays decided. */
static void test_after_the_end(void)
{
    struct tux_chunked decoder = {0};
    struct tux_span data;
    size_t consumed;
    CHECK_EQ(tux_chunked_decode(&decoder, (const uint8_t *)"0\r\n\r\n0\r\n", 8, &consumed, &data), TUX_DONE);
    CHECK_EQ(consumed, 5);
    CHECK_EQ(tux_chunked_decode(&decoder, (const uint8_t *)"0\r\n", 3, &consumed, &data), TUX_DONE);
    CHECK_EQ(consumed, 0);
    memset(&decoder, 0, sizeof(decoder));
    CHECK_EQ(tux_chunked_decode(&decoder, (const uint8_t *)"x", 1, &consumed, &data), TUX_MALFORMED);
    CHECK_EQ(tux_chunked_decode(&decoder, (const uint8_t *)"0\r\n\r\n", 5, &consumed, &data), TUX_MALFORMED);
}

int main(void)
{
    for (size_t i = 0; i < sizeof(complete) / sizeof(complete[0]); i++) {
        char text[256];
        size_t len = strlen(complete[i].text);
        CHECK_ROW(decode(complete[i].text, len, complete[i].body, len) == TUX_DONE, complete[i].text);
        snprintf(text, sizeof(text), "%s" NEXT, complete[i].text);
        CHECK_ROW(decode(text, strlen(text), complete[i].body, len) == TUX_DONE, text);
    }
    for (size_t i = 0; i < sizeof(incomplete) / sizeof(incomplete[0]); i++)
        CHECK_ROW(decode(incomplete[i], strlen(incomplete[i]), NULL, 0) == TUX_MORE, incomplete[i]);
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
        CHECK_ROW(decode(broken[i], strlen(broken[i]), NULL, 0) == TUX_MALFORMED, broken[i]);
    test_limits();
    test_nul();
    test_after_the_end();
    return check_report();
}
