/* SPDX-License-Identifier: MIT */
/* X-Accel-Redirect and X-Sendfile in answers of an application: what the planner is asked, and what the client gets. */
#include "engine_client.h"

#include "accel.h"
#include "app_process.h"

enum { BOTH, NEITHER, SENDFILE, APPS };

struct stage {
    struct kit kit;
    struct tux_routes *routes;
    struct process apps[APPS];
    struct client client;
};

static struct stage s;
static struct answer got;

/* Says what it was asked; some paths have heads of their own. */
static void decide(struct kit *kit, const struct tux_ask_view *ask, struct kit_answer *answer)
{
    char target[512], method[16];
    kit_span(ask, ask->record->target, target, sizeof target);
    kit_span(ask, ask->record->method, method, sizeof method);
    if (strncmp(target, "/m/", 3) == 0) {
        kit_decide_usual(kit, ask, answer);
        return;
    }
    bool internal = (ask->record->flags & TUX_ASK_INTERNAL) != 0;
    int len = snprintf(kit->text, sizeof kit->text, "%s%s %s 1.%u root %d", internal ? "" : "client: ", method, target,
                       ask->record->minor, (int)ask->record->root);
    for (uint32_t i = 0; i < ask->record->n_fields; i++) {
        char name[64], value[64];
        kit_span(ask, ask->fields[i].name, name, sizeof name);
        kit_span(ask, ask->fields[i].value, value, sizeof value);
        len += snprintf(kit->text + len, sizeof kit->text - (size_t)len, "; %s: %s", name, value);
    }
    const char *more = "";
    answer->status = 200;
    if (strcmp(target, "/gone") == 0) {
        answer->status = 404;
        more = "Content-Type: text/error\r\n";
    } else if (strcmp(target, "/folder") == 0) {
        answer->status = 301;
        more = "Location: folder/\r\n";
    } else if (strcmp(target, "/parts") == 0) {
        answer->status = 206;
        more = "Content-Type: multipart/byteranges; boundary=b\r\n";
    } else if (strcmp(target, "/rich") == 0) {
        more = "Content-Type: text/file\r\nETag: \"file\"\r\nVary: Accept-Encoding\r\nCache-Control: max-age=60\r\n";
    }
    answer->body = kit->text;
    answer->body_len = (uint64_t)len;
    if (strcmp(method, "HEAD") == 0)
        answer->flags |= TUX_PLAN_NO_BODY;
    snprintf(answer->head, sizeof answer->head, "HTTP/1.1 %d Kit\r\n%sContent-Length: %d\r\n", answer->status, more,
             len);
}

static void open_stage(void)
{
    static const char *const prefixes[APPS] = {"/x", "/off", "/send"};
    static const struct tux_app_config configs[APPS] = {
        {.queue = 1, .queue_timeout_ms = 10000, .accel = true, .sendfile_root = 0},
        {.queue = 1, .queue_timeout_ms = 10000, .accel = false, .sendfile_root = -1},
        {.queue = 1, .queue_timeout_ms = 10000, .accel = false, .sendfile_root = 0}};
    kit_prepare(&s.kit);
    s.kit.decide = decide;
    s.routes = tux_routes_new();
    MUST(s.routes != NULL && tux_routes_add_site(s.routes, "", 0) == 0);
    for (uint32_t i = 0; i < APPS; i++) {
        struct tux_chain chain = {.n_steps = 1, .steps = {{TUX_ORIGIN_APP, i}}, .root = TUX_NO_ROUTE};
        MUST(tux_routes_add_route(s.routes, 0, prefixes[i], strlen(prefixes[i]), i, &chain) == 0);
    }
    s.kit.config.routes = s.routes;
    kit_create(&s.kit);
    for (uint32_t i = 0; i < APPS; i++)
        CHECK_EQ(tux_engine_app(s.kit.engine, &configs[i]), (int)i);
    MUST(pthread_create(&s.kit.engine_thread, NULL, kit_run, &s.kit) == 0);
    client_connect(&s.client, &s.kit);
    for (uint32_t i = 0; i < APPS; i++)
        link_process(&s.kit, &s.apps[i], i);
    kit_write_file(&s.kit, "small", "content", 7);
}

