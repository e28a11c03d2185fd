/* SPDX-License-Identifier: MIT */
/* The engine answers: from the planner first, then from its memo; in order, in the right form, never a stale one. */
#include "engine_client.h"

#define LARGE_BYTES (5u * 1024u * 1024u)

static uint8_t large[LARGE_BYTES];

static void fill_large(uint8_t seed)
{
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (uint8_t)(i * 31u + (i >> 8) + seed);
}

/* Ask for it until the memo has it: the second ask is admitted. */
static void warm(struct kit *kit, struct client *client, const char *path)
{
    static struct answer answer;
    uint64_t inserted = kit_stat(kit, "memo_inserted");
    for (int i = 0; i < 2; i++) {
        client_get(client, path);
        client_read(client, &answer);
        MUST(answer.whole);
    }
    MUST(kit_stat(kit, "memo_inserted") == inserted + 1);
}

static void test_miss_then_hit(void)
{
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_start(&kit);
    client_connect(&client, &kit);
    for (int i = 0; i < 4; i++) {
        client_get(&client, "/echo");
        CHECK_ANSWER(&client, 200, "GET /echo\n");
    }
    CHECK_EQ(kit_stat(&kit, "asks"), 2); /* admitted at the second ask */
    CHECK_EQ(kit_stat(&kit, "hits"), 2);
    CHECK_EQ(kit_stat(&kit, "requests"), 4);
    CHECK_EQ(kit_stat(&kit, "memo_entries"), 1);

    /* What the memo holds is for every client, and for either listener its own. */
    client_close(&client);
    client_connect(&client, &kit);
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    CHECK_EQ(kit_stat(&kit, "hits"), 3);
    client_close(&client);
    client_connect_unix(&client, &kit);
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    CHECK_EQ(kit_stat(&kit, "hits"), 3);
    client_close(&client);
    CHECK(kit_becomes(&kit, "connections", 0));
    CHECK_EQ(kit_stat(&kit, "exchanges"), 0);
    kit_end(&kit);
}

/* A thousand requests in one go: several batches, answered in order; misses between them keep their place. */
static void test_pipelined(bool with_misses)
{
    enum { COUNT = 1000 };
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_start(&kit);
    client_connect(&client, &kit);
    warm(&kit, &client, "/echo/a");
    warm(&kit, &client, "/echo/b");
    static char text[COUNT * 64];
    size_t len = 0;
    char path[32];
    for (int i = 0; i < COUNT; i++) {
        snprintf(path, sizeof path, with_misses && i % 7 == 3 ? "/echo/%d" : i % 2 == 0 ? "/echo/a" : "/echo/b", i);
        len += (size_t)snprintf(text + len, sizeof text - len, "GET %s HTTP/1.1\r\nHost: kit\r\n\r\n", path);
    }
    MUST(client_write(&client, text, len));
    bool good = true;
    for (int i = 0; i < COUNT && good; i++) {
        char body[64];
        snprintf(path, sizeof path, with_misses && i % 7 == 3 ? "/echo/%d" : i % 2 == 0 ? "/echo/a" : "/echo/b", i);
        snprintf(body, sizeof body, "GET %s\n", path);
        good = CHECK_ANSWER(&client, 200, body);
    }
    CHECK_EQ(kit_stat(&kit, "asks"), with_misses ? 4 + (COUNT + 3) / 7 : 4);
    client_close(&client);
    kit_end(&kit);
}

