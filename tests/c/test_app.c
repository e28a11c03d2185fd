/* SPDX-License-Identifier: MIT */
/* Requests for applications, with processes that are played here: their ends of the rings, driven record by record. */
#include "engine_client.h"

#include "app_process.h"
#include "core.h"

struct stage {
    struct kit kit;
    struct tux_routes *routes;
    struct client client;
};

static void open_stage(struct stage *s, uint32_t queue, uint64_t queue_timeout_ms)
{
    static const struct tux_chain first = {.n_steps = 1, .steps = {{TUX_ORIGIN_APP, 0}}, .root = TUX_NO_ROUTE};
    static const struct tux_chain second = {.n_steps = 1, .steps = {{TUX_ORIGIN_APP, 1}}, .root = TUX_NO_ROUTE};
    static const struct tux_chain both = {
        .n_steps = 2, .steps = {{TUX_ORIGIN_APP, 0}, {TUX_ORIGIN_PLANNER, 0}}, .root = TUX_NO_ROUTE};
    struct tux_app_config config = {.queue = queue, .queue_timeout_ms = queue_timeout_ms, .hands_on_404 = true};
    kit_prepare(&s->kit);
    s->routes = tux_routes_new();
    MUST(s->routes != NULL && tux_routes_add_site(s->routes, "", 0) == 0);
    MUST(tux_routes_add_route(s->routes, 0, "/", 1, 0, &first) == 0);
    MUST(tux_routes_add_route(s->routes, 0, "/second", 7, 1, &second) == 0);
    MUST(tux_routes_add_route(s->routes, 0, "/both", 5, 2, &both) == 0);
    MUST(tux_routes_add_route(s->routes, 0, "/m", 2, 3, NULL) == 0);
    s->kit.config.routes = s->routes;
    kit_create(&s->kit);
    CHECK_EQ(tux_engine_app(s->kit.engine, &config), 0);
    CHECK_EQ(tux_engine_app(s->kit.engine, &config), 1);
    MUST(pthread_create(&s->kit.engine_thread, NULL, kit_run, &s->kit) == 0);
    client_connect(&s->client, &s->kit);
}

static void close_stage(struct stage *s)
{
    client_close(&s->client);
    CHECK(kit_becomes(&s->kit, "connections", 0));
    kit_end(&s->kit);
    tux_routes_free(s->routes);
}

static struct stage s;
static struct process p, q;
static struct answer got;

