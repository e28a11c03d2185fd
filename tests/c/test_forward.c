/* SPDX-License-Identifier: MIT */
/* What is passed on: heads of requests written anew, fields of responses filtered. */
#include "check.h"
#include "forward.h"
#include "head_text.h"

static struct tux_head head;
static struct tux_response response;
static struct tux_forward_head result;
static char out[TUX_FORWARD_HEAD_BYTES + 1];

static const struct tux_forward_rules usual = {.upgrade = true};
static const struct tux_address peer = {.kind = TUX_ADDRESS_V4, .port = 1234, .bytes = {192, 0, 2, 7}};
static const struct tux_client nobody = {.address = {.kind = TUX_ADDRESS_V4, .port = 1234, .bytes = {192, 0, 2, 7}}};
static const struct tux_forward_way way = {&peer, &nobody, "back:81", 7, false};

static uint16_t forward(const char *text, const struct tux_forward_rules *rules, const struct tux_forward_way *from)
{
    CHECK_ROW(scan_copy(text, strlen(text), 0, &default_limits, &default_rules, &head) == TUX_DONE, text);
    uint16_t status = tux_forward_request((const uint8_t *)text, &head, rules, from, (uint8_t *)out,
                                          TUX_FORWARD_HEAD_BYTES, &result);
    out[status == 0 ? result.length : 0] = 0;
    if (status == 0) { /* whatever is written, our own scanner takes it, and it says the same */
        static struct tux_head again;
        CHECK_ROW(scan_copy(out, result.length, 0, &(struct tux_head_limits){65536, 65536, TUX_MAX_FIELDS},
                            &default_rules, &again) == TUX_DONE, text);
        CHECK_ROW(again.length == result.length && again.method == head.method && again.chunked == head.chunked, text);
        CHECK_ROW(again.has_length == head.has_length && again.content_length == head.content_length, text);
    }
    return status;
}

#define FORWARDED "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"

static const struct {
    const char *text, *want;
} requests[] = {
    {"GET /x?y=%20 HTTP/1.1\r\nHost: a\r\nAccept:  */*  \r\n\r\n",
     "GET /x?y=%20 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n" FORWARDED "\r\n"},
    {"\r\nGET / HTTP/1.1\r\nX: 1\r\nHost: a\r\nX: 2\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n" FORWARDED "\r\n"},
    {"FROB //a/../b HTTP/1.1\r\nHost: a\r\n\r\n", "FROB //a/../b HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    /* forms of the target */
    {"GET http://a/x?y HTTP/1.1\r\nHost: other\r\n\r\n", "GET /x?y HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"GET http://a HTTP/1.1\r\nHost: other\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"GET http://a?b=/c HTTP/1.1\r\nHost: other\r\n\r\n", "GET /?b=/c HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"GET http://a/? HTTP/1.1\r\nHost: other\r\n\r\n", "GET /? HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS / HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    /* HTTP/1.0 */
    {"GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"GET / HTTP/1.0\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: back:81\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\r\n"},
    /* framing */
    {"POST / HTTP/1.1\r\nContent-Length: 007\r\nHost: a\r\n\r\n",
     "POST / HTTP/1.1\r\nHost: a\r\n" FORWARDED "Content-Length: 7\r\n\r\n"},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
     "POST / HTTP/1.1\r\nHost: a\r\n" FORWARDED "Content-Length: 0\r\n\r\n"},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\nTrailer: X\r\n\r\n",
     "POST / HTTP/1.1\r\nHost: a\r\n" FORWARDED "Transfer-Encoding: chunked\r\n\r\n"},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n",
     "POST / HTTP/1.1\r\nHost: a\r\n" FORWARDED "Content-Length: 1\r\nExpect: 100-continue\r\n\r\n"},
    /* fields for one hop */
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-One , keep-alive\r\nConnection: ,x-TWO\r\nx-one: 1\r\nX-Two: 2\r\nX-Three: 3\r\n"
     "Keep-Alive: 5\r\nProxy-Connection: close\r\nProxy-Authorization: b\r\nProxy-Authenticate: c\r\nHTTP2-Settings: d\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: a\r\nX-Three: 3\r\n" FORWARDED "\r\n"},
    {"POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length, x-forwarded-for\r\nContent-Length: 3\r\n\r\n",
     "POST / HTTP/1.1\r\nHost: a\r\n" FORWARDED "Content-Length: 3\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\nConnection: te\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: a\r\n" FORWARDED "Connection: TE\r\nTE: trailers\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nProxy: http://evil/\r\nProxyX: y\r\nX_Y: z\r\nX-Y: z\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: a\r\nProxyX: y\r\nX-Y: z\r\n" FORWARDED "\r\n"},
    /* who asked */
    {"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For:\r\nX-Forwarded-For: b\r\n"
     "X-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\nForwarded: for=x\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n"
     "X-Forwarded-Host: a\r\n\r\n"},
    /* upgrades */
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: k\r\n" FORWARDED "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: HTTP/2.0\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: TLS/1.0\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: a\r\n" FORWARDED "Content-Length: 4\r\n\r\n"},
    {"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n",
     "POST / HTTP/1.1\r\nHost: a\r\n" FORWARDED "Content-Length: 0\r\nConnection: upgrade\r\nUpgrade: spdy/3.1\r\n\r\n"},
    {"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: a\r\n" FORWARDED "\r\n"},
};

static void test_requests(void)
{
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        CHECK_ROW(forward(requests[i].text, &usual, &way) == 0, requests[i].text);
        if (!CHECK_ROW(strcmp(out, requests[i].want) == 0, requests[i].text))
            fprintf(stderr, "got: %s", out);
    }
}

