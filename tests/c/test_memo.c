/* SPDX-License-Identifier: MIT */
/* Plans and the memo: layout and content of plans, admission, budget, sharing, eviction. */
#include "check.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "memo.h"

#define MEBIBYTE (1024u * 1024u)

static const uint64_t key[2] = {1, 2};

/* Signatures as the scanner makes them: every bit random, equal for equal n. */
static struct tux_signature sign(uint64_t n)
{
    uint64_t words[2];
    for (uint64_t i = 0; i < 2; i++) { /* splitmix64 */
        uint64_t z = n * 2 + i + UINT64_C(0x9e3779b97f4a7c15) * (n * 2 + i + 1);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        words[i] = z ^ z >> 31;
    }
    return (struct tux_signature){words[0], words[1]};
}

static struct tux_plan_parts parts_of(const char *head, const char *body)
{
    return (struct tux_plan_parts){
        .status = 200,
        .flags = TUX_PLAN_REMEMBER,
        .head = head,
        .head_len = (uint32_t)strlen(head),
        .body = body,
        .body_len = strlen(body),
        .fd = -1,
        .expires_ms = UINT64_MAX,
    };
}

/* A plan whose text is its number, `size` bytes long. */
static struct tux_plan *numbered_plan(uint64_t n, size_t size)
{
    static char body[MEBIBYTE];
    memset(body, 'x', size);
    memcpy(body, &n, sizeof n);
    struct tux_plan_parts parts = parts_of("HTTP/1.1 200 OK\r\n", "");
    parts.body = body;
    parts.body_len = size;
    return tux_plan_new(&parts, key);
}

static int temporary_file(void)
{
    int fd = memfd_create("tux-test", MFD_CLOEXEC);
    if (fd < 0 || write(fd, "0123456789", 10) != 10)
        abort();
    return fd;
}

static struct tux_plan *file_plan(void)
{
    struct tux_plan_parts parts = parts_of("HTTP/1.1 200 OK\r\n", "");
    parts.fd = temporary_file();
    parts.body_len = 10;
    return tux_plan_new(&parts, key);
}

/* Insert as the engine does: it lets go of its own reference. */
static struct tux_plan *insert(struct tux_memo *memo, uint64_t n, struct tux_plan *plan)
{
    struct tux_plan *held = tux_memo_insert(memo, sign(n), plan);
    tux_plan_unref(plan);
    return held;
}

static bool found(struct tux_memo *memo, uint64_t n)
{
    return tux_memo_find(memo, sign(n)) != NULL;
}

/* -- plans ------------------------------------------------------------------------------------------------------ */

static void test_layout(void)
{
    struct tux_check checks[2] = {
        {.root = 3, .path = "index.html", .path_len = 10, .expected = {.kind = TUX_FOUND_FILE, .identity = {.ino = 7}}},
        {.root = 4, .path = "", .path_len = 0, .expected = {.kind = TUX_FOUND_FOLDER}},
    };
    struct tux_plan_parts parts = parts_of("HTTP/1.1 200 OK\r\nETag: \"a\"\r\n", "hello");
    parts.checks = checks;
    parts.n_checks = 2;
    struct tux_plan *plan = tux_plan_new(&parts, key);
    const char *sent = "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nhello";
    CHECK(plan->refs == 1 && plan->status == 200 && plan->date_s == 0 && plan->file == NULL);
    CHECK(memcmp(plan->head, sent, strlen(sent)) == 0); /* one send */
    CHECK(plan->body == plan->head + plan->head_len + TUX_DATE_LINE_BYTES + 2);
    CHECK(plan->n_checks == 2 && plan->checks[0].root == 3 && plan->checks[0].expected.identity.ino == 7);
    CHECK(plan->checks[0].path != checks[0].path && memcmp(plan->checks[0].path, "index.html", 10) == 0);
    CHECK(plan->checks[1].root == 4 && plan->checks[1].path_len == 0);
    CHECK(plan->bytes > sizeof *plan + sizeof checks + 10 + strlen(sent));
    CHECK(tux_plans_alive == 1);
    tux_plan_ref(plan);
    tux_plan_unref(plan);
    CHECK(tux_plans_alive == 1);
    tux_plan_unref(plan);
    CHECK(tux_plans_alive == 0);
}

