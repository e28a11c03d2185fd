/* SPDX-License-Identifier: MIT */
/* Several servers, and several requests: balancing, retries, passive health, bounds and the queue. */
#include "upstream_kit.h"

#define OK5 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define GOT5 "1: 200 OK [5] ;1: data hello;1: end;"
#define SLOT TUX_TIMER_SLOT_MS

/* The servers that get the next n requests, none of which is answered: "0120". */
static const char *servers_of(unsigned n, struct ask **asks, int *fds)
{
    static char names[64];
    for (unsigned i = 0; i < n; i++) {
        asks[i] = ask_get(1);
        for (unsigned k = 0; k < KIT_SERVERS; k++) {
            if (server_is_alone(k))
                continue;
            fds[i] = server_accept(k);
            names[i] = (char)('0' + k);
        }
    }
    names[n] = 0;
    return names;
}

static void leave(unsigned n, struct ask **asks, int *fds)
{
    for (unsigned i = 0; i < n; i++) {
        if (asks[i] != NULL)
            ask_free(asks[i]);
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

static void test_round_robin(void)
{
    struct ask *asks[14];
    int fds[14];
    kit_prepare();
    kit.config.n_servers = 3;
    kit_start();
    CHECK(strcmp(servers_of(6, asks, fds), "012012") == 0);
    leave(6, asks, fds);
    kit_end();
    kit_prepare();
    kit.config.n_servers = 3;
    kit.servers[0].weight = 5;
    kit_start();
    CHECK(strcmp(servers_of(14, asks, fds), "00102000010200") == 0);
    leave(14, asks, fds);
    kit_end();
}

static void test_least_connections(void)
{
    struct ask *asks[6];
    int fds[6];
    kit_prepare();
    kit.config.n_servers = 3;
    kit.config.balance = TUX_BALANCE_LEAST_CONNECTIONS;
    kit_start();
    CHECK(strcmp(servers_of(3, asks, fds), "012") == 0);
    ask_free(asks[1]); /* now server 1 has nothing to do */
    asks[1] = NULL;
    CHECK(strcmp(servers_of(1, asks + 3, fds + 3), "1") == 0);
    leave(4, asks, fds);
    kit_end();
    kit_prepare();
    kit.config.n_servers = 2;
    kit.config.balance = TUX_BALANCE_LEAST_CONNECTIONS;
    kit.servers[1].weight = 2;
    kit_start();
    const char *names = servers_of(6, asks, fds);
    unsigned ones = 0;
    for (unsigned i = 0; i < 6; i++)
        ones += names[i] == '1';
    CHECK_EQ(ones, 4);
    leave(6, asks, fds);
    kit_end();
}

static void test_refused_connections(void)
{
    struct ask *asks[4];
    int fds[4];
    kit_prepare();
    kit.config.n_servers = 3;
    close(kit.listeners[0]);
    kit.listeners[0] = -1;
    kit_start();
    struct ask *ask = ask_as(1, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"); /* nothing was sent: any method */
    CHECK_EQ(ask->status, 0);
    int server = server_accept(1);
    CHECK_EQ(atomic_load(&kit.engine->stats.retries), 1);
    CHECK_EQ(atomic_load(&kit.engine->stats.upstream_fails), 1);
    ask_free(ask);
    close(server);
    CHECK(strcmp(servers_of(4, asks, fds), "2121") == 0); /* it is left out for a while */
    leave(4, asks, fds);
    CHECK_EQ(atomic_load(&kit.engine->stats.upstream_fails), 1);
    kit_listen(0, 64);
    kit_pass(kit.config.fail_timeout_ms);
    CHECK(strchr(servers_of(4, asks, fds), '0') != NULL);
    leave(4, asks, fds);
    kit_end();

    /* All are gone: each request fails at once, and each tries anew. */
    kit_prepare();
    kit.config.n_servers = 2;
    for (unsigned i = 0; i < 2; i++) {
        close(kit.listeners[i]);
        kit.listeners[i] = -1;
    }
    kit_start();
    for (int i = 0; i < 3; i++) {
        ask = ask_as(1, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        CHECK_EQ(ask->status, 502);
        ask_free(ask);
    }
    kit_listen(1, 64);
    ask = ask_get(1);
    close(server_accept(1));
    TOLD("1: fail 502;");
    ask_free(ask);
    kit_end();
}

/* A server that closes without an answer: repeatable requests go on to another one. */
static void test_retries(void)
{
    static const struct {
        const char *request;
        bool repeated;
    } rows[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
        {"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", true},
        {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", true},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", false},
        {"PATCH / HTTP/1.1\r\nHost: a\r\n\r\n", false},
        {"FROB / HTTP/1.1\r\nHost: a\r\n\r\n", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kit_prepare();
        kit.config.n_servers = 3;
        kit_start();
        struct ask *ask = ask_as(1, rows[i].request);
        int server = server_accept(0);
        server_read(server);
        close(server);
        if (rows[i].repeated) {
            server = server_accept(1);
            CHECK_ROW(strncmp(server_read(server), rows[i].request, 5) == 0, rows[i].request);
            close(server);
        }
        TOLD("1: fail 502;"); /* one retry is the default */
        CHECK(server_is_alone(2));
        ask_free(ask);
        kit_end();
    }
    /* Silence is a failure, too, but what has begun is not begun again. */
    kit_prepare();
    kit.config.n_servers = 3;
    kit.config.retries = 5;
    kit_start();
    struct ask *ask = ask_get(1);
    int first = server_accept(0);
    server_read(first);
    kit_pass(kit.config.first_byte_timeout_ms + 2 * SLOT);
    CHECK(server_is_left(first));
    int second = server_accept(1);
    server_read(second);
    kit_pass(kit.config.first_byte_timeout_ms + 2 * SLOT);
    int third = server_accept(2);
    server_read(third);
    server_write(third, "HTTP/1.1 103 Hints\r\n\r\n");
    close(third);
    TOLD("1: inform 103 ;1: fail 502;");
    ask_free(ask);
    close(first);
    close(second);
    kit_end();
    /* A body of which something was sent. */
    kit_prepare();
    kit.config.n_servers = 3;
    kit_start();
    ask = ask_as(1, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
    first = server_accept(0);
    ask_room(ask);
    ask_body(ask, "a", false);
    server_read(first);
    close(first);
    TOLD("1: fail 502;");
    CHECK(server_is_alone(1));
    ask_free(ask);
    kit_end();
}

/* Connections of the pool that died while nobody looked. */
static void test_stale_connections(void)
{
    static const struct {
        const char *request;
        bool repeated;
    } rows[] = {{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true}, {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kit_prepare();
        kit.config.retries = 0;
        kit_start();
        struct ask *asks[3];
        int fds[3];
        for (unsigned k = 0; k < 3; k++) {
            asks[k] = ask_get(1);
            fds[k] = server_accept(0);
            server_read(fds[k]);
        }
        for (unsigned k = 0; k < 3; k++)
            server_write(fds[k], OK5);
        leave(3, asks, (int[]){-1, -1, -1});
        kit.said_len = 0;
        CHECK_EQ(atomic_load(&kit.engine->stats.upstream_connections), 3);
        for (unsigned k = 0; k < 3; k++)
            close(fds[k]); /* the loop has not heard of it */
        struct ask *ask = ask_as(1, rows[i].request);
        CHECK_EQ(ask->status, 0);
        int server = server_accept(0);
        CHECK_ROW(strncmp(server_read(server), rows[i].request, 4) == 0, rows[i].request);
        if (ask_room(ask) > 0 && i == 1)
            ask_body(ask, "x", true);
        server_write(server, OK5);
        TOLD(GOT5);
        CHECK_EQ(atomic_load(&kit.engine->stats.upstream_fails), 0);
        ask_free(ask);
        close(server);
        kit_end();
    }
    /* The server takes the request and closes, once and again: the first may have been bad luck, the second is not. */
    kit_prepare();
    kit.config.retries = 0;
    kit_start();
    struct ask *ask = ask_get(1);
    int server = server_accept(0);
    server_read(server);
    server_write(server, OK5);
    ask_free(ask);
    TOLD(GOT5);
    ask = ask_get(1);
    server_read(server);
    close(server);
    server = server_accept(0);
    server_read(server);
    close(server);
    TOLD("1: fail 502;");
    CHECK_EQ(atomic_load(&kit.engine->stats.upstream_fails), 1);
    ask_free(ask);
    kit_end();
}

static void test_max_fails(void)
{
    struct ask *asks[4];
    int fds[4];
    kit_prepare();
    kit.config.n_servers = 2;
    kit.config.max_fails = 2;
    kit.config.retries = 0;
    kit_start();
    for (int i = 0; i < 2; i++) { /* server 0 fails twice, with a success of server 1 between */
        struct ask *ask = ask_get(1);
        close(server_accept(0));
        TOLD("1: fail 502;");
        ask_free(ask);
        ask = ask_get(1);
        int server = server_accept(1);
        server_read(server);
        server_write(server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        close(server);
        TOLD("1: 200 OK [0] ;1: end;");
        ask_free(ask);
    }
    CHECK(strcmp(servers_of(3, asks, fds), "111") == 0);
    leave(3, asks, fds);
    kit_pass(kit.config.fail_timeout_ms);
    CHECK(strchr(servers_of(3, asks, fds), '0') != NULL);
    leave(3, asks, fds);
    kit_end();
}

static void test_queue(void)
{
    struct ask *asks[5];
    kit_prepare();
    kit.config.connections = 1;
    kit.config.queue = 2;
    kit_start();
    for (unsigned i = 0; i < 3; i++)
        asks[i] = ask_get(i);
    asks[3] = ask_as(3, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK_EQ(asks[3]->status, 503); /* the queue is full */
    ask_free(asks[3]);
    CHECK_EQ(atomic_load(&kit.engine->stats.queued), 2);
    int server = server_accept(0);
    CHECK(server_is_alone(0));
    server_read(server);
    ask_free(asks[1]); /* one that waits goes away */
    asks[1] = ask_as(1, "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n");
    CHECK_EQ(ask_room(asks[1]), 0);
    server_write(server, OK5); /* the next takes the same connection */
    TOLD("0: 200 OK [5] ;0: data hello;0: end;");
    CHECK(strncmp(server_read(server), "GET / ", 6) == 0);
    server_write(server, OK5);
    TOLD("2: 200 OK [5] ;2: data hello;2: end;1: take;");
    CHECK(strncmp(server_read(server), "POST /1 ", 8) == 0);
    CHECK(ask_room(asks[1]) > 0);
    ask_body(asks[1], "x", true);
    asks[3] = ask_get(3);
    asks[4] = ask_get(4);
    kit_pass(kit.config.queue_timeout_ms + SLOT);
    TOLD("3: fail 503;4: fail 503;");
    server_read(server);
    server_write(server, OK5);
    TOLD(GOT5);
    leave(5, (struct ask *[]){asks[0], asks[1], asks[2], asks[3], asks[4]}, (int[]){-1, -1, -1, -1, -1});
    CHECK(server_is_alone(0));
    close(server);
    kit_end();
}

/* While requests wait, checks say that no server works: nobody is left whom they could wait for. */
static void test_queue_and_checks(void)
{
    struct ask *asks[4];
    kit_prepare();
    kit.config.connections = 1;
    kit.config.n_servers = 2;
    kit_start();
    for (unsigned i = 0; i < 4; i++)
        asks[i] = ask_get(i);
    int first = server_accept(0), second = server_accept(1);
    server_read(first);
    server_read(second);
    tux_upstream_health(kit.engine, 0, 0, false);
    kit_turn();
    TOLD(""); /* the other one works */
    tux_upstream_health(kit.engine, 0, 1, false);
    kit_turn();
    TOLD("2: fail 503;3: fail 503;");
    ask_free(asks[2]);
    ask_free(asks[3]);
    asks[2] = ask_as(2, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK_EQ(asks[2]->status, 503);
    ask_free(asks[2]);
    /* What is under way may still be answered. */
    server_write(first, OK5);
    TOLD("0: 200 OK [5] ;0: data hello;0: end;");
    tux_upstream_health(kit.engine, 0, 0, true);
    kit_turn();
    asks[2] = ask_get(2);
    server_read(first);
    server_write(first, OK5);
    TOLD("2: 200 OK [5] ;2: data hello;2: end;");
    leave(3, asks, (int[]){first, second, -1});
    kit_end();
}

/* A request waits for one server, and a check says that another one works again. */
static void test_queue_and_recovery(void)
{
    struct ask *asks[2];
    kit_prepare();
    kit.config.connections = 1;
    kit.config.n_servers = 2;
    kit_start();
    tux_upstream_health(kit.engine, 0, 1, false);
    asks[0] = ask_get(0);
    asks[1] = ask_get(1);
    int first = server_accept(0);
    CHECK(server_is_alone(1));
    tux_upstream_health(kit.engine, 0, 1, true);
    kit_turn();
    int second = server_accept(1);
    server_read(second);
    server_write(second, OK5);
    TOLD(GOT5);
    leave(2, asks, (int[]){first, second});
    kit_end();
}

static void test_pool_bounds(void)
{
    struct ask *asks[4];
    int fds[4];
    kit_prepare();
    kit.config.keepalive = 2;
    kit_start();
    servers_of(4, asks, fds);
    for (unsigned i = 0; i < 4; i++) {
        server_read(fds[i]);
        server_write(fds[i], OK5);
    }
    CHECK_EQ(atomic_load(&kit.engine->stats.upstream_connections), 2);
    CHECK(server_is_left(fds[0]) && server_is_left(fds[1]) && !server_is_left(fds[2]) && !server_is_left(fds[3]));
    leave(4, asks, fds);
    kit.said_len = 0;
    kit_end();

    kit_prepare();
    kit.config.keepalive = 0;
    kit_start();
    struct ask *ask = ask_get(1);
    int server = server_accept(0);
    CHECK(strstr(server_read(server), "Connection: close\r\n") != NULL);
    server_write(server, OK5);
    TOLD(GOT5);
    CHECK(server_is_left(server));
    ask_free(ask);
    close(server);
    kit_end();
}

/* A unix socket whose queue is full refuses for a moment; that is no failure. */
static void test_full_backlog(void)
{
    struct ask *asks[4];
    kit_prepare();
    close(kit.listeners[0]);
    kit_listen(0, 0);
    kit_start();
    for (unsigned i = 0; i < 4; i++)
        asks[i] = ask_get(i);
    kit_turn();
    TOLD("");
    for (unsigned i = 0; i < 4; i++) {
        int server = server_accept(0);
        kit_pass(2 * SLOT);
        server_read(server);
        server_write(server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        close(server);
    }
    kit_turn();
    CHECK(strstr(kit.said, "fail") == NULL);
    CHECK_EQ(atomic_load(&kit.engine->stats.upstream_fails), 0);
    kit.said_len = 0;
    struct ask *more[4];
    for (unsigned i = 0; i < 4; i++)
        more[i] = ask_get(i);
    kit_pass(kit.config.connect_timeout_ms + 2 * SLOT);
    kit_pass(2 * SLOT);
    CHECK(strstr(kit.said, "fail") != NULL);
    for (unsigned i = 0; i < 4; i++) {
        ask_free(asks[i]);
        ask_free(more[i]);
    }
    kit_end();
}

static void test_hosts(void)
{
    static const struct {
        const char *host, *want;
    } rows[] = {{NULL, "\r\nHost: a\r\n"}, {"", "\r\nHost: s0\r\n"}, {"inner:1", "\r\nHost: inner:1\r\n"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kit_prepare();
        kit.config.host = rows[i].host;
        kit_start();
        struct ask *ask = ask_get(1);
        int server = server_accept(0);
        CHECK_ROW(strstr(server_read(server), rows[i].want) != NULL, rows[i].want);
        ask_free(ask);
        close(server);
        kit_end();
    }
}

static void test_bad_config(void)
{
    kit_prepare();
    kit_start();
    struct tux_upstream_config bad[6];
    for (size_t i = 0; i < 6; i++)
        bad[i] = kit.config;
    bad[0].n_servers = 0;
    bad[1].n_servers = TUX_MAX_UPSTREAM_SERVERS + 1;
    bad[2].idle_timeout_ms = 0;
    bad[3].balance = 7;
    struct tux_upstream_server light = kit.servers[0];
    light.weight = 0;
    bad[4].servers = &light;
    static char host[TUX_MAX_HOST_BYTES + 2];
    memset(host, 'a', sizeof host - 1);
    bad[5].host = host;
    for (size_t i = 0; i < 6; i++)
        CHECK_EQ(tux_engine_upstream(kit.engine, &bad[i]), -EINVAL);
    CHECK_EQ(tux_engine_upstream(kit.engine, &kit.config), 1);
    kit_end();
}

int main(void)
{
    test_round_robin();
    test_least_connections();
    test_refused_connections();
    test_retries();
    test_stale_connections();
    test_max_fails();
    test_queue();
    test_queue_and_checks();
    test_queue_and_recovery();
    test_pool_bounds();
    test_full_backlog();
    test_hosts();
    test_bad_config();
    return check_report();
}
