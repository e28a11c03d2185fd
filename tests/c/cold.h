/* SPDX-License-Identifier: MIT */
/* Files that are not in the page cache. */
#ifndef TUX_COLD_H
#define TUX_COLD_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* Of what is written and on the disk, the page cache forgets all. */
static inline void make_cold(int fd)
{
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static inline bool is_cold(int fd)
{
    char byte;
    struct iovec one = {.iov_base = &byte, .iov_len = 1};
    return preadv2(fd, &one, 1, 0, RWF_NOWAIT) < 0 && errno == EAGAIN;
}

/* An open file without a name, of these bytes; cold, if it lies on a file system that knows of that (tmpfs does not). -1:
 * there is no place for it. */
static inline int cold_file(const void *bytes, size_t len)
{
    static const char *const folders[] = {"/var/tmp", "/tmp", "."};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/tux-cold-XXXXXX", folders[i]);
        int fd = mkstemp(path);
        if (fd < 0)
            continue;
        unlink(path);
        if (write(fd, bytes, len) == (ssize_t)len) {
            make_cold(fd);
            return fd;
        }
        close(fd);
    }
    return -1;
}

#endif