static void test_bodies(void)
{
    struct tux_plan_parts parts = parts_of("HTTP/1.1 304 Not Modified\r\n", "");
    parts.flags |= TUX_PLAN_NO_BODY;
    parts.body = NULL;
    parts.body_len = 1000; /* for the head only */
    struct tux_plan *plan = tux_plan_new(&parts, key);
    CHECK(plan != NULL && plan->body == NULL && plan->body_len == 1000);
    tux_plan_unref(plan);

    parts.flags = 0;
    CHECK(tux_plan_new(&parts, key) == NULL); /* announced, but not there */

    parts.fd = temporary_file();
    int fd = parts.fd;
    parts.body_len = 4;
    parts.body_offset = 6;
    plan = tux_plan_new(&parts, key);
    CHECK(plan->file->fd == fd && plan->body == NULL && plan->file->identity.size == 10 && plan->file->identity.ino != 0);
    tux_plan_unref(plan);
    CHECK(fcntl(fd, F_GETFD) == -1); /* owned */

    CHECK(tux_plan_new(&parts, key) == NULL); /* its fd is closed: fstat fails */
    parts.fd = temporary_file();
    parts.body_len = UINT64_MAX;
    CHECK(tux_plan_new(&parts, key) == NULL && fcntl(parts.fd, F_GETFD) == -1); /* closed even on failure */
    CHECK(tux_plans_alive == 0);
}

static struct tux_plan *sealed(const struct tux_plan_parts *parts, const uint64_t with[2])
{
    struct tux_plan *plan = tux_plan_new(parts, with);
    CHECK(!plan->sealed);
    tux_plan_seal(plan);
    return plan;
}

/* Every part that a client or the freshness depends on must change the content; nothing else may. */
static void test_content(void)
{
    struct tux_check check = {.root = 1, .path = "ab", .path_len = 2, .expected = {.kind = TUX_FOUND_FILE, .identity = {.ino = 7}}};
    struct tux_plan_parts base = parts_of("HTTP/1.1 200 OK\r\n", "hello");
    base.checks = &check;
    base.n_checks = 1;
    struct tux_plan_parts variants[16];
    struct tux_check changed[6];
    unsigned n = 0;
    for (unsigned i = 0; i < 6; i++)
        changed[i] = check;
    changed[0].root = 2;
    changed[1].path = "ac";
    changed[2].path_len = 1;
    changed[3].expected.kind = TUX_FOUND_FOLDER;
    changed[4].expected.identity.ctime_ns = 1;
    changed[5].expected.error = 5;
    variants[n++] = base;
    for (unsigned i = 0; i < 6; i++) {
        variants[n] = base;
        variants[n++].checks = &changed[i];
    }
    variants[n] = base, variants[n++].n_checks = 0;
    variants[n] = base, variants[n++].status = 404;
    variants[n] = base, variants[n++].flags |= TUX_PLAN_EXACT;
    variants[n] = base, variants[n++].expires_ms = 5;
    variants[n] = base, variants[n++].head_len = 16;
    variants[n] = base, variants[n++].body = "hellO";
    variants[n] = base, variants[n++].body_len = 4;
    variants[n] = parts_of("HTTP/1.1 200 OK\r\nhello", ""), variants[n].checks = &check, variants[n++].n_checks = 1;

    struct tux_plan *plans[16];
    for (unsigned i = 0; i < n; i++)
        plans[i] = sealed(&variants[i], key);
    for (unsigned i = 0; i < n; i++) {
        struct tux_plan *again = sealed(&variants[i], key);
        CHECK(again->content.lo == plans[i]->content.lo && again->content.hi == plans[i]->content.hi);
        tux_plan_unref(again);
        for (unsigned j = 0; j < i; j++)
            CHECK(plans[i]->content.lo != plans[j]->content.lo && plans[i]->content.hi != plans[j]->content.hi);
    }
    const uint64_t other_key[2] = {1, 3};
    struct tux_plan *keyed = sealed(&base, other_key);
    CHECK(keyed->content.lo != plans[0]->content.lo);
    tux_plan_unref(keyed);
    for (unsigned i = 0; i < n; i++)
        tux_plan_unref(plans[i]);

    /* Descriptors of one file are equal; of two files, or two places in one, not. */
    struct tux_plan_parts file = parts_of("HTTP/1.1 200 OK\r\n", "");
    file.body_len = 4;
    int fd = temporary_file();
    struct tux_plan *twins[4];
    file.fd = dup(fd), twins[0] = sealed(&file, key);
    file.fd = fd, twins[1] = sealed(&file, key);
    file.fd = dup(fd), file.body_offset = 2, twins[2] = sealed(&file, key);
    file.fd = temporary_file(), file.body_offset = 0, twins[3] = sealed(&file, key);
    CHECK(twins[0]->content.lo == twins[1]->content.lo && twins[0]->content.hi == twins[1]->content.hi);
    CHECK(twins[0]->content.lo != twins[2]->content.lo && twins[0]->content.lo != twins[3]->content.lo);
    for (unsigned i = 0; i < 4; i++)
        tux_plan_unref(twins[i]);
    CHECK(tux_plans_alive == 0);
}

