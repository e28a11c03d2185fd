/* SPDX-License-Identifier: MIT */
/* Files below roots: kinds, identities, escapes, roots that move. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "files.h"

static char base[] = "/tmp/tux-test-files-XXXXXX";
static struct tux_roots *roots;
static int root;          /* <base>/root */
static uint64_t now = 10; /* the clock that the table is shown, in ms */

static void must(int result)
{
    if (result < 0) {
        perror("test set-up");
        exit(2);
    }
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    must(fd);
    must((int)write(fd, text, strlen(text)));
    close(fd);
}

static struct tux_found look(const char *path)
{
    struct tux_found found;
    memset(&found, 0xa5, sizeof found);
    CHECK(tux_files_look(roots, (uint32_t)root, path, strlen(path), now, false, &found));
    return found;
}

/* Opening must agree with looking; returns the descriptor. */
static int try_open(const char *path, struct tux_found *found)
{
    memset(found, 0xa5, sizeof *found);
    int fd = tux_files_open(roots, (uint32_t)root, path, strlen(path), now, found);
    CHECK((fd >= 0) == (found->kind == TUX_FOUND_FILE));
    return fd;
}

static void expect(const char *path, enum tux_found_kind kind)
{
    struct tux_found seen = look(path), opened;
    if (seen.kind != kind)
        fprintf(stderr, "%s: kind %d, error %d; expected kind %d\n", path, seen.kind, seen.error, kind);
    CHECK(seen.kind == kind);
    int fd = try_open(path, &opened);
    CHECK(tux_found_equal(&seen, &opened));
    if (fd >= 0)
        close(fd);
    if (kind == TUX_FOUND_ABSENT || kind == TUX_FOUND_ESCAPE)
        CHECK(seen.identity.ino == 0 && seen.identity.dev == 0 && seen.identity.size == 0);
    CHECK((seen.error != 0) == (kind == TUX_FOUND_DENIED || kind == TUX_FOUND_ESCAPE || kind == TUX_FOUND_ERROR));
}

static void test_kinds(void)
{
    expect("a.txt", TUX_FOUND_FILE);
    expect("sub/b.txt", TUX_FOUND_FILE);
    expect("sub/../a.txt", TUX_FOUND_FILE);
    expect("", TUX_FOUND_FOLDER);
    expect("sub", TUX_FOUND_FOLDER);
    expect("sub/", TUX_FOUND_FOLDER);
    expect("missing", TUX_FOUND_ABSENT);
    expect("missing/x", TUX_FOUND_ABSENT);
    expect("a.txt/", TUX_FOUND_ABSENT);
    expect("a.txt/x", TUX_FOUND_ABSENT);
    expect("fifo", TUX_FOUND_SPECIAL);
    expect("socket", TUX_FOUND_SPECIAL);

    char longest[TUX_MAX_PATH_BYTES + 2];
    memset(longest, 'x', sizeof longest);
    longest[300] = 0; /* one name over NAME_MAX */
    expect(longest, TUX_FOUND_ABSENT);
    longest[300] = 'x';
    longest[TUX_MAX_PATH_BYTES + 1] = 0;
    expect(longest, TUX_FOUND_ABSENT);
    for (size_t i = 0; i < TUX_MAX_PATH_BYTES - 5; i += 2)
        memcpy(longest + i, "./", 2);
    memcpy(longest + TUX_MAX_PATH_BYTES - 5, "a.txt", 6);
    expect(longest, TUX_FOUND_FILE); /* 4095 bytes */

    struct tux_found found;
    CHECK(tux_files_look(roots, (uint32_t)root, "a.txt\0x", 7, now, false, &found));
    CHECK(found.kind == TUX_FOUND_ABSENT);
    CHECK(tux_files_look(roots, 999, "a.txt", 5, now, false, &found));
    CHECK(found.kind == TUX_FOUND_ERROR && found.error == EBADF);
    CHECK(tux_files_open(roots, 999, "a.txt", 5, now, &found) == -1);
    CHECK(found.kind == TUX_FOUND_ERROR && found.error == EBADF);
}

static void test_links(void)
{
    expect("link-inside", TUX_FOUND_FILE);
    expect("sub/link-up", TUX_FOUND_FILE); /* ../a.txt: relative, and stays inside */
    expect("link-sub/b.txt", TUX_FOUND_FILE);
    expect("dangling", TUX_FOUND_ABSENT);
}

