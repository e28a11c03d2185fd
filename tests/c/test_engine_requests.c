/* SPDX-License-Identifier: MIT */
/* Requests that are not plain: with bodies, malformed, in pieces, too slow, or from a client that went silent. */
#include "engine_client.h"

/* An answer after which the server lets go: what the client still sends does not turn into a RST over the answer. */
static void check_lingers(const struct kit *kit, const char *request, int status, const char *body)
{
    struct client client;
    client_connect(&client, kit);
    MUST(client_say(&client, request));
    static const char more[65536];
    for (int i = 0; i < 4; i++) /* still writing: the server has answered long ago */
        client_write(&client, more, sizeof more);
    static struct answer answer;
    client_read(&client, &answer);
    CHECK_ROW(answer.status == status && answer.whole && strcmp(answer.body, body) == 0, request);
    CHECK_ROW(has_field(&answer, "Connection: close"), request);
    CHECK_ROW(client_at_end(&client, true), request);
    client_close(&client);
}

static void test_bodies(void)
{
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit.config.limits.drain_bytes = 100000;
    kit_start(&kit);
    client_connect(&client, &kit);
    /* Read and dropped; what follows is the next request. */
    MUST(client_say(&client, "POST /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 5\r\n\r\nhelloGET /echo HTTP/1.1\r\n"
                             "Host: kit\r\n\r\n"));
    CHECK_ANSWER(&client, 200, "POST /echo\n");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    MUST(client_say(&client, "POST /echo HTTP/1.1\r\nHost: kit\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
                             "3;a=b\r\nabc\r\n0\r\nTrailer: x\r\n\r\nGET /echo HTTP/1.1\r\nHost: kit\r\n\r\n"));
    CHECK_ANSWER(&client, 200, "POST /echo\n");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    /* Up to the bound exactly, more than one recv, in three writes. */
    static char body[100000];
    memset(body, 'x', sizeof body);
    MUST(client_say(&client, "PUT /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 100000\r\n\r\n"));
    CHECK_EQ(kit_stat(&kit, "asks"), 4);
    MUST(client_write(&client, body, 50000) && client_write(&client, body, 50000));
    CHECK_ANSWER(&client, 200, "PUT /echo\n");
    /* Bodies are never remembered. */
    for (int i = 0; i < 3; i++) {
        MUST(client_say(&client, "POST /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 1\r\n\r\nx"));
        CHECK_ANSWER(&client, 200, "POST /echo\n");
    }
    CHECK_EQ(kit_stat(&kit, "hits"), 0);
    client_close(&client);

    /* The same over a Unix socket, where MSG_TRUNC does not drop. */
    client_connect_unix(&client, &kit);
    MUST(client_say(&client, "PUT /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 100000\r\n\r\n"));
    MUST(client_write(&client, body, sizeof body));
    CHECK_ANSWER(&client, 200, "PUT /echo\n");
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    client_close(&client);

    uint64_t asks = kit_stat(&kit, "asks");
    check_lingers(&kit, "PUT /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 100001\r\n\r\n", 200, "PUT /echo\n");
    check_lingers(&kit, "PUT /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", 200,
                  "PUT /echo\n");
    CHECK_EQ(kit_stat(&kit, "asks"), asks + 2);
    check_lingers(&kit, "PUT /echo HTTP/1.1\r\nHost: kit\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX", 400,
                  "no\n");
    check_lingers(&kit, "PUT /echo HTTP/1.1\r\nHost: kit\r\nTransfer-Encoding: chunked\r\n\r\n186a1\r\n", 413, "no\n");
    CHECK_EQ(kit_stat(&kit, "asks"), asks + 2);
    CHECK(kit_becomes(&kit, "exchanges", 0));
    kit_end(&kit);
}

/* Expect without a body is an ask like any other; the connection goes on. */
static void test_expect_without_body(void)
{
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_start(&kit);
    client_connect(&client, &kit);
    MUST(client_say(&client, "GET /echo HTTP/1.1\r\nHost: kit\r\nExpect: 100-continue\r\n\r\n"));
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    client_close(&client);
    kit_end(&kit);
}