/* Method, version and Connection decide the form; the plan is the same. */
static void test_forms(void)
{
    static const struct {
        const char *request, *connection;
        bool head_only, ends;
    } rows[] = {
        {"GET /echo HTTP/1.1\r\nHost: kit\r\n\r\n", NULL, false, false},
        {"HEAD /echo HTTP/1.1\r\nHost: kit\r\n\r\n", NULL, true, false},
        {"GET /echo HTTP/1.1\r\nHost: kit\r\nConnection: close\r\n\r\n", "Connection: close", false, true},
        {"GET /echo HTTP/1.0\r\nHost: kit\r\n\r\n", "Connection: close", false, true},
        {"GET /echo HTTP/1.0\r\nHost: kit\r\nConnection: keep-alive\r\n\r\n", "Connection: keep-alive", false, false},
        {"HEAD /echo HTTP/1.0\r\nHost: kit\r\n\r\n", "Connection: close", true, true},
    };
    static struct answer answer;
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_start(&kit);
    for (int round = 0; round < 3; round++) /* asked, asked and remembered, from the memo */
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            client_connect(&client, &kit);
            MUST(client_say(&client, rows[i].request));
            client_read_as(&client, &answer, rows[i].head_only);
            CHECK_ROW(answer.status == 200 && answer.whole, rows[i].request);
            CHECK_ROW(answer.length == strlen("GET /echo\n") + rows[i].head_only, rows[i].request);
            CHECK_ROW(strstr(answer.head, "\r\nDate: ") != NULL, rows[i].request);
            CHECK_ROW(strstr(answer.head, "\r\nDate: Thu, 01 Jan 1970") == NULL, rows[i].request);
            const char *connection = strstr(answer.head, "\r\nConnection: ");
            CHECK_ROW((connection != NULL) == (rows[i].connection != NULL), rows[i].request);
            CHECK_ROW(connection == NULL || has_field(&answer, rows[i].connection), rows[i].request);
            if (rows[i].ends) {
                CHECK_ROW(client_at_end(&client, true), rows[i].request);
            } else {
                client_get(&client, "/echo/after");
                CHECK_ANSWER(&client, 200, "GET /echo/after\n");
            }
            client_close(&client);
        }
    CHECK(kit_stat(&kit, "hits") >= sizeof rows / sizeof *rows);
    kit_end(&kit);
}

/* HEAD with a plan that has a body (in memory or as a file) and does not say NO_BODY: the engine leaves it out. */
static void decide_with_body(struct kit *kit, const struct tux_ask_view *ask, struct kit_answer *answer)
{
    kit_decide_usual(kit, ask, answer);
    char path[128];
    kit_span(ask, ask->record->path, path, sizeof path);
    if (strcmp(path, "/f/file") == 0 && answer->fd < 0)
        answer->fd = tux_files_open(kit->roots, 0, "file", 4, kit_now_ms(), &answer->found);
    if (strcmp(path, "/f/empty") == 0 && answer->fd < 0)
        answer->fd = tux_files_open(kit->roots, 0, "empty", 5, kit_now_ms(), &answer->found);
    answer->flags &= ~TUX_PLAN_NO_BODY;
}

static void test_head_of_any_plan(void)
{
    static const char *const paths[] = {"/echo", "/f/file", "/f/empty"};
    static struct answer answer;
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_write_file(&kit, "file", "0123456789", 10);
    kit_write_file(&kit, "empty", "", 0);
    kit.decide = decide_with_body;
    kit_start(&kit);
    client_connect(&client, &kit);
    for (int round = 0; round < 4; round++)
        for (size_t i = 0; i < 3; i++) {
            char text[128];
            snprintf(text, sizeof text, "HEAD %s HTTP/1.1\r\nHost: kit\r\n\r\n", paths[i]);
            MUST(client_say(&client, text));
            client_read_as(&client, &answer, true);
            CHECK_ROW(answer.status == 200, paths[i]);
            client_get(&client, paths[i]); /* nothing of a body is in between */
            client_read(&client, &answer);
            CHECK_ROW(answer.status == 200 && answer.whole, paths[i]);
        }
    CHECK_EQ(kit_stat(&kit, "hits"), 12);
    CHECK(kit_becomes(&kit, "exchanges", 0));
    client_close(&client);
    kit_end(&kit);
}

static void check_large(struct client *client, uint64_t first, uint64_t last)
{
    static struct answer answer;
    client_read(client, &answer);
    CHECK(answer.status == (first == 0 && last == LARGE_BYTES - 1 ? 200 : 206) && answer.whole);
    CHECK_EQ(answer.received, last - first + 1);
    CHECK_EQ(answer.sum, body_sum(large + first, (size_t)(last - first + 1), 0));
}