/* "A//B": B below A, which nothing leaves, though it would stay inside the root. */
static void test_nothing_leaves_a_folder(void)
{
    must(mkdir("host", 0755));
    must(mkdir("host/inner", 0755));
    put("host/own.txt", "own");
    must(symlink("../a.txt", "host/up.txt"));
    must(symlink("own.txt", "host/same.txt"));
    must(symlink("..", "host/above"));
    must(symlink("host", "alias"));
    must(symlink("/", "outside"));
    expect("host/up.txt", TUX_FOUND_FILE);
    expect("host//own.txt", TUX_FOUND_FILE);
    expect("host//same.txt", TUX_FOUND_FILE);
    expect("alias//own.txt", TUX_FOUND_FILE);
    expect("host//up.txt", TUX_FOUND_ESCAPE);
    expect("host//above/a.txt", TUX_FOUND_ESCAPE);
    expect("host//../a.txt", TUX_FOUND_ESCAPE);
    expect("host///a.txt", TUX_FOUND_ESCAPE); /* what follows the mark is absolute */
    expect("outside//etc", TUX_FOUND_ESCAPE);
    expect("host//none", TUX_FOUND_ABSENT);
    expect("none//own.txt", TUX_FOUND_ABSENT);
    expect("a.txt//own.txt", TUX_FOUND_ABSENT);
    expect("//own.txt", TUX_FOUND_ABSENT);
    expect("host//", TUX_FOUND_FOLDER);
    expect("host//inner", TUX_FOUND_FOLDER);
    struct tux_found whole = look("host"), marked = look("host//");
    CHECK(tux_found_equal(&whole, &marked));
    int fd = tux_files_open_folder(roots, (uint32_t)root, "host//", 6, now, &marked);
    CHECK(fd >= 0 && tux_found_equal(&whole, &marked));
    close(fd);
    CHECK(tux_files_open_folder(roots, (uint32_t)root, "host//above/", 12, now, &marked) == -1);
    CHECK(marked.kind == TUX_FOUND_ESCAPE);
    must(unlink("host/up.txt"));
    must(unlink("host/same.txt"));
    must(unlink("host/above"));
    must(unlink("host/own.txt"));
    must(rmdir("host/inner"));
    must(rmdir("host"));
    must(unlink("alias"));
    must(unlink("outside"));
}

static void test_nothing_leaves_the_root(void)
{
    static const char *const escapes[] = {"..",          "../secret",         "sub/../../secret",  "/etc/passwd",
                                          "link-secret", "link-absolute",     "link-folder/secret", "loop",
                                          "/",           "link-absolute-self"};
    for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++)
        expect(escapes[i], TUX_FOUND_ESCAPE);

    int proc = tux_roots_add(roots, "/proc/self");
    struct tux_found found;
    CHECK(tux_files_look(roots, (uint32_t)proc, "fd/0", 4, now, false, &found)); /* a magic link */
    CHECK(found.kind == TUX_FOUND_ESCAPE && found.error == ELOOP);
    CHECK(tux_files_look(roots, (uint32_t)proc, "root/etc", 8, now, false, &found));
    CHECK(found.kind == TUX_FOUND_ESCAPE && found.error == ELOOP);
}

static void test_denied(void)
{
    if (geteuid() == 0)
        must(seteuid(65534)); /* root may read everything */
    struct tux_found found;
    CHECK(try_open("unreadable", &found) == -1);
    CHECK(found.kind == TUX_FOUND_DENIED && found.error == EACCES && found.identity.ino == 0);
    expect("locked/x", TUX_FOUND_DENIED);
    if (getuid() == 0)
        must(seteuid(0));
}

static void test_open_descriptor(void)
{
    struct tux_found found;
    struct tux_identity identity;
    char text[16] = {0};
    int fd = try_open("sub/b.txt", &found);
    CHECK(fd >= 0 && found.identity.size == 4 && found.error == 0);
    CHECK(read(fd, text, sizeof text) == 4 && strcmp(text, "beta") == 0);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
    CHECK(tux_files_identity(fd, &identity) && tux_identity_equal(&identity, &found.identity));
    close(fd);
    CHECK(!tux_files_identity(fd, &identity));
}

