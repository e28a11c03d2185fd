/* SPDX-License-Identifier: MIT */
/* When something is short, gone, late or hostile: the planner, its replies, descriptors, connections, or time (a
 * drain). */
#include "engine_client.h"

#include <sys/resource.h>

/* -- planner and replies ---------------------------------------------------------------------------------------- */

/* A reply to a connection that is gone must never reach the one that has its slot now. */
static void test_stale_reply(void)
{
    struct kit kit;
    struct client first, second;
    kit_prepare(&kit);
    kit_start(&kit);
    for (int i = 0; i < 3; i++) {
        kit_hold(&kit, true);
        client_connect(&first, &kit);
        client_get(&first, "/echo/secret");
        CHECK(kit_becomes(&kit, "asks", 2u * (unsigned)i + 1));
        client_abort(&first);
        CHECK(kit_becomes(&kit, "connections", 0));
        client_connect(&second, &kit);
        char path[32], body[64];
        snprintf(path, sizeof path, "/echo/public-%d", i);
        snprintf(body, sizeof body, "GET %s\n", path);
        client_get(&second, path);
        CHECK(kit_becomes(&kit, "asks", 2u * (unsigned)i + 2));
        kit_hold(&kit, false);
        CHECK_ANSWER(&second, 200, body);
        CHECK_EQ(kit_stat(&kit, "stale_replies"), (unsigned)i + 1);
        client_abort(&second);
        CHECK(kit_becomes(&kit, "connections", 0));
    }
    kit_end(&kit);
}

/* Descriptors of this process that are regular files of that size. */
static unsigned open_files(off_t size)
{
    unsigned count = 0;
    struct stat st;
    for (int fd = 3; fd < 1024; fd++)
        count += fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == size;
    return count;
}

/* A file that nobody takes any more is closed. */
static void test_stale_file(void)
{
    static char body[12345];
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_write_file(&kit, "file", body, sizeof body);
    kit_start(&kit);
    kit_hold(&kit, true);
    client_connect(&client, &kit);
    client_get(&client, "/f/file");
    CHECK(kit_becomes(&kit, "asks", 1));
    client_abort(&client);
    CHECK(kit_becomes(&kit, "connections", 0));
    kit_hold(&kit, false);
    CHECK(kit_becomes(&kit, "stale_replies", 1));
    CHECK_EQ(open_files(sizeof body), 0);

    /* The same when the engine has ended before the reply comes. */
    kit_hold(&kit, true);
    client_connect(&client, &kit);
    client_get(&client, "/f/file");
    CHECK(kit_becomes(&kit, "asks", 2));
    tux_engine_drain(kit.engine, 0);
    kit_join(&kit);
    kit_hold(&kit, false);
    for (uint64_t end = kit_now_ms() + KIT_LIMIT_MS; kit.decided < 2 && kit_now_ms() < end;)
        poll(NULL, 0, 1);
    CHECK_EQ(kit.decided, 2);
    client_close(&client);
    kit_end(&kit);
    CHECK_EQ(open_files(sizeof body), 0);
}

/* Asks fill their ring: 503 for who comes then, and the answer for who waits, when the planner goes on. */
static void test_ring_full(void)
{
    enum { CLIENTS = 200 };
    static struct client clients[CLIENTS];
    static char request[9000];
    static struct answer answer;
    struct kit kit;
    kit_prepare(&kit);
    kit_start(&kit);
    kit_hold(&kit, true);
    int len = snprintf(request, sizeof request, "GET /echo HTTP/1.1\r\nHost: kit\r\nCookie: %08000d\r\n\r\n", 0);
    for (int i = 0; i < CLIENTS; i++) {
        client_connect(&clients[i], &kit);
        MUST(client_write(&clients[i], request, (size_t)len));
    }
    CHECK(kit_becomes(&kit, "requests", CLIENTS));
    CHECK(kit_rests(&kit));
    uint64_t full = kit_stat(&kit, "ring_full");
    CHECK(full > 0 && full < CLIENTS);
    CHECK_EQ(kit_stat(&kit, "asks"), CLIENTS - full);
    kit_hold(&kit, false);
    unsigned good = 0, refused = 0;
    for (int i = 0; i < CLIENTS; i++) {
        client_read(&clients[i], &answer);
        good += answer.status == 200;
        refused += answer.status == 503;
    }
    CHECK_EQ(refused, full);
    CHECK_EQ(good, CLIENTS - full);
    /* A refusal does not cost the connection. */
    for (int i = 0; i < CLIENTS; i++) {
        client_get(&clients[i], "/echo");
        CHECK_ANSWER(&clients[i], 200, "GET /echo\n");
        client_close(&clients[i]);
    }
    kit_end(&kit);
}

