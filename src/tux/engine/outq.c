/* SPDX-License-Identifier: MIT */
#include "outq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

struct tux_outq_piece {
    struct tux_outq_piece *next;
    int fd;                /* of a file, else -1 */
    uint32_t start, end;   /* bytes[start..end) are to be sent */
    uint32_t capacity;
    uint64_t offset, left; /* of a file */
    uint8_t bytes[];
};

static struct tux_outq_piece *append(struct tux_outq *queue, uint32_t capacity)
{
    struct tux_outq_piece *piece = malloc(sizeof *piece + capacity);
    if (piece == NULL)
        return NULL;
    *piece = (struct tux_outq_piece){.fd = -1, .capacity = capacity};
    if (queue->last != NULL)
        queue->last->next = piece;
    else
        queue->first = piece;
    queue->last = piece;
    return piece;
}

static void drop_first(struct tux_outq *queue)
{
    struct tux_outq_piece *piece = queue->first;
    queue->first = piece->next;
    if (queue->first == NULL)
        queue->last = NULL;
    if (piece->fd >= 0)
        close(piece->fd);
    queue->bytes -= piece->end - piece->start;
    queue->file_bytes -= piece->left;
    free(piece);
}

bool tux_outq_put(struct tux_outq *queue, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    struct tux_outq_piece *last = queue->last;
    uint32_t room = last != NULL && last->fd < 0 ? last->capacity - last->end : 0;
    if (len > room) { /* all that is needed first, so that it is appended whole or not at all */
        struct tux_outq more = {0};
        size_t rest = len - room;
        while (rest > 0) { /* ends: each round takes at least one byte */
            bool small = rest <= TUX_OUTQ_PIECE_BYTES && queue->first == NULL && more.first == NULL;
            struct tux_outq_piece *piece = append(&more, small ? TUX_OUTQ_PIECE_BYTES : TUX_OUTQ_LARGE_BYTES);
            if (piece == NULL) {
                tux_outq_clear(&more);
                return false;
            }
            uint32_t n = rest < piece->capacity ? (uint32_t)rest : piece->capacity;
            memcpy(piece->bytes, bytes + len - rest, n);
            piece->end = n;
            rest -= n;
        }
        if (last != NULL)
            last->next = more.first;
        else
            queue->first = more.first;
        queue->last = more.last;
    }
    size_t n = len < room ? len : room;
    if (n > 0) {
        memcpy(last->bytes + last->end, bytes, n);
        last->end += (uint32_t)n;
    }
    queue->bytes += len;
    return true;
}

bool tux_outq_file(struct tux_outq *queue, int fd, uint64_t offset, uint64_t len)
{
    struct tux_outq_piece *piece = len == 0 ? NULL : append(queue, 0);
    if (piece == NULL) {
        close(fd);
        return len == 0;
    }
    piece->fd = fd;
    piece->offset = offset;
    piece->left = len;
    queue->file_bytes += len;
    return true;
}

static void drop_bytes(struct tux_outq *queue, uint64_t n)
{
    while (n > 0) { /* ends: the caller sent no more than there is */
        struct tux_outq_piece *piece = queue->first;
        uint32_t there = piece->end - piece->start;
        uint32_t gone = n < there ? (uint32_t)n : there;
        piece->start += gone;
        queue->bytes -= gone;
        n -= gone;
        if (piece->start == piece->end)
            drop_first(queue);
    }
}

static enum tux_outq_result send_file(struct tux_outq *queue, int fd, uint64_t *sent)
{
    struct tux_outq_piece *piece = queue->first;
    off_t offset = (off_t)piece->offset;
    size_t want = piece->left < TUX_OUTQ_FILE_BYTES ? (size_t)piece->left : TUX_OUTQ_FILE_BYTES;
    ssize_t n;
    do
        n = sendfile(fd, piece->fd, &offset, want);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? TUX_OUTQ_FULL : TUX_OUTQ_ERROR;
    if (n == 0)
        return TUX_OUTQ_ERROR; /* the file is shorter than it was */
    piece->offset += (uint64_t)n;
    piece->left -= (uint64_t)n;
    queue->file_bytes -= (uint64_t)n;
    *sent += (uint64_t)n;
    if (piece->left == 0)
        drop_first(queue);
    return queue->first == NULL ? TUX_OUTQ_ALL : TUX_OUTQ_SOME;
}

/* Append what is left of more[0..n), the first `skip` bytes of it not. */
static bool keep(struct tux_outq *queue, const struct iovec *more, uint32_t n, size_t skip)
{
    for (uint32_t i = 0; i < n; i++) {
        size_t gone = skip < more[i].iov_len ? skip : more[i].iov_len;
        skip -= gone;
        if (gone < more[i].iov_len &&
            !tux_outq_put(queue, (const uint8_t *)more[i].iov_base + gone, more[i].iov_len - gone))
            return false;
    }
    return true;
}

enum tux_outq_result tux_outq_send(struct tux_outq *queue, int fd, const struct iovec *more, uint32_t n_more,
                                   uint64_t *sent)
{
    *sent = 0;
    while (queue->first != NULL || n_more > 0) { /* ends: every round sends a piece, or leaves */
        if (queue->first != NULL && queue->first->fd >= 0) {
            enum tux_outq_result result = send_file(queue, fd, sent);
            if (result == TUX_OUTQ_ALL)
                continue;
            return result == TUX_OUTQ_ERROR || keep(queue, more, n_more, 0) ? result : TUX_OUTQ_ERROR;
        }
        struct iovec iov[TUX_OUTQ_IOVECS + TUX_OUTQ_MORE];
        uint32_t n_iov = 0;
        size_t total = 0, queued;
        struct tux_outq_piece *piece = queue->first;
        for (; piece != NULL && piece->fd < 0 && n_iov < TUX_OUTQ_IOVECS; piece = piece->next) {
            iov[n_iov++] = (struct iovec){.iov_base = piece->bytes + piece->start, .iov_len = piece->end - piece->start};
            total += piece->end - piece->start;
        }
        queued = total;
        bool whole = piece == NULL;
        for (uint32_t i = 0; whole && i < n_more; i++) {
            iov[n_iov++] = more[i];
            total += more[i].iov_len;
        }
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = n_iov};
        ssize_t n;
        do /* most answers are one piece, for which send(2) has less to do */
            n = n_iov == 1 && whole ? send(fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL)
                                    : sendmsg(fd, &message, MSG_NOSIGNAL | (whole ? 0 : MSG_MORE));
        while (n < 0 && errno == EINTR);
        if (n < 0) {
            if (errno != EAGAIN)
                return TUX_OUTQ_ERROR;
            n = 0;
        }
        *sent += (uint64_t)n;
        size_t from_queue = (size_t)n < queued ? (size_t)n : queued;
        drop_bytes(queue, from_queue);
        if ((size_t)n < total)
            return keep(queue, more, n_more, (size_t)n - from_queue) ? TUX_OUTQ_FULL : TUX_OUTQ_ERROR;
        if (whole)
            n_more = 0;
    }
    return TUX_OUTQ_ALL;
}

void tux_outq_clear(struct tux_outq *queue)
{
    while (queue->first != NULL)
        drop_first(queue);
}
