/* SPDX-License-Identifier: MIT */
/* What applications may say instead of a body: files of the site, answers that may be given again, another origin. */
#include "engine_client.h"

#include <sys/mman.h>

#include "app_process.h"
#include "core.h"

struct stage {
    struct kit kit;
    struct tux_routes *routes;
    struct client client;
};

static struct stage s;
static struct process p;
static struct answer got;
static char large[100000];

static void open_stage(void)
{
    static const struct tux_chain alone = {.n_steps = 1, .steps = {{TUX_ORIGIN_APP, 0}}, .root = TUX_NO_ROUTE};
    static const struct tux_chain both = {
        .n_steps = 3,
        .steps = {{TUX_ORIGIN_APP, 0}, {TUX_ORIGIN_PLANNER, 0}, {TUX_ORIGIN_FORWARD, 0}},
        .root = TUX_NO_ROUTE};
    struct tux_app_config config = {.queue = 10, .queue_timeout_ms = 10000, .accel = true, .sendfile_root = -1};
    kit_prepare(&s.kit);
    s.kit.more_flags = TUX_PLAN_PUBLISH;
    s.routes = tux_routes_new();
    MUST(s.routes != NULL && tux_routes_add_site(s.routes, "", 0) == 0);
    MUST(tux_routes_add_route(s.routes, 0, "/", 1, 0, &alone) == 0);
    MUST(tux_routes_add_route(s.routes, 0, "/both", 5, 1, &both) == 0);
    s.kit.config.routes = s.routes;
    kit_create(&s.kit);
    CHECK_EQ(tux_engine_app(s.kit.engine, &config), 0);
    MUST(pthread_create(&s.kit.engine_thread, NULL, kit_run, &s.kit) == 0);
    client_connect(&s.client, &s.kit);
    link_process(&s.kit, &p, 0);
    kit_write_file(&s.kit, "large", large, sizeof large);
    kit_write_file(&s.kit, "small", "content", 7);
}

static void close_stage(void)
{
    client_close(&s.client);
    CHECK(kit_becomes(&s.kit, "connections", 0));
    kit_end(&s.kit);
    tux_routes_free(s.routes);
    end_process(&p);
}

static void object(const char *path, const char *fields, uint16_t status, uint8_t flags)
{
    char text[512];
    struct tux_app_object said = {.record = {.kind = TUX_APP_OBJECT,
                                             .flags = flags,
                                             .status = status,
                                             .tag = p.record.tag,
                                             .serial = p.record.serial},
                                  .fields_len = (uint32_t)strlen(fields),
                                  .path_len = (uint32_t)strlen(path)};
    snprintf(text, sizeof text, "%s%s", fields, path);
    utter(&p, &said, sizeof said, text, strlen(text));
}

static void ask(const char *path)
{
    client_get(&s.client, path);
    CHECK(hears(&p, TUX_APP_REQUEST));
}

