/* SPDX-License-Identifier: MIT */
/* Folders that are known to be plain: what is, what is not, how long that holds. */
#include "check.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "folders.h"

#define LATER_MS 100000 /* the wall clock is shown this much later: all is settled by then */

static char base[] = "/tmp/tux-test-folders-XXXXXX";
static struct tux_roots *roots;
static struct tux_folders folders;
static const uint64_t key[2] = {1, 2};

static void must(int result)
{
    if (result < 0) {
        perror("test set-up");
        exit(2);
    }
}

static void put(const char *name)
{
    int fd = open(name, O_WRONLY | O_CREAT, 0644);
    must(fd);
    close(fd);
}

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool read_folder(const char *folder, int64_t later_ms, struct tux_identity *stamp)
{
    return tux_folder_read(roots, 0, folder, strlen(folder), 10, wall_ms() + later_ms, stamp);
}

static void test_what_is_plain(void)
{
    static const char *const odd_names[] = {"a.html.br", "a.html.zst", "a.html.gz", "A.HTML.GZ", "x.Br", ".gz",
                                            "a.html.z\xc5\xbft", "\xc3\xbc.gzip", "b\xff"};
    static const char *const even_names[] = {"a.html", "a.brx", "gz", "br", "a.gz.txt", "\xc3\xbc-and-more.html", ".hidden"};
    struct tux_identity stamp;
    must(mkdir("plain", 0755));
    must(mkdir("plain/inner", 0755));
    for (size_t i = 0; i < sizeof even_names / sizeof even_names[0]; i++) {
        char path[100];
        snprintf(path, sizeof path, "plain/%s", even_names[i]);
        put(path);
    }
    bool plain = read_folder("plain", LATER_MS, &stamp);
    if (!plain)
        printf("this file system does not tell changes: %s\n", base);
    CHECK(plain);
    CHECK(!read_folder("plain", 0, &stamp)); /* it has just changed */
    CHECK(!read_folder("none", LATER_MS, &stamp));
    CHECK(!read_folder("plain/a.html", LATER_MS, &stamp));
    CHECK(!read_folder("../", LATER_MS, &stamp));
    for (size_t i = 0; i < sizeof odd_names / sizeof odd_names[0]; i++) {
        char path[100];
        snprintf(path, sizeof path, "plain/%s", odd_names[i]);
        put(path);
        CHECK_ROW(!read_folder("plain", LATER_MS, &stamp), odd_names[i]);
        must(unlink(path));
        CHECK_ROW(read_folder("plain", LATER_MS, &stamp), odd_names[i]);
    }
    must(symlink("a.html", "plain/link"));
    CHECK(!read_folder("plain", LATER_MS, &stamp));
    must(unlink("plain/link"));
    must(mkfifo("plain/fifo", 0644));
    CHECK(!read_folder("plain", LATER_MS, &stamp));
    must(unlink("plain/fifo"));
    must(symlink("/etc", "out"));
    CHECK(!read_folder("out", LATER_MS, &stamp));
    must(unlink("out"));
}

static void test_how_long(void)
{
    struct tux_identity stamp;
    const char *path = "plain/a.html";
    size_t len;
    uint64_t now = 1000;
    struct tux_folder_slot *slot = tux_folders_slot(&folders, key, 0, path, strlen(path), &len);
    CHECK_EQ(len, 5);
    CHECK(!tux_folder_is_plain(slot, roots, 0, path, len, now));
    unsigned asked = 1;
    while (!tux_folder_is_due(slot, now) && asked < 100)
        asked++;
    CHECK_EQ(asked, TUX_FOLDER_AFTER_FILES);
    for (unsigned i = 0; i < 100; i++)
        CHECK(!tux_folder_is_due(slot, now)); /* once */
    CHECK(read_folder("plain", LATER_MS, &stamp));
    tux_folder_note(&folders, slot->hash, true, &stamp, now);
    CHECK(tux_folder_is_plain(slot, roots, 0, path, len, now));
    CHECK(slot == tux_folders_slot(&folders, key, 0, "plain/b.html", 12, &len) && slot->plain);
    now += TUX_FOLDER_FRESH_MS;
    CHECK(tux_folder_is_plain(slot, roots, 0, path, len, now)); /* looked at again */
    CHECK_EQ(slot->until_ms, now + TUX_FOLDER_FRESH_MS);
    put("plain/new.html");
    CHECK(tux_folder_is_plain(slot, roots, 0, path, len, now)); /* it is not looked at each time */
    now += TUX_FOLDER_FRESH_MS;
    CHECK(!tux_folder_is_plain(slot, roots, 0, path, len, now));
    CHECK(!tux_folder_is_plain(slot, roots, 0, path, len, now + 1));

    CHECK(read_folder("plain", LATER_MS, &stamp));
    tux_folder_note(&folders, slot->hash, true, &stamp, now);
    must(rename("plain", "moved"));
    now += TUX_FOLDER_FRESH_MS;
    CHECK(!tux_folder_is_plain(slot, roots, 0, path, len, now));
    must(rename("moved", "plain"));

    tux_folder_note(&folders, slot->hash, false, &stamp, now); /* odd: nothing is known */
    CHECK(!tux_folder_is_plain(tux_folders_slot(&folders, key, 0, path, strlen(path), &len), roots, 0, path, len, now) ||
          slot->plain);
}

static void test_slots(void)
{
    size_t len;
    struct tux_folder_slot *slot = tux_folders_slot(&folders, key, 0, "a.html", 6, &len);
    CHECK_EQ(len, 0); /* the root itself */
    CHECK(slot != tux_folders_slot(&folders, key, 1, "a.html", 6, &len) ||
          slot->hash != tux_folders_slot(&folders, key, 0, "a.html", 6, &len)->hash || !slot->plain);
    struct tux_identity stamp = {.dev = 1};
    slot = tux_folders_slot(&folders, key, 0, "x/a.html", 8, &len);
    uint64_t hash = slot->hash;
    char path[32];
    for (unsigned i = 0; i < 100 * TUX_FOLDER_SLOTS && slot->hash == hash; i++) { /* until another folder takes its slot */
        int n = snprintf(path, sizeof path, "%u/a.html", i);
        tux_folders_slot(&folders, key, 0, path, (size_t)n, &len);
    }
    CHECK(slot->hash != hash);
    tux_folder_note(&folders, hash, true, &stamp, 5); /* what was read for the one before comes too late */
    CHECK(!slot->plain);
}

int main(void)
{
    must(mkdtemp(base) == NULL ? -1 : 0);
    must(chdir(base));
    roots = tux_roots_new();
    CHECK(tux_roots_add(roots, base) == 0);
    test_what_is_plain();
    test_how_long();
    test_slots();
    tux_roots_free(roots);
    must(chdir("/"));
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", base);
    CHECK(system(command) == 0); /* NOLINT: a name of mkdtemp */
    return check_report();
}
