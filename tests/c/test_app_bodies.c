/* SPDX-License-Identifier: MIT */
/* Bodies to and from applications, with a process that is played here: windows, clients that are slow, and many of them. */
#include "engine_client.h"

#include "app_process.h"
#include "core.h"

static struct {
    struct kit kit;
    struct tux_routes *routes;
    struct client client;
} s;
static struct process p;
static struct answer got;

static void open_stage(uint64_t held_bytes)
{
    static const struct tux_chain alone = {.n_steps = 1, .steps = {{TUX_ORIGIN_APP, 0}}, .root = TUX_NO_ROUTE};
    struct tux_app_config config = {.queue = 10, .queue_timeout_ms = 10000, .sendfile_root = -1};
    kit_prepare(&s.kit);
    s.routes = tux_routes_new();
    MUST(s.routes != NULL && tux_routes_add_site(s.routes, "", 0) == 0);
    MUST(tux_routes_add_route(s.routes, 0, "/", 1, 0, &alone) == 0);
    s.kit.config.routes = s.routes;
    s.kit.config.limits.held_bytes = held_bytes;
    kit_create(&s.kit);
    CHECK_EQ(tux_engine_app(s.kit.engine, &config), 0);
    MUST(pthread_create(&s.kit.engine_thread, NULL, kit_run, &s.kit) == 0);
    client_connect(&s.client, &s.kit);
    link_process(&s.kit, &p, 0);
}

static void close_stage(void)
{
    client_close(&s.client);
    CHECK(kit_becomes(&s.kit, "connections", 0));
    kit_end(&s.kit);
    tux_routes_free(s.routes);
    end_process(&p);
}

static uint8_t stuff[8 * 1024 * 1024];

/* Something comes, or has come: what does not come within this time is likely not to come. */
static bool soon(const struct process *process)
{
    for (uint64_t until = kit_now_ms() + 50; kit_now_ms() < until; sched_yield())
        if (tux_ring_waits(&process->requests))
            return true;
    return false;
}

static void *read_all(void *unused)
{
    client_read(&s.client, &got);
    return unused;
}

static void test_bodies(void)
{
    open_stage(TUX_HELD_BYTES);
    /* Up: no more than the window comes, until it was used. */
    MUST(client_say(&s.client, "POST /up HTTP/1.1\r\nHost: kit\r\nContent-Length: 1000000\r\n\r\n"));
    CHECK(hears(&p, TUX_APP_REQUEST) && p.request.request.length == 1000000);
    MUST(client_write(&s.client, stuff, 1000000));
    uint64_t received = p.record.n, unused = p.record.n, sum = body_sum(p.request.body, p.record.n, 0);
    while (received < 1000000 && hears(&p, TUX_APP_BODY)) {
        sum += body_sum(p.bytes + sizeof p.record, p.record.n, received);
        received += p.record.n;
        unused += p.record.n;
        CHECK(unused <= TUX_APP_WINDOW_BYTES);
        CHECK_EQ(p.record.flags & TUX_APP_END, received == 1000000 ? TUX_APP_END : 0);
        if (unused == TUX_APP_WINDOW_BYTES) {
            say(&p, TUX_APP_CONSUMED, 0, (uint32_t)unused, NULL);
            unused = 0;
        }
    }
    CHECK(received == 1000000 && sum == body_sum(stuff, 1000000, 0));
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    /* Chunks of one byte fill no ring. */
    MUST(client_say(&s.client, "POST /up HTTP/1.1\r\nHost: kit\r\nTransfer-Encoding: chunked\r\n\r\n"));
    CHECK(hears(&p, TUX_APP_REQUEST) && p.request.request.length == -1 && p.record.flags == 0);
    for (int i = 0; i < 20000; i++)
        MUST(client_write(&s.client, "1\r\nx\r\n", 6));
    MUST(client_say(&s.client, "0\r\n\r\n"));
    received = 0;
    do
        if (!hears(&p, TUX_APP_BODY))
            break;
    while (received += p.record.n, !(p.record.flags & TUX_APP_END));
    CHECK_EQ(received, 20000);
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    /* Down, to a client that is slow: the engine holds a bounded part. */
    client_close(&s.client);
    client_connect_with(&s.client, &s.kit, 65536);
    client_get(&s.client, "/down");
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 200, sizeof stuff, "", "", 0);
    int64_t window = p.request.request.window;
    CHECK_EQ(window, TUX_APP_WINDOW_BYTES);
    size_t sent = 0;
    pthread_t reader;
    bool reads = false;
    struct tux_app_record exchange = p.record;
    while (sent < sizeof stuff) {
        size_t n = window < 32768 ? (size_t)window : 32768;
        n = n < sizeof stuff - sent ? n : sizeof stuff - sent;
        if (n > 0) {
            p.record = exchange;
            say(&p, TUX_APP_DATA, sent + n == sizeof stuff ? TUX_APP_END : 0, (uint32_t)n, stuff + sent);
            sent += n;
            window -= (int64_t)n;
        } else if (reads || soon(&p)) {
            if (!hears(&p, TUX_APP_CREDIT))
                break;
            window += p.record.n;
        } else if (kit_rests(&s.kit) && !tux_ring_waits(&p.requests)) {
            CHECK(kit_stat(&s.kit, "held") < 512u * 1024u);
            MUST(pthread_create(&reader, NULL, read_all, NULL) == 0);
            reads = true;
        }
    }
    CHECK(reads);
    MUST(pthread_join(reader, NULL) == 0);
    CHECK(got.whole && got.received == sizeof stuff && got.sum == body_sum(stuff, sizeof stuff, 0));
    close_stage();
}