/* The file is shorter now; who has not got the copy of what it was sees that. */
static void cut_large(struct kit *kit, struct client *client)
{
    static struct answer answer;
    char full[256];
    snprintf(full, sizeof full, "%s/large", kit->folder);
    MUST(truncate(full, 1000) == 0);
    uint64_t end = kit_now_ms() + KIT_LIMIT_MS;
    do { /* remembered answers are looked at again after a moment */
        client_get(client, "/f/large");
        client_read(client, &answer);
    } while (answer.length != 1000 && CHECK(kit_now_ms() < end));
}

/* Files by descriptor: from a mapping at first, as a frozen copy when they are hot; a slow reader gets every byte, and nobody
 * waits for it. */
static void test_files(bool over_unix)
{
    struct kit kit;
    struct client client, slow;
    kit_prepare(&kit);
    fill_large(1);
    kit_write_file(&kit, "large", large, sizeof large);
    kit_write_file(&kit, "small", "0123456789", 10);
    kit_start(&kit);
    if (over_unix)
        client_connect_unix(&client, &kit);
    else
        client_connect(&client, &kit);
    for (int i = 0; i < 8; i++) {
        client_get(&client, "/f/small");
        CHECK_ANSWER(&client, 200, "0123456789");
        client_get(&client, "/f/large");
        check_large(&client, 0, LARGE_BYTES - 1);
    }
    CHECK(kit_becomes(&kit, "frozen", LARGE_BYTES));
    /* Two files and an answer from memory, pipelined. */
    MUST(client_say(&client, "GET /f/large HTTP/1.1\r\nHost: kit\r\n\r\nGET /f/small HTTP/1.1\r\nHost: kit\r\n\r\n"
                             "GET /echo HTTP/1.1\r\nHost: kit\r\n\r\n"));
    check_large(&client, 0, LARGE_BYTES - 1);
    CHECK_ANSWER(&client, 200, "0123456789");
    CHECK_ANSWER(&client, 200, "GET /echo\n");

    client_connect_with(&slow, &kit, 4096);
    client_get(&slow, "/f/large");
    CHECK(kit_becomes(&kit, "exchanges", 1));
    for (int i = 0; i < 100; i++) {
        client_get(&client, "/f/small");
        CHECK_ANSWER(&client, 200, "0123456789");
    }
    if (!over_unix) /* else it was asked for at another listener, and is not hot there */
        cut_large(&kit, &client);
    CHECK(kit_stat(&kit, "exchanges") >= 1); /* it is still at it */
    CHECK_EQ(kit_stat(&kit, "frozen"), LARGE_BYTES);
    check_large(&slow, 0, LARGE_BYTES - 1);
    CHECK(kit_becomes(&kit, "exchanges", 0));
    CHECK(over_unix || kit_becomes(&kit, "frozen", 0));
    client_close(&slow);
    client_close(&client);
    kit_end(&kit);
}

/* Remembered answers in memory that the client does not read: they are kept as bytes of its own, and come out whole. */
static void test_slow_reader_of_memory(void)
{
    enum { COUNT = 2000 };
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    char body[4001];
    for (size_t i = 0; i < sizeof body - 1; i++)
        body[i] = (char)('a' + i % 26);
    body[sizeof body - 1] = 0;
    kit_write_file(&kit, "text", body, sizeof body - 1);
    kit_start(&kit);
    client_connect_with(&client, &kit, 4096);
    warm(&kit, &client, "/m/text");
    for (int i = 0; i < COUNT; i++)
        client_get(&client, "/m/text");
    CHECK(kit_reaches(&kit, "held", 1));
    bool good = true;
    for (int i = 0; i < COUNT && good; i++)
        good = CHECK_ANSWER(&client, 200, body);
    CHECK(kit_becomes(&kit, "held", 0));
    client_close(&client);
    kit_end(&kit);
}

static void ask_range(struct client *client, const char *path, const char *range)
{
    char text[256];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: kit\r\nRange: %s\r\n\r\n", path, range);
    MUST(client_say(client, text));
}

