/* SPDX-License-Identifier: MIT */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef RESOLVE_CACHED /* Linux 5.12 */
#define RESOLVE_CACHED 0x20
#endif

#define RESOLVE_TRIES 8u /* EINTR, or EAGAIN when a rename raced with "..": each try is a new walk */
#define OPEN_TRIES 8u    /* the path was replaced between looking and opening; some replace files in a loop */
#define RESOLVE_ROOTED (RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)

struct root {
    char *path;
    int fd;             /* -1: not open */
    uint64_t opened_ms; /* of fd */
};

struct tux_roots {
    uint32_t count, capacity;
    struct root *table;
};

/* Open relative to a folder: a descriptor, or -errno. EAGAIN is final only for cached walks. */
static int walk(int folder, const char *path, uint64_t flags, uint64_t resolve_flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve_flags};
    bool cached = (resolve_flags & RESOLVE_CACHED) != 0;
    int error = EAGAIN;
    for (unsigned i = 0; i < RESOLVE_TRIES; i++) {
        long fd = syscall(SYS_openat2, folder, path, &how, sizeof how);
        if (fd >= 0)
            return (int)fd;
        error = errno;
        if (error != EINTR && (error != EAGAIN || cached))
            break;
    }
    return -error;
}

/* The same; "A//B" below a root is B below the folder A. */
static int resolve(int folder, const char *path, uint64_t flags, uint64_t resolve_flags)
{
    const char *mark = resolve_flags & RESOLVE_BENEATH ? strstr(path, "//") : NULL;
    if (mark == NULL)
        return walk(folder, path, flags, resolve_flags);
    char outer[TUX_MAX_PATH_BYTES + 1]; /* has room: paths below roots have a bound */
    size_t len = (size_t)(mark - path);
    memcpy(outer, path, len);
    outer[len] = 0;
    int inner = walk(folder, outer, O_PATH | O_DIRECTORY, resolve_flags);
    if (inner < 0)
        return inner;
    int fd = walk(inner, mark[2] == 0 ? "." : mark + 2, flags, resolve_flags);
    close(inner);
    return fd;
}

/* Whether this kernel knows RESOLVE_CACHED. Asked once, with a path that is always cached: a name that a client chose
 * must not be able to make some file system's EINVAL look like an old kernel. */
static bool cached_walks_work(void)
{
    static _Atomic int known; /* 0: not asked yet, 1: yes, 2: no */
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == 0) {
        int fd = resolve(AT_FDCWD, "/", O_PATH | O_DIRECTORY, RESOLVE_CACHED);
        answer = fd == -EINVAL || fd == -ENOSYS ? 2 : 1;
        if (fd >= 0)
            close(fd);
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 1;
}

static void found_set_error(struct tux_found *found, int error)
{
    *found = (struct tux_found){.error = error};
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
        found->kind = TUX_FOUND_ABSENT;
        found->error = 0;
        break;
    case EACCES:
    case EPERM:
        found->kind = TUX_FOUND_DENIED;
        break;
    case EXDEV:
    case ELOOP:
        found->kind = TUX_FOUND_ESCAPE;
        break;
    default:
        found->kind = TUX_FOUND_ERROR;
    }
}

static int64_t nanoseconds(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void stamp_from_stat(struct tux_identity *identity, const struct stat *st)
{
    *identity = (struct tux_identity){.dev = st->st_dev,
                                      .ino = st->st_ino,
                                      .size = (uint64_t)st->st_size,
                                      .mtime_ns = nanoseconds(st->st_mtim),
                                      .ctime_ns = nanoseconds(st->st_ctim),
                                      .mode = st->st_mode};
}

static void identity_from_stat(struct tux_identity *identity, const struct stat *st)
{
    *identity = (struct tux_identity){.dev = st->st_dev, .ino = st->st_ino};
    if (!S_ISDIR(st->st_mode))
        stamp_from_stat(identity, st);
}

void tux_files_found(int fd, struct tux_found *found)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        found_set_error(found, errno);
        return;
    }
    *found = (struct tux_found){.kind = TUX_FOUND_SPECIAL};
    if (S_ISREG(st.st_mode))
        found->kind = TUX_FOUND_FILE;
    else if (S_ISDIR(st.st_mode))
        found->kind = TUX_FOUND_FOLDER;
    identity_from_stat(&found->identity, &st);
}