/* -- memo ------------------------------------------------------------------------------------------------------- */

static void test_insert_find_replace_remove(void)
{
    struct tux_memo *memo = tux_memo_new(MEBIBYTE, 10);
    CHECK(!found(memo, 1));
    struct tux_plan *first = numbered_plan(1, 100), *second = numbered_plan(2, 100);
    CHECK(tux_memo_insert(memo, sign(1), first) == first && first->refs == 2);
    CHECK(tux_memo_find(memo, sign(1)) == first && !found(memo, 2));
    struct tux_signature near = sign(1);
    near.hi ^= 1; /* both halves are compared */
    CHECK(tux_memo_find(memo, near) == NULL);

    CHECK(tux_memo_insert(memo, sign(1), second) == second);
    CHECK(first->refs == 1 && tux_memo_find(memo, sign(1)) == second);
    CHECK(tux_memo_insert(memo, sign(1), second) == second); /* by itself */
    struct tux_memo_stats stats = tux_memo_stats(memo);
    CHECK(stats.entries == 1 && stats.plans == 1 && stats.inserted == 3 && stats.evicted == 0);
    CHECK(stats.bytes > second->bytes && stats.bytes < second->bytes + 200);

    tux_memo_remove(memo, sign(1));
    tux_memo_remove(memo, sign(1));
    CHECK(!found(memo, 1) && second->refs == 1 && tux_memo_stats(memo).bytes == 0);
    insert(memo, 1, first);
    insert(memo, 2, second);
    tux_memo_clear(memo);
    stats = tux_memo_stats(memo);
    CHECK(stats.entries == 0 && stats.plans == 0 && stats.bytes == 0 && tux_plans_alive == 0);
    insert(memo, 1, numbered_plan(1, 100));
    tux_memo_free(memo);
    tux_memo_free(NULL);
    CHECK(tux_plans_alive == 0);
}

