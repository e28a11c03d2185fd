/* SPDX-License-Identifier: MIT */
/* The end: a drain finishes what is in flight, lets idle clients go at once, loses nobody who was already in the
 * queue, and takes no longer than its grace. */
#include "engine_client.h"

#define LONG_MS 15000u /* a grace that no good drain uses up */

static void check_answer_and_close(struct client *client, int status, const char *body)
{
    static struct answer answer;
    client_read(client, &answer);
    CHECK_ROW(answer.status == status && answer.whole && strcmp(answer.body, body) == 0, body);
    CHECK_ROW(has_field(&answer, "Connection: close"), body);
    CHECK_ROW(client_at_end(client, true), body);
}

static void test_idle_and_waiting(void)
{
    struct kit kit;
    struct client idle, waiting, half;
    kit_prepare(&kit);
    kit_start(&kit);
    client_connect(&idle, &kit);
    client_get(&idle, "/echo");
    CHECK_ANSWER(&idle, 200, "GET /echo\n");
    kit_hold(&kit, true);
    client_connect(&waiting, &kit);
    client_get(&waiting, "/echo/waiting");
    CHECK(kit_becomes(&kit, "asks", 2));
    client_connect(&half, &kit);
    MUST(client_say(&half, "PUT /echo/half HTTP/1.1\r\nHost: kit\r\nContent-Length: 6\r\n\r\nabc"));
    CHECK(kit_becomes(&kit, "requests", 3));

    uint64_t begun = kit_now_ms();
    tux_engine_drain(kit.engine, LONG_MS);
    CHECK(client_at_end(&idle, true));
    CHECK(kit_now_ms() - begun < 1000);
    CHECK(kit_becomes(&kit, "connections", 2));
    MUST(client_say(&half, "def"));
    CHECK(kit_becomes(&kit, "asks", 3)); /* still reading and asking */
    kit_hold(&kit, false);
    check_answer_and_close(&waiting, 200, "GET /echo/waiting\n");
    check_answer_and_close(&half, 200, "PUT /echo/half\n");
    client_close(&idle);
    client_close(&waiting);
    client_close(&half);
    kit_join(&kit);
    CHECK(kit_now_ms() - begun < LONG_MS / 2);
    kit_end(&kit);
}

/* A client that reads slowly gets all of its file. */
static void test_sending(void)
{
    static uint8_t large[8u * 1024u * 1024u];
    static struct answer answer;
    struct kit kit;
    struct client slow;
    kit_prepare(&kit);
    memset(large, 'x', sizeof large);
    kit_write_file(&kit, "large", large, sizeof large);
    kit_start(&kit);
    client_connect_with(&slow, &kit, 4096);
    client_get(&slow, "/f/large");
    CHECK(kit_becomes(&kit, "exchanges", 1));
    MUST(client_fill(&slow));
    tux_engine_drain(kit.engine, LONG_MS);
    client_read(&slow, &answer);
    CHECK(answer.whole && answer.sum == body_sum(large, sizeof large, 0));
    CHECK(client_at_end(&slow, true));
    client_close(&slow);
    kit_join(&kit);
    kit_end(&kit);
}

/* Who does not end is ended, at the grace and not before; a second drain may make it shorter, and not longer. */
static void test_grace(void)
{
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_start(&kit);
    kit_hold(&kit, true);
    client_connect(&client, &kit);
    client_get(&client, "/echo");
    CHECK(kit_becomes(&kit, "asks", 1));
    uint64_t begun = kit_now_ms();
    tux_engine_drain(kit.engine, UINT64_MAX); /* for ever */
    tux_engine_drain(kit.engine, 300);
    tux_engine_drain(kit.engine, LONG_MS);
    kit_join(&kit);
    CHECK(kit_now_ms() - begun >= 300);
    CHECK(kit_now_ms() - begun < LONG_MS);
    CHECK(client_at_end(&client, false));
    client_close(&client);
    kit_hold(&kit, false);
    kit_end(&kit);
}

