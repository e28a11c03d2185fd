/* SPDX-License-Identifier: MIT */
#include "outq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bounds.h"

struct tux_outq_piece {
    struct tux_outq_piece *next;
    struct tux_file *file; /* NULL: bytes */
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
    *piece = (struct tux_outq_piece){.capacity = capacity};
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
    if (piece->file != NULL)
        tux_file_unref(piece->file);
    queue->bytes -= piece->end - piece->start;
    queue->file_bytes -= piece->left;
    free(piece);
}

bool tux_outq_put(struct tux_outq *queue, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    struct tux_outq_piece *last = queue->last;
    uint32_t room = last != NULL && last->file == NULL ? last->capacity - last->end : 0;
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

bool tux_outq_file(struct tux_outq *queue, struct tux_file *file, uint64_t offset, uint64_t len)
{
    struct tux_outq_piece *piece = len == 0 ? NULL : append(queue, 0);
    if (piece == NULL)
        return len == 0;
    piece->file = tux_file_ref(file);
    piece->offset = offset;
    piece->left = len;
    queue->file_bytes += len;
    return true;
}

/* So many bytes have left, of what is in memory and of files. */
static void drop_bytes(struct tux_outq *queue, uint64_t n)
{
    while (n > 0) { /* ends: the caller sent no more than there is */
        struct tux_outq_piece *piece = queue->first;
        uint64_t there = piece->file != NULL ? piece->left : piece->end - piece->start;
        uint64_t gone = n < there ? n : there;
        if (piece->file != NULL) {
            piece->offset += gone;
            piece->left -= gone;
            queue->file_bytes -= gone;
        } else {
            piece->start += (uint32_t)gone;
            queue->bytes -= gone;
        }
        n -= gone;
        if (gone == there)
            drop_first(queue);
    }
}

struct tux_file *tux_outq_cold(const struct tux_outq *queue, uint64_t *offset, uint64_t *length)
{
    *offset = queue->first->offset;
    *length = queue->cold;
    return queue->first->file;
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

/* What goes out together: pieces of memory, and of one file at most, as there is one buffer for its end. */
struct gathered {
    struct iovec iov[TUX_OUTQ_IOVECS + TUX_OUTQ_MORE];
    uint32_t n;
    size_t bytes;
    uint64_t of_file;
    bool whole;  /* there is nothing behind it in the queue */
    bool turns;  /* ... but more of a file than others should wait for */
};

static void add(struct gathered *all, const void *bytes, size_t len)
{
    all->iov[all->n++] = (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    all->bytes += len;
}

static enum tux_file_state gather(struct tux_outq *queue, const struct tux_outq_way *way, struct gathered *all)
{
    enum tux_file_state state = TUX_FILE_READY;
    struct tux_outq_piece *piece = queue->first;
    for (; piece != NULL && all->n < TUX_OUTQ_IOVECS; piece = piece->next) {
        if (piece->file == NULL) {
            add(all, piece->bytes + piece->start, piece->end - piece->start);
            continue;
        }
        if (all->of_file > 0)
            break;
        const uint8_t *bytes;
        uint64_t length;
        state = tux_file_piece(piece->file, way->now_ms, *way->warmed, piece->offset, piece->left, way->copy, &bytes, &length);
        if (state != TUX_FILE_READY) {
            queue->cold = length;
            break;
        }
        *way->warmed = false; /* so each piece asks the helper once at most, even on a file system that never says yes */
        add(all, bytes, length);
        all->of_file = length;
        if (length < piece->left) {
            all->turns = piece->left - length > TUX_COPY_BYTES; /* the end of it goes along, MSG_MORE holds it up */
            break;
        }
    }
    all->whole = piece == NULL;
    return state;
}

enum tux_outq_result tux_outq_send(struct tux_outq *queue, const struct tux_outq_way *way, const struct iovec *more,
                                   uint32_t n_more, uint64_t *sent)
{
    *sent = 0;
    while (queue->first != NULL || n_more > 0) { /* ends: every round sends a piece, or leaves */
        struct gathered all = {.n = 0};
        enum tux_file_state state = gather(queue, way, &all);
        if (state == TUX_FILE_CHANGED)
            return TUX_OUTQ_CHANGED;
        if (all.n == 0 && state == TUX_FILE_COLD)
            return keep(queue, more, n_more, 0) ? TUX_OUTQ_COLD : TUX_OUTQ_ERROR;
        size_t queued = all.bytes;
        for (uint32_t i = 0; all.whole && i < n_more; i++)
            add(&all, more[i].iov_base, more[i].iov_len);
        struct msghdr message = {.msg_iov = all.iov, .msg_iovlen = all.n};
        ssize_t n;
        do /* most answers are one piece, for which send(2) has less to do */
            n = all.n == 1 && all.whole
                    ? send(way->fd, all.iov->iov_base, all.iov->iov_len, MSG_NOSIGNAL)
                    : sendmsg(way->fd, &message, MSG_NOSIGNAL | (all.whole ? 0 : MSG_MORE));
        while (n < 0 && errno == EINTR);
        if (n < 0) {
            if (errno != EAGAIN)
                return TUX_OUTQ_ERROR; /* EFAULT too: a mapped file has become shorter */
            n = 0;
        }
        *sent += (uint64_t)n;
        size_t from_queue = (size_t)n < queued ? (size_t)n : queued;
        drop_bytes(queue, from_queue);
        if ((size_t)n < all.bytes)
            return keep(queue, more, n_more, (size_t)n - from_queue) ? TUX_OUTQ_FULL : TUX_OUTQ_ERROR;
        if (all.whole)
            n_more = 0;
        else if (all.turns)
            return keep(queue, more, n_more, 0) ? TUX_OUTQ_SOME : TUX_OUTQ_ERROR;
    }
    return TUX_OUTQ_ALL;
}

void tux_outq_clear(struct tux_outq *queue)
{
    while (queue->first != NULL)
        drop_first(queue);
}
