/* SPDX-License-Identifier: MIT */
/* The client's half of a relayed exchange, with a backend that plays what the path says. */
#include "engine_client.h"

#include "cold.h"
#include "core.h"
#include "origin.h"
#include "relay.h"

static uint8_t stuff[8 * 1024 * 1024];

/* What the backend remembers of one exchange. */
struct play {
    char path[64];
    uint64_t got, sum;   /* of the request's body */
    uint64_t left;       /* of the answer */
    bool ended, limited; /* the body; it is taken in pieces */
};

#define COLD_BYTES 3000000u
static int cold_fd;
static _Atomic int releases, completes, plays, half_closes, bodies;

static struct play *play_of(struct tux_conn *conn)
{
    return conn->exchange->relay->peer;
}

static void say(struct tux_engine *engine, struct tux_conn *conn, uint16_t status, int64_t length, const char *fields)
{
    struct tux_relay_head head = {
        .status = status, .length = length, .fields = (const uint8_t *)fields, .fields_len = (uint32_t)strlen(fields)};
    tux_relay_answer(engine, conn, &head);
}

static void text(struct tux_engine *engine, struct tux_conn *conn, const char *what)
{
    tux_relay_data(engine, conn, (const uint8_t *)what, strlen(what));
}

static void more(struct tux_engine *engine, struct tux_conn *conn)
{
    struct play *play = play_of(conn);
    size_t room;
    while (play->left > 0 && (room = tux_relay_room(engine, conn)) > 0) {
        uint64_t at = sizeof stuff - play->left;
        size_t n = room < 100000 ? room : 100000;
        n = n < play->left ? n : (size_t)play->left;
        play->left -= n;
        tux_relay_data(engine, conn, stuff + at, n);
    }
    if (play->left == 0)
        tux_relay_end(engine, conn, NULL, 0);
}

static void finish_echo(struct tux_engine *engine, struct tux_conn *conn)
{
    struct play *play = play_of(conn);
    char line[64];
    int len = snprintf(line, sizeof line, "%llu %llu\n", (unsigned long long)play->got, (unsigned long long)play->sum);
    say(engine, conn, 200, len, "");
    text(engine, conn, line);
    tux_relay_end(engine, conn, NULL, 0);
}