/* Whoever is in the queue when the drain begins is answered, be they many; also who sends the request only then. */
static void test_queue(void)
{
    enum { CLIENTS = 300 };
    static struct client clients[CLIENTS];
    struct kit kit;
    kit_prepare(&kit);
    kit_create(&kit);
    for (int i = 0; i < CLIENTS; i++) {
        client_connect(&clients[i], &kit);
        if (i > 0)
            client_get(&clients[i], "/echo");
    }
    tux_engine_drain(kit.engine, LONG_MS); /* before it runs at all */
    MUST(pthread_create(&kit.engine_thread, NULL, kit_run, &kit) == 0);
    CHECK(kit_reaches(&kit, "accepted", CLIENTS));
    client_get(&clients[0], "/echo");
    for (int i = 0; i < CLIENTS; i++) {
        check_answer_and_close(&clients[i], 200, "GET /echo\n");
        client_close(&clients[i]);
    }
    kit_join(&kit);
    kit_end(&kit);
}

/* A connection on which nothing ever came does not hold up the end for longer than a moment. */
static void test_silent(void)
{
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_start(&kit);
    client_connect(&client, &kit);
    CHECK(kit_becomes(&kit, "connections", 1));
    uint64_t begun = kit_now_ms();
    tux_engine_drain(kit.engine, LONG_MS);
    CHECK(client_at_end(&client, true));
    CHECK(kit_now_ms() - begun < 3000);
    client_close(&client);
    kit_join(&kit);
    kit_end(&kit);
}

/* A client that did not expect the end and writes on gets its answer, not a RST over it. */
static void test_writes_on(void)
{
    struct kit kit;
    struct client client, idle;
    kit_prepare(&kit);
    kit_start(&kit);
    client_connect(&idle, &kit);
    client_get(&idle, "/echo");
    CHECK_ANSWER(&idle, 200, "GET /echo\n");
    kit_hold(&kit, true);
    client_connect(&client, &kit);
    client_get(&client, "/echo/1");
    CHECK(kit_becomes(&kit, "asks", 2));
    tux_engine_drain(kit.engine, LONG_MS);
    CHECK(client_at_end(&idle, true)); /* the drain has begun */
    client_close(&idle);
    kit_hold(&kit, false);
    /* The answer is out, and the end is announced; requests that were under way come in now. */
    struct pollfd readable = {.fd = client.fd, .events = POLLIN};
    MUST(poll(&readable, 1, KIT_LIMIT_MS) == 1);
    for (int i = 0; i < 20; i++)
        client_get(&client, "/echo/2");
    check_answer_and_close(&client, 200, "GET /echo/1\n");
    client_close(&client);
    kit_join(&kit);
    kit_end(&kit);
}

/* Whoever knows that the engine leaves can rely on it: a connection that is made from then on is somebody else's. */
static void test_leaving(void)
{
    struct kit kit;
    struct client idle, late;
    kit_prepare(&kit);
    kit_start(&kit);
    struct pollfd leaving = {.fd = tux_engine_leaving_fd(kit.engine), .events = POLLIN};
    kit_hold(&kit, true);
    client_connect(&idle, &kit); /* it keeps the loop running */
    client_get(&idle, "/echo");
    CHECK(kit_becomes(&kit, "asks", 1));
    CHECK(poll(&leaving, 1, 0) == 0);
    tux_engine_drain(kit.engine, LONG_MS);
    CHECK(poll(&leaving, 1, KIT_LIMIT_MS) == 1);
    client_connect(&late, &kit);
    client_get(&late, "/echo/late");
    kit_hold(&kit, false);
    check_answer_and_close(&idle, 200, "GET /echo\n");
    kit_join(&kit);
    CHECK(kit_stat(&kit, "accepted") == 1);
    client_close(&idle);
    client_close(&late);
    kit_end(&kit);
}

/* Run that never was: nothing to drain, nothing left. */
static void test_never_run(void)
{
    struct kit kit;
    kit_prepare(&kit);
    kit_create(&kit);
    kit.engine_ended = true;
    kit_end(&kit);
}

int main(void)
{
    test_idle_and_waiting();
    test_sending();
    test_grace();
    test_queue();
    test_silent();
    test_writes_on();
    test_leaving();
    test_never_run();
    return check_report();
}