static void test_objects(void)
{
    open_stage();
    uint64_t sum = body_sum((const uint8_t *)large, sizeof large, 0);
    for (int i = 0; i < 12; i++) { /* asked, remembered, loaded into memory */
        ask("/x");
        object("/f/large", "", 0, 0);
        client_read(&s.client, &got);
        CHECK(got.status == 200 && got.whole && got.received == sizeof large && got.sum == sum);
    }
    CHECK(s.kit.decided == 2); /* the second ask is remembered */
    for (int i = 0; i < 3; i++) {
        ask("/x");
        object("/f/large", "X-Own: 1\r\nETag: \"no\"\r\nDate: never\r\n", 201, 0);
        client_read(&s.client, &got);
        CHECK(got.status == 201 && got.whole && got.sum == sum && has_field(&got, "X-Own: 1"));
        CHECK(strstr(got.head, "ETag") == NULL && strstr(got.head, "never") == NULL);
        CHECK(strstr(got.head, "HTTP/1.1 201 Created\r\nX-Own: 1\r\n") == got.head);
        CHECK(strstr(got.head, "\r\nDate: ") != NULL);
    }
    CHECK(s.kit.decided == 2);
    /* In memory; ranges; HEAD; HTTP/1.0; an ending connection. */
    for (int i = 0; i < 4; i++) {
        ask("/x");
        object("/m/small", "", 0, 0);
        CHECK_ANSWER(&s.client, 200, "content");
        MUST(client_say(&s.client, "GET /x HTTP/1.1\r\nHost: kit\r\nRange: bytes=1-3\r\n\r\n"));
        CHECK(hears(&p, TUX_APP_REQUEST));
        object("/m/small", i % 2 == 0 ? "" : "X-Own: 1\r\n", 0, 0);
        client_read(&s.client, &got);
        CHECK(got.status == 206 && strcmp(got.body, "ont") == 0 && has_field(&got, "Content-Range: bytes 1-3/7"));
        MUST(client_say(&s.client, "HEAD /x HTTP/1.1\r\nHost: kit\r\n\r\n"));
        CHECK(hears(&p, TUX_APP_REQUEST));
        object("/m/small", i % 2 == 0 ? "" : "X-Own: 1\r\n", 0, 0);
        client_read_as(&s.client, &got, true);
        CHECK(got.status == 200 && got.length == 7);
    }
    ask("/x");
    object("/m/none", "", 0, 0);
    CHECK_ANSWER(&s.client, 404, "absent\n");
    ask("/x");
    object("/echo/a b%?", "", 0, 0);
    CHECK_ANSWER(&s.client, 200, "GET /echo/a%20b%25%3F\n");
    /* A body that is still to come is not read. */
    MUST(client_say(&s.client, "POST /x HTTP/1.1\r\nHost: kit\r\nContent-Length: 100\r\n\r\n"));
    CHECK(hears(&p, TUX_APP_REQUEST));
    object("/m/small", "", 0, 0);
    CHECK_ANSWER(&s.client, 200, "content");
    CHECK(client_at_end(&s.client, true));
    client_close(&s.client);
    client_connect(&s.client, &s.kit);
    ask("/x");
    object("/m/small", "", 0, TUX_APP_CLOSE);
    client_read(&s.client, &got);
    CHECK(strcmp(got.body, "content") == 0 && has_field(&got, "Connection: close"));
    CHECK(client_at_end(&s.client, true));
    client_close(&s.client);
    client_connect(&s.client, &s.kit);
    /* A file that changes is noticed, however its plan is found. */
    kit_write_file(&s.kit, "small", "changed", 7);
    for (uint64_t until = kit_now_ms() + KIT_LIMIT_MS; kit_now_ms() < until;) {
        ask("/x");
        object("/m/small", "", 0, 0);
        client_read(&s.client, &got);
        if (strcmp(got.body, "changed") == 0)
            break;
    }
    CHECK(strcmp(got.body, "changed") == 0);
    /* What clients may have is remembered apart from what is sent in the name of an application. */
    ask("/m/small");
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    close_stage();
}

static void test_objects_of_nobody(void)
{
    open_stage();
    kit_hold(&s.kit, true);
    ask("/x");
    object("/echo", "", 0, 0);
    CHECK(kit_becomes(&s.kit, "asks", 1));
    client_abort(&s.client);
    CHECK(kit_becomes(&s.kit, "connections", 0));
    kit_hold(&s.kit, false);
    CHECK(kit_becomes(&s.kit, "stale_replies", 1));
    client_connect(&s.client, &s.kit);
    /* An object while a lookup is under way, and two lookups at once: not allowed. */
    kit_hold(&s.kit, true);
    for (int i = 0; i < 2; i++) {
        ask("/x");
        say(&p, TUX_APP_LOOKUP, 0, 2, "/a");
        if (i == 0)
            object("/echo", "", 0, 0);
        else
            say(&p, TUX_APP_LOOKUP, 0, 2, "/b");
        CHECK_ANSWER(&s.client, 502, "no\n");
        CHECK(hears(&p, TUX_APP_GONE));
    }
    /* One that is answered before the lookup is: the late reply is nobody's. */
    ask("/x");
    say(&p, TUX_APP_LOOKUP, 0, 2, "/a");
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    kit_hold(&s.kit, false);
    CHECK(kit_becomes(&s.kit, "stale_replies", 4));
    close_stage();
}