static void test_answers(void)
{
    open_stage(&s, 10, 10000);
    link_process(&s.kit, &p, 0);
    client_get(&s.client, "/a?b=c");
    CHECK(hears(&p, TUX_APP_REQUEST) && path_is(&p, "/a") && p.record.flags == TUX_APP_END);
    CHECK(p.request.request.peer_len == 9 && memcmp(p.request.peer, "127.0.0.1", 9) == 0);
    CHECK(p.request.request.local_port == ntohs(s.kit.address.sin_port) && p.request.request.peer_port != 0);
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    client_get(&s.client, "/why");
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer_why(&p, 404, "Nobody knows");
    client_read(&s.client, &got);
    CHECK(strncmp(got.head, "HTTP/1.1 404 Nobody knows\r\n", 27) == 0);
    /* In pieces, without a length, after a hint, with a trailer. */
    client_get(&s.client, "/chunked");
    CHECK(hears(&p, TUX_APP_REQUEST));
    struct tux_app_record inform = {
        .kind = TUX_APP_INFORM, .status = 103, .tag = p.record.tag, .serial = p.record.serial};
    utter(&p, &inform, sizeof inform, "Link: </a>\r\n", 12);
    answer(&p, 201, -1, "Date: never\r\nServer: app\r\n", "one", TUX_APP_TRAILERS);
    say(&p, TUX_APP_DATA, 0, 3, "two");
    struct tux_app_record trailer = {.kind = TUX_APP_TRAILER, .tag = p.record.tag, .serial = p.record.serial};
    utter(&p, &trailer, sizeof trailer, "X-End: yes\r\n", 12);
    static const char end[] = "0\r\nX-End: yes\r\n\r\n";
    while (memmem(s.client.buf, s.client.len, end, sizeof end - 1) == NULL && client_fill(&s.client)) {
    }
    s.client.buf[s.client.len] = 0;
    CHECK(strstr((char *)s.client.buf, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Created\r\n"
                                       "Date: never\r\nServer: app\r\nTransfer-Encoding: chunked\r\n\r\n") != NULL);
    s.client.len = 0;
    /* Not its own: the planner has it, or nobody. */
    client_get(&s.client, "/both/x");
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 404, 3, "", "no\n", TUX_APP_END);
    CHECK_ANSWER(&s.client, 200, "GET /both/x\n");
    client_get(&s.client, "/both/x");
    CHECK(hears(&p, TUX_APP_REQUEST));
    say(&p, TUX_APP_NEXT, 0, 0, NULL);
    CHECK_ANSWER(&s.client, 200, "GET /both/x\n");
    client_get(&s.client, "/alone");
    CHECK(hears(&p, TUX_APP_REQUEST));
    say(&p, TUX_APP_NEXT, 0, 0, NULL);
    CHECK_ANSWER(&s.client, 404, "no\n");
    client_get(&s.client, "/alone");
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 404, 5, "", "mine\n", TUX_APP_END);
    CHECK_ANSWER(&s.client, 404, "mine\n");
    MUST(client_say(&s.client, "HEAD /head HTTP/1.1\r\nHost: kit\r\n\r\n"));
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 200, 77, "", "", TUX_APP_END);
    client_read_as(&s.client, &got, true);
    CHECK(got.status == 200 && got.length == 77);
    client_get(&s.client, "/abort");
    CHECK(hears(&p, TUX_APP_REQUEST));
    say(&p, TUX_APP_ABORT, 0, 0, NULL);
    CHECK_ANSWER(&s.client, 502, "no\n");
    /* Static hits do not wait for anybody. */
    client_get(&s.client, "/m/x");
    CHECK_ANSWER(&s.client, 404, "absent\n");
    close_stage(&s);
    end_process(&p);
}

static void test_waiting(void)
{
    struct client others[3];
    open_stage(&s, 2, 10000);
    client_get(&s.client, "/first");
    CHECK(kit_becomes(&s.kit, "relayed", 1));
    for (int i = 0; i < 2; i++) {
        client_connect(&others[i], &s.kit);
        client_get(&others[i], i == 0 ? "/later" : "/over");
        CHECK(kit_becomes(&s.kit, "relayed", 2u + (unsigned)i));
    }
    CHECK_ANSWER(&others[1], 503, "no\n"); /* two wait */
    client_close(&others[1]);
    client_abort(&others[0]); /* it waits no more */
    CHECK(kit_becomes(&s.kit, "connections", 1));
    client_connect(&others[0], &s.kit);
    MUST(client_say(&others[0], "POST /again HTTP/1.1\r\nHost: kit\r\nContent-Length: 4\r\n\r\nbody"));
    CHECK(kit_becomes(&s.kit, "relayed", 4));
    link_process(&s.kit, &p, 0);
    CHECK(hears(&p, TUX_APP_REQUEST) && path_is(&p, "/first"));
    hello(&p);
    CHECK(hears(&p, TUX_APP_REQUEST) && path_is(&p, "/again"));
    CHECK(p.record.n == 4 && memcmp(p.request.body, "body", 4) == 0 && p.record.flags == TUX_APP_END);
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    CHECK_ANSWER(&others[0], 200, "hello\n");
    client_close(&others[0]);
    close_stage(&s);
    end_process(&p);
    /* Nobody comes. */
    open_stage(&s, 2, 300);
    client_get(&s.client, "/never");
    CHECK_ANSWER(&s.client, 503, "no\n");
    close_stage(&s);
}