enum { MANY = 20, MANY_BYTES = 1024 * 1024 };

/* One of many answers. */
struct sending {
    struct tux_app_record exchange;
    int64_t window;
    size_t sent;
};

/* Whether this ends the answer. */
static bool send_what_may_be(struct sending *one)
{
    size_t before = one->sent;
    p.record = one->exchange;
    while (one->window > 0 && one->sent < MANY_BYTES) {
        size_t n = one->window < TUX_APP_PIECE_BYTES ? (size_t)one->window : TUX_APP_PIECE_BYTES;
        n = n < MANY_BYTES - one->sent ? n : MANY_BYTES - one->sent;
        say(&p, TUX_APP_DATA, one->sent + n == MANY_BYTES ? TUX_APP_END : 0, (uint32_t)n, stuff + one->sent);
        one->sent += n;
        one->window -= (int64_t)n;
    }
    return one->sent == MANY_BYTES && before < MANY_BYTES; /* a CREDIT may cross the end */
}

/* Clients that read nothing before the engine holds what it can: how many got all of it. */
static void *play_clients(void *n_whole)
{
    static struct client clients[MANY];
    unsigned whole = 0;
    for (unsigned i = 0; i < MANY; i++) {
        client_connect_with(&clients[i], &s.kit, 4096);
        client_get(&clients[i], "/down");
        MUST(kit_becomes(&s.kit, "relayed", 1 + i));
    }
    MUST(kit_reaches(&s.kit, "held", 512 * 1024) && kit_rests(&s.kit));
    MUST(kit_stat(&s.kit, "held") <= s.kit.config.limits.held_bytes);
    for (unsigned i = 0; i < MANY; i++) {
        client_read(&clients[i], &got);
        whole += got.whole && got.received == MANY_BYTES && got.sum == body_sum(stuff, MANY_BYTES, 0);
        client_close(&clients[i]);
    }
    *(unsigned *)n_whole = whole;
    return NULL;
}

/* They share the memory for what waits: nobody is cut, and everybody gets everything in the end. The process keeps to its
 * windows. */
static void test_many_slow(void)
{
    static struct sending all[MANY];
    const int buffer = 65536;
    unsigned whole = 0;
    pthread_t clients;
    open_stage(1024 * 1024);
    MUST(setsockopt(s.kit.tcp, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer) == 0); /* whatever the machine's are */
    MUST(pthread_create(&clients, NULL, play_clients, &whole) == 0);
    for (size_t n = 0, done = 0; done < MANY && hear(&p);) {
        struct sending *one = all;
        if (p.record.kind == TUX_APP_REQUEST) {
            one = &all[n++];
            *one = (struct sending){.exchange = p.record, .window = p.request.request.window};
            answer(&p, 200, MANY_BYTES, "", "", 0);
        } else {
            CHECK_EQ(p.record.kind, TUX_APP_CREDIT);
            while (one->exchange.serial != p.record.serial)
                one++;
            one->window += p.record.n;
            CHECK(one->window > 0 && one->window <= TUX_APP_WINDOW_BYTES);
        }
        done += send_what_may_be(one);
    }
    MUST(pthread_join(clients, NULL) == 0);
    CHECK_EQ(whole, MANY);
    CHECK(kit_becomes(&s.kit, "held", 0));
    close_stage();
}

int main(void)
{
    for (size_t i = 0; i < sizeof stuff; i++)
        stuff[i] = (uint8_t)(i * 7 + i / 251);
    test_bodies();
    test_many_slow();
    return check_report();
}