/* A process speaks of a request that it has not read, and dies: nobody else gets the request, nor what was found. */
static void test_lookup_of_the_unread(void)
{
    open_stage();
    ask("/x");
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    kit_hold(&s.kit, true);
    client_get(&s.client, "/x");
    CHECK(kit_becomes(&s.kit, "relayed", 2));
    p.record.serial++;
    say(&p, TUX_APP_LOOKUP, 0, 2, "/a");
    CHECK(kit_becomes(&s.kit, "asks", 1));
    kill_process(&p);
    CHECK_ANSWER(&s.client, 502, "no\n");
    kit_hold(&s.kit, false);
    CHECK(kit_becomes(&s.kit, "stale_replies", 1));
    close_stage();
}

static int take_descriptor(void)
{
    char byte;
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    int fd;
    MUST(recvmsg(p.side_fd, &message, MSG_DONTWAIT) == 1 && CMSG_FIRSTHDR(&message) != NULL);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void test_lookups(void)
{
    static char text[sizeof large];
    struct tux_app_found_view found;
    open_stage();
    ask("/x");
    for (unsigned i = 1; i <= 8; i++) {
        const char *path = i % 2 == 0 ? "/f/large" : "/m/small";
        uint64_t size = i % 2 == 0 ? sizeof large : 7;
        say(&p, TUX_APP_LOOKUP, 0, (uint32_t)strlen(path), path);
        CHECK(hears(&p, TUX_APP_FOUND) && tux_appwire_found(p.bytes, p.size, &found));
        CHECK(found.found.record.status == 200 && found.found.size == size && found.found.number == i);
        CHECK(found.found.modified_ns > 0);
        int fd = take_descriptor();
        CHECK(pread(fd, text, sizeof text, 0) == (ssize_t)size);
        CHECK(memcmp(text, i % 2 == 0 ? large : "content", (size_t)size) == 0);
        const void *map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
        CHECK(map != MAP_FAILED && memcmp(map, text, (size_t)size) == 0);
        munmap((void *)(uintptr_t)map, (size_t)size);
        CHECK(pwrite(fd, "x", 1, 0) < 0 && ftruncate(fd, 0) < 0);
        close(fd);
    }
    say(&p, TUX_APP_LOOKUP, 0, 7, "/m/none");
    CHECK(hears(&p, TUX_APP_FOUND) && tux_appwire_found(p.bytes, p.size, &found));
    CHECK(found.found.record.status == 404 && found.found.number == 0 && found.found.size == 0);
    object("/m/small", "", 0, 0);
    CHECK_ANSWER(&s.client, 200, "content");
    close_stage();
}

static void remember(uint16_t status, const char *fields, const char *body, uint32_t ms, uint8_t flags)
{
    char text[512];
    struct tux_app_answer said = {.record = {.kind = TUX_APP_ANSWER,
                                             .flags = (uint8_t)(TUX_APP_END | flags),
                                             .status = status,
                                             .tag = p.record.tag,
                                             .serial = p.record.serial,
                                             .n = (uint32_t)strlen(body)},
                                  .length = (int64_t)strlen(body),
                                  .fields_len = (uint32_t)strlen(fields),
                                  .remember_ms = ms};
    snprintf(text, sizeof text, "%s%s", fields, body);
    utter(&p, &said, sizeof said, text, strlen(text));
}

/* Answer so often that it is remembered if it may be, and say whether it was. */
static bool is_kept(const char *request, const char *fields, uint32_t ms, uint8_t flags)
{
    uint64_t entries = kit_stat(&s.kit, "memo_entries");
    for (int i = 0; i < 2; i++) {
        MUST(client_say(&s.client, request));
        CHECK(hears(&p, TUX_APP_REQUEST));
        remember(200, fields, "kept\n", ms, flags);
        CHECK_ANSWER(&s.client, 200, "kept\n");
    }
    return kit_stat(&s.kit, "memo_entries") == entries + 1;
}

#define GET(target, ...) "GET " target " HTTP/1.1\r\nHost: kit\r\n" __VA_ARGS__ "\r\n"

static void test_remembered(void)
{
    open_stage();
    CHECK(is_kept(GET("/a"), "Date: never\r\nX-Own: 1\r\nCache-Control: max-age=1\r\nVary: Accept\r\n", 100000, 0));
    for (int i = 0; i < 3; i++) { /* the process hears nothing */
        client_get(&s.client, "/a");
        client_read(&s.client, &got);
        CHECK(got.status == 200 && strcmp(got.body, "kept\n") == 0 && has_field(&got, "X-Own: 1"));
        CHECK(has_field(&got, "Server: tux") && strstr(got.head, "never") == NULL && strstr(got.head, "\r\nDate: "));
    }
    CHECK(kit_stat(&s.kit, "hits") == 3);
    MUST(client_say(&s.client, GET("/a", "Connection: close\r\n")));
    client_read(&s.client, &got);
    CHECK(strcmp(got.body, "kept\n") == 0 && has_field(&got, "Connection: close") && client_at_end(&s.client, true));
    client_close(&s.client);
    client_connect(&s.client, &s.kit);
    /* HEAD has an answer of its own, other hosts and queries, too. */
    MUST(client_say(&s.client, "HEAD /a HTTP/1.1\r\nHost: kit\r\n\r\n"));
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 200, 5, "", "", TUX_APP_END);
    client_read_as(&s.client, &got, true);
    CHECK(is_kept(GET("/a?q=1"), "", 100000, 0));
    CHECK(is_kept(GET("/b?q=1"), "", 100000, TUX_APP_GENERAL));
    client_get(&s.client, "/b?q=2");
    CHECK_ANSWER(&s.client, 200, "kept\n");
    client_get(&s.client, "/b");
    CHECK_ANSWER(&s.client, 200, "kept\n");
    CHECK(is_kept(GET("/r", "Range: bytes=0-1\r\n"), "", 100000, TUX_APP_GENERAL));
    CHECK(is_kept(GET("/r", "Range: bytes=0-2\r\n"), "", 100000, TUX_APP_GENERAL));
    /* What must not be kept. */
    CHECK(!is_kept(GET("/c"), "Set-Cookie: a=b\r\n", 100000, 0));
    CHECK(!is_kept(GET("/c"), "Cache-Control: max-age=1, Private\r\n", 100000, 0));
    CHECK(!is_kept(GET("/c"), "cache-control: no-cache=\"x\"\r\n", 100000, 0));
    CHECK(!is_kept(GET("/c"), "Cache-Control: no-store\r\n", 100000, 0));
    CHECK(!is_kept(GET("/c"), "Vary: Cookie\r\n", 100000, 0));
    CHECK(!is_kept(GET("/c"), "Vary: *\r\n", 100000, 0));
    CHECK(!is_kept(GET("/c"), "", 0, 0));
    CHECK(!is_kept("POST /c HTTP/1.1\r\nHost: kit\r\nContent-Length: 0\r\n\r\n", "", 100000, 0));
    CHECK(!is_kept("POST /c HTTP/1.1\r\nHost: kit\r\nContent-Length: 1\r\n\r\nx", "", 100000, 0));
    CHECK(!is_kept(GET("/c", "Expect: 100-continue\r\n"), "", 100000, 0));
    close_stage();
}