/* The engine ends while requests wait for a process: there is none, and none will come. */
static void test_waiting_at_the_end(void)
{
    struct client other;
    open_stage(&s, 10, 6 * KIT_LIMIT_MS);
    link_process(&s.kit, &p, 0);
    client_get(&s.client, "/second/x");
    CHECK(kit_becomes(&s.kit, "relayed", 1));
    client_connect(&other, &s.kit);
    client_get(&other, "/x");
    CHECK(hears(&p, TUX_APP_REQUEST));
    tux_engine_drain(s.kit.engine, 6 * KIT_LIMIT_MS);
    CHECK_ANSWER(&s.client, 503, "no\n");
    hello(&p);
    CHECK_ANSWER(&other, 200, "hello\n");
    client_close(&other);
    close_stage(&s);
    end_process(&p);
}

/* So many requests, one after the other: how many came to p. Both have been asleep before. */
static uint32_t given_to_p(uint32_t pace_us)
{
    struct client others[3];
    open_stage(&s, 10, 10000);
    link_process(&s.kit, &p, 0);
    link_process(&s.kit, &q, 0);
    tux_app_tell_pace(&p.answers, pace_us);
    tux_app_tell_pace(&q.answers, pace_us);
    MUST(tux_ring_reader_sleep(&p.requests) && tux_ring_reader_sleep(&q.requests));
    for (unsigned i = 0; i < 3; i++) {
        client_connect(&others[i], &s.kit);
        client_get(&others[i], "/x");
        CHECK(kit_becomes(&s.kit, "relayed", 1 + i));
    }
    uint32_t n = 0;
    while (tux_ring_waits(&p.requests) && hear(&p)) {
        hello(&p);
        n++;
    }
    for (uint32_t i = n; i < 3 && hear(&q); i++)
        hello(&q);
    for (int i = 0; i < 3; i++) {
        CHECK_ANSWER(&others[i], 200, "hello\n");
        client_close(&others[i]);
    }
    close_stage(&s);
    end_process(&p);
    end_process(&q);
    return n;
}

/* Who answers faster than somebody is woken gets a few more requests instead. */
static void test_choice_of_who_is_awake(void)
{
    uint32_t n = given_to_p(5);
    CHECK(n == 0 || n == 3);
    n = given_to_p(1000);
    CHECK(n == 1 || n == 2);
    n = given_to_p(0);
    CHECK(n == 1 || n == 2);
}

static void test_choice(void)
{
    struct client others[4];
    open_stage(&s, 10, 10000);
    link_process(&s.kit, &p, 0);
    link_process(&s.kit, &q, 0);
    tux_app_tell_load(&p.answers, 5);
    client_get(&s.client, "/q");
    CHECK(hears(&q, TUX_APP_REQUEST));
    hello(&q);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    tux_app_tell_load(&q.answers, 9);
    client_get(&s.client, "/p");
    CHECK(hears(&p, TUX_APP_REQUEST));
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    /* By what they were given, when they say nothing. */
    tux_app_tell_load(&p.answers, 0);
    tux_app_tell_load(&q.answers, 0);
    for (int i = 0; i < 4; i++) {
        client_connect(&others[i], &s.kit);
        client_get(&others[i], "/x");
    }
    for (int i = 0; i < 4; i++) {
        CHECK(hears(i < 2 ? &p : &q, TUX_APP_REQUEST));
        hello(i < 2 ? &p : &q);
    }
    for (int i = 0; i < 4; i++) {
        CHECK_ANSWER(&others[i], 200, "hello\n");
        client_close(&others[i]);
    }
    close_stage(&s);
    end_process(&p);
    end_process(&q);
}

static void test_clients_that_go(void)
{
    open_stage(&s, 10, 10000);
    link_process(&s.kit, &p, 0);
    client_get(&s.client, "/a");
    CHECK(hears(&p, TUX_APP_REQUEST));
    MUST(shutdown(s.client.fd, SHUT_WR) == 0);
    CHECK(hears(&p, TUX_APP_GONE) && p.record.flags == 0);
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    client_close(&s.client);
    client_connect(&s.client, &s.kit);
    client_get(&s.client, "/b");
    CHECK(hears(&p, TUX_APP_REQUEST));
    struct tux_app_record gone = p.record;
    client_abort(&s.client);
    CHECK(hears(&p, TUX_APP_GONE) && p.record.flags == TUX_APP_HARD && p.record.serial == gone.serial);
    client_connect(&s.client, &s.kit);
    client_get(&s.client, "/c");
    CHECK(hears(&p, TUX_APP_REQUEST));
    struct tux_app_record now = p.record;
    p.record = gone; /* too late, and in the same place */
    answer(&p, 200, 4, "", "evil", TUX_APP_END);
    p.record = now;
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    close_stage(&s);
    end_process(&p);
}

