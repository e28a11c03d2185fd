/* SPDX-License-Identifier: MIT */
/* Files below roots: every path is resolved by openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS), so that the kernel
 * itself keeps it inside the root. "A//B" is B below the folder A, which lies below the root: nothing in B leaves A. The
 * planner uses this through the binding; the engine repeats checks with it. */
#ifndef TUX_FILES_H
#define TUX_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TUX_MAX_ROOTS 4096u        /* one per site and origin; a bound on a table, not on sites */
#define TUX_MAX_PATH_BYTES 4095u   /* PATH_MAX - 1 */
#define TUX_ROOT_REOPEN_MS 250u    /* a root's own path (a release symlink) is resolved anew after this time */

enum tux_found_kind {
    TUX_FOUND_ABSENT,  /* ENOENT, ENOTDIR, ENAMETOOLONG */
    TUX_FOUND_FILE,    /* regular file */
    TUX_FOUND_FOLDER,
    TUX_FOUND_SPECIAL, /* device, FIFO, socket: never opened */
    TUX_FOUND_DENIED,  /* EACCES, EPERM on the way or at opening */
    TUX_FOUND_ESCAPE,  /* EXDEV (out of the root, absolute symlink), ELOOP */
    TUX_FOUND_ERROR,   /* anything else (EMFILE, EIO ...): see error */
};

/* What tells two states of a path apart. For a folder only dev and ino are filled: its times change with its entries. */
struct tux_identity {
    uint64_t dev, ino, size;
    int64_t mtime_ns, ctime_ns;
    uint64_t mode;
};

struct tux_found {
    uint8_t kind;  /* enum tux_found_kind */
    int error;     /* errno behind DENIED, ESCAPE and ERROR */
    struct tux_identity identity; /* zero unless FILE, FOLDER or SPECIAL */
};

/* One thread's table of roots (threads do not share one). */
struct tux_roots;
struct tux_roots *tux_roots_new(void);
void tux_roots_free(struct tux_roots *roots);
int tux_roots_add(struct tux_roots *roots, const char *path); /* index, or -errno; the folder need not exist yet */

/* Look at `path` (relative, NUL-free, no leading slash; "" is the root itself) without opening it (O_PATH).
 * With `cached_only` the kernel answers from its caches (RESOLVE_CACHED) or the function returns false with nothing
 * said: ask again where blocking is allowed. Otherwise returns true. A root that cannot be opened is ABSENT or DENIED. */
bool tux_files_look(struct tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                    bool cached_only, struct tux_found *found);

/* Look, and open a regular file for reading (never a device or FIFO; O_NONBLOCK, O_NOCTTY, O_CLOEXEC).
 * Returns the descriptor, or -1 when found->kind is not FILE (unreadable: DENIED). found describes the descriptor. */
int tux_files_open(struct tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                   struct tux_found *found);
/* The same, with `cached_only` as above; TUX_FILES_MUST_BLOCK when that is not possible, and *found says nothing. */
#define TUX_FILES_MUST_BLOCK (-2)
int tux_files_open_cached(struct tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                          bool cached_only, struct tux_found *found);
/* Open whatever is there, without a look: the caller knows of nothing whose opening has effects, and asks tux_files_found. */
int tux_files_open_unseen(struct tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                          bool cached_only);
void tux_files_found(int fd, struct tux_found *found); /* what it is */

/* Open a folder for reading its entries (O_CLOEXEC). Returns the descriptor, or -1 when found->kind is not FOLDER; what is
 * no folder is ABSENT, as it is with a slash behind its path. */
int tux_files_open_folder(struct tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                          struct tux_found *found);

/* Look at a folder without blocking: what it is, with its times. False: that cannot be said. */
bool tux_files_look_folder(struct tux_roots *roots, uint32_t root, const char *path, size_t path_len, uint64_t now_ms,
                           struct tux_identity *stamp);
bool tux_files_stamp(int fd, struct tux_identity *stamp); /* the same of an open one */

/* fstat of an open descriptor as an identity; false on error. */
bool tux_files_identity(int fd, struct tux_identity *identity);
/* The same of what open(2) would open at a path, below no root: of applications, not of clients. */
bool tux_files_identity_at(const char *path, struct tux_identity *identity);
bool tux_identity_equal(const struct tux_identity *a, const struct tux_identity *b);
bool tux_found_equal(const struct tux_found *a, const struct tux_found *b); /* kind and identity; error for ERROR */

#endif
