/* SPDX-License-Identifier: MIT */
/* Recipes: the table, and what is made of a file, or left to the planner; validators; files of the server's own. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "recipe.h"
#include "validator.h"

#define HEAD "HTTP/1.1 200 OK\r\nServer: tux\r\n"
#define MTIME_S 1700000000 /* Tue, 14 Nov 2023 22:13:20 GMT */

static char base[] = "/tmp/tux-test-recipe-XXXXXX";
static struct tux_roots *roots;
static struct tux_own own;
static const uint64_t key[2] = {1, 2};
static uint8_t scratch[65536];
static struct tux_wire_recipe usual = {.head_len = sizeof HEAD - 1,
                                       .sides = 1,
                                       .mode_allowed = UINT32_MAX,
                                       .small_bytes = 1000};

/* The engine reads files by this one: counted, and something may happen right after a call. */
static unsigned reads;
static void (*after_read)(void);

ssize_t preadv2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
    ssize_t n = syscall(SYS_preadv2, fd, pieces, (long)count, (long)offset, 0L, (long)flags);
    void (*then)(void) = after_read;
    int error = errno;
    reads++;
    after_read = NULL;
    if (then != NULL)
        then();
    errno = error;
    return n;
}

static void must(int result)
{
    if (result < 0) {
        perror("test set-up");
        exit(2);
    }
}

static void put_at(const char *name, const void *bytes, size_t len, time_t mtime)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    struct timespec times[2] = {{.tv_sec = mtime}, {.tv_sec = mtime}};
    must(fd);
    must((int)write(fd, bytes, len));
    must(futimens(fd, times));
    close(fd);
}

static void put(const char *name, const char *text)
{
    put_at(name, text, strlen(text), MTIME_S);
}

static struct tux_recipes *recipes_with(const struct tux_wire_recipe *say)
{
    struct tux_recipes *recipes = tux_recipes_new();
    CHECK(tux_recipes_add(recipes, 7, "html", 4, TUX_PLAN_REMEMBER, say, (const uint8_t *)HEAD));
    return recipes;
}

static uint64_t plain_until_ms, plain_dev; /* what the maker is told of folders */
static int64_t later_ms;                   /* ... and by how much its clock is ahead of ours */

static enum tux_recipe_result make_as(const struct tux_wire_recipe *say, const char *path, bool is_head, bool cached_only,
                                      struct tux_plan **plan)
{
    struct tux_recipes *recipes = recipes_with(say);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const struct tux_recipe_tools tools = {
        .roots = roots, .own = &own, .key = key, .scratch = scratch, .scratch_bytes = sizeof scratch};
    const struct tux_recipe_use use = {.recipe = tux_recipes_find(recipes, 7, "html", 4),
                                       .path = path,
                                       .path_len = strlen(path),
                                       .is_head = is_head,
                                       .cached_only = cached_only,
                                       .plain_until_ms = plain_until_ms,
                                       .plain_dev = plain_dev,
                                       .now_ms = 10,
                                       .wall_ms = (int64_t)now.tv_sec * 1000 + later_ms};
    enum tux_recipe_result result = tux_recipe_make(&use, &tools, plan);
    CHECK((result == TUX_RECIPE_MADE) == (*plan != NULL));
    tux_recipes_free(recipes);
    return result;
}

static void unfit(const struct tux_wire_recipe *say, const char *path)
{
    struct tux_plan *plan;
    CHECK_ROW(make_as(say, path, false, false, &plan) == TUX_RECIPE_UNFIT, path);
    if (plan != NULL)
        tux_plan_unref(plan);
}

static void is_made(const struct tux_wire_recipe *say, const char *path, bool is_head, const char *fields,
                    const char *body)
{
    struct tux_plan *plan;
    char head[1000];
    int len = snprintf(head, sizeof head, HEAD "%s", fields);
    if (!CHECK_ROW(make_as(say, path, is_head, false, &plan) == TUX_RECIPE_MADE, path))
        return;
    CHECK_EQ(plan->status, 200);
    CHECK_EQ(plan->flags, TUX_PLAN_REMEMBER | (is_head ? TUX_PLAN_NO_BODY : 0));
    CHECK_EQ(plan->head_len, len);
    CHECK_ROW(plan->head_len == (uint32_t)len && memcmp(plan->head, head, (size_t)len) == 0, fields);
    if (body != NULL) {
        CHECK_EQ(plan->body_len, strlen(body));
        CHECK(plan->body_len == 0 || memcmp(plan->body, body, strlen(body)) == 0);
    }
    CHECK_EQ(plan->n_checks, say->sides ? 4 : 1);
    CHECK(plan->checks[0].expected.kind == TUX_FOUND_FILE);
    CHECK(strlen(path) == plan->checks[0].path_len && memcmp(plan->checks[0].path, path, strlen(path)) == 0);
    for (uint32_t i = 1; i < plan->n_checks; i++)
        CHECK(plan->checks[i].expected.kind == TUX_FOUND_ABSENT && plan->checks[i].path_len > strlen(path));
    tux_plan_unref(plan);
}