/* A client that ended its side while nobody could be told: whoever gets its request hears of it right after. */
static void test_half_closed_while_waiting(void)
{
    open_stage(&s, 10, 10000);
    MUST(client_say(&s.client, "POST /waits HTTP/1.1\r\nHost: kit\r\nContent-Length: 4\r\n\r\nbody"));
    MUST(shutdown(s.client.fd, SHUT_WR) == 0);
    CHECK(kit_becomes(&s.kit, "relayed", 1) && kit_rests(&s.kit));
    link_process(&s.kit, &p, 0);
    CHECK(hears(&p, TUX_APP_REQUEST) && path_is(&p, "/waits") && p.record.n == 4 && p.record.flags == TUX_APP_END);
    CHECK(hears(&p, TUX_APP_GONE) && p.record.flags == 0);
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    client_close(&s.client);
    /* One process was told, and has read neither when it dies. */
    client_connect(&s.client, &s.kit);
    client_get(&s.client, "/unseen");
    MUST(shutdown(s.client.fd, SHUT_WR) == 0);
    CHECK(kit_becomes(&s.kit, "relayed", 2) && kit_rests(&s.kit));
    kill_process(&p);
    CHECK(kit_becomes(&s.kit, "app_links", 0));
    link_process(&s.kit, &q, 0);
    CHECK(hears(&q, TUX_APP_REQUEST) && path_is(&q, "/unseen"));
    CHECK(hears(&q, TUX_APP_GONE) && q.record.flags == 0);
    hello(&q);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    close_stage(&s);
    end_process(&p);
    end_process(&q);
}

static void test_upgrade(void)
{
    open_stage(&s, 10, 10000);
    link_process(&s.kit, &p, 0);
    MUST(client_say(&s.client, "GET /ws HTTP/1.1\r\nHost: kit\r\nConnection: upgrade\r\nUpgrade: play\r\n\r\n"));
    CHECK(hears(&p, TUX_APP_REQUEST) && (p.record.flags & TUX_APP_UPGRADES) != 0);
    struct tux_app_record upgrade = {.kind = TUX_APP_UPGRADE, .tag = p.record.tag, .serial = p.record.serial};
    utter(&p, &upgrade, sizeof upgrade, "Upgrade: play\r\n", 15);
    client_read(&s.client, &got);
    CHECK(got.status == 101 && has_field(&got, "Upgrade: play"));
    MUST(client_say(&s.client, "ping"));
    CHECK(hears(&p, TUX_APP_BODY) && p.record.n == 4);
    say(&p, TUX_APP_DATA, 0, 4, "pong");
    while (s.client.len < 4 && client_fill(&s.client)) {
    }
    CHECK(memcmp(s.client.buf, "pong", 4) == 0);
    say(&p, TUX_APP_DATA, TUX_APP_END, 3, "bye");
    s.client.len = 0;
    while (client_fill(&s.client)) {
    }
    CHECK(s.client.len == 3 && memcmp(s.client.buf, "bye", 3) == 0);
    close_stage(&s);
    end_process(&p);
}