static void close_stage(void)
{
    client_close(&s.client);
    CHECK(kit_becomes(&s.kit, "connections", 0));
    kit_end(&s.kit);
    tux_routes_free(s.routes);
    for (uint32_t i = 0; i < APPS; i++)
        end_process(&s.apps[i]);
}

/* The client sends a request with these fields, the application of the path answers with those. */
static void exchange(const char *line, const char *asks, uint32_t app, const char *fields)
{
    char text[1024];
    snprintf(text, sizeof text, "%s\r\nHost: kit\r\n%s\r\n", line, asks);
    MUST(client_say(&s.client, text));
    CHECK(hears(&s.apps[app], TUX_APP_REQUEST));
    answer(&s.apps[app], 200, 4, fields, "mine", TUX_APP_END);
    client_read_as(&s.client, &got, strncmp(line, "HEAD", 4) == 0);
}

static bool is(int status, const char *body)
{
    bool same = got.status == status && got.whole && strcmp(got.body, body) == 0;
    if (!same)
        fprintf(stderr, "got %d \"%s\"\n%s", got.status, got.body, got.head);
    return same;
}

#define REDIRECT(path) "X-Accel-Redirect: " path "\r\n"

static void test_what_the_planner_is_asked(void)
{
    static const char conditions[] = "Range: bytes=1-2\r\nif-none-match: \"a\"\r\nAccept-Encoding: gzip\r\n"
                                     "Cookie: c=d\r\nAuthorization: Basic e\r\nUser-Agent: f\r\n";
    open_stage();
    exchange("GET /x HTTP/1.1", "", BOTH, REDIRECT("/echo?q=1 %41#\xc3\xa4"));
    CHECK(is(200, "GET /echo?q=1%20%41%23%C3%A4 1.1 root -1; Host: kit"));
    exchange("GET /x HTTP/1.1", conditions, BOTH, REDIRECT("/echo"));
    CHECK(is(200, "GET /echo 1.1 root -1; Host: kit; Range: bytes=1-2; if-none-match: \"a\"; Accept-Encoding: gzip"));
    exchange("POST /x HTTP/1.1", conditions, BOTH, REDIRECT("/echo"));
    CHECK(is(200, "GET /echo 1.1 root -1; Host: kit"));
    exchange("HEAD /x HTTP/1.1", "If-Match: *\r\n", BOTH, REDIRECT("/echo"));
    CHECK(got.status == 200 && got.length == strlen("HEAD /echo 1.1 root -1; Host: kit; If-Match: *"));
    exchange("GET /x HTTP/1.0", "Connection: keep-alive\r\n", BOTH, REDIRECT("/echo"));
    CHECK(is(200, "GET /echo 1.0 root -1; Host: kit"));
    /* What is remembered for it is found again, and is nobody else's. */
    uint64_t decided = s.kit.decided;
    for (int i = 0; i < 5; i++) {
        exchange("GET /x HTTP/1.1", "", BOTH, REDIRECT("/m/small"));
        CHECK(is(200, "content"));
    }
    CHECK_EQ(s.kit.decided, decided + 2);
    client_get(&s.client, "/m/small"); /* no route of the kit, so the planner has it */
    CHECK_ANSWER(&s.client, 200, "content");
    CHECK_EQ(s.kit.decided, decided + 3);
    close_stage();
}

static unsigned count(const char *text)
{
    unsigned n = 0;
    for (const char *at = got.head; (at = strstr(at, text)) != NULL; at += strlen(text))
        n++;
    return n;
}