struct tux_roots *tux_roots_new(void)
{
    return calloc(1, sizeof(struct tux_roots));
}

void tux_roots_free(struct tux_roots *roots)
{
    if (roots == NULL)
        return;
    for (uint32_t i = 0; i < roots->count; i++) {
        if (roots->table[i].fd >= 0)
            close(roots->table[i].fd);
        free(roots->table[i].path);
    }
    free(roots->table);
    free(roots);
}

int tux_roots_add(struct tux_roots *roots, const char *path)
{
    size_t len = strlen(path);
    if (len == 0)
        return -EINVAL;
    if (len > TUX_MAX_PATH_BYTES)
        return -ENAMETOOLONG;
    if (roots->count == TUX_MAX_ROOTS)
        return -ENOSPC;
    if (roots->count == roots->capacity) {
        uint32_t capacity = roots->capacity == 0 ? 8 : roots->capacity * 2;
        struct root *table = realloc(roots->table, capacity * sizeof *table);
        if (table == NULL)
            return -ENOMEM;
        roots->table = table;
        roots->capacity = capacity;
    }
    char *copy = strdup(path);
    if (copy == NULL)
        return -ENOMEM;
    roots->table[roots->count] = (struct root){.path = copy, .fd = -1};
    return (int)roots->count++;
}

/* The descriptor of a root (kept by the table), or -errno; -EAGAIN only with `cached_only`. A root that cannot be opened
 * is tried again at its next use, so that one that appears is seen at once. */
static int root_open(struct root *root, uint64_t now_ms, bool cached_only)
{
    if (root->fd >= 0 && now_ms - root->opened_ms < TUX_ROOT_REOPEN_MS)
        return root->fd;
    int fd = resolve(AT_FDCWD, root->path, O_PATH | O_DIRECTORY, cached_only ? RESOLVE_CACHED : 0);
    if (fd == -EAGAIN && cached_only)
        return fd;
    if (root->fd >= 0)
        close(root->fd);
    root->fd = fd < 0 ? -1 : fd;
    root->opened_ms = now_ms;
    return fd;
}

/* The path as a C string for the kernel, or false and an answer in *found. "" becomes ".". */
static bool path_terminate(char *out, const char *path, size_t path_len, struct tux_found *found)
{
    if (path_len > TUX_MAX_PATH_BYTES) {
        found_set_error(found, ENAMETOOLONG);
        return false;
    }
    if (path_len > 0 && memchr(path, 0, path_len) != NULL) {
        found_set_error(found, ENOENT); /* no file can have such a name */
        return false;
    }
    if (path_len == 0) {
        memcpy(out, ".", 2);
        return true;
    }
    memcpy(out, path, path_len);
    out[path_len] = 0;
    return true;
}

/* Like tux_files_look, for a terminated path. */
static bool look(struct tux_roots *roots, uint32_t root, const char *path, uint64_t now_ms, bool cached_only,
                 struct tux_found *found)
{
    if (root >= roots->count) {
        found_set_error(found, EBADF);
        return true;
    }
    int folder = root_open(&roots->table[root], now_ms, cached_only);
    if (folder == -EAGAIN && cached_only)
        return false;
    if (folder < 0) {
        found_set_error(found, -folder);
        return true;
    }
    int fd = resolve(folder, path, O_PATH, cached_only ? RESOLVE_ROOTED | RESOLVE_CACHED : RESOLVE_ROOTED);
    if (fd == -EAGAIN && cached_only)
        return false;
    if (fd < 0) {
        found_set_error(found, -fd);
        return true;
    }
    tux_files_found(fd, found);
    close(fd);
    return true;
}

bool tux_files_look(struct tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                    bool cached_only, struct tux_found *found)
{
    char terminated[TUX_MAX_PATH_BYTES + 1];
    if (cached_only && !cached_walks_work())
        return false;
    if (!path_terminate(terminated, path, path_len, found))
        return true;
    return look(roots, root, terminated, now_ms, cached_only, found);
}

/* Open a file for reading: a descriptor, or -errno. */
static int open_below(struct tux_roots *roots, uint32_t root, const char *path, uint64_t now_ms, bool cached_only)
{
    int folder = root < roots->count ? root_open(&roots->table[root], now_ms, cached_only) : -EBADF;
    return folder < 0 ? folder : resolve(folder, path, O_RDONLY | O_NONBLOCK | O_NOCTTY,
                                         cached_only ? RESOLVE_ROOTED | RESOLVE_CACHED : RESOLVE_ROOTED);
}

