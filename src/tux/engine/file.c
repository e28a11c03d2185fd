/* SPDX-License-Identifier: MIT */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bounds.h"

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 8u
#endif

struct tux_file *tux_file_new(int fd)
{
    struct tux_file *file = calloc(1, sizeof *file);
    if (file == NULL || !tux_files_identity(fd, &file->identity)) {
        free(file);
        close(fd);
        return NULL;
    }
    file->refs = 1;
    file->fd = fd;
    return file;
}

struct tux_file *tux_file_ref(struct tux_file *file)
{
    file->refs++;
    return file;
}

void tux_file_unref(struct tux_file *file)
{
    if (--file->refs > 0)
        return;
    if (file->map != NULL)
        munmap(file->map, file->identity.size);
    if (file->account != NULL)
        atomic_fetch_sub_explicit(file->account, file->identity.size, memory_order_relaxed);
    free(file->bytes);
    close(file->fd);
    free(file);
}

struct tux_file *tux_file_again(const struct tux_file *file)
{
    int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? NULL : tux_file_new(fd);
}

bool tux_file_is_same(const struct tux_file *file)
{
    struct tux_identity now;
    return tux_files_identity(file->fd, &now) && tux_identity_equal(&now, &file->identity);
}

static void count_at(struct tux_file *file, _Atomic uint64_t *account)
{
    file->account = account;
    atomic_fetch_add_explicit(account, file->identity.size, memory_order_relaxed);
}

void tux_file_keep(struct tux_file *file, uint8_t *bytes, _Atomic uint64_t *account)
{
    file->bytes = bytes;
    count_at(file, account);
}

void tux_file_frozen(struct tux_file *file, _Atomic uint64_t *account)
{
    file->frozen = true;
    count_at(file, account);
}

int tux_file_freeze(const struct tux_file *file, uint64_t offset, uint64_t length)
{
    off_t at = (off_t)offset;
    uint64_t left = length;
    int fd = memfd_create("tux-copy", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("tux-copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    for (ssize_t n = 1; left > 0 && n > 0; left -= n > 0 ? (uint64_t)n : 0) /* ends: each round copies something */
        n = sendfile(fd, file->fd, &at, left);
    if (left == 0 && tux_file_is_same(file) &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Files are sent from a mapping: send(2) copies, so what is in the socket cannot change any more (sendfile(2) hands over the
 * file's own pages), and in larger pieces. Only the kernel reads the mapping: if a page is gone because the file was
 * truncated, send fails with EFAULT, and there is no SIGBUS. */
static bool map(struct tux_file *file)
{
    if (file->map == NULL) {
        void *at = mmap(NULL, file->identity.size, PROT_READ, MAP_SHARED, file->fd, 0);
        file->map = at == MAP_FAILED ? NULL : at;
    }
    return file->map != NULL;
}

/* Is the slice in the page cache? Probed once per read-ahead window and at its end. */
static bool is_resident(struct tux_file *file, uint64_t now_ms, uint64_t offset, uint64_t length)
{
    if (now_ms < file->resident_until_ms)
        return true;
    char byte;
    struct iovec one = {.iov_base = &byte, .iov_len = 1};
    for (uint64_t at = 0; at < length; at += TUX_PROBE_BYTES) { /* at most TUX_SLICE_BYTES / TUX_PROBE_BYTES times */
        uint64_t last = at + TUX_PROBE_BYTES < length ? at : length - 1;
        if (preadv2(file->fd, &one, 1, (off_t)(offset + last), RWF_NOWAIT) < 0 && errno == EAGAIN)
            return false;
    }
    if (file->identity.size <= TUX_SLICE_BYTES && length + TUX_COPY_BYTES >= file->identity.size)
        file->resident_until_ms = now_ms + TUX_RECHECK_MS;
    return true;
}

/* Is the open file still what was taken? Never bytes of two versions: if not, the connection ends. One that became longer may
 * have been rewritten: nothing tells that from a log. */
static bool is_intact(const struct tux_file *file)
{
    struct tux_identity now;
    return tux_files_identity(file->fd, &now) && now.size == file->identity.size && now.mtime_ns == file->identity.mtime_ns;
}

/* How many bytes of a file go out at once. Its last TUX_COPY_BYTES go together, see below. */
static uint64_t slice_of(uint64_t left)
{
    if (left <= TUX_COPY_BYTES)
        return left;
    return left - TUX_COPY_BYTES < TUX_SLICE_BYTES ? left - TUX_COPY_BYTES : TUX_SLICE_BYTES;
}

/* The last piece is copied, and only then the file is looked at; pieces before it are followed by such a look. So a body is
 * complete only if the file was the same until all of it had been copied: never bytes of two versions. A file that cannot be
 * mapped is copied, too, and *length then becomes what the copy holds. */
enum tux_file_state tux_file_piece(struct tux_file *file, uint64_t now_ms, bool warmed, uint64_t offset, uint64_t left,
                                   uint8_t *copy, const uint8_t **bytes, uint64_t *length)
{
    if (file->bytes != NULL) { /* loaded between two equal looks */
        *bytes = file->bytes + offset;
        *length = left < TUX_SLICE_BYTES ? left : TUX_SLICE_BYTES;
        return TUX_FILE_READY;
    }
    *length = slice_of(left);
    if (!warmed && !file->frozen && !is_resident(file, now_ms, offset, *length))
        return TUX_FILE_COLD;
    if (left > *length && map(file)) {
        *bytes = file->map + offset;
    } else {
        if (*length > TUX_COPY_BYTES)
            *length = TUX_COPY_BYTES;
        if (pread(file->fd, copy, *length, (off_t)offset) != (ssize_t)*length)
            return TUX_FILE_CHANGED; /* shorter than it was */
        *bytes = copy;
    }
    return file->frozen || is_intact(file) ? TUX_FILE_READY : TUX_FILE_CHANGED;
}

bool tux_file_read(const struct tux_file *file, uint64_t offset, uint64_t length, uint8_t *bytes)
{
    uint64_t got = 0;
    ssize_t n = 1;
    for (; got < length && n > 0; got += n > 0 ? (uint64_t)n : 0) /* ends: each round reads something, or is the last */
        n = pread(file->fd, bytes + got, length - got, (off_t)(offset + got));
    return got == length;
}