static void test_death(void)
{
    struct client other, third;
    open_stage(&s, 10, 10000);
    link_process(&s.kit, &p, 0);
    client_get(&s.client, "/had"); /* it had this one, had begun to answer that one, and did not see the third */
    CHECK(hears(&p, TUX_APP_REQUEST));
    client_connect(&other, &s.kit);
    client_get(&other, "/begun");
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 200, 10, "", "begun", 0);
    client_connect(&third, &s.kit);
    client_get(&third, "/unseen");
    CHECK(kit_becomes(&s.kit, "relayed", 3) && kit_rests(&s.kit));
    kill_process(&p);
    CHECK_ANSWER(&s.client, 502, "no\n");
    client_read(&other, &got);
    CHECK(got.status == 200 && !got.whole && got.received == 5);
    CHECK(kit_becomes(&s.kit, "app_links", 0) && kit_stat(&s.kit, "app_lost") == 2);
    link_process(&s.kit, &q, 0);
    CHECK(hears(&q, TUX_APP_REQUEST) && path_is(&q, "/unseen"));
    hello(&q);
    CHECK_ANSWER(&third, 200, "hello\n");
    client_close(&other);
    client_close(&third);
    /* Its last words count. */
    client_get(&s.client, "/last");
    CHECK(hears(&q, TUX_APP_REQUEST));
    hello(&q);
    kill_process(&q);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    end_process(&p);
    end_process(&q);
    CHECK(kit_becomes(&s.kit, "app_links", 0));
    /* A child of it holds the socket open: the supervisor says that it is gone. */
    link_process(&s.kit, &p, 0);
    client_get(&s.client, "/unlinked");
    CHECK(hears(&p, TUX_APP_REQUEST));
    MUST(tux_engine_unlink_app(s.kit.engine, 123456) == 0);
    MUST(tux_engine_unlink_app(s.kit.engine, last_serial) == 0);
    CHECK_ANSWER(&s.client, 502, "no\n");
    close_stage(&s);
    end_process(&p);
}

/* What a process did not see when it died goes to the next one in the order in which it came. */
static void test_order_after_death(void)
{
    static const char *const names[] = {"/1", "/2", "/3", "/4", "/5"};
    struct client clients[5];
    open_stage(&s, 10, 10000);
    link_process(&s.kit, &p, 0);
    for (unsigned i = 0; i < 2; i++) {
        client_connect(&clients[i], &s.kit);
        client_get(&clients[i], "/x");
        CHECK(hears(&p, TUX_APP_REQUEST));
    }
    for (unsigned i = 0; i < 2; i++) { /* the first that came is answered first: its tag is the last to be used again */
        p.record.tag ^= 1;
        p.record.serial ^= 3;
        hello(&p);
    }
    for (unsigned i = 0; i < 2; i++)
        CHECK_ANSWER(&clients[i], 200, "hello\n");
    for (unsigned i = 0; i < 5; i++) {
        if (i >= 2)
            client_connect(&clients[i], &s.kit);
        client_get(&clients[i], names[i]);
        CHECK(kit_becomes(&s.kit, "relayed", 3u + i) && kit_rests(&s.kit));
    }
    kill_process(&p);
    CHECK(kit_becomes(&s.kit, "app_links", 0));
    link_process(&s.kit, &q, 0);
    for (unsigned i = 0; i < 5; i++) {
        CHECK(hears(&q, TUX_APP_REQUEST) && path_is(&q, names[i]));
        hello(&q);
        CHECK_ANSWER(&clients[i], 200, "hello\n");
        client_close(&clients[i]);
    }
    close_stage(&s);
    end_process(&p);
    end_process(&q);
}

static void test_leaving(void)
{
    open_stage(&s, 10, 10000);
    link_process(&s.kit, &p, 0);
    client_get(&s.client, "/a");
    CHECK(hears(&p, TUX_APP_REQUEST));
    struct tux_app_record exchange = p.record, leave = {.kind = TUX_APP_LEAVE};
    utter(&p, &leave, sizeof leave, NULL, 0);
    CHECK(hears(&p, TUX_APP_DRAIN));
    struct client other;
    client_connect(&other, &s.kit);
    client_get(&other, "/b"); /* not to this one */
    CHECK(kit_becomes(&s.kit, "relayed", 2) && kit_rests(&s.kit));
    CHECK(!tux_ring_waits(&p.requests));
    link_process(&s.kit, &q, 0);
    CHECK(hears(&q, TUX_APP_REQUEST) && path_is(&q, "/b"));
    hello(&q);
    p.record = exchange;
    hello(&p);
    CHECK_ANSWER(&other, 200, "hello\n");
    CHECK_ANSWER(&s.client, 200, "hello\n");
    client_close(&other);
    close_stage(&s);
    end_process(&p);
    end_process(&q);
}