static void test_forgotten(void)
{
    struct process other;
    open_stage();
    /* Its time is over. */
    CHECK(is_kept(GET("/a"), "", 1, 0));
    uint64_t until = kit_now_ms() + 2;
    while (kit_now_ms() < until)
        sched_yield();
    ask("/a");
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    /* A process leaves, with the code that made the answer. */
    CHECK(is_kept(GET("/b"), "", 100000, 0));
    client_get(&s.client, "/b");
    CHECK_ANSWER(&s.client, 200, "kept\n");
    link_process(&s.kit, &other, 0);
    struct tux_app_record leave = {.kind = TUX_APP_LEAVE};
    utter(&p, &leave, sizeof leave, NULL, 0);
    CHECK(hears(&p, TUX_APP_DRAIN));
    client_get(&s.client, "/b");
    CHECK(hears(&other, TUX_APP_REQUEST));
    hello(&other);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    /* One dies. */
    end_process(&p);
    p = other;
    CHECK(kit_becomes(&s.kit, "app_links", 1));
    CHECK(is_kept(GET("/c"), "", 100000, 0));
    link_process(&s.kit, &other, 0);
    kill_process(&p);
    CHECK(kit_becomes(&s.kit, "app_links", 1));
    client_get(&s.client, "/c");
    CHECK(hears(&other, TUX_APP_REQUEST));
    hello(&other);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    end_process(&p);
    p = other;
    close_stage();
}

