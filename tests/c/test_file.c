/* SPDX-License-Identifier: MIT */
/* Pieces of files: copies that are checked, what becomes of a file that changes, and what is not in the page cache. */
#include "check.h"

#include "bounds.h"
#include "cold.h"
#include "file.h"

#define BYTES (TUX_SLICE_BYTES + 300000u)

static uint8_t stuff[BYTES], copy[TUX_COPY_BYTES];

static struct tux_file *file_of(size_t len)
{
    int fd = cold_file(stuff, len);
    return fd < 0 ? NULL : tux_file_new(fd);
}

/* The mapping is the kernel's to read: have it do that. */
static bool same_bytes(const uint8_t *bytes, uint64_t offset, uint64_t length)
{
    static uint8_t got[TUX_SLICE_BYTES];
    int fds[2];
    bool same = pipe(fds) == 0;
    for (uint64_t at = 0; same && at < length; at += 4096) {
        size_t n = length - at < 4096 ? (size_t)(length - at) : 4096;
        same = write(fds[1], bytes + at, n) == (ssize_t)n && read(fds[0], got + at, n) == (ssize_t)n;
    }
    close(fds[0]);
    close(fds[1]);
    return same && memcmp(got, stuff + offset, length) == 0;
}

static void test_pieces(void)
{
    struct tux_file *file = file_of(BYTES);
    uint64_t at = 0;
    unsigned pieces = 0;
    while (at < BYTES) {
        const uint8_t *bytes;
        uint64_t length = 0;
        enum tux_file_state state = tux_file_piece(file, 0, true, at, BYTES - at, copy, &bytes, &length);
        if (!CHECK_EQ(state, TUX_FILE_READY) || !CHECK(length > 0 && same_bytes(bytes, at, length)))
            break;
        at += length;
        CHECK((bytes == copy) == (at == BYTES)); /* the end of it, and nothing else */
        pieces++;
    }
    CHECK_EQ(pieces, 3); /* one of TUX_SLICE_BYTES, what is before the last TUX_COPY_BYTES, and these */
    tux_file_unref(file);
}

static void test_changes(void)
{
    static const struct {
        const char *what;
        off_t size;
    } rows[] = {
        {"longer", 200001},
        {"shorter", 199999},
        {"written in place", 200000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tux_file *file = file_of(200000);
        const uint8_t *bytes;
        uint64_t length;
        CHECK_EQ(tux_file_piece(file, 0, true, 0, 200000, copy, &bytes, &length), TUX_FILE_READY);
        CHECK(tux_file_is_same(file));
        if (rows[i].size == 200000)
            while (tux_file_is_same(file)) /* ends: with the clock's next tick */
                CHECK_EQ(pwrite(file->fd, "x", 1, 0), 1);
        else
            CHECK_EQ(ftruncate(file->fd, rows[i].size), 0);
        CHECK(!tux_file_is_same(file));
        CHECK_ROW(tux_file_piece(file, 0, true, length, 200000 - length, copy, &bytes, &length) == TUX_FILE_CHANGED, rows[i].what);
        tux_file_unref(file);
    }
}

static void test_cold(void)
{
    struct tux_file *file = file_of(500000);
    const uint8_t *bytes;
    uint64_t length = 0;
    if (!is_cold(file->fd)) {
        printf("no file system here has cold files\n");
        tux_file_unref(file);
        return;
    }
    CHECK_EQ(tux_file_piece(file, 0, false, 0, 500000, copy, &bytes, &length), TUX_FILE_COLD);
    CHECK_EQ(length, 500000 - TUX_COPY_BYTES);
    uint8_t *all = malloc(500000);
    CHECK(tux_file_read(file, 0, 500000, all) && memcmp(all, stuff, 500000) == 0);
    CHECK(!tux_file_read(file, 1, 500000, all));
    free(all);
    CHECK_EQ(tux_file_piece(file, 0, false, 0, 500000, copy, &bytes, &length), TUX_FILE_READY);
    make_cold(file->fd);
    CHECK_EQ(tux_file_piece(file, TUX_RECHECK_MS - 1, false, 0, 500000, copy, &bytes, &length), TUX_FILE_READY); /* of late */
    tux_file_unref(file);
}

static void test_kept(void)
{
    _Atomic uint64_t account = 0;
    struct tux_file *file = file_of(100000);
    uint8_t *all = malloc(100000);
    const uint8_t *bytes;
    uint64_t length;
    CHECK(tux_file_read(file, 0, 100000, all));
    tux_file_keep(file, all, &account);
    CHECK_EQ(account, 100000);
    CHECK_EQ(tux_file_piece(file, 0, false, 10, 99990, copy, &bytes, &length), TUX_FILE_READY);
    CHECK(length == 99990 && bytes == all + 10);
    tux_file_unref(tux_file_ref(file));
    CHECK_EQ(account, 100000);
    tux_file_unref(file);
    CHECK_EQ(account, 0);
    CHECK(tux_file_new(open("/nowhere", O_RDONLY)) == NULL);
}

static void test_frozen(void)
{
    _Atomic uint64_t account = 0;
    struct tux_file *file = file_of(300000);
    const uint8_t *bytes;
    uint64_t length;
    int fd = tux_file_freeze(file, 1000, 200000);
    if (!CHECK(fd >= 0))
        return;
    int again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct tux_file *frozen = tux_file_new(fd);
    tux_file_frozen(frozen, &account);
    CHECK_EQ(account, 200000);
    CHECK_EQ(ftruncate(file->fd, 0), 0); /* that is nothing to the copy */
    CHECK(pwrite(again, "x", 1, 0) == -1 && errno == EPERM);
    CHECK(ftruncate(again, 1) == -1 && errno == EPERM);
    CHECK_EQ(tux_file_piece(frozen, 0, false, 0, 200000, copy, &bytes, &length), TUX_FILE_READY);
    CHECK(length == 200000 - TUX_COPY_BYTES && memcmp(bytes, stuff + 1000, length) == 0);
    CHECK_EQ(tux_file_freeze(file, 1000, 200000), -1); /* it has not so many any more */
    close(again);
    tux_file_unref(frozen);
    tux_file_unref(file);
    CHECK_EQ(account, 0);

    file = file_of(5000);
    CHECK_EQ(pwrite(file->fd, "more", 4, 5000), 4);
    CHECK_EQ(tux_file_freeze(file, 0, 5000), -1); /* it is not what it was */
    tux_file_unref(file);
}

int main(void)
{
    for (size_t i = 0; i < sizeof stuff; i++)
        stuff[i] = (uint8_t)(i * 7 + i / 251);
    test_pieces();
    test_changes();
    test_cold();
    test_kept();
    test_frozen();
    return check_report();
}
