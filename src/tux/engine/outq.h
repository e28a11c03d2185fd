/* SPDX-License-Identifier: MIT */
/* What waits to be sent to a socket, in order: bytes, which are copied, and pieces of files. */
#ifndef TUX_OUTQ_H
#define TUX_OUTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "file.h"

#define TUX_OUTQ_PIECE_BYTES 4032u  /* a small answer with its head; with its header a block of 4 KiB */
#define TUX_OUTQ_LARGE_BYTES 65472u /* what does not fit lies in pieces of this size */
#define TUX_OUTQ_IOVECS 16u         /* pieces in one send */

struct tux_outq_piece;

struct tux_outq {
    struct tux_outq_piece *first, *last;
    uint64_t bytes; /* in memory */
    uint64_t file_bytes;
    uint64_t cold; /* bytes of the first piece, a file, that have to be read */
};

static inline bool tux_outq_empty(const struct tux_outq *queue)
{
    return queue->first == NULL;
}

/* Append a copy. False: no memory; then nothing was appended. */
bool tux_outq_put(struct tux_outq *queue, const void *data, size_t len);
/* Append `len` bytes of a file from `offset` on; the queue takes a reference of its own. */
bool tux_outq_file(struct tux_outq *queue, struct tux_file *file, uint64_t offset, uint64_t len);

enum tux_outq_result {
    TUX_OUTQ_ALL,   /* everything was sent */
    TUX_OUTQ_SOME,  /* more could be sent: call again after others had their turn */
    TUX_OUTQ_FULL,  /* the socket takes no more for now */
    TUX_OUTQ_COLD,  /* what comes next of a file is not in the page cache: see tux_outq_cold */
    TUX_OUTQ_CHANGED, /* a file is not what it was */
    TUX_OUTQ_ERROR, /* the socket is broken, or a file has become shorter */
};

#define TUX_OUTQ_MORE 2u /* pieces that are given along */

/* Where to, and what it takes to send files: see tux_file_piece. */
struct tux_outq_way {
    int fd;
    uint64_t now_ms;
    uint8_t *copy;
    bool *warmed; /* taken back when a piece of a file was begun */
};

/* Send what is queued, and then what more[0..n_more) points to (at most TUX_OUTQ_MORE), of which a copy is appended as far
 * as it was not sent. *sent: bytes that left. With the last two, what is left in the queue is of no use. */
enum tux_outq_result tux_outq_send(struct tux_outq *queue, const struct tux_outq_way *way, const struct iovec *more,
                                   uint32_t n_more, uint64_t *sent);
/* After COLD: what the helper thread is to read. */
struct tux_file *tux_outq_cold(const struct tux_outq *queue, uint64_t *offset, uint64_t *length);
void tux_outq_clear(struct tux_outq *queue);

#endif