/* A folder and nothing else; the same rules as for files. */
static void test_open_folder(void)
{
    static const struct {
        const char *path;
        enum tux_found_kind kind;
    } cases[] = {{"", TUX_FOUND_FOLDER},          {"sub", TUX_FOUND_FOLDER},       {"sub/", TUX_FOUND_FOLDER},
                 {"link-sub/", TUX_FOUND_FOLDER}, {"a.txt", TUX_FOUND_ABSENT},     {"a.txt/", TUX_FOUND_ABSENT},
                 {"fifo", TUX_FOUND_ABSENT},      {"missing", TUX_FOUND_ABSENT},   {"..", TUX_FOUND_ESCAPE},
                 {"loop", TUX_FOUND_ESCAPE},      {"link-folder/", TUX_FOUND_ESCAPE}};
    struct tux_found found;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(&found, 0xa5, sizeof found);
        int fd = tux_files_open_folder(roots, (uint32_t)root, cases[i].path, strlen(cases[i].path), now, &found);
        CHECK(found.kind == cases[i].kind && (fd >= 0) == (found.kind == TUX_FOUND_FOLDER));
        if (fd < 0)
            continue;
        struct tux_found seen = look(cases[i].path);
        CHECK(tux_found_equal(&seen, &found) && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        close(fd);
    }
    CHECK(tux_files_open_folder(roots, 999, "sub", 3, now, &found) == -1);
    CHECK(found.kind == TUX_FOUND_ERROR && found.error == EBADF);
}

static void test_identity_tells_states_apart(void)
{
    struct tux_found before = look("a.txt"), folder = look("sub"), root_before = look("");
    struct tux_found again = look("a.txt");
    CHECK(tux_found_equal(&before, &again));
    must(chmod("a.txt", 0600));
    struct tux_found mode = look("a.txt");
    CHECK(!tux_found_equal(&before, &mode));
    must(chmod("a.txt", 0644));

    put("a.new", "alpha"); /* same text and size, another file */
    must(rename("a.new", "a.txt"));
    struct tux_found replaced = look("a.txt");
    CHECK(replaced.identity.ino != before.identity.ino && !tux_found_equal(&before, &replaced));
    put("a.txt", "alphabet");
    struct tux_found grown = look("a.txt");
    CHECK(grown.identity.ino == replaced.identity.ino && grown.identity.size == 8);
    CHECK(!tux_found_equal(&replaced, &grown));

    /* A folder stays the same when its entries change. */
    put("sub/new", "");
    struct tux_found folder_after = look("sub"), root_after = look("");
    CHECK(tux_found_equal(&folder, &folder_after) && tux_found_equal(&root_before, &root_after));
    CHECK(folder.identity.mtime_ns == 0 && folder.identity.size == 0);
    must(unlink("sub/new"));

    must(unlink("a.txt"));
    struct tux_found absent = look("a.txt"), other = look("nothing");
    CHECK(!tux_found_equal(&grown, &absent) && tux_found_equal(&absent, &other));
    put("a.txt", "alpha");

    struct tux_found emfile = {.kind = TUX_FOUND_ERROR, .error = EMFILE}, eio = {.kind = TUX_FOUND_ERROR, .error = EIO};
    CHECK(!tux_found_equal(&emfile, &eio) && tux_found_equal(&eio, &eio));
}

static void test_cached_looks(void)
{
    struct tux_found plain = look("sub/b.txt"), cached;
    memset(&cached, 0xa5, sizeof cached);
    /* Just looked at: the kernel has it cached, unless it is older than 5.12 or short of memory. */
    if (tux_files_look(roots, (uint32_t)root, "sub/b.txt", 9, now, true, &cached))
        CHECK(tux_found_equal(&plain, &cached));
    else
        printf("cached looks are not available here\n");
    if (tux_files_look(roots, (uint32_t)root, "link-absolute", 13, now, true, &cached))
        CHECK(cached.kind == TUX_FOUND_ESCAPE);

    /* Never looked at before: a cached look may only say so, or tell the truth. */
    put("cold.txt", "cold");
    for (int i = 0; i < 2; i++) {
        if (tux_files_look(roots, (uint32_t)root, "cold.txt", 8, now, true, &cached))
            CHECK(cached.kind == TUX_FOUND_FILE && cached.identity.size == 4);
    }
    now += TUX_ROOT_REOPEN_MS; /* the root is opened anew by a cached walk, too */
    if (tux_files_look(roots, (uint32_t)root, "sub/b.txt", 9, now, true, &cached))
        CHECK(tux_found_equal(&plain, &cached));
}