static uint16_t begin(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_span path = engine->head.path;
    struct play *play = calloc(1, sizeof *play);
    MUST(play != NULL && path.len < sizeof play->path);
    memcpy(play->path, conn->exchange->head + path.off, path.len);
    conn->exchange->relay->peer = play;
    plays++;
    const uint8_t *data;
    size_t len;
    bool end;
    if (strcmp(play->path, "/refused") == 0) {
        free(play);
        plays--;
        return 503;
    }
    if (strcmp(play->path, "/refused/late") == 0) {
        tux_relay_body_now(engine, conn, 100000, &data, &len, &end);
        MUST(end && len == 35);
        free(play);
        plays--;
        return 503;
    }
    if (strncmp(play->path, "/echo", 5) == 0 && strcmp(play->path, "/echo/next") != 0) {
        play->limited = strcmp(play->path, "/echo/pieces") == 0;
        tux_relay_body_now(engine, conn, play->limited ? 3 : 100000, &data, &len, &end);
        play->sum += body_sum(data, len, play->got);
        play->got += len;
        if (end)
            finish_echo(engine, conn);
    } else if (strcmp(play->path, "/length") == 0) {
        say(engine, conn, 200, 6, "X-A: b\r\n");
        text(engine, conn, "hel");
        text(engine, conn, "lo\n");
        tux_relay_end(engine, conn, NULL, 0);
    } else if (strcmp(play->path, "/chunked") == 0) {
        static const char trailer[] = "X-End: yes\r\n";
        tux_relay_inform(engine, conn, 103, (const uint8_t *)"Link: </a>\r\n", 12);
        say(engine, conn, 201, -1, "");
        text(engine, conn, "hello ");
        text(engine, conn, "world\n");
        tux_relay_end(engine, conn, (const uint8_t *)trailer, sizeof trailer - 1);
    } else if (strcmp(play->path, "/large") == 0 || strcmp(play->path, "/large/chunked") == 0) {
        say(engine, conn, 200, play->path[6] == 0 ? (int64_t)sizeof stuff : -1, "");
        play->left = sizeof stuff;
        more(engine, conn);
    } else if (strcmp(play->path, "/file") == 0) {
        struct tux_file *file = tux_file_new(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
        say(engine, conn, 200, 70010, "");
        text(engine, conn, "begin");
        tux_relay_file(engine, conn, file, 100, 70000);
        tux_file_unref(file);
        text(engine, conn, "end.\n");
        tux_relay_end(engine, conn, NULL, 0);
    } else if (strcmp(play->path, "/cold") == 0) {
        struct tux_file *file = tux_file_new(dup(cold_fd));
        say(engine, conn, 200, COLD_BYTES + 10, "");
        text(engine, conn, "begin");
        tux_relay_file(engine, conn, file, 0, COLD_BYTES);
        text(engine, conn, "end.\n");
        tux_relay_end(engine, conn, NULL, 0);
        tux_file_unref(file);
    } else if (strcmp(play->path, "/none") == 0) {
        say(engine, conn, 204, -1, "");
        tux_relay_end(engine, conn, NULL, 0);
    } else if (strcmp(play->path, "/short") == 0) {
        say(engine, conn, 200, 10, "");
        text(engine, conn, "short");
        tux_relay_end(engine, conn, NULL, 0);
    } else if (strcmp(play->path, "/surplus") == 0) {
        say(engine, conn, 200, 3, "");
        text(engine, conn, "surplus");
        tux_relay_end(engine, conn, NULL, 0);
    } else if (strcmp(play->path, "/fail") == 0) {
        tux_relay_fail(engine, conn, 502);
    } else if (strcmp(play->path, "/cut") == 0) {
        say(engine, conn, 200, -1, "");
        text(engine, conn, "begun");
        tux_relay_fail(engine, conn, 502);
    } else if (strcmp(play->path, "/next") == 0 || strcmp(play->path, "/echo/next") == 0) {
        if (!tux_relay_next(engine, conn, false)) {
            say(engine, conn, 404, 0, "");
            tux_relay_end(engine, conn, NULL, 0);
        }
    } else if (strcmp(play->path, "/upgrade") == 0) {
        tux_relay_upgrade(engine, conn, (const uint8_t *)"Upgrade: play\r\n", 15);
    } else if (strcmp(play->path, "/ended") == 0) {
        tux_relay_end(engine, conn, NULL, 0);
    } else if (strcmp(play->path, "/answered") == 0) {
        say(engine, conn, 200, 5, "");
    } else if (strcmp(play->path, "/early") == 0) {
        say(engine, conn, 200, 6, "");
        text(engine, conn, "early\n");
        tux_relay_end(engine, conn, NULL, 0);
    } /* else it says nothing */
    return 0;
}

static size_t room(struct tux_engine *engine, struct tux_conn *conn)
{
    struct play *play = play_of(conn);
    (void)engine;
    if (strcmp(play->path, "/never") == 0)
        return 0;
    return play->limited ? 3 : 100000;
}

static void body(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *data, size_t len, bool end)
{
    struct play *play = play_of(conn);
    bodies++;
    if (strcmp(play->path, "/upgrade") == 0) {
        tux_relay_data(engine, conn, data, len);
        if (end)
            tux_relay_end(engine, conn, NULL, 0);
        return;
    }
    play->sum += body_sum(data, len, play->got);
    play->got += len;
    if (end && strcmp(play->path, "/answered") == 0) {
        text(engine, conn, "answ\n");
        tux_relay_end(engine, conn, NULL, 0); /* which frees what it remembers */
    } else if (end && strncmp(play->path, "/echo", 5) == 0) {
        finish_echo(engine, conn);
    }
}

static void drained(struct tux_engine *engine, struct tux_conn *conn)
{
    more(engine, conn);
}

static void half_closed(struct tux_engine *engine, struct tux_conn *conn)
{
    half_closes++;
    if (strcmp(play_of(conn)->path, "/silent") == 0) {
        say(engine, conn, 200, 5, "");
        text(engine, conn, "half\n");
        tux_relay_end(engine, conn, NULL, 0);
    }
}

static void release(struct tux_engine *engine, struct tux_conn *conn, bool complete)
{
    (void)engine;
    free(play_of(conn));
    releases++;
    completes += complete;
}

static const struct tux_backend backend = {'f', begin, room, body, drained, half_closed, release};

static struct tux_routes *routes_of(void)
{
    static const struct tux_chain both = {
        .n_steps = 2, .steps = {{TUX_ORIGIN_PLANNER, 0}, {TUX_ORIGIN_FORWARD, 5}}, .root = 0, .mount_len = 2};
    static const struct tux_chain alone = {.n_steps = 1, .steps = {{TUX_ORIGIN_FORWARD, 1}}, .root = TUX_NO_ROUTE};
    static const struct tux_chain first = {
        .n_steps = 2, .steps = {{TUX_ORIGIN_FORWARD, 1}, {TUX_ORIGIN_PLANNER, 0}}, .root = TUX_NO_ROUTE};
    struct tux_routes *routes = tux_routes_new();
    MUST(routes != NULL && tux_routes_add_site(routes, "", 0) == 0);
    MUST(tux_routes_add_route(routes, 0, "/", 1, 0, &alone) == 0);
    MUST(tux_routes_add_route(routes, 0, "/f", 2, 1, &both) == 0);
    MUST(tux_routes_add_route(routes, 0, "/m", 2, 2, NULL) == 0);
    MUST(tux_routes_add_route(routes, 0, "/next", 5, 3, &first) == 0);
    MUST(tux_routes_add_route(routes, 0, "/echo/next", 10, 4, &first) == 0);
    return routes;
}

struct stage {
    struct kit kit;
    struct tux_routes *routes;
    struct client client;
};

static void open_stage(struct stage *stage, uint64_t stall_ms, kit_decide *decide)
{
    releases = completes = plays = half_closes = bodies = 0;
    kit_prepare(&stage->kit);
    stage->routes = routes_of();
    stage->kit.config.routes = stage->routes;
    stage->kit.config.limits.body_bytes = 2000000;
    stage->kit.config.limits.drain_bytes = 1000;
    stage->kit.config.limits.held_bytes = 2 * 1024 * 1024;
    if (decide != NULL)
        stage->kit.decide = decide;
    if (stall_ms > 0)
        stage->kit.config.limits.stall_timeout_ms = stall_ms;
    kit_create(&stage->kit);
    stage->kit.engine->backends[TUX_ORIGIN_FORWARD] = &backend;
    MUST(pthread_create(&stage->kit.engine_thread, NULL, kit_run, &stage->kit) == 0);
    client_connect(&stage->client, &stage->kit);
}

static void close_stage(struct stage *stage)
{
    client_close(&stage->client);
    CHECK(kit_becomes(&stage->kit, "connections", 0));
    kit_end(&stage->kit);
    CHECK_EQ(plays, releases);
    tux_routes_free(stage->routes);
}

/* All that comes until the end of the stream, or until `want` was seen. */
static bool comes(struct client *client, const char *want)
{
    while (memmem(client->buf, client->len, want, strlen(want)) == NULL)
        if (!client_fill(client))
            return false;
    client->len = 0;
    return true;
}

static void test_answers(void)
{
    static struct stage s;
    open_stage(&s, 0, NULL);
    for (int round = 0; round < 2; round++) {
        client_get(&s.client, "/length");
        CHECK_ANSWER(&s.client, 200, "hello\n");
        client_get(&s.client, "/none");
        CHECK_ANSWER(&s.client, 204, "");
        client_get(&s.client, "/fail");
        CHECK_ANSWER(&s.client, 502, "no\n");
        client_get(&s.client, "/refused");
        CHECK_ANSWER(&s.client, 503, "no\n");
        MUST(client_say(&s.client, "HEAD /length HTTP/1.1\r\nHost: kit\r\n\r\n"));
        static struct answer answer;
        client_read_as(&s.client, &answer, true);
        CHECK(answer.status == 200 && answer.length == 6 && has_field(&answer, "X-A: b"));
        CHECK(has_field(&answer, "Server: tux") && strstr(answer.head, "\r\nDate: ") != NULL);
        client_get(&s.client, "/file");
        client_read(&s.client, &answer);
        CHECK(answer.whole && answer.received == 70010 && memcmp(answer.body, "begin", 5) == 0);
        client_close(&s.client);
        client_connect(&s.client, &s.kit);
    }
    /* In order, although the second is pipelined behind the first. */
    MUST(client_say(&s.client, "GET /length HTTP/1.1\r\nHost: kit\r\n\r\nGET /m/x HTTP/1.1\r\nHost: kit\r\n\r\n"
                               "GET /none HTTP/1.1\r\nHost: kit\r\n\r\nGET /length HTTP/1.1\r\nHost: kit\r\n\r\n"));
    CHECK_ANSWER(&s.client, 200, "hello\n");
    CHECK_ANSWER(&s.client, 404, "absent\n");
    CHECK_ANSWER(&s.client, 204, "");
    CHECK_ANSWER(&s.client, 200, "hello\n");
    close_stage(&s);
}

static void test_chunked_text(void)
{
    static struct stage s;
    open_stage(&s, 0, NULL);
    client_get(&s.client, "/chunked");
    static const char end[] = "6\r\nhello \r\n6\r\nworld\n\r\n0\r\nX-End: yes\r\n\r\n";
    while (memmem(s.client.buf, s.client.len, end, sizeof end - 1) == NULL && client_fill(&s.client)) {
    }
    static const char begin_[] =
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n";
    CHECK(s.client.len > sizeof begin_ && memcmp(s.client.buf, begin_, sizeof begin_ - 1) == 0);
    s.client.len = 0;
    /* To a client of 1.0: no chunks, no hints, and the end of the connection ends it. */
    MUST(client_say(&s.client, "GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    while (client_fill(&s.client)) {
    }
    s.client.buf[s.client.len] = 0;
    CHECK(memcmp(s.client.buf, "HTTP/1.1 201 Created\r\n", 22) == 0);
    CHECK(strstr((char *)s.client.buf, "Connection: close\r\n\r\nhello world\n") != NULL);
    close_stage(&s);
}

static void test_bodies(void)
{
    static struct stage s;
    static struct answer answer;
    char want[64];
    open_stage(&s, 0, NULL);
    static const char *const paths[] = {"/echo", "/echo/pieces"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(want, sizeof want, "11 %llu\n", (unsigned long long)body_sum((const uint8_t *)"hello world", 11, 0));
        char request[512];
        snprintf(request, sizeof request, "POST %s HTTP/1.1\r\nHost: kit\r\nContent-Length: 11\r\n\r\nhello world", paths[i]);
        MUST(client_say(&s.client, request));
        CHECK_ANSWER(&s.client, 200, want);
        snprintf(request, sizeof request,
                 "POST %s HTTP/1.1\r\nHost: kit\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nA: b\r\n\r\n"
                 "GET /length HTTP/1.1\r\nHost: kit\r\n\r\n",
                 paths[i]);
        for (const char *c = request; *c != 0; c++) /* byte by byte, with a request behind */
            MUST(client_write(&s.client, c, 1));
        CHECK_ANSWER(&s.client, 200, want);
        CHECK_ANSWER(&s.client, 200, "hello\n");
        snprintf(request, sizeof request,
                 "POST %s HTTP/1.1\r\nHost: kit\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n", paths[i]);
        MUST(client_say(&s.client, request));
        client_read(&s.client, &answer);
        CHECK_EQ(answer.status, 100);
        MUST(client_say(&s.client, "hello world"));
        CHECK_ANSWER(&s.client, 200, want);
    }
    MUST(client_say(&s.client, "POST /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 1000000\r\n\r\n"));
    MUST(client_write(&s.client, stuff, 1000000));
    snprintf(want, sizeof want, "1000000 %llu\n", (unsigned long long)body_sum(stuff, 1000000, 0));
    CHECK_ANSWER(&s.client, 200, want);
    /* Answered before the body was read: a small rest is dropped, and the connection stays. */
    MUST(client_say(&s.client, "POST /early HTTP/1.1\r\nHost: kit\r\nContent-Length: 10\r\n\r\n"));
    CHECK_ANSWER(&s.client, 200, "early\n");
    MUST(client_say(&s.client, "0123456789GET /length HTTP/1.1\r\nHost: kit\r\n\r\n"));
    CHECK_ANSWER(&s.client, 200, "hello\n");
    /* A large one is not. */
    MUST(client_say(&s.client, "POST /early HTTP/1.1\r\nHost: kit\r\nContent-Length: 100000\r\n\r\n"));
    client_read(&s.client, &answer);
    CHECK(answer.status == 200 && has_field(&answer, "Connection: close"));
    client_close(&s.client);
    /* Too large, and malformed. */
    client_connect(&s.client, &s.kit);
    MUST(client_say(&s.client, "POST /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 2000001\r\n\r\n"));
    CHECK_ANSWER(&s.client, 413, "no\n");
    client_close(&s.client);
    client_connect(&s.client, &s.kit);
    MUST(client_say(&s.client, "POST /echo HTTP/1.1\r\nHost: kit\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nX"));
    CHECK_ANSWER(&s.client, 400, "no\n");
    client_close(&s.client);
    client_connect(&s.client, &s.kit);
    MUST(client_say(&s.client, "POST /echo HTTP/1.1\r\nHost: kit\r\nExpect: magic\r\nContent-Length: 1\r\n\r\nx"));
    CHECK_ANSWER(&s.client, 417, "no\n");
    close_stage(&s);
}

/* What is not in the page cache is read by the helper thread, and the others do not wait for it. */
static void test_cold_file(void)
{
    static struct stage s;
    static struct answer answer;
    cold_fd = cold_file(stuff, COLD_BYTES);
    if (!CHECK(cold_fd >= 0))
        return;
    bool cold = is_cold(cold_fd);
    open_stage(&s, 0, NULL);
    uint64_t want = body_sum((const uint8_t *)"begin", 5, 0) + body_sum(stuff, COLD_BYTES, 5) +
                    body_sum((const uint8_t *)"end.\n", 5, COLD_BYTES + 5);
    client_get(&s.client, "/cold");
    client_read(&s.client, &answer);
    CHECK(answer.whole && answer.received == COLD_BYTES + 10);
    CHECK(memcmp(answer.body, "begin", 5) == 0 && answer.sum == want);
    CHECK(!cold || kit_stat(&s.kit, "warmed") > 0);
    close(cold_fd);
    close_stage(&s);
}

static void test_large(void)
{
    static struct stage s;
    static struct answer answer;
    open_stage(&s, 0, NULL);
    client_close(&s.client);
    client_connect_with(&s.client, &s.kit, 4096); /* slow: the backend has to wait */
    client_get(&s.client, "/large");
    CHECK(kit_reaches(&s.kit, "held", 1) && kit_rests(&s.kit));
    CHECK(kit_stat(&s.kit, "held") <= TUX_RELAY_BUFFER_BYTES + 65536);
    client_read(&s.client, &answer);
    CHECK(answer.whole && answer.received == sizeof stuff && answer.sum == body_sum(stuff, sizeof stuff, 0));
    CHECK(kit_becomes(&s.kit, "held", 0));
    client_get(&s.client, "/large/chunked");
    uint64_t got = 0;
    bool last = false;
    while (!last && client_fill(&s.client)) {
        last = memmem(s.client.buf, s.client.len, "\r\n0\r\n\r\n", 7) != NULL;
        got += s.client.len > 16 ? s.client.len - 16 : 0;
        client_drop(&s.client, s.client.len > 16 ? s.client.len - 16 : 0);
    }
    CHECK(last && got + s.client.len > sizeof stuff);
    close_stage(&s);
}

/* Many clients that take nothing: together they hold what they may and no more, and each answer comes whole in the end. */
static void test_many_slow(void)
{
    enum { CLIENTS = 12 };
    static struct stage s;
    static struct client clients[CLIENTS];
    static struct answer answer;
    open_stage(&s, 0, NULL);
    for (int i = 0; i < CLIENTS; i++) {
        client_connect_with(&clients[i], &s.kit, 4096);
        client_get(&clients[i], "/large");
        CHECK(kit_becomes(&s.kit, "relayed", 1u + (unsigned)i));
    }
    CHECK(kit_rests(&s.kit) && kit_stat(&s.kit, "held") <= s.kit.config.limits.held_bytes);
    client_get(&s.client, "/length");
    CHECK_ANSWER(&s.client, 200, "hello\n");
    for (int i = 0; i < CLIENTS; i++) {
        client_read(&clients[i], &answer);
        CHECK(answer.whole && answer.received == sizeof stuff && answer.sum == body_sum(stuff, sizeof stuff, 0));
        client_close(&clients[i]);
    }
    CHECK(kit_becomes(&s.kit, "held", 0));
    close_stage(&s);
}

/* Chunks of one byte each: the backend is not called, nor anything sent, for each of them. */
static void test_tiny_chunks(void)
{
    static struct stage s;
    static char request[16384];
    char want[64];
    open_stage(&s, 0, NULL);
    int len = snprintf(request, sizeof request, "POST /echo HTTP/1.1\r\nHost: kit\r\nTransfer-Encoding: chunked\r\n\r\n");
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        len += snprintf(request + len, sizeof request - (size_t)len, "1\r\n%c\r\n", (char)('a' + i % 26));
        sum += body_sum((const uint8_t *)&request[len - 3], 1, i);
    }
    snprintf(request + len, sizeof request - (size_t)len, "0\r\n\r\n");
    snprintf(want, sizeof want, "2000 %llu\n", (unsigned long long)sum);
    MUST(client_say(&s.client, request));
    CHECK_ANSWER(&s.client, 200, want);
    CHECK(bodies <= 20); /* one for each piece that the network made of it */
    close_stage(&s);
}

static void test_broken(void)
{
    static struct stage s;
    static struct answer answer;
    static const char *const paths[] = {"/short", "/surplus", "/cut"};
    open_stage(&s, 0, NULL);
    for (size_t i = 0; i < 3; i++) {
        client_get(&s.client, paths[i]);
        client_read(&s.client, &answer);
        CHECK_ROW(answer.status == 0 || answer.status == 200, paths[i]);
        while (client_fill(&s.client)) {
        }
        s.client.buf[s.client.len] = 0;
        CHECK_ROW(strstr((char *)s.client.buf, "0\r\n\r\n") == NULL, paths[i]); /* not as if it were whole */
        client_close(&s.client);
        client_connect(&s.client, &s.kit);
    }
    /* Gone while the backend is at it. */
    client_get(&s.client, "/nothing");
    CHECK(kit_becomes(&s.kit, "relayed", 4));
    client_abort(&s.client);
    CHECK(kit_becomes(&s.kit, "exchanges", 0));
    client_connect(&s.client, &s.kit);
    MUST(client_say(&s.client, "POST /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 10\r\n\r\n012"));
    CHECK(kit_becomes(&s.kit, "relayed", 5));
    client_close(&s.client);
    CHECK(kit_becomes(&s.kit, "exchanges", 0));
    /* Half-closed, and still answered. */
    client_connect(&s.client, &s.kit);
    client_get(&s.client, "/silent");
    CHECK(kit_becomes(&s.kit, "relayed", 6));
    shutdown(s.client.fd, SHUT_WR);
    CHECK_ANSWER(&s.client, 200, "half\n");
    CHECK_EQ(half_closes, 1);
    close_stage(&s);
}

static void test_tunnel(void)
{
    static struct stage s;
    open_stage(&s, 0, NULL);
    MUST(client_say(&s.client, "GET /upgrade HTTP/1.1\r\nHost: kit\r\nConnection: Upgrade\r\nUpgrade: play\r\n\r\nearly bytes"));
    CHECK(comes(&s.client, "\r\n\r\nearly bytes"));
    for (int i = 0; i < 10; i++) {
        MUST(client_say(&s.client, "GET / HTTP/1.1\r\n\r\n")); /* is no request here */
        CHECK(comes(&s.client, "GET / HTTP/1.1\r\n\r\n"));
    }
    shutdown(s.client.fd, SHUT_WR);
    CHECK(client_at_end(&s.client, true));
    close_stage(&s);
}

/* What a backend must not do, and what the client must not see of it. */
static void test_misuse(void)
{
    static struct stage s;
    open_stage(&s, 0, NULL);
    /* A tunnel that nobody has asked for, or behind a body. */
    client_get(&s.client, "/upgrade");
    CHECK_ANSWER(&s.client, 502, "no\n");
    client_get(&s.client, "/ended");
    CHECK_ANSWER(&s.client, 502, "no\n");
    /* A body that was taken is not a request, also when its request is refused. */
    MUST(client_say(&s.client, "POST /refused/late HTTP/1.1\r\nHost: kit\r\nContent-Length: 35\r\n\r\n"
                               "GET /length HTTP/1.1\r\nHost: kit\r\n\r\n"));
    CHECK_ANSWER(&s.client, 503, "no\n");
    client_get(&s.client, "/none");
    CHECK_ANSWER(&s.client, 204, "");
    /* 100 is not sent behind an answer. */
    MUST(client_say(&s.client, "POST /answered HTTP/1.1\r\nHost: kit\r\nExpect: 100-continue\r\n"
                               "Content-Length: 5\r\n\r\n01234"));
    CHECK_ANSWER(&s.client, 200, "answ\n");
    close_stage(&s);
}

static void test_timeouts(void)
{
    static struct stage s;
    open_stage(&s, 500, NULL);
    MUST(client_say(&s.client, "POST /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 10\r\n\r\n012"));
    CHECK_ANSWER(&s.client, 408, "no\n");
    client_close(&s.client);
    client_connect_with(&s.client, &s.kit, 4096);
    client_get(&s.client, "/large"); /* and nothing is read */
    CHECK(kit_becomes(&s.kit, "exchanges", 1) && kit_becomes(&s.kit, "exchanges", 0));
    close_stage(&s);
}

/* Only absent.txt is declined. */
static void decline(struct kit *kit, const struct tux_ask_view *ask, struct kit_answer *answer)
{
    kit_decide_usual(kit, ask, answer);
    if (answer->status == 404)
        answer->flags |= TUX_PLAN_NEXT;
}

static void test_chain(void)
{
    static struct stage s;
    open_stage(&s, 0, decline);
    kit_write_file(&s.kit, "there", "file\n", 5);
    client_get(&s.client, "/f/there");
    CHECK_ANSWER(&s.client, 200, "file\n");
    client_get(&s.client, "/f/absent"); /* perhaps the planner is asked: nothing is known of that name yet */
    CHECK(kit_becomes(&s.kit, "relayed", 1));
    client_abort(&s.client);
    client_connect(&s.client, &s.kit);
    uint64_t asks = kit_stat(&s.kit, "asks");
    for (int i = 1; i < 4; i++) { /* the engine itself sees that there is no such file */
        client_get(&s.client, "/f/absent");
        CHECK(kit_becomes(&s.kit, "relayed", (uint64_t)i + 1));
        client_abort(&s.client);
        client_connect(&s.client, &s.kit);
    }
    CHECK_EQ(kit_stat(&s.kit, "asks"), asks);
    for (int i = 0; i < 4; i++) { /* a folder: the planner is asked, until its word is remembered */
        client_get(&s.client, "/f/folder/");
        CHECK(kit_becomes(&s.kit, "relayed", (uint64_t)i + 5));
        client_abort(&s.client);
        client_connect(&s.client, &s.kit);
    }
    CHECK_EQ(kit_stat(&s.kit, "asks"), asks + 2);
    /* Not for files: */
    MUST(client_say(&s.client, "POST /f/there HTTP/1.1\r\nHost: kit\r\nContent-Length: 1\r\n\r\nx"));
    CHECK(kit_becomes(&s.kit, "relayed", 9));
    client_abort(&s.client);
    client_connect(&s.client, &s.kit);
    /* The file appears: at the latest within a second it is found. */
    kit_write_file(&s.kit, "absent", "now\n", 4);
    bool found = false;
    for (uint64_t end = kit_now_ms() + 3000; !found && kit_now_ms() < end;) {
        static struct answer answer;
        client_get(&s.client, "/f/absent");
        struct timeval soon = {.tv_usec = 100000};
        setsockopt(s.client.fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
        client_read(&s.client, &answer);
        found = answer.status == 200 && strcmp(answer.body, "now\n") == 0;
        client_abort(&s.client);
        client_connect(&s.client, &s.kit);
    }
    CHECK(found);
    uint64_t relayed = kit_stat(&s.kit, "relayed");
    /* A backend declines: the planner is next; but not after it had a part of the body. */
    for (int i = 0; i < 4; i++) {
        client_get(&s.client, "/next");
        CHECK_ANSWER(&s.client, 200, "GET /next\n");
    }
    CHECK_EQ(kit_stat(&s.kit, "relayed"), relayed + 4); /* each time: what comes later in a chain is not remembered */
    /* Its body is not taken for a request: the connection ends. */
    MUST(client_say(&s.client, "POST /next HTTP/1.1\r\nHost: kit\r\nContent-Length: 35\r\n\r\n"
                               "GET /length HTTP/1.1\r\nHost: kit\r\n\r\n"));
    CHECK_ANSWER(&s.client, 200, "POST /next\n");
    CHECK(client_at_end(&s.client, true));
    client_close(&s.client);
    client_connect(&s.client, &s.kit);
    /* An encoded slash is for others to understand. */
    client_get(&s.client, "/f/a%2Fb");
    CHECK(kit_becomes(&s.kit, "relayed", relayed + 6));
    client_abort(&s.client);
    client_connect(&s.client, &s.kit);
    close_stage(&s);
}

int main(void)
{
    for (size_t i = 0; i < sizeof stuff; i++)
        stuff[i] = (uint8_t)(i * 2654435761u >> 13);
    test_answers();
    test_chunked_text();
    test_bodies();
    test_cold_file();
    test_large();
    test_many_slow();
    test_tiny_chunks();
    test_broken();
    test_tunnel();
    test_misuse();
    test_timeouts();
    test_chain();
    return check_report();
}