static uint64_t next_random(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

/* Ahead of each good reply come bad ones: records of random words, or good ones with one word changed. */
static void decide_hostile(struct kit *kit, const struct tux_ask_view *ask, struct kit_answer *answer)
{
    for (int i = 0; i < 200; i++) {
        uint32_t words[64];
        struct tux_reply_record record = {.id = next_random() % 8 == 0 ? ask->record->id + (1u << 20) : next_random(),
                                          .ttl_ms = KIT_FOREVER,
                                          .head_len = 20,
                                          .inline_len = 10,
                                          .body_len = 10,
                                          .fd = -1,
                                          .status = 200};
        for (size_t w = 0; w < 64; w++)
            words[w] = (uint32_t)next_random();
        if (i % 4 != 0) {
            uint32_t change[sizeof record / 4];
            memcpy(change, &record, sizeof record);
            size_t at = 2 + next_random() % (sizeof record / 4 - 2); /* not the id */
            uint32_t values[] = {0, 1, 2, 255, 256, 257, 4096, 65536, INT32_MAX, UINT32_MAX - 1, UINT32_MAX};
            change[at] = values[next_random() % 11];
            memcpy(&record, change, sizeof record);
            memcpy(words, &record, sizeof record);
        }
        record.fd = -1;
        memcpy((uint8_t *)words + offsetof(struct tux_reply_record, fd), &record.fd, 4); /* a number would be closed */
        uint32_t size = (uint32_t)(next_random() % sizeof words);
        if (i % 4 != 0)
            size = (uint32_t)sizeof record + 30;
        void *at = kit_reserve(kit, size);
        if (at == NULL)
            return;
        memcpy(at, words, size);
        tux_ring_commit(&kit->replies, size);
    }
    kit_decide_usual(kit, ask, answer);
}

static void test_hostile_replies(void)
{
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit.decide = decide_hostile;
    kit_start(&kit);
    client_connect(&client, &kit);
    for (int i = 0; i < 50; i++) {
        char path[32], body[64];
        snprintf(path, sizeof path, "/echo/%d", i);
        snprintf(body, sizeof body, "GET /echo/%d\n", i);
        client_get(&client, path);
        CHECK_ANSWER(&client, 200, body);
    }
    CHECK_EQ(kit_stat(&kit, "stale_replies"), 50 * 200);
    client_close(&client);
    kit_end(&kit);
}

/* Replies to the very request that waits, whose parts contradict each other: 5xx, at once. */
static void decide_contradicting(struct kit *kit, const struct tux_ask_view *ask, struct kit_answer *answer)
{
    char path[100];
    kit_decide_usual(kit, ask, answer);
    kit_span(ask, ask->record->path, path, sizeof path);
    if (strcmp(path, "/range-unasked") == 0) {
        answer->flags |= TUX_PLAN_RANGE;
    } else if (strcmp(path, "/range-no-body") == 0) {
        answer->flags |= TUX_PLAN_RANGE | TUX_PLAN_NO_BODY;
    } else if (strcmp(path, "/no-status") == 0) {
        struct kit_answer bad = *answer;
        bad.status = 0;
        kit_reply(kit, ask->record->id, &bad);
        answer->status = 0;
    } else if (strcmp(path, "/closed-file") == 0) {
        answer->fd = 10000; /* no such descriptor */
    } else if (strcmp(path, "/folder") == 0) {
        answer->fd = open(kit->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } else if (strcmp(path, "/short-file") == 0) {
        answer->fd = tux_files_open(kit->roots, 0, "file", 4, kit_now_ms(), &answer->found);
        answer->body_offset = 5;
        answer->body_len = 10;
        snprintf(answer->head, sizeof answer->head, "HTTP/1.1 200 Kit\r\nContent-Length: 10\r\n");
    }
}

static void test_contradicting_replies(void)
{
    static struct answer answer;
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_write_file(&kit, "file", "0123456789", 10);
    kit.config.limits.stall_timeout_ms = 500;
    kit.decide = decide_contradicting;
    kit_start(&kit);
    static const struct {
        const char *path;
        int status;
        bool ranged, whole;
    } rows[] = {
        {"/range-unasked", 500, false, true}, {"/range-no-body", 206, true, false}, {"/no-status", 500, false, true},
        {"/closed-file", 503, false, true},   {"/folder", 503, false, true},        {"/short-file", 503, false, true},
    };
    for (int round = 0; round < 4; round++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            char text[128];
            client_connect(&client, &kit);
            snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: kit\r\n%s\r\n", rows[i].path,
                     rows[i].ranged ? "Range: bytes=1-2\r\n" : "");
            MUST(client_say(&client, text));
            if (!rows[i].whole)
                MUST(shutdown(client.fd, SHUT_WR) == 0);
            client_read(&client, &answer);
            CHECK_ROW(answer.status == rows[i].status && answer.whole == rows[i].whole, rows[i].path);
            client_close(&client);
        }
    CHECK(kit_becomes(&kit, "exchanges", 0));
    kit_end(&kit);
}

/* A ring whose words are nonsense is a dead planner: what is remembered is still served, the rest gets 503. */
static void test_dead_ring(void)
{
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit.config.limits.stall_timeout_ms = 300;
    kit_start(&kit);
    client_connect(&client, &kit);
    for (int i = 0; i < 2; i++) {
        client_get(&client, "/echo");
        CHECK_ANSWER(&client, 200, "GET /echo\n");
    }
    kit_hold(&kit, true);
    kit.replies.shared->written += 3;
    uint64_t one = 1;
    MUST(write(kit.replies.data_eventfd, &one, sizeof one) == sizeof one);
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    client_get(&client, "/other");
    CHECK_ANSWER(&client, 503, "no\n");
    CHECK(kit_rests(&kit));
    client_close(&client);
    kit_end(&kit);
}

/* -- the helper thread ------------------------------------------------------------------------------------------ */

/* What is checked is whether this process has such a descriptor: a look into procfs always counts as able to block. */
#define FD_OF_CHECK 77

static void decide_by_descriptor(struct kit *kit, const struct tux_ask_view *ask, struct kit_answer *answer)
{
    kit_decide_usual(kit, ask, answer);
    answer->checked = true;
    answer->root = 1;
    snprintf(answer->path, sizeof answer->path, "self/fd/%d", FD_OF_CHECK);
    tux_files_look(kit->roots, 1, answer->path, strlen(answer->path), kit_now_ms(), false, &answer->found);
    bool absent = answer->found.kind == TUX_FOUND_ABSENT;
    answer->body = absent ? "absent" : "there";
    answer->body_len = strlen(answer->body);
    snprintf(answer->head, sizeof answer->head, "HTTP/1.1 200 Kit\r\nContent-Length: %u\r\n", absent ? 6u : 5u);
}

static void ask_as(struct client *client, const char *accept)
{
    char text[128];
    snprintf(text, sizeof text, "GET /echo HTTP/1.1\r\nHost: kit\r\nAccept: %s\r\n\r\n", accept);
    MUST(client_say(client, text));
}

/* Ask until the answer is the wanted one; within the second that is promised. */
static void check_comes(struct client *client, const char *accept, const char *wanted)
{
    static struct answer answer;
    uint64_t begun = kit_now_ms(), asked;
    do {
        asked = kit_now_ms();
        ask_as(client, accept);
        client_read(client, &answer);
        MUST(answer.status == 200);
    } while (strcmp(answer.body, wanted) != 0 && asked < begun + KIT_LIMIT_MS);
    CHECK(asked - begun <= 1000);
}

/* Checks that may block are repeated by the helper; requests for the plan wait for its word. What was found changed is
 * asked anew, also when it changes back while another request's entry holds the old plan. */
static void test_parked(void)
{
    struct kit kit;
    struct client client, other;
    kit_prepare(&kit);
    kit.decide = decide_by_descriptor;
    kit_start(&kit);
    client_connect(&client, &kit);
    client_connect(&other, &kit);
    for (int i = 0; i < 3; i++) {
        ask_as(&client, "a");
        CHECK_ANSWER(&client, 200, "absent");
        ask_as(&client, "b");
        CHECK_ANSWER(&client, 200, "absent");
    }
    CHECK(kit_stat(&kit, "parked") > 0);
    CHECK_EQ(kit_stat(&kit, "asks"), 4);
    MUST(dup2(0, FD_OF_CHECK) == FD_OF_CHECK);
    check_comes(&client, "a", "there");
    MUST(close(FD_OF_CHECK) == 0);
    check_comes(&client, "a", "absent");
    uint64_t asks = kit_stat(&kit, "asks");
    for (int i = 0; i < 5; i++) {
        ask_as(&client, "a");
        CHECK_ANSWER(&client, 200, "absent");
    }
    CHECK(kit_stat(&kit, "asks") <= asks + 1); /* it is remembered again */
    CHECK(kit_stat(&kit, "changed") >= 2);

    /* Clients that go away while they are parked. */
    for (int i = 0; i < 200; i++) {
        struct client gone;
        client_connect(&gone, &kit);
        ask_as(&gone, "a");
        client_abort(&gone);
        if (i % 50 == 0) {
            MUST(dup2(0, FD_OF_CHECK) == FD_OF_CHECK);
            check_comes(&other, "a", "there");
            MUST(close(FD_OF_CHECK) == 0);
            check_comes(&other, "a", "absent");
        }
    }
    client_close(&client);
    client_close(&other);
    CHECK(kit_becomes(&kit, "connections", 0));
    CHECK_EQ(kit_stat(&kit, "exchanges"), 0);
    kit_end(&kit);
}

/* -- descriptors and connections -------------------------------------------------------------------------------- */

static void test_connection_limit(void)
{
    enum { CLIENTS = 8, LIMIT = 3 };
    static struct client clients[CLIENTS];
    struct kit kit;
    kit_prepare(&kit);
    kit.config.limits.connections = LIMIT;
    kit_start(&kit);
    for (int i = 0; i < CLIENTS; i++) {
        client_connect(&clients[i], &kit); /* by the kernel; the engine may take it later */
        client_get(&clients[i], "/echo");
    }
    CHECK(kit_reaches(&kit, "accept_paused", 1));
    CHECK_EQ(kit_stat(&kit, "connections"), LIMIT);
    CHECK(kit_rests(&kit));
    for (int i = 0; i < CLIENTS; i++) {
        CHECK_ANSWER(&clients[i], 200, "GET /echo\n");
        CHECK(kit_stat(&kit, "connections") <= LIMIT);
        client_close(&clients[i]);
    }
    CHECK_EQ(kit_stat(&kit, "refused"), 0);
    CHECK(kit_becomes(&kit, "connections", 0));
    kit_end(&kit);
}

static void test_no_descriptors(void)
{
    enum { CLIENTS = 8, LEFT = 3 };
    static struct client clients[CLIENTS];
    struct kit kit;
    struct rlimit usual, tight;
    kit_prepare(&kit);
    kit_start(&kit);
    MUST(getrlimit(RLIMIT_NOFILE, &usual) == 0);
    int sockets[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        MUST((sockets[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    int next = dup(0);
    close(next);
    tight = usual;
    tight.rlim_cur = (rlim_t)next + LEFT;
    MUST(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    for (int i = 0; i < CLIENTS; i++) {
        client_open(&clients[i], sockets[i]);
        MUST(connect(sockets[i], (struct sockaddr *)&kit.address, sizeof kit.address) == 0);
        client_get(&clients[i], "/echo");
    }
    CHECK(kit_reaches(&kit, "accept_paused", 1));
    for (int i = 0; i < LEFT; i++)
        CHECK_ANSWER(&clients[i], 200, "GET /echo\n");
    CHECK_EQ(kit_stat(&kit, "connections"), LEFT);
    CHECK(kit_rests(&kit));
    CHECK(kit_reaches(&kit, "accept_paused", 3)); /* it tries again and again */
    client_close(&clients[0]); /* room for two: its own descriptor and the engine's */
    for (int i = LEFT; i < LEFT + 2; i++)
        CHECK_ANSWER(&clients[i], 200, "GET /echo\n");
    MUST(setrlimit(RLIMIT_NOFILE, &usual) == 0);
    for (int i = LEFT + 2; i < CLIENTS; i++)
        CHECK_ANSWER(&clients[i], 200, "GET /echo\n");
    for (int i = 1; i < CLIENTS; i++)
        client_close(&clients[i]);
    kit_end(&kit);
}

/* A listener that gives nothing but errors is left alone between tries, and the others go on. */
static void test_broken_listener(void)
{
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_start(&kit);
    MUST(shutdown(kit.tcp, SHUT_RDWR) == 0);
    CHECK(kit_rests(&kit));
    client_connect_unix(&client, &kit);
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    client_close(&client);
    kit_end(&kit);
}

int main(void)
{
    test_stale_reply();
    test_stale_file();
    test_ring_full();
    test_hostile_replies();
    test_contradicting_replies();
    test_dead_ring();
    test_parked();
    test_connection_limit();
    test_no_descriptors();
    test_broken_listener();
    return check_report();
}