static void test_full_ring(void)
{
    static struct client clients[300];
    open_stage(&s, 1000, 10000);
    link_process(&s.kit, &p, 0);
    /* A process that takes nothing gets some, and the rest waits; what is said of those that go is not lost. */
    for (size_t i = 0; i < 300; i++) {
        client_connect(&clients[i], &s.kit);
        client_get(&clients[i], "/x");
    }
    CHECK(kit_becomes(&s.kit, "relayed", 300) && kit_rests(&s.kit));
    uint64_t unread = atomic_load(&p.requests.shared->written) - atomic_load(&p.requests.shared->read);
    CHECK(unread > 16384 && unread < 20000);
    link_process(&s.kit, &q, 0);
    for (size_t i = 0; i < 150; i++)
        client_abort(&clients[i]);
    CHECK(kit_becomes(&s.kit, "connections", 151));
    unsigned requests = 0, gone = 0;
    while (requests < gone + 1 || kit_stat(&s.kit, "connections") > 1) {
        struct process *which = tux_ring_waits(&q.requests) ? &q : tux_ring_waits(&p.requests) ? &p : NULL;
        if (which == NULL) {
            sched_yield();
            if (requests - gone == 150)
                break;
            continue;
        }
        MUST(hear(which));
        if (which->record.kind == TUX_APP_REQUEST) {
            requests++;
            hello(which);
        } else {
            CHECK_EQ(which->record.kind, TUX_APP_GONE);
            gone++;
        }
    }
    CHECK_EQ(requests - gone, 150);
    for (size_t i = 150; i < 300; i++) {
        CHECK_ANSWER(&clients[i], 200, "hello\n");
        client_close(&clients[i]);
    }
    close_stage(&s);
    end_process(&p);
    end_process(&q);
}