int tux_files_open_cached(struct tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                          bool cached_only, struct tux_found *found)
{
    char terminated[TUX_MAX_PATH_BYTES + 1];
    if (cached_only && !cached_walks_work())
        return TUX_FILES_MUST_BLOCK;
    if (!path_terminate(terminated, path, path_len, found))
        return -1;
    for (unsigned i = 0; i < OPEN_TRIES; i++) {
        /* Looked at first, because opening a device or a FIFO can have effects. */
        struct tux_found looked;
        if (!look(roots, root, terminated, now_ms, cached_only, &looked))
            return TUX_FILES_MUST_BLOCK;
        if (looked.kind != TUX_FOUND_FILE) {
            *found = looked;
            return -1;
        }
        int fd = open_below(roots, root, terminated, now_ms, cached_only);
        if (fd == -EAGAIN && cached_only)
            return TUX_FILES_MUST_BLOCK;
        if (fd < 0) {
            found_set_error(found, -fd);
            return -1;
        }
        tux_files_found(fd, found);
        if (found->kind == TUX_FOUND_FILE && found->identity.dev == looked.identity.dev &&
            found->identity.ino == looked.identity.ino)
            return fd;
        close(fd);
    }
    found_set_error(found, EAGAIN);
    return -1;
}

int tux_files_open_unseen(struct tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                          bool cached_only)
{
    char terminated[TUX_MAX_PATH_BYTES + 1];
    struct tux_found found;
    if (cached_only && !cached_walks_work())
        return TUX_FILES_MUST_BLOCK;
    if (!path_terminate(terminated, path, path_len, &found))
        return -1;
    int fd = open_below(roots, root, terminated, now_ms, cached_only);
    if (fd == -EAGAIN && cached_only)
        return TUX_FILES_MUST_BLOCK;
    return fd < 0 ? -1 : fd;
}

int tux_files_open(struct tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                   struct tux_found *found)
{
    return tux_files_open_cached(roots, root, path, path_len, now_ms, false, found);
}

bool tux_files_look_folder(struct tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                           struct tux_identity *stamp)
{
    char terminated[TUX_MAX_PATH_BYTES + 1];
    struct tux_found found;
    if (root >= roots->count || !cached_walks_work() || !path_terminate(terminated, path, path_len, &found))
        return false;
    int folder = root_open(&roots->table[root], now_ms, true);
    int fd = folder < 0 ? folder : resolve(folder, terminated, O_PATH | O_DIRECTORY, RESOLVE_ROOTED | RESOLVE_CACHED);
    if (fd < 0)
        return false;
    bool known = tux_files_stamp(fd, stamp);
    close(fd);
    return known;
}

int tux_files_open_folder(struct tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                          struct tux_found *found)
{
    char terminated[TUX_MAX_PATH_BYTES + 1];
    if (!path_terminate(terminated, path, path_len, found))
        return -1;
    int folder = root < roots->count ? root_open(&roots->table[root], now_ms, false) : -EBADF;
    /* Not looked at first: opening a folder has no effects, and O_DIRECTORY opens nothing else. */
    int fd = folder < 0 ? folder : resolve(folder, terminated, O_RDONLY | O_DIRECTORY, RESOLVE_ROOTED);
    if (fd < 0) {
        found_set_error(found, -fd);
        return -1;
    }
    tux_files_found(fd, found);
    if (found->kind == TUX_FOUND_FOLDER)
        return fd;
    close(fd);
    return -1;
}

bool tux_files_identity(int fd, struct tux_identity *identity)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return false;
    identity_from_stat(identity, &st);
    return true;
}

bool tux_files_identity_at(const char *path, struct tux_identity *identity)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return false;
    identity_from_stat(identity, &st);
    return true;
}

bool tux_files_stamp(int fd, struct tux_identity *stamp)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return false;
    stamp_from_stat(stamp, &st);
    return true;
}

bool tux_identity_equal(const struct tux_identity *a, const struct tux_identity *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns &&
           a->ctime_ns == b->ctime_ns && a->mode == b->mode;
}

bool tux_found_equal(const struct tux_found *a, const struct tux_found *b)
{
    return a->kind == b->kind && (a->kind != TUX_FOUND_ERROR || a->error == b->error) &&
           tux_identity_equal(&a->identity, &b->identity);
}