static void test_what_is_made(void)
{
    struct tux_wire_recipe large = usual, alone = usual;
    large.small_bytes = 2;
    alone.sides = 0;
    put("a.html", "abc");
    put("empty.html", "");
    put("side.html", "side");
    put("side.html.gz", "gz");
    is_made(&usual, "a.html", false,
            "ETag: \"44bc2cf5ad770999\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: 3\r\n", "abc");
    is_made(&usual, "a.html", true,
            "ETag: \"44bc2cf5ad770999\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: 3\r\n", "");
    is_made(&usual, "empty.html", false,
            "ETag: \"ef46db3751d8e999\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: 0\r\n", "");
    is_made(&large, "a.html", false,
            "ETag: \"3-17979cfe362a0000\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: 3\r\n", NULL);
    is_made(&large, "a.html", true,
            "ETag: \"3-17979cfe362a0000\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: 3\r\n", "");
    is_made(&alone, "side.html", false,
            "ETag: \"b03ee15d88585247\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: 4\r\n", "side");
    unfit(&usual, "side.html");
}

static void test_what_is_left(void)
{
    struct tux_wire_recipe strict = usual, some = usual, huge = usual, nowhere = usual;
    char path[TUX_RECIPE_PATH_BYTES + 2];
    static char bytes[70000];
    strict.mode_forbidden = 0111;
    some.mode_allowed = 04;
    huge.small_bytes = 100000;
    nowhere.root = 9;
    must(mkdir("folder.html", 0755));
    must(mkfifo("fifo.html", 0644));
    must(symlink("/etc/passwd", "out.html"));
    must(symlink("../", "up"));
    must(symlink("a.html", "in.html"));
    must(symlink("loop.html", "loop.html"));
    put_at("new.html", "new", 3, time(NULL) + 1);
    put_at("old.html", "old", 3, -5);
    put_at("huge.html", bytes, sizeof bytes, MTIME_S);
    put("run.html", "run");
    must(chmod("run.html", 0755));
    put("secret.html", "secret");
    must(chmod("secret.html", 0600));
    put("own.html", "own");
    struct stat st;
    must(stat("own.html", &st));
    CHECK(tux_own_add(&own, st.st_dev, st.st_ino));

    static const char *const paths[] = {"none.html", "folder.html", "fifo.html", "out.html",      "up/etc.html",
                                        "loop.html", "new.html",    "old.html",  "a.html/b.html", "own.html",
                                        "",          "../a.html",   "/a.html"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        unfit(&usual, paths[i]);
    unfit(&strict, "run.html");
    unfit(&some, "secret.html");
    unfit(&huge, "huge.html"); /* more than what the maker has room for */
    unfit(&nowhere, "a.html");
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = 0;
    unfit(&usual, path);
    is_made(&usual, "in.html", false,
            "ETag: \"44bc2cf5ad770999\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: 3\r\n", "abc");
    must(unlink("up"));
}

static void test_without_blocking(void)
{
    struct tux_plan *plan;
    put("warm.html", "abc");
    make_as(&usual, "warm.html", false, false, &plan);
    if (plan != NULL)
        tux_plan_unref(plan);
    enum tux_recipe_result result = make_as(&usual, "warm.html", false, true, &plan);
    CHECK(result == TUX_RECIPE_MADE || result == TUX_RECIPE_BLOCKS); /* it depends on the file system */
    if (plan != NULL) {
        CHECK_EQ(plan->body_len, 3);
        tux_plan_unref(plan);
    }
}

/* In a folder that is known to be plain nothing is looked for, and yet nothing else than a file is sent. */
static void test_in_a_plain_folder(void)
{
    plain_until_ms = 11;
    is_made(&usual, "side.html", false,
            "ETag: \"b03ee15d88585247\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: 4\r\n", "side");
    static const char *const paths[] = {"none.html", "folder.html", "fifo.html", "out.html", "new.html", "own.html"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        unfit(&usual, paths[i]);
    plain_until_ms = 10; /* no longer */
    unfit(&usual, "side.html");
    plain_until_ms = 0;
}

static void check_read(const struct tux_wire_recipe *say, const char *path, const char *body, size_t len, unsigned expected)
{
    struct tux_plan *plan;
    reads = 0;
    if (!CHECK_ROW(make_as(say, path, false, false, &plan) == TUX_RECIPE_MADE, path))
        return;
    CHECK(plan->body_len == len && memcmp(plan->body, body, len) == 0);
    CHECK_EQ(reads, expected);
    tux_plan_unref(plan);
}

/* Neither the size nor the mtime shows it. */
static void rewrite(void)
{
    put("changing.html", "two");
}

static void rewrite_and_add(void)
{
    put("changing.html", "three");
}

static void rewrite_twice(void)
{
    rewrite();
    after_read = rewrite_and_add;
}

static void cut(void)
{
    must(truncate("changing.html", 1));
}

/* What was read before the only look is believed when nothing can have changed in between. */
static void test_one_look(void)
{
    struct tux_wire_recipe larger = usual;
    static char bytes[TUX_FIRST_READ_BYTES + 1000];
    struct tux_plan *plan;
    struct stat st;
    larger.small_bytes = sizeof bytes;
    memset(bytes, 'x', sizeof bytes);
    put("changing.html", "one");
    put_at("larger.html", bytes, sizeof bytes, MTIME_S);
    must(stat("changing.html", &st));
    plain_until_ms = 11;
    plain_dev = st.st_dev;
    later_ms = 3600 * 1000;
    check_read(&usual, "changing.html", "one", 3, 1);
    check_read(&larger, "larger.html", bytes, sizeof bytes, 2); /* and its rest */
    plain_dev++; /* a file from elsewhere was mounted there: its clock may be another one */
    check_read(&usual, "changing.html", "one", 3, 2);
    plain_dev--;

    later_ms = -3600 * 1000; /* its ctime is too young, however slow this machine is */
    check_read(&usual, "changing.html", "one", 3, 2);
    check_read(&larger, "larger.html", bytes, sizeof bytes, 2);
    after_read = rewrite;
    check_read(&usual, "changing.html", "two", 3, 2);
    after_read = cut;
    unfit(&usual, "changing.html"); /* its mtime, too */
    put("changing.html", "one");
    after_read = rewrite_twice;
    CHECK(make_as(&usual, "changing.html", false, false, &plan) == TUX_RECIPE_UNFIT);
    CHECK(after_read == NULL);
    plain_until_ms = plain_dev = 0;
    later_ms = 0;
}

static void test_table(void)
{
    struct tux_recipes *recipes = tux_recipes_new();
    struct tux_wire_recipe say = usual;
    const uint8_t *head = (const uint8_t *)HEAD;
    char name[16];
    CHECK(tux_recipes_find(recipes, 7, "html", 4) == NULL);
    CHECK(tux_recipes_add(recipes, 7, "html", 4, 1, &say, head));
    CHECK(!tux_recipes_add(recipes, 7, "html", 4, 1, &say, head)); /* known */
    CHECK(tux_recipes_find(recipes, 7, "HTML", 4) == NULL);
    CHECK(tux_recipes_find(recipes, 8, "html", 4) == NULL);
    CHECK(tux_recipes_find(recipes, 7, "htm", 3) == NULL);
    say.sides = 0;
    struct tux_recipe *before = tux_recipe_ref(tux_recipes_find(recipes, 7, "html", 4));
    CHECK(tux_recipes_add(recipes, 7, "html", 4, 1, &say, head));
    CHECK(tux_recipes_find(recipes, 7, "html", 4)->say.sides == 0);
    CHECK(before->say.sides == 1); /* whoever uses it still has it */
    tux_recipe_unref(before);
    char large[TUX_RECIPE_KEY_BYTES + 1];
    memset(large, 'x', sizeof large);
    CHECK(!tux_recipes_add(recipes, 7, large, sizeof large, 1, &say, head));
    CHECK(tux_recipes_add(recipes, 7, large, sizeof large - 1, 1, &say, head));
    CHECK(tux_recipes_add(recipes, 7, "", 0, 1, &say, head));
    CHECK(tux_recipes_find(recipes, 7, "", 0) != NULL);
    for (unsigned i = 0; i < 4 * TUX_RECIPE_SLOTS; i++) { /* more than there is room for: what comes last is there */
        int len = snprintf(name, sizeof name, "%u", i);
        CHECK(tux_recipes_add(recipes, i, name, (size_t)len, 1, &say, head));
        CHECK(tux_recipes_find(recipes, i, name, (size_t)len) != NULL);
    }
    say.head_len = TUX_RECIPE_HEAD_BYTES + 1;
    CHECK(!tux_recipes_add(recipes, 7, "x", 1, 1, &say, head));
    tux_recipes_free(recipes);
}

static void test_keys(void)
{
    static const struct {
        const char *path, *keys[TUX_RECIPE_SCOPES];
    } rows[] = {
        {"a.css", {"0/css", "", "4/css"}},
        {"a/b.css", {"0/css", "2a/css", "4a//css"}},
        {"a/b/c.CSS", {"0/CSS", "2a/CSS", "4a/b//CSS"}},
        {"a/b/c", {"0/", "2a/", "4a/b//"}},
        {"a/x.3f2a1b9c.js", {"1/js", "3a/js", "5a//js"}},
        {"a.b/x", {"0/", "2a.b/", "4a.b//"}},
        {"a/b.0123456789abcdef", {"", "", ""}}, /* its extension is too long */
    };
    char found[TUX_RECIPE_KEY_BYTES];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (enum tux_recipe_scope scope = TUX_RECIPE_ALL; scope < TUX_RECIPE_SCOPES; scope++) {
            size_t len = tux_recipe_key(scope, rows[i].path, strlen(rows[i].path), found);
            CHECK_ROW(len == strlen(rows[i].keys[scope]) && memcmp(found, rows[i].keys[scope], len) == 0, rows[i].path);
        }
    char path[2 * TUX_RECIPE_KEY_BYTES];
    memset(path, 'x', sizeof path);
    path[TUX_RECIPE_KEY_BYTES - 2] = '/'; /* a folder of so many bytes fits, with the two around it, but no extension */
    CHECK(tux_recipe_key(TUX_RECIPE_BELOW, path, sizeof path, found) == TUX_RECIPE_KEY_BYTES);
    path[sizeof path - 2] = '.';
    CHECK(tux_recipe_key(TUX_RECIPE_BELOW, path, sizeof path, found) == 0);
    CHECK(tux_recipe_key(TUX_RECIPE_ALL, path, sizeof path, found) == 3);
}

static void test_extensions(void)
{
    static const struct {
        const char *path, *extension;
    } rows[] = {{"a.html", "html"}, {"/a/b.html", "html"}, {"a.tar.gz", "gz"}, {"/a.b/c", ""}, {"a", ""},
                {"", ""},           {"/", ""},             {"a.", ""},         {".x", "x"},    {"/a/.x/", ""}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t len;
        const char *found = tux_recipe_extension(rows[i].path, strlen(rows[i].path), &len);
        CHECK_ROW(len == strlen(rows[i].extension) && memcmp(found, rows[i].extension, len) == 0, rows[i].path);
    }
}

static void test_validators(void)
{
    /* Values of the reference implementation; longer contents: tests/unit/planner/test_recipe.py. */
    static const struct {
        const char *content, *tag;
    } rows[] = {{"", "ef46db3751d8e999"},
                {"a", "d24ec4f1a98c6e5b"},
                {"abc", "44bc2cf5ad770999"},
                {"Nobody inspects the spammish repetition", "fbcea83c8a378bf1"}};
    char date[TUX_HTTP_DATE_BYTES], tag[TUX_MAX_STATE_TAG_BYTES], content[TUX_CONTENT_TAG_BYTES];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tux_content_tag(rows[i].content, strlen(rows[i].content), content);
        CHECK_ROW(memcmp(content, rows[i].tag, sizeof content) == 0, rows[i].content);
    }
    tux_http_date(784111777, date);
    CHECK(memcmp(date, "Sun, 06 Nov 1994 08:49:37 GMT", sizeof date) == 0);
    CHECK_EQ(tux_state_tag(UINT64_MAX, INT64_MIN, tag), TUX_MAX_STATE_TAG_BYTES);
}

static void *add_own(void *arg)
{
    for (uint64_t i = 1; i <= 1000; i++)
        CHECK(tux_own_add(arg, 1, i));
    return NULL;
}

static void test_own(void)
{
    struct tux_own list = {.now = NULL};
    pthread_t thread;
    CHECK(!tux_own_has(&list, 1, 1));
    must(-pthread_create(&thread, NULL, add_own, &list));
    while (!tux_own_has(&list, 1, 1000)) { /* ends: it is added */
    }
    pthread_join(thread, NULL);
    for (uint64_t i = 1; i <= 1000; i++)
        CHECK(tux_own_has(&list, 1, i) && !tux_own_has(&list, 2, i));
    CHECK(tux_own_add(&list, 1, 5));
    tux_own_free(&list);
}

int main(void)
{
    must(mkdtemp(base) == NULL ? -1 : 0);
    must(chdir(base));
    roots = tux_roots_new();
    CHECK(tux_roots_add(roots, base) == 0);
    test_what_is_made();
    test_what_is_left();
    test_without_blocking();
    test_in_a_plain_folder();
    test_one_look();
    test_table();
    test_keys();
    test_extensions();
    test_validators();
    test_own();
    tux_roots_free(roots);
    tux_own_free(&own);
    CHECK_EQ(tux_plans_alive, 0);
    must(chdir("/"));
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", base);
    CHECK(system(command) == 0); /* NOLINT: a name of mkdtemp */
    return check_report();
}