/* Whatever it writes, it harms itself alone: another process serves on, of this application and of another one. */
static void test_hostile(void)
{
    struct tux_app_record r = {0};
    struct tux_app_answer a = {0};
    struct {
        const char *what;
        const void *bytes;
        size_t len;
        const char *rest;
        bool ends_link;
    } rows[] = {
        {"empty", "", 0, "", true},
        {"short", "\1\0\0\0", 4, "", true},
        {"unknown", &(struct tux_app_record){.kind = 77}, sizeof r, "", true},
        {"flags", &(struct tux_app_record){.kind = TUX_APP_DATA, .flags = 0x80}, sizeof r, "", true},
        {"length", &(struct tux_app_record){.kind = TUX_APP_DATA, .n = 100}, sizeof r, "", true},
        {"status", &(struct tux_app_answer){.record = {.kind = TUX_APP_ANSWER, .status = 100}}, sizeof a, "", true},
        {"fields", &(struct tux_app_answer){.record = {.kind = TUX_APP_ANSWER, .status = 200}, .fields_len = 1u << 31},
         sizeof a, "", true},
        {"splitting",
         &(struct tux_app_answer){.record = {.kind = TUX_APP_ANSWER, .status = 200}, .length = 0, .fields_len = 12},
         sizeof a, "A: b\nC: d\r\n\r", true},
        {"framing",
         &(struct tux_app_answer){.record = {.kind = TUX_APP_ANSWER, .status = 200}, .length = 0, .fields_len = 19},
         sizeof a, "Content-Length: 5\r\n", true},
        {"connection",
         &(struct tux_app_answer){.record = {.kind = TUX_APP_ANSWER, .status = 200}, .length = 0, .fields_len = 19},
         sizeof a, "Connection: close\r\n", true},
        {"reason", &(struct tux_app_answer){.record = {.kind = TUX_APP_ANSWER, .status = 200}, .reason_len = 1u << 31},
         sizeof a, "", true},
        {"reason too long",
         &(struct tux_app_answer){.record = {.kind = TUX_APP_ANSWER, .status = 200}, .reason_len = 3}, sizeof a, "OK", true},
        {"reason splitting",
         &(struct tux_app_answer){.record = {.kind = TUX_APP_ANSWER, .status = 200}, .reason_len = 8}, sizeof a,
         "OK\r\nA: b", true},
        {"handle", &(struct tux_app_file){.record = {.kind = TUX_APP_FILE}, .handle = TUX_APP_HANDLES},
         sizeof(struct tux_app_file), "", true},
        {"no handle", &(struct tux_app_file){.record = {.kind = TUX_APP_FILE}, .handle = TUX_APP_NO_HANDLE},
         sizeof(struct tux_app_file), "", true},
        {"forget", &(struct tux_app_record){.kind = TUX_APP_FORGET, .n = TUX_APP_HANDLES}, sizeof r, "", true},
        {"100", &(struct tux_app_record){.kind = TUX_APP_INFORM, .status = 100}, sizeof r, "", true},
        {"data first", &(struct tux_app_record){.kind = TUX_APP_DATA, .n = 3}, sizeof r, "abc", false},
        {"trailers first", &(struct tux_app_record){.kind = TUX_APP_TRAILER}, sizeof r, "", false},
        {"too much used", &(struct tux_app_record){.kind = TUX_APP_CONSUMED, .n = 1}, sizeof r, "", false},
        {"much too much", &(struct tux_app_record){.kind = TUX_APP_CONSUMED, .n = UINT32_MAX}, sizeof r, "", false},
        {"no upgrade", &(struct tux_app_record){.kind = TUX_APP_UPGRADE}, sizeof r, "Upgrade: x\r\n", false},
    };
    open_stage(&s, 10, 10000);
    link_process(&s.kit, &q, 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t bytes[128] = {0};
        link_process(&s.kit, &p, 0);
        client_get(&s.client, "/x");
        CHECK(hears(&p, TUX_APP_REQUEST));
        memcpy(bytes, rows[i].bytes, rows[i].len);
        if (rows[i].len >= sizeof r) {
            memcpy(bytes + offsetof(struct tux_app_record, tag), &p.record.tag, 4);
            memcpy(bytes + offsetof(struct tux_app_record, serial), &p.record.serial, 4);
        }
        utter(&p, bytes, rows[i].len, rows[i].rest, strlen(rows[i].rest));
        client_read(&s.client, &got);
        CHECK_ROW(got.status == 502, rows[i].what);
        if (rows[i].ends_link)
            CHECK_ROW(kit_becomes(&s.kit, "app_links", 1), rows[i].what);
        else
            CHECK_ROW(hears(&p, TUX_APP_GONE) && kit_stat(&s.kit, "app_links") == 2, rows[i].what);
        client_get(&s.client, "/second");
        CHECK(hears(&q, TUX_APP_REQUEST));
        /* The other one's exchanges are not to be had. */
        if (!rows[i].ends_link) {
            p.record = q.record;
            answer(&p, 200, 4, "", "evil", TUX_APP_END);
            CHECK(kit_rests(&s.kit));
        }
        hello(&q);
        CHECK_ANSWER(&s.client, 200, "hello\n");
        end_process(&p);
        CHECK(kit_becomes(&s.kit, "app_links", 1));
    }
    /* More than the window, and a second answer. */
    static const uint8_t stuff[TUX_APP_PIECE_BYTES];
    const int buffer = 65536;
    for (int i = 0; i < 2; i++) {
        link_process(&s.kit, &p, 0);
        client_close(&s.client);
        MUST(setsockopt(s.kit.tcp, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer) == 0); /* whatever the machine's are */
        client_connect_with(&s.client, &s.kit, buffer);
        client_get(&s.client, "/x");
        CHECK(hears(&p, TUX_APP_REQUEST));
        struct tux_app_record exchange = p.record;
        answer(&p, 200, 100000000, "", "", 0);
        if (i == 0)
            answer(&p, 200, 100000000, "", "", 0);
        for (int n = 0; i == 1 && n < 1000; n++) {
            p.record = exchange;
            say(&p, TUX_APP_DATA, 0, sizeof stuff, stuff);
        }
        client_read(&s.client, &got);
        CHECK(!got.whole && got.received < 4u * 1024u * 1024u);
        end_process(&p);
        CHECK(kit_becomes(&s.kit, "app_links", 1));
    }
    /* Nonsense in the ring's own words. */
    link_process(&s.kit, &p, 0);
    client_close(&s.client);
    client_connect(&s.client, &s.kit);
    client_get(&s.client, "/x");
    CHECK(hears(&p, TUX_APP_REQUEST));
    atomic_store(&p.answers.shared->written, UINT64_MAX / 2);
    uint64_t one = 1;
    MUST(write(p.wake_fd, &one, sizeof one) == sizeof one);
    CHECK_ANSWER(&s.client, 502, "no\n");
    CHECK(kit_becomes(&s.kit, "app_links", 1));
    end_process(&p);
    /* A process makes the descriptor that it shares with the engine block, and fills it. */
    link_process(&s.kit, &p, 0);
    uint64_t full = UINT64_MAX - 1;
    MUST(fcntl(p.wake_fd, F_SETFL, 0) == 0 && write(p.wake_fd, &full, sizeof full) == sizeof full);
    client_get(&s.client, "/second");
    CHECK(hears(&q, TUX_APP_REQUEST));
    hello(&q);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    close_stage(&s);
    end_process(&p);
    end_process(&q);
}