static void test_heads(void)
{
    static const char fields[] =
        "Content-Type: text/app\r\nETag: \"app\"\r\nSet-Cookie: a=b\r\nVary: Cookie\r\nCache-Control: no-store\r\n"
        "Content-Encoding: gzip\r\nDate: never\r\nx-sendfile: /etc/passwd\r\nX-Own: 1\r\n";
    char text[1024];
    open_stage();
    snprintf(text, sizeof text, "%s%s", fields, REDIRECT("/rich"));
    exchange("GET /x HTTP/1.1", "", BOTH, text);
    CHECK(is(200, "GET /rich 1.1 root -1; Host: kit"));
    CHECK(has_field(&got, "Content-Type: text/app") && count("ontent-") == 2); /* and Content-Length */
    CHECK(has_field(&got, "ETag: \"file\"") && count("ETag") == 1);
    CHECK(has_field(&got, "Vary: Cookie") && has_field(&got, "Vary: Accept-Encoding"));
    CHECK(has_field(&got, "Cache-Control: no-store") && count("Cache-Control") == 1);
    CHECK(has_field(&got, "Set-Cookie: a=b") && has_field(&got, "X-Own: 1"));
    CHECK(count("never") == 0 && count("\r\nDate: ") == 1);
    CHECK(count("Accel") == 0 && count("endfile") == 0);

    snprintf(text, sizeof text, "%s%s", fields, REDIRECT("/parts"));
    exchange("GET /x HTTP/1.1", "", BOTH, text);
    CHECK(got.status == 206 && has_field(&got, "Content-Type: multipart/byteranges; boundary=b"));
    CHECK(count("text/app") == 0 && has_field(&got, "X-Own: 1"));

    snprintf(text, sizeof text, "%s%s", fields, REDIRECT("/gone"));
    exchange("GET /x HTTP/1.1", "", BOTH, text); /* an error is not what these fields are about */
    CHECK(got.status == 404 && has_field(&got, "Content-Type: text/error") && has_field(&got, "Set-Cookie: a=b"));
    CHECK(count("X-Own") == 0 && count("no-store") == 0);

    exchange("GET /x HTTP/1.1", "", BOTH, REDIRECT("/folder")); /* nothing that can be sent */
    CHECK(is(404, "no\n") && count("Location") == 0);
    close_stage();
}

static void test_what_cannot_be(void)
{
    static const char *const bad[] = {
        REDIRECT("/rich") REDIRECT("/rich"), REDIRECT("rich"), REDIRECT(""), REDIRECT("http://kit/rich"),
        "X-Sendfile: /rich\r\n", "X-Sendfile: rich\r\n", "X-Sendfile: \r\n"};
    open_stage();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        exchange("GET /x HTTP/1.1", "", BOTH, bad[i]);
        CHECK(is(502, "no\n"));
    }
    static char field[9000];
    char long_path[3600];
    memset(long_path, 0xfe, sizeof long_path - 1); /* three times as long when it is escaped */
    long_path[sizeof long_path - 1] = 0;
    snprintf(field, sizeof field, "X-Accel-Redirect: /%s\r\n", long_path);
    exchange("GET /x HTTP/1.1", "", BOTH, field);
    CHECK(is(502, "no\n"));
    CHECK_EQ(s.kit.decided, 0);
    close_stage();
}

static void test_rules(void)
{
    open_stage();
    /* Not honoured: the answer is the application's own, without the field. */
    exchange("GET /off HTTP/1.1", "", NEITHER, REDIRECT("/rich") "X-Own: 1\r\nX-SENDFILE: /rich\r\n");
    CHECK(is(200, "mine") && has_field(&got, "X-Own: 1") && count("rich") == 0);
    exchange("GET /send HTTP/1.1", "", SENDFILE, REDIRECT("/rich"));
    CHECK(is(200, "mine") && count("rich") == 0);

    char text[512];
    snprintf(text, sizeof text, REDIRECT("/rich") "X-Sendfile: %s/a b%%?#\r\n", s.kit.folder);
    exchange("GET /send HTTP/1.1", "", SENDFILE, text); /* a path of the file system: nothing in it has a meaning */
    CHECK(is(200, "GET /a%20b%25%3F%23 1.1 root 0; Host: kit"));
    exchange("GET /x HTTP/1.1", "", BOTH, text);
    CHECK(is(200, "GET /rich 1.1 root -1; Host: kit"));
    static const char *const outside[] = {"", "/", "x/a"};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        snprintf(text, sizeof text, "X-Sendfile: %s%s\r\n", s.kit.folder, outside[i]);
        exchange("GET /send HTTP/1.1", "", SENDFILE, text);
        CHECK(is(502, "no\n"));
    }
    close_stage();
}