static void test_declining_to_the_server(void)
{
    open_stage();
    ask("/x");
    say(&p, TUX_APP_NEXT, TUX_APP_FORWARD, 0, NULL);
    CHECK_ANSWER(&s.client, 502, "no\n"); /* the route forwards to nobody */
    ask("/both/x");
    say(&p, TUX_APP_NEXT, TUX_APP_FORWARD, 0, NULL);
    CHECK_ANSWER(&s.client, 502, "no\n"); /* the engine has no servers, but the step was taken */
    ask("/both/x");
    say(&p, TUX_APP_NEXT, 0, 0, NULL);
    CHECK_ANSWER(&s.client, 200, "GET /both/x\n");
    close_stage();
}

/* Who declines has not seen the body: it comes when it is asked for, and the next in the chain gets all of it. */
static void test_bodies_are_withheld(void)
{
    static const char post[] = "POST /both/x HTTP/1.1\r\nHost: kit\r\nContent-Length: 4\r\n\r\nbody";
    static const uint32_t windows[] = {TUX_APP_WINDOW_BYTES, 0, TUX_APP_WINDOW_BYTES + 1};
    open_stage();
    for (int i = 0; i < 3; i++) {
        MUST(client_say(&s.client, post));
        CHECK(hears(&p, TUX_APP_REQUEST) && p.record.n == 0 && p.record.flags == TUX_APP_WITHHELD);
        say(&p, windows[i] > 0 ? TUX_APP_CONSUMED : TUX_APP_NEXT, 0, windows[i], NULL);
        if (i == 0) {
            CHECK(hears(&p, TUX_APP_BODY) && p.record.n == 4 && p.record.flags == TUX_APP_END);
            answer(&p, 200, 5, "", "mine\n", TUX_APP_END);
            CHECK_ANSWER(&s.client, 200, "mine\n");
            MUST(client_say(&s.client, "POST /alone HTTP/1.1\r\nHost: kit\r\nContent-Length: 4\r\n\r\nbody"));
            CHECK(hears(&p, TUX_APP_REQUEST) && p.record.n == 4 && p.record.flags == TUX_APP_END);
            answer(&p, 200, 5, "", "mine\n", TUX_APP_END); /* there is nobody else */
            CHECK_ANSWER(&s.client, 200, "mine\n");
        } else if (i == 1) {
            CHECK_ANSWER(&s.client, 502, "no\n"); /* handed on, to a server that is not there; else it were 404 */
            client_close(&s.client);
            client_connect(&s.client, &s.kit);
        } else {
            CHECK_ANSWER(&s.client, 502, "no\n"); /* a larger window than there is */
        }
    }
    close_stage();
}

int main(void)
{
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)(i * 7 + i / 251);
    test_objects();
    test_objects_of_nobody();
    test_lookup_of_the_unread();
    test_lookups();
    test_remembered();
    test_forgotten();
    test_declining_to_the_server();
    test_bodies_are_withheld();
    return check_report();
}