/* One template serves every plain range; what does not fit into the file is asked, and remembered by its numbers. */
static void test_ranges(void)
{
    static struct answer answer;
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    fill_large(2);
    kit_write_file(&kit, "large", large, sizeof large);
    kit_write_file(&kit, "small", "0123456789", 10);
    kit_start(&kit);
    client_connect(&client, &kit);
    for (int i = 0; i < 2; i++) {
        ask_range(&client, "/m/small", "bytes=0-0");
        CHECK_ANSWER(&client, 206, "0");
    }
    uint64_t asks = kit_stat(&kit, "asks");
    ask_range(&client, "/m/small", "bytes=2-4");
    client_read(&client, &answer);
    CHECK(answer.status == 206 && strcmp(answer.body, "234") == 0);
    CHECK(has_field(&answer, "Content-Range: bytes 2-4/10"));
    ask_range(&client, "/m/small", "bytes=-3");
    CHECK_ANSWER(&client, 206, "789");
    ask_range(&client, "/m/small", "bytes=8-99");
    client_read(&client, &answer);
    CHECK(answer.status == 206 && strcmp(answer.body, "89") == 0);
    CHECK(has_field(&answer, "Content-Range: bytes 8-9/10"));
    CHECK_EQ(kit_stat(&kit, "asks"), asks);
    for (int i = 0; i < 4; i++) {
        ask_range(&client, "/m/small", "bytes=10-");
        CHECK_ANSWER(&client, 416, "");
    }
    CHECK_EQ(kit_stat(&kit, "asks"), asks + 2);
    ask_range(&client, "/m/small", "bytes=1-1"); /* the template is still there */
    CHECK_ANSWER(&client, 206, "1");
    CHECK_EQ(kit_stat(&kit, "asks"), asks + 2);
    ask_range(&client, "/m/small", "bytes=11-");
    CHECK_ANSWER(&client, 416, "");
    CHECK_EQ(kit_stat(&kit, "asks"), asks + 3);

    for (int i = 0; i < 6; i++) {
        ask_range(&client, "/f/large", "bytes=1000000-4999999");
        check_large(&client, 1000000, 4999999);
        ask_range(&client, "/f/large", "bytes=-1");
        check_large(&client, LARGE_BYTES - 1, LARGE_BYTES - 1);
    }
    MUST(client_say(&client, "GET /m/small HTTP/1.0\r\nHost: kit\r\nRange: bytes=3-5\r\n\r\n"));
    CHECK_ANSWER(&client, 206, "345");
    CHECK(client_at_end(&client, true));
    client_close(&client);
    kit_end(&kit);
}

/* A plan that did not read the query holds for every query, one that did for this query alone. */
static void test_queries(void)
{
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_start(&kit);
    client_connect(&client, &kit);
    warm(&kit, &client, "/echo?a");
    client_get(&client, "/echo?b");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    client_get(&client, "/echo");
    CHECK_ANSWER(&client, 200, "GET /echo\n");
    CHECK_EQ(kit_stat(&kit, "asks"), 2);
    warm(&kit, &client, "/query?a");
    warm(&kit, &client, "/query");
    for (int i = 0; i < 4; i++) {
        client_get(&client, "/query?a");
        CHECK_ANSWER(&client, 200, "a");
        client_get(&client, "/query?b");
        CHECK_ANSWER(&client, 200, "b");
        client_get(&client, "/query");
        CHECK_ANSWER(&client, 200, "");
    }
    CHECK_EQ(kit_stat(&kit, "asks"), 8);
    client_close(&client);
    kit_end(&kit);
}

/* Neither without the flag nor for requests that have no signature is anything remembered. */
static void decide_forgettable(struct kit *kit, const struct tux_ask_view *ask, struct kit_answer *answer)
{
    kit_decide_usual(kit, ask, answer);
    answer->flags &= ~TUX_PLAN_REMEMBER;
}

static void test_not_remembered(void)
{
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit.decide = decide_forgettable;
    kit_start(&kit);
    client_connect(&client, &kit);
    for (int i = 0; i < 4; i++) {
        client_get(&client, "/echo");
        CHECK_ANSWER(&client, 200, "GET /echo\n");
    }
    CHECK_EQ(kit_stat(&kit, "asks"), 4);
    client_close(&client);
    kit_end(&kit);
}