static void test_equal_plans_are_held_once(void)
{
    struct tux_memo *memo = tux_memo_new(MEBIBYTE, 10);
    struct tux_plan *first = numbered_plan(5, 10000), *twin = numbered_plan(5, 10000);
    CHECK(first != twin);
    tux_memo_insert(memo, sign(1), first);
    twin->fresh_until_ms = 77;
    CHECK(tux_memo_insert(memo, sign(2), twin) == first && twin->refs == 1);
    CHECK(first->fresh_until_ms == 77); /* the twin's checks are the same, and were made later */
    tux_plan_unref(twin);
    struct tux_memo_stats stats = tux_memo_stats(memo);
    CHECK(stats.entries == 2 && stats.plans == 1 && stats.bytes < 2 * first->bytes);
    CHECK(tux_memo_find(memo, sign(1)) == tux_memo_find(memo, sign(2)));
    tux_memo_remove(memo, sign(1));
    CHECK(tux_memo_find(memo, sign(2)) == first && tux_memo_stats(memo).plans == 1);
    tux_memo_remove(memo, sign(2));
    CHECK(first->refs == 1 && tux_memo_stats(memo).bytes == 0);

    tux_memo_insert(memo, sign(1), first); /* replaced by its equal */
    CHECK(insert(memo, 1, numbered_plan(5, 10000)) == first);
    tux_plan_unref(first);
    tux_memo_free(memo);
    CHECK(tux_plans_alive == 0);
}

static void test_admission(void)
{
    struct tux_memo *memo = tux_memo_new(MEBIBYTE, 10);
    CHECK(!tux_memo_admit(memo, sign(1)));
    CHECK(tux_memo_admit(memo, sign(1)) && tux_memo_admit(memo, sign(1)));
    CHECK(!tux_memo_admit(memo, sign(2)));
    CHECK(tux_memo_stats(memo).refused == 2);

    unsigned wrongly = 0, forgotten = 0;
    for (uint64_t n = 1000; n < 2000; n++) /* recent asks are known ... */
        wrongly += tux_memo_admit(memo, sign(n));
    for (uint64_t n = 1000; n < 2000; n++)
        forgotten += !tux_memo_admit(memo, sign(n));
    CHECK(wrongly == 0 && forgotten < 50);

    for (uint64_t n = 10000; n < 210000; n++) /* ... old ones are forgotten */
        wrongly += tux_memo_admit(memo, sign(n));
    CHECK(wrongly < 10);
    unsigned remembered = 0;
    for (uint64_t n = 1000; n < 2000; n++)
        remembered += tux_memo_admit(memo, sign(n));
    CHECK(remembered < 10);
    tux_memo_free(memo);
}

static void test_budget(void)
{
    uint64_t budget = MEBIBYTE;
    struct tux_memo *memo = tux_memo_new(budget, 10);
    bool over = false, missing = false;
    for (uint64_t n = 0; n < 5000; n++) {
        missing |= insert(memo, n, numbered_plan(n, 8 + n * 37 % 20000)) == NULL;
        over |= tux_memo_stats(memo).bytes > budget;
        missing |= !found(memo, n); /* what was just inserted is there */
    }
    struct tux_memo_stats stats = tux_memo_stats(memo);
    CHECK(!over && !missing);
    CHECK(stats.bytes > budget - 25000 && stats.evicted == 5000 - stats.entries && stats.plans == stats.entries);
    CHECK(tux_plans_alive == stats.plans);

    CHECK(insert(memo, 9000, numbered_plan(1, (size_t)budget / 4)) == NULL); /* over a quarter of the budget */
    CHECK(tux_memo_stats(memo).entries == stats.entries);
    CHECK(insert(memo, 9001, numbered_plan(1, (size_t)budget / 4 - 1000)) != NULL);
    CHECK(tux_memo_stats(memo).bytes <= budget);

    /* A small plan that is replaced by a large one. */
    for (uint64_t n = 0; n < 5000; n++)
        insert(memo, n, numbered_plan(n, 100));
    CHECK(insert(memo, 4999, numbered_plan(7, 200000)) != NULL && found(memo, 4999));
    CHECK(tux_memo_stats(memo).bytes <= budget);
    tux_memo_free(memo);

    memo = tux_memo_new(budget, 10); /* what cannot be remembered still replaces what was */
    insert(memo, 1, numbered_plan(1, 8));
    CHECK(insert(memo, 1, numbered_plan(2, (size_t)budget / 4)) == NULL && !found(memo, 1));
    tux_memo_free(memo);

    memo = tux_memo_new(100, 10); /* too small for anything */
    CHECK(insert(memo, 1, numbered_plan(1, 8)) == NULL);
    tux_memo_free(memo);
    CHECK(tux_plans_alive == 0);
}

