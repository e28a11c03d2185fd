/* SPDX-License-Identifier: MIT */
/* Files that applications send: by their descriptor, and by the handle of one that the engine keeps. */
#include "engine_client.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "app_process.h"
#include "appfd.h"
#include "apps.h"

static struct stage {
    struct kit kit;
    struct tux_routes *routes;
    struct client client;
} s;

enum { EARLY_BYTES = 24 * 1024 * 1024 }; /* more than the sockets of both ends take */

static struct process p;
static struct answer got;

/* sweep_ms 0: as usual. */
static void open_stage(uint64_t sweep_ms, uint64_t unused_ms)
{
    static const struct tux_chain alone = {.n_steps = 1, .steps = {{TUX_ORIGIN_APP, 0}}, .root = TUX_NO_ROUTE};
    struct tux_app_config config = {.queue = 10, .queue_timeout_ms = 10000};
    kit_prepare(&s.kit);
    s.routes = tux_routes_new();
    MUST(s.routes != NULL && tux_routes_add_site(s.routes, "", 0) == 0);
    MUST(tux_routes_add_route(s.routes, 0, "/", 1, 0, &alone) == 0);
    s.kit.config.routes = s.routes;
    s.kit.config.limits.drain_bytes = EARLY_BYTES;
    kit_create(&s.kit);
    CHECK_EQ(tux_engine_app(s.kit.engine, &config), 0);
    if (sweep_ms > 0) {
        s.kit.engine->apps->sweep_ms = sweep_ms;
        s.kit.engine->apps->unused_ms = unused_ms;
    }
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

static void test_files(void)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), pipes[2];
    struct stat st;
    MUST(fd >= 0 && fstat(fd, &st) == 0 && pipe(pipes) == 0);
    open_stage(0, 0);
    for (int round = 0; round < 2; round++) {
        client_get(&s.client, "/file");
        CHECK(hears(&p, TUX_APP_REQUEST));
        answer(&p, 200, 20000, "", "", 0);
        send_file(&p, fd, 100, 20000, true);
        client_read(&s.client, &got);
        CHECK(got.whole && got.received == 20000);
    }
    /* Neither what could make the engine wait, nor what is not there. */
    struct {
        int fd;
        uint64_t offset, length;
    } rows[] = {{pipes[0], 0, 5}, {fd, (uint64_t)st.st_size, 5}, {fd, UINT64_MAX / 4, 5}};
    for (size_t i = 0; i < 3; i++) {
        client_get(&s.client, "/file");
        CHECK(hears(&p, TUX_APP_REQUEST));
        answer(&p, 200, 5, "", "", 0);
        send_file(&p, rows[i].fd, rows[i].offset, rows[i].length, true);
        client_read(&s.client, &got);
        CHECK_ROW(!got.whole, "file");
        CHECK(hears(&p, TUX_APP_GONE) && p.record.flags == TUX_APP_HARD);
        client_close(&s.client);
        client_connect(&s.client, &s.kit);
    }
    /* A record without its descriptor: from there on nothing could be told apart. */
    client_get(&s.client, "/file");
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 200, 5, "", "", 0);
    send_file(&p, fd, 0, 5, false);
    CHECK(kit_becomes(&s.kit, "app_links", 0));
    close_stage();
    close(fd);
    close(pipes[0]);
    close(pipes[1]);
}

/* Ask for the file, which the process has kept as 3. */
static void get_kept(const char *want, size_t len)
{
    client_get(&s.client, "/kept");
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 200, (int64_t)len, "", "", 0);
    send_kept(&p, 3, 0, len);
    client_read(&s.client, &got);
    CHECK(got.whole && got.received == len && memcmp(got.body, want, len) == 0);
}

static void test_kept_files(void)
{
    static char old[65536];
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC); /* which has not changed of late */
    MUST(fd >= 0);
    ssize_t size = pread(fd, old, sizeof old, 0);
    struct stat st;
    MUST(size > 0 && fstat(fd, &st) == 0);
    open_stage(0, 0);
    client_get(&s.client, "/keep");
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 200, size, "", "", 0);
    send_file_to_keep(&p, fd, 0, (uint64_t)size, true, 3);
    client_read(&s.client, &got);
    CHECK(got.whole && got.received == (uint64_t)size);
    close(fd);
    for (int i = 0; i < 10; i++)
        get_kept(old, (size_t)size);
    if (st.st_size <= (off_t)TUX_LOAD_BYTES)
        CHECK(kit_becomes(&s.kit, "app_loaded", (uint64_t)st.st_size));
    get_kept(old, (size_t)size);
    client_get(&s.client, "/part");
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 200, size - 2, "", "", 0);
    send_kept(&p, 3, 1, (uint64_t)size - 2);
    client_read(&s.client, &got);
    CHECK(got.whole && memcmp(got.body, old + 1, (size_t)size - 2) == 0);
    /* Another one in its place. It is looked at when it is named, and what it became is sent. */
    static const char text[] = "a file that is small";
    int small = memfd_create("small", MFD_CLOEXEC);
    MUST(small >= 0 && write(small, text, 20) == 20);
    client_get(&s.client, "/keep");
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 200, 20, "", "", 0);
    send_file_to_keep(&p, small, 0, 20, true, 3);
    CHECK_ANSWER(&s.client, 200, text);
    CHECK_EQ(kit_stat(&s.kit, "app_loaded"), 0);
    MUST(pwrite(small, "A", 1, 0) == 1 && ftruncate(small, 6) == 0);
    get_kept("A file", 6);
    close(small);
    /* Forgotten: whoever names it harms one exchange. */
    struct tux_app_record forget = {.kind = TUX_APP_FORGET, .n = 3};
    utter(&p, &forget, sizeof forget, NULL, 0);
    client_get(&s.client, "/gone");
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 200, 5, "", "", 0);
    send_kept(&p, 3, 0, 5);
    client_read(&s.client, &got);
    CHECK(!got.whole && hears(&p, TUX_APP_GONE));
    CHECK_EQ(kit_stat(&s.kit, "app_links"), 1);
    close_stage();
}

