/* SPDX-License-Identifier: MIT */
/* The access log of the kernel tier: takes the programs' records out of their ring and writes lines like those of the
 * engine. Used by the supervisor, by one thread.
 *
 * No line is lost: a record leaves the ring when its line is in the log's buffer, and while that cannot be written the
 * ring stays as it is; the programs answer nothing more when it is full. */
#ifndef TUX_KERNELLOG_H
#define TUX_KERNELLOG_H

#include <stddef.h>
#include <stdint.h>

#include "accesslog.h"

#define TUX_KERNELLOG_BATCH_BYTES 65536u /* of one write(2) */
#define TUX_KERNELLOG_CHUNKS 65536u      /* numbers of first chunks that may be given: 256 MiB of answers */

/* A BPF ring buffer in memory (kernel: Documentation/bpf/ringbuf.rst). The positions count bytes and never wrap. */
struct tux_kernellog_ring {
    uint64_t *consumer;       /* in a page of its own, writable */
    const uint64_t *producer; /* in a page of its own, followed by the data twice, so that no record is ever cut */
    const uint8_t *data;
};

/* Maps the ring: 0 or -errno. Another one than the default is for tests. */
typedef int tux_kernellog_map(int ring_fd, size_t ring_bytes, struct tux_kernellog_ring *ring);
int tux_kernellog_map_bpf(int ring_fd, size_t ring_bytes, struct tux_kernellog_ring *ring);

struct tux_kernellog;

struct tux_kernellog_counts {
    uint64_t lines;   /* written, or in the buffer */
    uint64_t unknown; /* records of answers that are not known, or that are none: they have no line */
};

/* 0 and *log, or -errno. ring_bytes: max_entries of the map, a power of two and whole pages. The descriptors stay the
 * caller's, who may close both at once. */
int tux_kernellog_new(int ring_fd, size_t ring_bytes, int out_fd, enum tux_log_format format,
                      struct tux_kernellog **log);
int tux_kernellog_new_mapped(const struct tux_kernellog_ring *ring, size_t ring_bytes, int out_fd,
                             enum tux_log_format format, struct tux_kernellog **log);
void tux_kernellog_free(struct tux_kernellog *log);

/* An answer that the programs may give from now on: what was asked (the whole head, copied) and what its lines say.
 * 0, -EINVAL (first_chunk out of bounds) or -ENOMEM. */
int tux_kernellog_add(struct tux_kernellog *log, uint64_t id, uint32_t first_chunk, const void *head, size_t head_len,
                      uint16_t status, uint64_t body_bytes);
/* No record of it will be written any more; those in the ring are still understood. */
void tux_kernellog_remove(struct tux_kernellog *log, uint32_t first_chunk, uint64_t id);

/* Write a line for each record in the ring, at most max_records of them. wall_offset_ns: CLOCK_REALTIME -
 * CLOCK_BOOTTIME. Returns their number, which may be less than there are; -EIO when the ring makes no sense (nothing is
 * read after that); or the -errno of a failed write (-EAGAIN: a pipe is full): what was taken is kept, call again. Does
 * not wait but for a disk. */
int tux_kernellog_drain(struct tux_kernellog *log, int64_t wall_offset_ns, uint32_t max_records);
/* Later lines, and what could not be written yet, go to fd (duplicated). 0 or -errno. */
int tux_kernellog_reopen(struct tux_kernellog *log, int fd);
struct tux_kernellog_counts tux_kernellog_count(const struct tux_kernellog *log);

#endif