/* 500 hot answers, each used now and then, against twenty times as many that are asked once or twice. */
static void test_flood_does_not_flush_what_is_hot(void)
{
    enum { HOT = 500, FLOOD = 200000 };
    struct tux_memo *memo = tux_memo_new(2 * MEBIBYTE, 10);
    for (uint64_t n = 0; n < HOT; n++)
        insert(memo, n, numbered_plan(n, 1000));
    unsigned misses = 0;
    for (uint64_t i = 0; i < FLOOD; i++) {
        misses += !found(memo, i % HOT);
        uint64_t signature = HOT + i;
        if (!tux_memo_admit(memo, sign(signature)) && i % 2 == 0)
            continue; /* asked once: it never gets in */
        if (tux_memo_admit(memo, sign(signature)))
            insert(memo, signature, numbered_plan(signature, 1000));
    }
    struct tux_memo_stats stats = tux_memo_stats(memo);
    CHECK(stats.evicted > FLOOD / 3); /* it was a flood */
    CHECK(misses == 0);
    unsigned once = 0;
    for (uint64_t i = 0; i < FLOOD; i += 2)
        once += found(memo, HOT + i);
    CHECK(once == 0);
    tux_memo_free(memo);
    CHECK(tux_plans_alive == 0);
}

static void test_unused_goes_before_used(void)
{
    struct tux_memo *memo = tux_memo_new(64 * 1024, 10);
    for (uint64_t n = 0; n < 8; n++)
        insert(memo, n, numbered_plan(n, 7000));
    CHECK(found(memo, 0) && found(memo, 2));
    insert(memo, 100, numbered_plan(100, 15000));
    CHECK(!found(memo, 1) && found(memo, 0) && found(memo, 2) && found(memo, 7));
    tux_memo_free(memo);
}

static void test_descriptors_are_bounded(void)
{
    struct tux_memo *memo = tux_memo_new(4 * MEBIBYTE, 16);
    for (uint64_t n = 0; n < 300; n++)
        insert(memo, n, numbered_plan(n, 1000)); /* not used since: only the bound on files may not touch them */
    for (uint64_t n = 1000; n < 2000; n++) {
        insert(memo, n, file_plan());
        found(memo, 1000); /* one of them is hot */
    }
    unsigned small = 0, files = 0;
    for (uint64_t n = 0; n < 300; n++)
        small += found(memo, n);
    for (uint64_t n = 1000; n < 2000; n++)
        files += found(memo, n);
    CHECK(small == 300 && files == 16 && found(memo, 1000) && found(memo, 1999));

    /* Entries that share one descriptor count once. */
    struct tux_plan *file = file_plan();
    for (uint64_t n = 3000; n < 3100; n++)
        tux_memo_insert(memo, sign(n), file);
    tux_plan_unref(file);
    CHECK(found(memo, 3000) && found(memo, 3099) && found(memo, 1000));

    /* From a file to memory and back, at one signature. */
    insert(memo, 1000, numbered_plan(1, 10));
    insert(memo, 1000, file_plan());
    CHECK(found(memo, 1000));
    tux_memo_remove(memo, sign(1000));
    tux_memo_free(memo);

    memo = tux_memo_new(MEBIBYTE, 0);
    CHECK(insert(memo, 1, file_plan()) == NULL);
    tux_memo_free(memo);
    CHECK(tux_plans_alive == 0);
}