static void test_mentioned(void)
{
    static const struct tux_accel_rules none = {.redirect = false, .sendfile_root = TUX_NO_ROUTE},
                                        redirect = {.redirect = true, .sendfile_root = TUX_NO_ROUTE},
                                        sendfile = {.redirect = false, .sendfile_root = 3};
    static const struct {
        const char *fields;
        bool mentioned, redirects, sends;
    } cases[] = {
        {"", false, false, false},
        {"X-Accel-Redirect: /\r\n", true, true, false},
        {"A: b\r\nx-aCCEL-redirect:\r\n", true, true, false},
        {"A: b\r\nX-SENDFILE: x\r\nC: d\r\n", true, false, true},
        {"X-Sendfile:\r\nX-Accel-Redirect:\r\n", true, true, true},
        {"X-Accel-Redirec: /\r\nX-Accel-Redirects: /\r\n", false, false, false},
        {"A: X-Sendfile: x\r\n", false, false, false},
        {"X-Accel-Buffering: no\r\n", false, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const uint8_t *fields = (const uint8_t *)cases[i].fields;
        size_t len = strlen(cases[i].fields);
        CHECK(tux_accel_mentioned(fields, len) == cases[i].mentioned);
        CHECK(!tux_accel_applies(&none, fields, len));
        CHECK(tux_accel_applies(&redirect, fields, len) == cases[i].redirects);
        CHECK(tux_accel_applies(&sendfile, fields, len) == cases[i].sends);
    }
}

static void test_what_is_told_of_a_file(void)
{
    static const uint64_t key[2] = {1, 2};
    static const struct tux_check checks[] = {
        {.path = "", .expected = {.kind = TUX_FOUND_ABSENT}},
        {.path = "", .expected = {.kind = TUX_FOUND_FILE, .identity = {.mtime_ns = 77}}}};
    char head[1024], long_type[TUX_MAX_ACCEL_VALUE_BYTES + 2];
    struct tux_accel_facts facts;
    memset(long_type, 'x', sizeof long_type - 1);
    long_type[sizeof long_type - 1] = 0;
    for (int i = 0; i < 4; i++) {
        static const char *const types[] = {"text/a", "", NULL, NULL};
        const char *type = i == 3 ? long_type : types[i];
        int len = snprintf(head, sizeof head, "HTTP/1.1 200 OK: yes\r\nX-Etag: no\r\n%s%s%sETag: \"e\"\r\n",
                           type == NULL ? "" : "content-type: ", type == NULL ? "" : type, type == NULL ? "" : "\r\n");
        struct tux_plan_parts parts = {.status = 200,
                                       .head = head,
                                       .head_len = (uint32_t)len,
                                       .body = "b",
                                       .body_len = 1,
                                       .fd = -1,
                                       .checks = checks,
                                       .n_checks = i == 0 ? 2 : 1};
        struct tux_plan *plan = tux_plan_new(&parts, key);
        MUST(plan != NULL);
        tux_accel_describe(plan, &facts);
        CHECK(facts.etag_len == 3 && memcmp(facts.etag, "\"e\"", 3) == 0);
        CHECK_EQ(facts.type_len, i == 0 ? 6 : 0);
        CHECK(i != 0 || memcmp(facts.type, "text/a", 6) == 0);
        CHECK_EQ(facts.modified_ns, i == 0 ? 77 : 0);
        tux_plan_unref(plan);
    }
    struct tux_plan_parts bare = {.status = 404, .head = "HTTP/1.1 404 No\r\n", .head_len = 17, .fd = -1};
    struct tux_plan *plan = tux_plan_new(&bare, key);
    MUST(plan != NULL);
    tux_accel_describe(plan, &facts);
    CHECK(facts.type_len == 0 && facts.etag_len == 0 && facts.modified_ns == 0);
    tux_plan_unref(plan);
}

int main(void)
{
    test_mentioned();
    test_what_is_told_of_a_file();
    test_what_the_planner_is_asked();
    test_heads();
    test_what_cannot_be();
    test_rules();
    return check_report();
}