static void test_root_that_moves(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s/current", base);
    int current = tux_roots_add(roots, path);
    CHECK(current >= 0);
    struct tux_found found;
    CHECK(tux_files_look(roots, (uint32_t)current, "v", 1, now, false, &found) && found.kind == TUX_FOUND_ABSENT);

    must(symlink("release1", "../current"));
    CHECK(tux_files_look(roots, (uint32_t)current, "v", 1, now, false, &found)); /* appears at once */
    CHECK(found.kind == TUX_FOUND_FILE && found.identity.size == 1);

    must(symlink("release2", "../next"));
    must(rename("../next", "../current"));
    CHECK(tux_files_look(roots, (uint32_t)current, "v", 1, now + TUX_ROOT_REOPEN_MS - 1, false, &found));
    CHECK(found.identity.size == 1);
    now += TUX_ROOT_REOPEN_MS;
    int fd = tux_files_open(roots, (uint32_t)current, "v", 1, now, &found);
    CHECK(fd >= 0 && found.identity.size == 2);
    close(fd);

    must(unlink("../current"));
    now += TUX_ROOT_REOPEN_MS;
    CHECK(tux_files_look(roots, (uint32_t)current, "v", 1, now, false, &found) && found.kind == TUX_FOUND_ABSENT);
    must(symlink("root/a.txt", "../current")); /* a root that is not a folder */
    CHECK(tux_files_look(roots, (uint32_t)current, "", 0, now, false, &found) && found.kind == TUX_FOUND_ABSENT);
    must(unlink("../current"));
}

static void test_errors_and_bounds(void)
{
    char too_long[TUX_MAX_PATH_BYTES + 2];
    memset(too_long, '/', sizeof too_long);
    too_long[sizeof too_long - 1] = 0;
    CHECK(tux_roots_add(roots, "") == -EINVAL);
    CHECK(tux_roots_add(roots, too_long) == -ENAMETOOLONG);

    struct tux_roots *many = tux_roots_new();
    bool ordered = true;
    for (uint32_t i = 0; i < TUX_MAX_ROOTS; i++)
        ordered &= tux_roots_add(many, "/") == (int)i;
    CHECK(ordered && tux_roots_add(many, "/") == -ENOSPC);
    tux_roots_free(many);
    tux_roots_free(NULL);
}

/* No descriptor is left open by any of the above. */
static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

int main(void)
{
    char path[256];
    umask(022);
    must(mkdtemp(base) == NULL ? -1 : 0);
    must(chmod(base, 0755));
    must(chdir(base));
    must(mkdir("root", 0755));
    must(mkdir("release1", 0755));
    must(mkdir("release2", 0755));
    put("release1/v", "1");
    put("release2/v", "22");
    put("secret", "secret");
    must(chdir("root"));
    must(mkdir("sub", 0755));
    must(mkdir("locked", 0700));
    put("locked/x", "x");
    must(chmod("locked", 0));
    put("a.txt", "alpha");
    put("sub/b.txt", "beta");
    put("unreadable", "x");
    must(chmod("unreadable", 0));
    must(mkfifo("fifo", 0644));
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    must(listener);
    must(bind(listener, (struct sockaddr *)&address, sizeof address));
    close(listener);
    must(symlink("a.txt", "link-inside"));
    must(symlink("../a.txt", "sub/link-up"));
    must(symlink("sub", "link-sub"));
    must(symlink("nowhere", "dangling"));
    must(symlink("../secret", "link-secret"));
    must(symlink("..", "link-folder"));
    must(symlink("loop", "loop"));
    snprintf(path, sizeof path, "%s/secret", base);
    must(symlink(path, "link-absolute"));
    snprintf(path, sizeof path, "%s/root/a.txt", base);
    must(symlink(path, "link-absolute-self"));

    int before = open_descriptors();
    roots = tux_roots_new();
    snprintf(path, sizeof path, "%s/root", base);
    root = tux_roots_add(roots, path);
    CHECK(root == 0);
    test_kinds();
    test_links();
    test_nothing_leaves_the_root();
    test_nothing_leaves_a_folder();
    test_denied();
    test_open_descriptor();
    test_open_folder();
    test_identity_tells_states_apart();
    test_cached_looks();
    test_root_that_moves();
    test_errors_and_bounds();
    tux_roots_free(roots);
    CHECK(open_descriptors() == before);

    static const char *const files[] = {"locked/x", "a.txt",       "sub/b.txt",  "unreadable",    "fifo",
                                        "socket",   "link-inside", "sub/link-up", "link-sub",     "dangling",
                                        "link-secret", "link-folder", "loop",    "link-absolute", "link-absolute-self",
                                        "cold.txt", "../secret", "../release1/v", "../release2/v"};
    static const char *const folders[] = {"sub", "locked", "../release1", "../release2", "../root", base};
    must(chmod("locked", 0700));
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        must(unlink(files[i]));
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        must(rmdir(folders[i]));
    return check_report();
}
