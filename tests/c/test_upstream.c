/* SPDX-License-Identifier: MIT */
/* One request at one server: how responses are read and passed on, and what becomes of the connection. */
#include "upstream_kit.h"

#define OK "HTTP/1.1 200 OK\r\n"
#define OK5 OK "Content-Length: 5\r\n\r\nhello"
#define GOT5 "1: 200 OK [5] ;1: data hello;1: end;"

static void test_keep_alive(void)
{
    kit_prepare();
    kit_start();
    struct ask *ask = ask_get(1);
    int server = server_accept(0);
    CHECK(strcmp(server_read(server), "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: ::1\r\nX-Forwarded-Proto: http\r\n"
                                      "X-Forwarded-Host: a\r\n\r\n") == 0);
    TOLD("");
    server_write(server, OK5);
    TOLD(GOT5);
    ask_free(ask);
    CHECK_EQ(atomic_load(&kit.engine->stats.upstream_connections), 1);

    for (int i = 0; i < 3; i++) { /* over the same connection, in any pieces */
        ask = ask_get(1);
        CHECK(strncmp(server_read(server), "GET ", 4) == 0);
        for (const char *p = OK5; *p != 0; p++) {
            char piece[2] = {*p, 0};
            server_write(server, piece);
        }
        TOLD("1: 200 OK [5] ;1: data h;1: data e;1: data l;1: data l;1: data o;1: end;");
        ask_free(ask);
    }
    CHECK(server_is_alone(0));
    kit_pass(kit.config.keepalive_timeout_ms + 2 * TUX_TIMER_SLOT_MS);
    CHECK(server_is_left(server));
    close(server);
    kit_end();
}

struct row {
    const char *request, *response, *told;
    bool kept;
};

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define HEAD "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"

