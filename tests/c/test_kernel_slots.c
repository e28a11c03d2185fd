/* SPDX-License-Identifier: MIT */
/* What the engine says about its connections to the programs of the kernel tier: at rest or not, at every turn of one's
 * life. The counts are compared with what the client has sent and received. */
#include "kernel_kit.h"

#include <linux/tcp.h>

/* Bytes that the client has received, and sent (its SYN takes one number, too). */
static uint64_t expected_marks(const struct client *client)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    MUST(getsockopt(client->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
    return (info.tcpi_bytes_acked - 1) | info.tcpi_bytes_received << 32;
}

static void check_rests(const struct client *client, const struct tux_kernel_slot *slot, const char *about)
{
    CHECK_ROW(AWAIT(tier_marks(slot) == expected_marks(client)), about);
}

static void skip_answer(struct client *client, int status)
{
    static struct answer answer;
    client_read(client, &answer);
    CHECK_EQ(answer.status, status);
    MUST(answer.whole);
}

/* After each answer the marks say what has passed, whatever it was made of. */
static void test_marks(void)
{
    static const char *const requests[] = {
        "GET /echo HTTP/1.1\r\nHost: kit\r\n\r\n",
        "GET /f/large HTTP/1.1\r\nHost: kit\r\n\r\n",
        "GET /f/absent HTTP/1.1\r\nHost: kit\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 10\r\n\r\n0123456789",
        "POST /echo HTTP/1.1\r\nHost: kit\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n\r\n",
        "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    };
    static uint8_t large[3 * 1024 * 1024], body[200000];
    struct kit kit;
    struct tier tier;
    struct client client;
    tier_open(&tier, &kit, 1000);
    kit_write_file(&kit, "large", large, sizeof large);
    tier_start(&tier, &kit);
    client_connect(&client, &kit);
    CHECK(kit_becomes(&kit, "accepted", 1) && kit_rests(&kit));
    CHECK(tier_slot(&tier) == NULL); /* it may be closed after its first answer */
    MUST(client_say(&client, requests[0]));
    skip_answer(&client, 200);
    struct tux_kernel_slot *slot = tier_slot(&tier);
    MUST(slot != NULL);
    CHECK_EQ((uint64_t)(slot - tier.slots), slot->cookie % TUX_KERNEL_SLOTS);
    for (int round = 0; round < 6; round++) /* asked, remembered, and the file loaded into memory */
        for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
            MUST(client_say(&client, requests[i]));
            skip_answer(&client, strstr(requests[i], "absent") != NULL ? 404 : 200);
            /* Already when the client sees the answer, unless that is sent in pieces. */
            CHECK_ROW(strstr(requests[i], "large") != NULL || tier_marks(slot) == expected_marks(&client), requests[i]);
            check_rests(&client, slot, requests[i]);
        }
    /* A body that is dropped without being copied. */
    MUST(client_say(&client, "POST /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 200000\r\n\r\n"));
    MUST(client_write(&client, body, sizeof body));
    skip_answer(&client, 200);
    check_rests(&client, slot, "large body");
    /* Pipelined, with a miss between. */
    MUST(client_say(&client, "GET /echo HTTP/1.1\r\nHost: kit\r\n\r\nGET /echo/1 HTTP/1.1\r\nHost: kit\r\n\r\n"
                             "GET /f/large HTTP/1.1\r\nHost: kit\r\n\r\nGET /echo HTTP/1.1\r\nHost: kit\r\n\r\n"));
    for (int i = 0; i < 4; i++)
        skip_answer(&client, 200);
    check_rests(&client, slot, "pipelined");
    uint64_t cookie = slot->cookie;
    client_close(&client);
    CHECK(AWAIT(tier_load(&slot->cookie) == 0));
    CHECK_EQ(tier_marks(slot), TUX_KERNEL_NO_MARKS);
    /* The next one has a cookie of its own. */
    client_connect(&client, &kit);
    MUST(client_say(&client, requests[0]));
    skip_answer(&client, 200);
    CHECK(tier_slot(&tier) != NULL && tier_slot(&tier)->cookie != cookie);
    client_close(&client);
    CHECK(kit_becomes(&kit, "connections", 0));
    /* One that is closed with its first answer needs none. */
    client_connect(&client, &kit);
    MUST(client_say(&client, "GET /echo HTTP/1.1\r\nHost: kit\r\nConnection: close\r\n\r\n"));
    skip_answer(&client, 200);
    CHECK(tier_slot(&tier) == NULL);
    client_close(&client);
    CHECK(kit_becomes(&kit, "connections", 0));
    CHECK(tier_slot(&tier) == NULL);
    tier_close(&tier, &kit);
}

/* While anything is held, awaited or on its way, the marks differ from what has passed. */
static void test_not_at_rest(void)
{
    enum { PIPELINED = 2000 };
    static uint8_t large[3 * 1024 * 1024];
    struct kit kit;
    struct tier tier;
    struct client client;
    tier_open(&tier, &kit, 1000);
    kit_write_file(&kit, "large", large, sizeof large);
    kit_write_file(&kit, "text", large, 4000);
    tier_start(&tier, &kit);
    client_connect_with(&client, &kit, 4096);
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    struct tux_kernel_slot *slot = tier_slot(&tier);
    MUST(slot != NULL);
    check_rests(&client, slot, "answered");

    uint64_t before = tier_marks(slot);
    MUST(client_say(&client, "GET /echo HTT")); /* an incomplete head */
    CHECK(kit_becomes(&kit, "held", 13));
    CHECK_EQ(tier_marks(slot), before);
    MUST(client_say(&client, "P/1.1\r\nHost: kit\r\n\r\n"));
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    check_rests(&client, slot, "completed");
    MUST(client_say(&client, "GET /echo HTTP/1.1\r\nHost: kit\r\n\r\nGET")); /* ... behind a whole one */
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    CHECK(kit_becomes(&kit, "held", 3) && kit_rests(&kit));
    CHECK(tier_marks(slot) != expected_marks(&client));
    MUST(client_say(&client, " /echo HTTP/1.1\r\nHost: kit\r\n\r\n"));
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    check_rests(&client, slot, "completed behind a whole one");

    before = tier_marks(slot);
    kit_hold(&kit, true);
    client_get(&client, "/echo/miss"); /* the planner is awaited */
    CHECK(kit_becomes(&kit, "asks", 3));
    CHECK_EQ(tier_marks(slot), before);
    kit_hold(&kit, false);
    CHECK_ANSWER(&client, 200, "GET /echo/miss\n");
    check_rests(&client, slot, "decided");

    before = tier_marks(slot);
    client_get(&client, "/f/large"); /* more than the client takes */
    CHECK(kit_becomes(&kit, "exchanges", 1));
    CHECK(kit_rests(&kit));
    CHECK_EQ(tier_marks(slot), before);
    skip_answer(&client, 200);
    check_rests(&client, slot, "taken");

    for (int i = 0; i < PIPELINED; i++) /* from memory, and more than the client takes */
        client_get(&client, "/m/text");
    CHECK(kit_reaches(&kit, "held", 1) && kit_rests(&kit));
    CHECK(tier_marks(slot) != expected_marks(&client));
    for (int i = 0; i < PIPELINED; i++)
        skip_answer(&client, 200);
    check_rests(&client, slot, "all taken");

    before = tier_marks(slot);
    MUST(client_say(&client, "POST /echo HTTP/1.1\r\nHost: kit\r\nContent-Length: 2\r\n\r\n0")); /* half a body */
    CHECK(kit_becomes(&kit, "exchanges", 1));
    CHECK_EQ(tier_marks(slot), before);
    MUST(client_say(&client, "1"));
    skip_answer(&client, 200);
    check_rests(&client, slot, "whole body");
    client_close(&client);
    tier_close(&tier, &kit);
}

/* What the engine does without being asked, it does not do at rest. */
static void test_unasked(void)
{
    struct kit kit;
    struct tier tier;
    struct client client;
    /* 408 */
    tier_open(&tier, &kit, 1000);
    kit.config.limits.head_timeout_ms = 300;
    tier_start(&tier, &kit);
    client_connect(&client, &kit);
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    MUST(client_say(&client, "GET"));
    CHECK(kit_becomes(&kit, "held", 3));
    struct tux_kernel_slot *slot = tier_slot(&tier);
    MUST(slot != NULL);
    CHECK(tier_marks(slot) != TUX_KERNEL_NO_MARKS);
    CHECK_ANSWER(&client, 408, "no\n");
    CHECK_EQ(tier_marks(slot), TUX_KERNEL_NO_MARKS);
    client_close(&client);
    tier_close(&tier, &kit);

    /* Idle for too long. The slot is free afterwards, and the marks were taken back before. */
    tier_open(&tier, &kit, 1000);
    kit.config.limits.idle_timeout_ms = 300;
    tier_start(&tier, &kit);
    client_connect(&client, &kit);
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    slot = tier_slot(&tier);
    CHECK(client_at_end(&client, true));
    CHECK(kit_becomes(&kit, "connections", 0));
    CHECK(slot != NULL && slot->cookie == 0 && slot->marks == TUX_KERNEL_NO_MARKS);
    client_close(&client);
    tier_close(&tier, &kit);

    /* Half-closed after an error, while the client still sends. */
    tier_open(&tier, &kit, 1000);
    tier_start(&tier, &kit);
    client_connect(&client, &kit);
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    MUST(client_say(&client, "nonsense\r\n\r\n"));
    CHECK_ANSWER(&client, 400, "no\n");
    CHECK(client_at_end(&client, true));
    slot = tier_slot(&tier);
    CHECK(slot != NULL && tier_marks(slot) == TUX_KERNEL_NO_MARKS);
    client_close(&client);
    tier_close(&tier, &kit);
}

/* A drain: whoever is idle is closed, whoever is new or waits is not at rest until it is. */
static void test_drain(void)
{
    struct kit kit;
    struct tier tier;
    struct client idle, fresh, waits;
    tier_open(&tier, &kit, 1000);
    tier_start(&tier, &kit);
    client_connect(&waits, &kit);
    client_get(&waits, "/echo");
    CHECK_ANSWER(&waits, 200, "GET /echo\n");
    struct tux_kernel_slot *slot = tier_slot(&tier);
    MUST(slot != NULL);
    client_connect(&fresh, &kit);
    client_connect(&idle, &kit);
    client_get(&idle, "/echo");
    CHECK_ANSWER(&idle, 200, "GET /echo\n");
    kit_hold(&kit, true);
    client_get(&waits, "/echo/1");
    CHECK(kit_becomes(&kit, "asks", 3));
    tux_engine_drain(kit.engine, KIT_LIMIT_MS);
    CHECK(client_at_end(&idle, true));
    CHECK_EQ(tier_marks(slot), TUX_KERNEL_NO_MARKS);
    client_get(&fresh, "/echo/2");
    kit_hold(&kit, false);
    static struct answer answer;
    client_read(&fresh, &answer);
    CHECK(answer.status == 200 && has_field(&answer, "Connection: close"));
    skip_answer(&waits, 200);
    client_close(&idle);
    client_close(&fresh);
    client_close(&waits);
    kit_join(&kit);
    CHECK(tier_slot(&tier) == NULL);
    tier_close(&tier, &kit);
}

/* A slot that another connection has is left alone; the connection is served without one. */
static void test_slot_taken(void)
{
    struct kit kit;
    struct tier tier;
    struct client client;
    tier_open(&tier, &kit, 1);
    tier_start(&tier, &kit);
    for (uint32_t i = 0; i < TUX_KERNEL_SLOTS; i++)
        __atomic_store_n(&tier.slots[i].cookie, 1, __ATOMIC_RELEASE);
    client_connect(&client, &kit);
    for (int i = 0; i < 5; i++) {
        client_get(&client, "/echo");
        CHECK_ANSWER(&client, 200, "GET /echo\n");
    }
    CHECK_EQ(kit_stat(&kit, "hits"), 3);
    CHECK_EQ(kit_stat(&kit, "published"), 0); /* without a slot nothing would be gained */
    client_close(&client);
    CHECK(kit_becomes(&kit, "connections", 0));
    bool untouched = true;
    for (uint32_t i = 0; i < TUX_KERNEL_SLOTS; i++)
        untouched = untouched && tier.slots[i].cookie == 1 && tier.slots[i].marks == 0;
    CHECK(untouched);
    tier_close(&tier, &kit);
}

/* Connections of other listeners have no slot. */
static void test_other_listener(void)
{
    struct kit kit;
    struct tier tier;
    struct client client;
    tier_open(&tier, &kit, 1);
    tier_start(&tier, &kit);
    client_connect_unix(&client, &kit);
    for (int i = 0; i < 5; i++) {
        client_get(&client, "/echo");
        CHECK_ANSWER(&client, 200, "GET /echo\n");
    }
    CHECK(tier_slot(&tier) == NULL);
    CHECK_EQ(kit_stat(&kit, "published"), 0);
    client_close(&client);
    tier_close(&tier, &kit);
}

/* Many connections that come and go: no slot stays behind, and none is shared. */
static void test_many(void)
{
    enum { CLIENTS = 200 };
    static struct client clients[CLIENTS];
    struct kit kit;
    struct tier tier;
    tier_open(&tier, &kit, 1000);
    tier_start(&tier, &kit);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            client_connect(&clients[i], &kit);
            client_get(&clients[i], "/echo");
        }
        for (int i = 0; i < CLIENTS; i++)
            CHECK_ANSWER(&clients[i], 200, "GET /echo\n");
        uint32_t taken = 0;
        for (uint32_t i = 0; i < TUX_KERNEL_SLOTS; i++) {
            uint64_t cookie = tier_load(&tier.slots[i].cookie);
            taken += cookie != 0;
            CHECK_ROW(cookie == 0 || cookie % TUX_KERNEL_SLOTS == i, "the slot of its cookie");
        }
        CHECK(taken <= CLIENTS && taken > CLIENTS - 5);
        for (int i = 0; i < CLIENTS; i++) {
            if (i % 2)
                client_abort(&clients[i]);
            else
                client_close(&clients[i]);
        }
        CHECK(kit_becomes(&kit, "connections", 0));
        CHECK(tier_slot(&tier) == NULL);
    }
    tier_close(&tier, &kit);
}

int main(void)
{
    test_marks();
    test_not_at_rest();
    test_unasked();
    test_drain();
    test_slot_taken();
    test_other_listener();
    test_many();
    return check_report();
}