/* 1xx answers are in no window: a client that takes none of them must not fill the engine's memory. */
static void test_informational_flood(void)
{
    static char fields[40000];
    memset(fields, 'x', sizeof fields);
    memcpy(fields, "Link: ", 6);
    memcpy(fields + sizeof fields - 2, "\r\n", 2);
    open_stage(&s, 10, 10000);
    link_process(&s.kit, &p, 0);
    client_get(&s.client, "/flood");
    CHECK(hears(&p, TUX_APP_REQUEST));
    struct tux_app_record inform = {
        .kind = TUX_APP_INFORM, .status = 103, .tag = p.record.tag, .serial = p.record.serial};
    for (int i = 0; i < 200; i++)
        utter(&p, &inform, sizeof inform, fields, sizeof fields);
    CHECK(hears(&p, TUX_APP_GONE) && p.record.flags == TUX_APP_HARD);
    CHECK(kit_stat(&s.kit, "held") <= (TUX_MAX_INFORMATIONAL + 1) * sizeof fields);
    close_stage(&s);
    end_process(&p);
}

/* A link of descriptors that are none; `fds` has them. */
static struct tux_app_link_config no_link(uint32_t app, int *fds)
{
    for (int i = 0; i < 5; i++)
        MUST((fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0);
    return (struct tux_app_link_config){.app = app,
                                        .requests_fd = fds[0],
                                        .answers_fd = fds[1],
                                        .process_wake_fd = fds[2],
                                        .wake_fd = fds[3],
                                        .side_fd = fds[4]};
}

static void test_what_is_no_link(void)
{
    int fds[5];
    open_stage(&s, 10, 10000);
    CHECK(kit_becomes(&s.kit, "connections", 1)); /* from here on, nobody else opens a descriptor */
    struct tux_app_link_config config = no_link(9, fds);
    CHECK_EQ(tux_engine_link_app(s.kit.engine, &config), -ENOENT);
    for (int i = 0; i < 5; i++)
        CHECK(fcntl(fds[i], F_GETFD) < 0);
    config = no_link(0, fds);
    CHECK_EQ(tux_engine_link_app(s.kit.engine, &config), 0);
    client_get(&s.client, "/m/x");
    CHECK_ANSWER(&s.client, 404, "absent\n");
    CHECK(kit_becomes(&s.kit, "app_links", 0));
    close_stage(&s);
}

int main(void)
{
    test_answers();
    test_waiting();
    test_waiting_at_the_end();
    test_choice_of_who_is_awake();
    test_choice();
    test_clients_that_go();
    test_half_closed_while_waiting();
    test_upgrade();
    test_death();
    test_order_after_death();
    test_leaving();
    test_full_ring();
    test_hostile();
    test_informational_flood();
    test_what_is_no_link();
    return check_report();
}