static const struct row rows[] = {
    {GET, OK "Content-Length: 0\r\nX: y\r\n\r\n", "1: 200 OK [0] X: y\r\n;1: end;", true},
    {GET, "HTTP/1.1 404\r\nContent-Length: 2\r\n\r\nno", "1: 404  [2] ;1: data no;1: end;", true},
    {GET, OK "Content-Length: 5\r\nConnection: close\r\n\r\nhello", GOT5, false},
    {GET, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", GOT5, false},
    {GET, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello", GOT5, true},
    {GET, "HTTP/1.1 204 No Content\r\n\r\n", "1: 204 No Content [-1] ;1: end;", true},
    {GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: x\r\n\r\n",
     "1: 304 Not Modified [9] ETag: x\r\n;1: end;", true},
    {HEAD, OK "Content-Length: 9\r\n\r\n", "1: 200 OK [9] ;1: end;", true},
    {HEAD, OK "Transfer-Encoding: chunked\r\n\r\n", "1: 200 OK [-1] ;1: end;", true},
    {HEAD, OK "\r\n", "1: 200 OK [-1] ;1: end;", true},
    /* chunks */
    {GET, OK "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
     "1: 200 OK [-1] ;1: data hello;1: end;", true},
    {GET, OK "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n",
     "1: 200 OK [-1] Trailer: X-Sum\r\n;1: end X-Sum: 1\r\n;", true},
    {GET, OK "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\nzz\r\n", "1: 200 OK [-1] ;1: data x;1: fail 502;", false},
    {GET, OK "Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n", "1: 200 OK [-1] ;1: data x;1: fail 502;", false},
    /* 1xx */
    {GET, "HTTP/1.1 100 Continue\r\n\r\n" OK5, GOT5, true},
    {GET, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" OK5,
     "1: inform 103 Link: </a>\r\n;1: inform 103 ;" GOT5, true},
    {GET, "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "1: fail 502;", false},
    /* more than was asked for */
    {GET, OK5 "x", GOT5, false},
    {GET, OK5 OK5, GOT5, false},
    {GET, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", "1: 204 No Content [5] ;1: end;", false},
    {HEAD, OK5, "1: 200 OK [5] ;1: end;", false},
    {GET, OK "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nx", "1: 200 OK [-1] ;1: end;", false},
    /* nonsense */
    {GET, OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", "1: fail 502;", false},
    {GET, "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "1: fail 502;", false},
    {GET, "hello\r\n\r\n", "1: fail 502;", false},
};

static void test_rows(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];
        kit_prepare();
        kit_start();
        struct ask *ask = ask_as(1, row->request);
        CHECK_EQ(ask->status, 0);
        int server = server_accept(0);
        server_read(server);
        MUST(send(server, row->response, strlen(row->response), MSG_NOSIGNAL) > 0);
        if (strcmp(row->told, kit.said) != 0)
            kit_turn();
        CHECK_ROW(strcmp(kit.said, row->told) == 0, row->response);
        if (strcmp(kit.said, row->told) != 0)
            fprintf(stderr, "  told: %s\n", kit.said);
        CHECK_ROW(server_is_left(server) == !row->kept, row->response);
        ask_free(ask);
        close(server);
        kit_end();
    }
}

/* What the server sends before it closes, and what the client is told after that. */
static const struct row ended[] = {
    {GET, "", "1: fail 502;", false},
    {GET, "HTTP/1.1 20", "1: fail 502;", false},
    {GET, "HTTP/1.1 103 Hints\r\n\r\n", "1: inform 103 ;1: fail 502;", false},
    {GET, OK "\r\nhello", "1: 200 OK [-1] ;1: data hello;1: end;", false},
    {GET, OK "\r\n", "1: 200 OK [-1] ;1: end;", false},
    {GET, OK "Content-Length: 5\r\n\r\nhell", "1: 200 OK [5] ;1: data hell;1: fail 502;", false},
    {GET, OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhell", "1: 200 OK [-1] ;1: data hell;1: fail 502;", false},
    {GET, OK5, GOT5, false},
};

static void test_ended(void)
{
    for (size_t i = 0; i < sizeof ended / sizeof *ended; i++) {
        for (int at_once = 0; at_once < 2; at_once++) {
            const struct row *row = &ended[i];
            kit_prepare();
            kit_start();
            struct ask *ask = ask_as(1, row->request);
            int server = server_accept(0);
            server_read(server);
            MUST(send(server, row->response, strlen(row->response), MSG_NOSIGNAL) >= 0);
            if (!at_once)
                kit_turn();
            close(server);
            kit_turn();
            CHECK_ROW(strcmp(kit.said, row->told) == 0, row->response);
            if (strcmp(kit.said, row->told) != 0)
                fprintf(stderr, "  told: %s\n", kit.said);
            ask_free(ask);
            kit_end();
        }
    }
}

/* Bytes, or the end, of a connection that waits for nothing. */
static void test_unsolicited(void)
{
    kit_prepare();
    kit_start();
    struct ask *ask = ask_get(1);
    int server = server_accept(0);
    server_read(server);
    server_write(server, OK5);
    ask_free(ask);
    TOLD(GOT5);
    server_write(server, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    CHECK(server_is_left(server));
    close(server);

    /* The bytes are there, the loop has not heard of them, and a request comes: they are no answer to it. */
    ask = ask_get(1);
    server = server_accept(0);
    server_read(server);
    server_write(server, OK5);
    ask_free(ask);
    TOLD(GOT5);
    struct epoll_event event;
    MUST(send(server, OK5, 5, MSG_NOSIGNAL) == 5);
    MUST(epoll_wait(kit.engine->epoll_fd, &event, 1, 0) == 1); /* this turn begins ... */
    kit.engine->turn++;
    ask = ask_get(1); /* ... with a client ... */
    tux_upstream_event(kit.engine, event.data.ptr, event.events); /* ... then comes the event */
    int second = server_accept(0);
    CHECK(strncmp(server_read(second), "GET ", 4) == 0);
    close(server);
    server_write(second, OK5);
    TOLD(GOT5);
    ask_free(ask);
    close(second);
    kit_end();
}

/* The client is slower than the server: no more is read than fits. */
static void test_back_pressure(void)
{
    static char body[65536];
    memset(body, 'x', sizeof body - 1);
    kit_prepare();
    kit_start();
    kit.quiet = true;
    kit.room = 100000;
    struct ask *ask = ask_get(1);
    int server = server_accept(0);
    server_read(server);
    fcntl(server, F_SETFL, O_NONBLOCK);
    server_write(server, OK "Content-Length: 655350\r\n\r\n");
    size_t written = 0;
    for (int round = 0; round < 40; round++) {
        ssize_t n = written < 655350 ? send(server, body, 655350 - written < 65535 ? 655350 - written : 65535, MSG_NOSIGNAL) : 0;
        written += n > 0 ? (size_t)n : 0;
        kit_turn();
        CHECK(kit.data_bytes <= 100000u * ((unsigned)round / 2 + 1));
        if (kit.room == 0 && round % 2 == 1) {
            kit_pass(2 * kit.config.idle_timeout_ms); /* it is not the server's fault */
            kit.room = 100000;
            tux_upstream_backend.drained(kit.engine, &ask->conn);
        }
    }
    CHECK_EQ(kit.data_bytes, 655350);
    TOLD("1: 200 OK [655350] ;1: end;");
    CHECK_EQ(atomic_load(&kit.engine->stats.upstream_connections), 1);
    ask_free(ask);
    close(server);
    kit_end();
}

static void test_bodies(void)
{
    kit_prepare();
    kit_start();
    /* A body that comes in the same turn goes out with the head. */
    struct ask *ask = ask_as(1, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n");
    CHECK(ask_room(ask) > 0);
    tux_upstream_backend.body(kit.engine, &ask->conn, (const uint8_t *)"abc", 3, false);
    int server = server_accept(0);
    const char *got = server_read(server);
    CHECK(strstr(got, "Content-Length: 7\r\n\r\nabc") != NULL);
    ask_body(ask, "defg", true);
    CHECK(strcmp(server_read(server), "defg") == 0);
    server_write(server, OK5);
    TOLD(GOT5);
    ask_free(ask);
    /* Chunks are ours. */
    ask = ask_as(1, "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK(strstr(server_read(server), "Transfer-Encoding: chunked\r\n\r\n") != NULL);
    ask_body(ask, "abcdefghijklmnopq", false);
    CHECK(strcmp(server_read(server), "11\r\nabcdefghijklmnopq\r\n") == 0);
    ask_body(ask, "r", true);
    CHECK(strcmp(server_read(server), "1\r\nr\r\n0\r\n\r\n") == 0);
    server_write(server, OK5);
    TOLD(GOT5);
    ask_free(ask);
    ask = ask_as(1, "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    server_read(server);
    ask_body(ask, "", true);
    CHECK(strcmp(server_read(server), "0\r\n\r\n") == 0);
    /* Early answers: passed on, and the connection is not used again. */
    server_write(server, OK5);
    TOLD(GOT5);
    ask_free(ask);
    ask = ask_as(1, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n");
    server_read(server);
    ask_body(ask, "abc", false);
    server_write(server, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    TOLD("1: 413 Too Large [0] ;1: end;");
    ask_free(ask);
    server_read(server);
    CHECK(server_is_left(server));
    close(server);
    kit_end();
}

/* The server reads nothing: the body waits, then the client, then it is too long. */
static void test_slow_server(void)
{
    static char piece[16385];
    memset(piece, 'x', sizeof piece - 1);
    kit_prepare();
    kit_start();
    struct ask *ask = ask_as(1, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    int server = server_accept(0);
    size_t total = 0;
    for (size_t room; (room = ask_room(ask)) > 0; total += strlen(piece)) {
        piece[room < 16384 ? room : 16384] = 0;
        ask_body(ask, piece, false);
        MUST(total < 10000000);
    }
    CHECK(atomic_load(&kit.engine->stats.held) <= TUX_UPSTREAM_OUT_BYTES);
    TOLD("");
    while (!server_has_nothing(server))
        server_read(server);
    TOLD("1: take;");
    CHECK(ask_room(ask) > 0);
    while ((total = ask_room(ask)) > 0) {
        piece[total < 16384 ? total : 16384] = 0;
        ask_body(ask, piece, false);
    }
    kit_pass(kit.config.send_timeout_ms + 2 * TUX_TIMER_SLOT_MS);
    TOLD("1: fail 504;");
    ask_free(ask);
    close(server);

    /* It closes in the middle: what it said before that counts. */
    for (int said = 0; said < 2; said++) {
        ask = ask_as(1, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
        server = server_accept(0);
        server_read(server);
        if (said)
            MUST(send(server, "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n", 38, 0) == 38);
        close(server);
        tux_upstream_backend.body(kit.engine, &ask->conn, (const uint8_t *)"abc", 3, false);
        TOLD(said ? "1: 413 No [0] ;1: end;" : "1: fail 502;");
        ask_free(ask);
    }
    kit_end();
}

static void test_expect(void)
{
    const char *post = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    kit_prepare();
    kit_start();
    struct ask *ask = ask_as(1, post); /* the server wants it */
    int server = server_accept(0);
    CHECK(strstr(server_read(server), "Expect: 100-continue\r\n") != NULL);
    CHECK_EQ(ask_room(ask), 0);
    server_write(server, "HTTP/1.1 100 Continue\r\n\r\n");
    TOLD("1: take;");
    CHECK(ask_room(ask) > 0);
    ask_body(ask, "abc", true);
    CHECK(strcmp(server_read(server), "abc") == 0);
    server_write(server, OK5);
    TOLD(GOT5);
    ask_free(ask);
    ask = ask_as(1, post); /* ... or says nothing about it */
    server_read(server);
    CHECK_EQ(ask_room(ask), 0);
    kit_pass(TUX_CONTINUE_MS + 2 * TUX_TIMER_SLOT_MS);
    TOLD("1: take;");
    ask_body(ask, "abc", true);
    server_read(server);
    server_write(server, OK5);
    TOLD(GOT5);
    ask_free(ask);
    ask = ask_as(1, post); /* ... or does not want it */
    server_read(server);
    CHECK_EQ(ask_room(ask), 0);
    server_write(server, "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    TOLD("1: 401 No [0] ;1: end;");
    CHECK(server_is_left(server));
    ask_free(ask);
    close(server);
    kit_end();
}

static void test_tunnel(void)
{
    const char *get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    const char *go = "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
    kit_prepare();
    kit_start();
    struct ask *ask = ask_as(1, get);
    int server = server_accept(0);
    CHECK(strstr(server_read(server), "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n") != NULL);
    server_write(server, go);
    TOLD("1: upgrade Upgrade: websocket\r\n;1: data first;");
    CHECK(ask_room(ask) > 0);
    ask_body(ask, "\x81\x01x", false);
    CHECK(strcmp(server_read(server), "\x81\x01x") == 0);
    server_write(server, "0\r\n\r\n");
    TOLD("1: data 0\r\n\r\n;");
    for (int i = 0; i < 3; i++) { /* either side keeps it alive */
        kit_pass(kit.config.idle_timeout_ms - 1000);
        ask_body(ask, "y", false);
        server_read(server);
        kit_pass(kit.config.idle_timeout_ms - 1000);
        server_write(server, "z");
        TOLD("1: data z;");
    }
    ask_body(ask, "last", true); /* the client's FIN comes behind what it said */
    CHECK(strcmp(server_read(server), "last") == 0);
    CHECK(strcmp(server_read(server), "") == 0);
    server_write(server, "bye");
    close(server);
    TOLD("1: data bye;1: end;");
    ask_free(ask);

    ask = ask_as(1, get); /* silence ends it */
    server = server_accept(0);
    server_read(server);
    server_write(server, go);
    kit_pass(kit.config.idle_timeout_ms + 2 * TUX_TIMER_SLOT_MS);
    TOLD("1: upgrade Upgrade: websocket\r\n;1: data first;1: end;");
    CHECK(server_is_left(server));
    ask_free(ask);
    close(server);

    ask = ask_as(1, get); /* an ordinary answer leaves the connection ordinary */
    server = server_accept(0);
    server_read(server);
    server_write(server, OK5);
    TOLD(GOT5);
    ask_free(ask);
    CHECK_EQ(atomic_load(&kit.engine->stats.upstream_connections), 1);
    close(server);
    kit_end();
}

static void test_timeouts(void)
{
    kit_prepare();
    kit.config.retries = 0;
    kit_start();
    struct ask *ask = ask_get(1);
    int server = server_accept(0);
    server_read(server);
    kit_pass(kit.config.first_byte_timeout_ms - 1000);
    TOLD("");
    kit_pass(1000 + 2 * TUX_TIMER_SLOT_MS);
    TOLD("1: fail 504;");
    ask_free(ask);
    close(server);
    ask = ask_get(1);
    server = server_accept(0);
    server_read(server);
    server_write(server, OK "Content-Length: 5\r\n\r\nh");
    TOLD("1: 200 OK [5] ;1: data h;");
    for (int i = 0; i < 3; i++) {
        kit_pass(kit.config.idle_timeout_ms - 1000);
        server_write(server, "e");
        TOLD("1: data e;");
    }
    kit_pass(kit.config.idle_timeout_ms + 2 * TUX_TIMER_SLOT_MS);
    TOLD("1: fail 502;");
    ask_free(ask);
    close(server);
    kit_end();
}

/* The client goes: so does the connection, and nothing is said any more. */
static void test_release(void)
{
    kit_prepare();
    kit_start();
    struct ask *ask = ask_get(1);
    int server = server_accept(0);
    ask_free(ask);
    server_read(server);
    CHECK(server_is_left(server));
    TOLD("");
    close(server);
    kit_end();
}

static void test_addresses(void)
{
    static const struct {
        const char *text;
        sa_family_t family; /* 0: refused */
    } texts[] = {
        {"127.0.0.1:80", AF_INET}, {"[::1]:65535", AF_INET6}, {"unix:/run/x", AF_UNIX}, {"unix:@x", AF_UNIX},
        {"unix:rel", AF_UNIX}, {"", 0}, {"127.0.0.1", 0}, {"127.0.0.1:", 0}, {"127.0.0.1:0", 0}, {"127.0.0.1:65536", 0},
        {"127.0.0.1:+8", 0}, {"::1:80", 0}, {"[::1]", 0}, {"[::1:80", 0}, {"name:80", 0}, {"unix:", 0}, {"256.1.1.1:1", 0},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct tux_upstream_server server;
        bool good = tux_upstream_address(texts[i].text, &server);
        CHECK_ROW(good == (texts[i].family != 0), texts[i].text);
        CHECK_ROW(!good || server.address.ss_family == texts[i].family, texts[i].text);
    }
}

int main(void)
{
    test_keep_alive();
    test_rows();
    test_ended();
    test_unsolicited();
    test_back_pressure();
    test_bodies();
    test_slow_server();
    test_expect();
    test_tunnel();
    test_timeouts();
    test_release();
    test_addresses();
    return check_report();
}