static void test_expiry(void)
{
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit.ttl_ms = 50;
    kit_start(&kit);
    client_connect(&client, &kit);
    uint64_t end = kit_now_ms() + KIT_LIMIT_MS, begun = kit_now_ms();
    /* The third ask comes only when what the first two left has expired. */
    while (kit_stat(&kit, "asks") < 3 && kit_now_ms() < end) {
        client_get(&client, "/echo");
        CHECK_ANSWER(&client, 200, "GET /echo\n");
    }
    CHECK_EQ(kit_stat(&kit, "asks"), 3);
    CHECK(kit_now_ms() - begun >= 50);
    CHECK(kit_stat(&kit, "hits") > 0);
    client_close(&client);
    kit_end(&kit);
}

/* A changed file is seen within the second that is promised, again and again; so are one that comes and one that goes.
 * By path: in memory, and by descriptor. */
static void test_recheck(const char *path)
{
    static const char *const contents[] = {"first", "the second", NULL, "third one"};
    static struct answer answer;
    struct kit kit;
    struct client client;
    kit_prepare(&kit);
    kit_write_file(&kit, "page", "zero", 4);
    kit_start(&kit);
    client_connect(&client, &kit);
    warm(&kit, &client, path);
    for (size_t i = 0; i < sizeof contents / sizeof *contents; i++) {
        char full[256];
        snprintf(full, sizeof full, "%s/page", kit.folder);
        if (contents[i] != NULL)
            kit_write_file(&kit, "page", contents[i], strlen(contents[i]));
        else
            MUST(unlink(full) == 0);
        const char *wanted = contents[i] != NULL ? contents[i] : "absent\n";
        uint64_t changed = kit_now_ms(), asked;
        do {
            asked = kit_now_ms();
            client_get(&client, path);
            client_read(&client, &answer);
            MUST(answer.whole);
        } while (strcmp(answer.body, wanted) != 0 && asked < changed + KIT_LIMIT_MS);
        CHECK(asked - changed <= 1000);
        uint64_t hits = kit_stat(&kit, "hits");
        client_get(&client, path); /* the new one is remembered at once: its signature was asked before */
        CHECK_ANSWER(&client, contents[i] != NULL ? 200 : 404, wanted);
        CHECK(kit_stat(&kit, "hits") + kit_stat(&kit, "parked") > hits);
    }
    CHECK(kit_stat(&kit, "rechecks") + kit_stat(&kit, "parked") >= 4);
    client_close(&client);
    kit_end(&kit);
}

/* A file that is cut off while it is sent ends the connection: never bytes of two versions, never a body that only
 * looks whole. */
static void test_truncated(void)
{
    static struct answer answer;
    struct kit kit;
    struct client client, slow;
    kit_prepare(&kit);
    fill_large(3);
    kit_write_file(&kit, "large", large, sizeof large);
    kit_start(&kit);
    client_connect(&client, &kit);
    for (int round = 0; round < 2; round++) { /* asked for the first time, then remembered, and not yet hot */
        char full[256];
        snprintf(full, sizeof full, "%s/large", kit.folder);
        client_connect_with(&slow, &kit, 4096);
        client_get(&slow, "/f/large");
        CHECK(kit_becomes(&kit, "exchanges", 1));
        MUST(client_fill(&slow));
        MUST(truncate(full, 1000) == 0);
        client_read(&slow, &answer);
        CHECK(answer.status == 200 && !answer.whole && answer.length == LARGE_BYTES);
        client_close(&slow);
        CHECK_EQ(kit_stat(&kit, "changed_while_sent"), round + 1u);
        CHECK(kit_becomes(&kit, "exchanges", 0));
        kit_write_file(&kit, "large", large, sizeof large);
        for (int i = 0; i < 3 && round == 0; i++) {
            client_get(&client, "/f/large");
            client_read(&client, &answer);
        }
    }
    client_close(&client);
    kit_end(&kit);
}

int main(void)
{
    test_miss_then_hit();
    test_pipelined(false);
    test_pipelined(true);
    test_forms();
    test_head_of_any_plan();
    test_files(false);
    test_files(true);
    test_slow_reader_of_memory();
    test_ranges();
    test_queries();
    test_not_remembered();
    test_expiry();
    test_recheck("/m/page");
    test_recheck("/f/page");
    test_truncated();
    return check_report();
}