static void test_malformed(void)
{
    static const struct {
        const char *request;
        int status;
    } rows[] = {
        {"GET /\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: kit\r\nA : b\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\nHost: kit\r\n\r\n", 505},
        {"POST / HTTP/1.1\r\nHost: kit\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"AMETHODNAMEOFMORETHANTHIRTYTWOBYTES / HTTP/1.1\r\nHost: kit\r\n\r\n", 501},
        {"\x16\x03\x01\x02\x00\x01", 400},
    };
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_start(&kit);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_lingers(&kit, rows[i].request, rows[i].status, "no\n");
    CHECK_EQ(kit_stat(&kit, "rejected"), sizeof rows / sizeof *rows);

    /* Too long, and what came before it is answered. */
    static char request[20000];
    memset(request, 'a', sizeof request);
    memcpy(request, "GET /echo HTTP/1.1\r\nHost: kit\r\n\r\nGET /", 38);
    client_connect(&client, &kit);
    MUST(client_write(&client, request, sizeof request));
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    CHECK_ANSWER(&client, 414, "no\n");
    CHECK(client_at_end(&client, true));
    client_close(&client);
    CHECK_EQ(kit_stat(&kit, "asks"), 1);
    kit_end(&kit);
}

/* A client that writes without end after its error is let go of: by bytes, since time would be too kind. */
static void test_linger_has_an_end(void)
{
    static const char more[65536];
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_start(&kit);
    client_connect(&client, &kit);
    MUST(client_say(&client, "nonsense\r\n\r\n"));
    size_t written = 0;
    while (written < 64u * 1024u * 1024u && client_write(&client, more, sizeof more))
        written += sizeof more;
    CHECK(written < 64u * 1024u * 1024u);
    client_close(&client);
    CHECK(kit_becomes(&kit, "connections", 0));
    /* One that neither writes nor closes is let go of by time. */
    client_connect(&client, &kit);
    MUST(client_say(&client, "nonsense\r\n\r\n"));
    CHECK_ANSWER(&client, 400, "no\n");
    CHECK(kit_becomes(&kit, "connections", 0));
    client_close(&client);
    kit_end(&kit);
}

/* What a client sends behind its last request, as it should not, takes nothing away from the answer. */
static void test_surplus(void)
{
    static const char request[] = "GET /f/large HTTP/1.1\r\nHost: kit\r\nConnection: close\r\n\r\n";
    static char large[200 * 1024];
    static struct answer answer;
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    memset(large, 'l', sizeof large);
    kit_write_file(&kit, "large", large, sizeof large);
    kit_start(&kit);
    /* It comes when the engine has long given all of the answer to the system, which still has most of it. */
    for (int ends = 0; ends < 2; ends++) {
        client_connect_with(&client, &kit, 4096);
        MUST(client_say(&client, request));
        MUST(client_fill(&client));
        CHECK(kit_rests(&kit));
        MUST(send(client.fd, "surplus", 7, MSG_NOSIGNAL | (ends ? MSG_MORE : 0)) == 7);
        if (ends) /* FIN in the same segment: input, and the end of the connection, are one event */
            MUST(shutdown(client.fd, SHUT_WR) == 0);
        CHECK(kit_rests(&kit));
        client_read(&client, &answer);
        CHECK(answer.status == 200 && answer.whole);
        CHECK(client_at_end(&client, true));
        client_close(&client);
        CHECK(kit_becomes(&kit, "connections", 0));
    }
    /* It comes while the engine answers, and whoever is fast finds the moment before it closes. */
    for (int i = 0; i < 300; i++) {
        client_connect(&client, &kit);
        MUST(client_say(&client, request));
        client_say(&client, "surplus");
        client_read(&client, &answer);
        CHECK(answer.status == 200 && answer.whole);
        CHECK(client_at_end(&client, false)); /* when all of it has left, a RST does no harm */
        client_close(&client);
    }
    kit_end(&kit);
}

/* The end of the client's side is not the end of its request. */
static void test_half_closed(void)
{
    static const char *const requests[] = {
        "GET /echo HTTP/1.1\r\nHost: kit\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 3\r\n\r\nabc",
    };
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_start(&kit);
    for (int over_unix = 0; over_unix < 2; over_unix++)
        for (int i = 0; i < 6; i++) { /* asked, then from the memo */
            if (over_unix)
                client_connect_unix(&client, &kit);
            else
                client_connect(&client, &kit);
            MUST(client_say(&client, requests[i % 2]));
            MUST(shutdown(client.fd, SHUT_WR) == 0);
            CHECK_ANSWER(&client, 200, "GET /echo\n");
            CHECK(client_at_end(&client, true));
            client_close(&client);
        }
    CHECK(kit_becomes(&kit, "connections", 0));
    CHECK_EQ(kit_stat(&kit, "timeouts"), 0);

    /* A head that will never be complete. */
    client_connect(&client, &kit);
    MUST(client_say(&client, "GET /echo HT"));
    MUST(shutdown(client.fd, SHUT_WR) == 0);
    CHECK(client_at_end(&client, true));
    client_close(&client);
    CHECK(kit_becomes(&kit, "held", 0));
    kit_end(&kit);
}

static void test_byte_by_byte(void)
{
    static const char request[] = "\r\nGET /echo?query HTTP/1.1\r\nHost: kit\r\nAccept: */*\r\n"
                                  "Content-Length: 3\r\n\r\nabc"
                                  "GET /echo HTTP/1.1\r\nHost: kit\r\n\r\n";
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_start(&kit);
    for (int i = 0; i < 3; i++) {
        client_connect(&client, &kit);
        for (size_t at = 0; at + 1 < sizeof request; at++) {
            MUST(client_write(&client, request + at, 1));
            if (at % 8 == 7) /* at every eighth byte at least, the engine has seen a head in part */
                sched_yield();
        }
        CHECK_ANSWER(&client, 200, "GET /echo\n");
        CHECK_ANSWER(&client, 200, "GET /echo\n");
        client_close(&client);
    }
    CHECK(kit_becomes(&kit, "held", 0));
    kit_end(&kit);
}

static void test_timeouts(void)
{
    static struct answer answer;
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit.config.limits.head_timeout_ms = 300;
    kit.config.limits.idle_timeout_ms = 300;
    kit.config.limits.stall_timeout_ms = 300;
    static uint8_t large[8u * 1024u * 1024u];
    kit_write_file(&kit, "large", large, sizeof large);
    kit_start(&kit);

    /* Idle, before and after a request: closed without a word. */
    uint64_t begun = kit_now_ms();
    client_connect(&client, &kit);
    CHECK(client_at_end(&client, true));
    CHECK(kit_now_ms() - begun >= 300);
    client_close(&client);
    client_connect(&client, &kit);
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    CHECK(client_at_end(&client, true));
    client_close(&client);
    CHECK_EQ(kit_stat(&kit, "timeouts"), 0);

    /* A head that trickles in: its time runs from its first byte. */
    client_connect(&client, &kit);
    begun = kit_now_ms();
    MUST(client_say(&client, "GET /"));
    struct pollfd readable = {.fd = client.fd, .events = POLLIN};
    while (poll(&readable, 1, 20) == 0 && kit_now_ms() < begun + KIT_LIMIT_MS)
        client_say(&client, "a");
    CHECK(kit_now_ms() - begun >= 300);
    client_read(&client, &answer);
    CHECK(answer.status == 408 && answer.whole && has_field(&answer, "Connection: close"));
    client_close(&client);
    CHECK_EQ(kit_stat(&kit, "timeouts"), 1);

    /* A body that does not come. */
    client_connect(&client, &kit);
    MUST(client_say(&client, "PUT /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 5\r\n\r\nabc"));
    CHECK_ANSWER(&client, 408, "no\n");
    CHECK(client_at_end(&client, true));
    client_close(&client);

    /* A planner that does not answer; its late reply is dropped. */
    kit_hold(&kit, true);
    client_connect(&client, &kit);
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 503, "no\n");
    CHECK(client_at_end(&client, true));
    client_close(&client);
    kit_hold(&kit, false);
    CHECK(kit_becomes(&kit, "stale_replies", 1));

    /* A client that does not read. */
    client_connect_with(&client, &kit, 4096);
    client_get(&client, "/f/large");
    CHECK(kit_reaches(&kit, "timeouts", 4));
    CHECK(kit_becomes(&kit, "connections", 0));
    client_read(&client, &answer);
    CHECK(!answer.whole);
    client_close(&client);
    CHECK_EQ(kit_stat(&kit, "exchanges"), 0);
    kit_end(&kit);
}