static void test_rules(void)
{
    struct tux_forward_rules rules = {.host = "inner", .host_len = 5, .underscores = true};
    struct tux_forward_way closing = way;
    closing.close = true;
    CHECK_EQ(forward("GET / HTTP/1.1\r\nHost: a\r\nX_Y: z\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", &rules,
                     &closing), 0);
    CHECK(strcmp(out, "GET / HTTP/1.1\r\nHost: inner\r\nX_Y: z\r\n" FORWARDED "Connection: close\r\n\r\n") == 0);
    CHECK(!result.upgrade);
}

static void test_refused(void)
{
    static char many[2048], longest[TUX_MAX_HEAD_BYTES + 1];
    CHECK_EQ(forward("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", &usual, &way), 501);
    CHECK_EQ(forward("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", &usual, &way), 501);
    CHECK_EQ(forward("POST / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n", &usual, &way), 417);
    int len = snprintf(many, sizeof many, "GET / HTTP/1.1\r\nHost: a\r\nConnection: ");
    for (unsigned i = 0; i <= TUX_MAX_CONNECTION_OPTIONS; i++)
        len += snprintf(many + len, sizeof many - (size_t)len, "x%u,", i);
    snprintf(many + len, sizeof many - (size_t)len, "\r\n\r\n");
    CHECK_EQ(forward(many, &usual, &way), 400);
    /* The longest head fits; with less room it is refused and nothing is written. */
    static const char target[] = "GET http://", rest[] = "/ HTTP/1.1\r\nHost: a\r\n\r\n";
    memset(longest, 'a', TUX_MAX_TARGET_BYTES);
    memcpy(longest, target, sizeof target - 1);
    strcpy(longest + TUX_MAX_TARGET_BYTES - 10, rest);
    CHECK_EQ(forward(longest, &usual, &way), 0);
    CHECK_EQ(tux_forward_request((const uint8_t *)longest, &head, &usual, &way, (uint8_t *)out, result.length, &result), 431);
}

static const struct {
    const char *text, *want;
} responses[] = {
    {"HTTP/1.1 200 OK\r\nDate: now\r\nA:b \r\nContent-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
     "Date: now\r\nA:b \r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n", "Trailer: X\r\n"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTrailer: X\r\nUpgrade: h2c\r\nKeep-Alive: 3\r\nProxy-Connection: a\r\n"
     "Proxy-Authenticate: b\r\nTE: c\r\n\r\n", ""},
    {"HTTP/1.1 200 OK\r\nConnection: close, x-one\r\nX-One: 1\r\nX-Two: 2\r\n\r\n", "X-Two: 2\r\n"},
    {"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: k\r\n\r\n",
     "Upgrade: websocket\r\nSec-WebSocket-Accept: k\r\n"},
    {"HTTP/1.1 204 No\r\n\r\n", ""},
};

static void test_responses(void)
{
    static char in_place[1024];
    for (size_t i = 0; i < sizeof responses / sizeof *responses; i++) {
        const char *text = responses[i].text, *want = responses[i].want;
        CHECK_EQ(tux_response_scan((const uint8_t *)text, strlen(text), 0, false, &response), TUX_DONE);
        size_t len = tux_forward_response((const uint8_t *)text, &response, (uint8_t *)out);
        CHECK_ROW(len == strlen(want) && memcmp(out, want, len) == 0, text);
        strcpy(in_place, text);
        uint32_t at = response.n_fields > 0 ? response.fields[0].name.off : 0;
        len = tux_forward_response((const uint8_t *)in_place, &response, (uint8_t *)in_place + at);
        CHECK_ROW(len == strlen(want) && memcmp(in_place + at, want, len) == 0, text);
    }
}

static void test_trailers(void)
{
    static const char section[] = "X-Sum: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a\r\nHost: b\r\n"
                                  "Trailer: c\r\nConnection: close\r\ngrpc-status: 0\r\n\r\n";
    static const char want[] = "X-Sum: 1\r\ngrpc-status: 0\r\n";
    size_t len = tux_forward_trailers((const uint8_t *)section, sizeof section - 1, (uint8_t *)out);
    CHECK(len == sizeof want - 1 && memcmp(out, want, len) == 0);
    CHECK_EQ(tux_forward_trailers((const uint8_t *)"\r\n", 2, (uint8_t *)out), 0);
}

static void test_switching(void)
{
    static const struct {
        const char *text;
        bool good;
    } rows[] = {
        {"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n", true},
        {"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", false},
        {"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n\r\n", false},
        {"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\n\r\n", false},
        {"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\n\r\n", false},
        {"HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", false},
    };
    CHECK_EQ(forward("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", &usual, &way), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_EQ(tux_response_scan((const uint8_t *)rows[i].text, strlen(rows[i].text), 0, false, &response), TUX_DONE);
        CHECK_ROW(tux_forward_upgrades((const uint8_t *)rows[i].text, &response, &result) == rows[i].good, rows[i].text);
    }
    CHECK_EQ(forward("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &usual, &way), 0);
    CHECK_EQ(tux_response_scan((const uint8_t *)rows[0].text, strlen(rows[0].text), 0, false, &response), TUX_DONE);
    CHECK(!tux_forward_upgrades((const uint8_t *)rows[0].text, &response, &result));
}

int main(void)
{
    test_requests();
    test_rules();
    test_refused();
    test_responses();
    test_trailers();
    test_switching();
    return check_report();
}