/* What is not used any more, or has changed, need not be kept. */
static void test_unused_files(void)
{
    for (int round = 0; round < 2; round++) {
        int fd = memfd_create("small", MFD_CLOEXEC);
        MUST(fd >= 0 && write(fd, "small", 5) == 5);
        open_stage(50, round == 0 ? 100 : 1000000);
        client_get(&s.client, "/keep");
        CHECK(hears(&p, TUX_APP_REQUEST));
        answer(&p, 200, 5, "", "", 0);
        send_file_to_keep(&p, fd, 0, 5, true, 7);
        CHECK_ANSWER(&s.client, 200, "small");
        if (round == 1)
            MUST(ftruncate(fd, 4) == 0);
        CHECK(hears(&p, TUX_APP_UNUSED) && p.record.n == 7);
        struct tux_app_record forget = {.kind = TUX_APP_FORGET, .n = 7};
        utter(&p, &forget, sizeof forget, NULL, 0);
        client_get(&s.client, "/more");
        CHECK(hears(&p, TUX_APP_REQUEST));
        hello(&p);
        CHECK_ANSWER(&s.client, 200, "hello\n");
        close(fd);
        close_stage();
    }
}

/* Answered before the body was read, to a client that takes nothing before it has sent all. */
static void test_early_answer(void)
{
    static char piece[65536];
    char head[128];
    int fd = memfd_create("early", MFD_CLOEXEC);
    MUST(fd >= 0 && ftruncate(fd, EARLY_BYTES) == 0);
    open_stage(0, 0);
    struct timeval patience = {.tv_sec = 10};
    MUST(setsockopt(s.client.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0);
    snprintf(head, sizeof head, "POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", EARLY_BYTES);
    client_say(&s.client, head);
    CHECK(hears(&p, TUX_APP_REQUEST));
    answer(&p, 200, EARLY_BYTES, "", "", 0);
    send_file(&p, fd, 0, EARLY_BYTES, true);
    size_t sent = 0;
    while (sent < EARLY_BYTES) { /* ends: each round sends something, or is the last */
        ssize_t n = send(s.client.fd, piece, sizeof piece, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n < sizeof piece ? (size_t)n : sizeof piece;
    }
    CHECK_EQ(sent, EARLY_BYTES);
    client_read(&s.client, &got);
    CHECK(got.whole && got.received == EARLY_BYTES);
    client_get(&s.client, "/next");
    while (hear(&p) && p.record.kind == TUX_APP_BODY) { /* ends: no more than the window came before the answer */
    }
    CHECK_EQ(p.record.kind, TUX_APP_REQUEST);
    hello(&p);
    CHECK_ANSWER(&s.client, 200, "hello\n");
    close(fd);
    close_stage();
}

/* The side socket, from both ends. */
static void test_descriptors(void)
{
    int sides[2], fd = -1;
    struct rlimit files = {0}, few;
    struct stat st;
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sides) == 0 && getrlimit(RLIMIT_NOFILE, &files) == 0);
    CHECK(!tux_appfd_take(sides[0], &fd) && fd == -1);
    MUST(write(sides[1], "x", 1) == 1);
    CHECK(!tux_appfd_take(sides[0], &fd) && fd == -1);
    CHECK_EQ(tux_appfd_send(sides[1], sides[1]), 0);
    CHECK(tux_appfd_take(sides[0], &fd) && fstat(fd, &st) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    /* It came, and takes no place that there is not: what follows is still told apart. */
    few = files;
    few.rlim_cur = (rlim_t)fd;
    close(fd);
    MUST(tux_appfd_send(sides[1], sides[1]) == 0 && tux_appfd_send(sides[1], sides[1]) == 0);
    MUST(setrlimit(RLIMIT_NOFILE, &few) == 0);
    CHECK(tux_appfd_take(sides[0], &fd) && fd == -1);
    MUST(setrlimit(RLIMIT_NOFILE, &files) == 0);
    CHECK(tux_appfd_take(sides[0], &fd) && fd >= 0);
    close(fd);
    close(sides[0]);
    close(sides[1]);
}

int main(void)
{
    test_descriptors();
    test_early_answer();
    test_files();
    test_kept_files();
    test_unused_files();
    return check_report();
}