/* The input that all clients together make the engine hold is bounded. Over it: 503, after what was answered before
 * it, and those who need nothing held go on. */
static void test_held_budget(void)
{
    struct kit kit;
    struct client greedy, modest;
    kit_prepare(&kit);
    kit.config.limits.held_bytes = 1000;
    kit_write_file(&kit, "file", "0123456789", 10);
    kit_start(&kit);
    client_connect(&modest, &kit);
    for (int i = 0; i < 2; i++) {
        client_get(&modest, "/echo");
        CHECK_ANSWER(&modest, 200, "GET /echo\n");
        client_get(&modest, "/f/file");
        CHECK_ANSWER(&modest, 200, "0123456789");
    }
    char part[1200], request[2048];
    memset(part, 'a', sizeof part - 1);
    part[sizeof part - 1] = 0;

    /* A head in part that is refilled does not count twice. */
    client_connect(&greedy, &kit);
    MUST(client_say(&greedy, "GET /"));
    CHECK(kit_becomes(&kit, "held", 5));
    MUST(client_write(&greedy, part, 700));
    CHECK(kit_becomes(&kit, "held", 705));
    MUST(client_write(&greedy, part, 200));
    CHECK(kit_becomes(&kit, "held", 905));
    MUST(client_write(&greedy, part, 200));
    CHECK_ANSWER(&greedy, 503, "no\n");
    CHECK(client_at_end(&greedy, true));
    client_close(&greedy);

    static const struct {
        const char *first;
        int status;
        const char *body;
    } rows[] = {
        {"GET /echo HTTP/1.1\r\nHost: kit\r\n\r\n", 200, "GET /echo\n"},
        {"GET /f/file HTTP/1.1\r\nHost: kit\r\n\r\n", 200, "0123456789"},
        {"GET /missing HTTP/1.1\r\nHost: kit\r\n\r\n", 503, "no\n"},
        {"GET /missing HTTP/1.1\r\nHost: kit\r\nContent-Length: 1\r\n\r\nx", 503, "no\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static struct answer answer;
        client_connect(&greedy, &kit);
        snprintf(request, sizeof request, "%sGET /%s", rows[i].first, part);
        MUST(client_say(&greedy, request));
        client_read(&greedy, &answer);
        CHECK_ROW(answer.status == rows[i].status && answer.whole && strcmp(answer.body, rows[i].body) == 0,
                  rows[i].first);
        if (i == 0)
            CHECK_ANSWER(&greedy, 503, "no\n");
        CHECK_ROW(client_at_end(&greedy, true), rows[i].first);
        client_close(&greedy);
        client_get(&modest, "/echo");
        CHECK_ANSWER(&modest, 200, "GET /echo\n");
    }
    client_close(&modest);
    CHECK(kit_becomes(&kit, "held", 0));
    kit_end(&kit);
}

int main(void)
{
    test_bodies();
    test_expect_without_body();
    test_malformed();
    test_linger_has_an_end();
    test_surplus();
    test_half_closed();
    test_byte_by_byte();
    test_timeouts();
    test_held_budget();
    return check_report();
}