/* One insertion never evicts without bound: thousands of entries may share the one plan that would have to go. */
static void test_work_of_an_insertion_is_bounded(void)
{
    struct tux_memo *memo = tux_memo_new(MEBIBYTE, 1);
    struct tux_plan *file = file_plan();
    for (uint64_t n = 0; n < 5000; n++)
        tux_memo_insert(memo, sign(n), file);
    tux_plan_unref(file);
    CHECK(tux_memo_stats(memo).entries == 5000 && tux_memo_stats(memo).plans == 1);
    unsigned tries = 1;
    while (insert(memo, 9999, file_plan()) == NULL && tries < 100)
        tries++;
    CHECK(tries > 2 && tries < 10 && found(memo, 9999)); /* each try made room */
    tux_memo_free(memo);
    CHECK(tux_plans_alive == 0);
}

/* Random calls against an array that knows what each signature may hold. */
static void test_against_a_model(void)
{
    enum { SIGNATURES = 200, CONTENTS = 60 };
    struct tux_memo *memo = tux_memo_new(256 * 1024, 8);
    uint64_t last[SIGNATURES] = {0}; /* content last inserted, 0: none */
    bool wrong = false;
    srand(1);
    for (int step = 0; step < 200000; step++) {
        uint64_t n = (uint64_t)(rand() % SIGNATURES);
        if (rand() % 4 == 0) {
            uint64_t content = 1 + (uint64_t)(rand() % CONTENTS);
            bool kept = insert(memo, n, content % 10 == 0 ? file_plan() : numbered_plan(content, 8 + content * 500)) != NULL;
            last[n] = !kept ? 0 : content;
            wrong |= !kept;
        } else if (rand() % 10 == 0) {
            tux_memo_remove(memo, sign(n));
            last[n] = 0;
        } else {
            struct tux_plan *plan = tux_memo_find(memo, sign(n));
            if (plan != NULL && plan->file != NULL)
                wrong |= last[n] % 10 != 0 || last[n] == 0;
            else if (plan != NULL)
                wrong |= memcmp(plan->body, &last[n], 8) != 0;
        }
        struct tux_memo_stats stats = tux_memo_stats(memo);
        wrong |= stats.bytes > 256 * 1024 || stats.plans != tux_plans_alive || stats.plans > stats.entries;
    }
    CHECK(!wrong && tux_memo_stats(memo).evicted > 1000);
    tux_memo_free(memo);
    CHECK(tux_plans_alive == 0);
}

/* Printed, not checked: time depends on the machine. */
static void report_speed(void)
{
    enum { ENTRIES = 20000, FINDS = 2000000 };
    struct tux_memo *memo = tux_memo_new(64 * MEBIBYTE, 10);
    static struct tux_signature signatures[ENTRIES];
    for (uint64_t n = 0; n < ENTRIES; n++) {
        signatures[n] = sign(n);
        insert(memo, n, numbered_plan(n, 500));
    }
    struct timespec from, to;
    uint64_t refs = 0;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (unsigned i = 0; i < FINDS; i++)
        refs += tux_memo_find(memo, signatures[i % 100]) != NULL;
    clock_gettime(CLOCK_MONOTONIC, &to);
    double ns = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
    printf("find: %.1f ns each of 100 hot entries among %d\n", ns / FINDS, ENTRIES);
    CHECK(refs == FINDS);
    tux_memo_free(memo);
}

int main(void)
{
    test_layout();
    test_bodies();
    test_content();
    test_insert_find_replace_remove();
    test_equal_plans_are_held_once();
    test_admission();
    test_budget();
    test_flood_does_not_flush_what_is_hot();
    test_unused_goes_before_used();
    test_descriptors_are_bounded();
    test_work_of_an_insertion_is_bounded();
    test_against_a_model();
    report_speed();
    return check_report();
}
