/* SPDX-License-Identifier: MIT */
#include "kernellog.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../kernel/bpf/layout.h"
#include "head.h"

#define RECORD_BUSY (UINT32_C(1) << 31)                                  /* BPF_RINGBUF_BUSY_BIT: being written */
#define RECORD_DISCARD (UINT32_C(1) << 30)                               /* BPF_RINGBUF_DISCARD_BIT: to be skipped */
#define RECORD_HEADER_BYTES 8u                                           /* BPF_RINGBUF_HDR_SZ */
#define OUT_BYTES (TUX_KERNELLOG_BATCH_BYTES + TUX_LOG_MAX_RECORD_BYTES) /* less than a batch, and one more line */
#define FLUSH_WRITES (OUT_BYTES / PIPE_BUF + 2)                          /* that much, in the smallest pieces */

/* An answer that records refer to. */
struct answer {
    struct answer *next; /* with the same first chunk */
    uint64_t id;
    uint64_t until;             /* removed: a reader at this position does not need it; UINT64_MAX: it is there */
    struct tux_log_record line; /* all but peer and time; its texts point into `head` */
    uint8_t head[];
};

struct tux_kernellog {
    struct tux_kernellog_ring ring;
    size_t ring_bytes;
    void *maps[2]; /* to be unmapped; NULL: the ring is the caller's */
    size_t map_bytes[2];
    uint64_t consumed;
    enum tux_log_format format;
    int fd;
    bool is_file; /* regular: a write waits for nobody but the disk */
    bool broken;  /* the ring makes no sense */
    uint32_t n_removed;
    struct tux_kernellog_counts counts;
    uint32_t remote[4]; /* the last one, and its text: clients come in runs */
    char peer[INET6_ADDRSTRLEN];
    size_t peer_len;
    size_t len;  /* bytes in `out`, which begins with a whole line ... */
    size_t done; /* ... of which this much is written already */
    char out[OUT_BYTES];
    struct answer *answers[TUX_KERNELLOG_CHUNKS];
    struct tux_head scanned;
};

/* -- life ------------------------------------------------------------------------------------------------------- */

int tux_kernellog_map_bpf(int ring_fd, size_t ring_bytes, struct tux_kernellog_ring *ring)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, 0);
    if (consumer == MAP_FAILED)
        return -errno;
    void *producer = mmap(NULL, page + 2 * ring_bytes, PROT_READ, MAP_SHARED, ring_fd, (off_t)page);
    if (producer == MAP_FAILED) {
        int error = -errno;
        munmap(consumer, page);
        return error;
    }
    /* The workers are forked from this process, and must not reach the log's ring. */
    if (madvise(consumer, page, MADV_DONTFORK) != 0 || madvise(producer, page + 2 * ring_bytes, MADV_DONTFORK) != 0) {
        int error = -errno;
        munmap(consumer, page);
        munmap(producer, page + 2 * ring_bytes);
        return error;
    }
    *ring = (struct tux_kernellog_ring){
        .consumer = consumer, .producer = producer, .data = (const uint8_t *)producer + page};
    return 0;
}

static bool adopt_fd(struct tux_kernellog *log, int fd)
{
    struct stat st;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return false;
    if (log->fd >= 0)
        close(log->fd);
    log->fd = own;
    log->is_file = fstat(own, &st) == 0 && S_ISREG(st.st_mode);
    return true;
}

int tux_kernellog_new_mapped(const struct tux_kernellog_ring *ring, size_t ring_bytes, int out_fd,
                             enum tux_log_format format, struct tux_kernellog **out)
{
    *out = NULL;
    if (ring_bytes < RECORD_HEADER_BYTES || ring_bytes > UINT32_MAX / 2 || (ring_bytes & (ring_bytes - 1)) != 0)
        return -EINVAL;
    struct tux_kernellog *log = calloc(1, sizeof *log);
    if (log == NULL)
        return -ENOMEM;
    log->fd = -1;
    log->ring = *ring;
    log->ring_bytes = ring_bytes;
    log->format = format;
    log->consumed = __atomic_load_n(ring->consumer, __ATOMIC_RELAXED);
    if (!adopt_fd(log, out_fd)) {
        int error = -errno;
        free(log);
        return error;
    }
    *out = log;
    return 0;
}

int tux_kernellog_new(int ring_fd, size_t ring_bytes, int out_fd, enum tux_log_format format,
                      struct tux_kernellog **out)
{
    struct tux_kernellog_ring ring;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *out = NULL;
    if (ring_bytes == 0 || ring_bytes % page != 0 || ring_bytes > UINT32_MAX / 2)
        return -EINVAL;
    int error = tux_kernellog_map_bpf(ring_fd, ring_bytes, &ring);
    if (error != 0)
        return error;
    error = tux_kernellog_new_mapped(&ring, ring_bytes, out_fd, format, out);
    void *producer = (void *)(uintptr_t)ring.producer;
    if (error != 0) {
        munmap(ring.consumer, page);
        munmap(producer, page + 2 * ring_bytes);
        return error;
    }
    (*out)->maps[0] = ring.consumer;
    (*out)->map_bytes[0] = page;
    (*out)->maps[1] = producer;
    (*out)->map_bytes[1] = page + 2 * ring_bytes;
    return 0;
}

void tux_kernellog_free(struct tux_kernellog *log)
{
    if (log == NULL)
        return;
    for (uint32_t i = 0; i < TUX_KERNELLOG_CHUNKS; i++)
        while (log->answers[i] != NULL) {
            struct answer *next = log->answers[i]->next;
            free(log->answers[i]);
            log->answers[i] = next;
        }
    for (int i = 0; i < 2; i++)
        if (log->maps[i] != NULL)
            munmap(log->maps[i], log->map_bytes[i]);
    close(log->fd);
    free(log);
}

int tux_kernellog_reopen(struct tux_kernellog *log, int fd)
{
    if (!adopt_fd(log, fd))
        return -errno;
    log->done = 0; /* a line that was cut off there is written whole here */
    return 0;
}

struct tux_kernellog_counts tux_kernellog_count(const struct tux_kernellog *log)
{
    return log->counts;
}

/* -- answers ---------------------------------------------------------------------------------------------------- */

static struct tux_log_text text_of(const struct answer *answer, struct tux_span span)
{
    return (struct tux_log_text){.ptr = answer->head + span.off, .len = span.len};
}

int tux_kernellog_add(struct tux_kernellog *log, uint64_t id, uint32_t first_chunk, const void *head, size_t head_len,
                      uint16_t status, uint64_t body_bytes)
{
    static const struct tux_head_limits limits = {
        .target_bytes = TUX_MAX_TARGET_BYTES, .head_bytes = TUX_MAX_HEAD_BYTES, .fields = TUX_MAX_FIELDS};
    static const struct tux_sign_rules rules = {.significant = 0};
    if (first_chunk >= TUX_KERNELLOG_CHUNKS || head_len > TUX_KERNEL_MAX_HEAD_BYTES)
        return -EINVAL;
    struct answer *answer = malloc(sizeof *answer + head_len);
    if (answer == NULL)
        return -ENOMEM;
    *answer = (struct answer){
        .next = log->answers[first_chunk],
        .id = id,
        .until = UINT64_MAX,
        .line = {.minor = UINT8_MAX, .status = status, .body_bytes = body_bytes, .tier = 'k'},
    };
    memcpy(answer->head, head, head_len);
    struct tux_head *scanned = &log->scanned;
    struct tux_log_record *line = &answer->line;
    if (tux_head_scan(answer->head, head_len, 0, &limits, &rules, 0, scanned) == TUX_DONE) {
        line->minor = scanned->minor;
        line->method = text_of(answer, scanned->method_name);
        line->target = text_of(answer, scanned->target);
        line->host = text_of(answer, scanned->host);
        for (uint32_t i = 0; i < scanned->n_fields; i++) {
            if (scanned->fields[i].id == TUX_FIELD_REFERER)
                line->referer = text_of(answer, scanned->fields[i].value);
            else if (scanned->fields[i].id == TUX_FIELD_USER_AGENT)
                line->user_agent = text_of(answer, scanned->fields[i].value);
        }
    }
    log->answers[first_chunk] = answer;
    return 0;
}

void tux_kernellog_remove(struct tux_kernellog *log, uint32_t first_chunk, uint64_t id)
{
    if (first_chunk >= TUX_KERNELLOG_CHUNKS)
        return;
    for (struct answer *answer = log->answers[first_chunk]; answer != NULL; answer = answer->next)
        if (answer->id == id && answer->until == UINT64_MAX) {
            answer->until = __atomic_load_n(log->ring.producer, __ATOMIC_ACQUIRE);
            log->n_removed++;
        }
}

/* Free what was removed and is not needed any more. */
static void sweep(struct tux_kernellog *log)
{
    for (uint32_t i = 0; i < TUX_KERNELLOG_CHUNKS && log->n_removed > 0; i++)
        for (struct answer **link = &log->answers[i]; *link != NULL;) {
            struct answer *answer = *link;
            if (answer->until > log->consumed) {
                link = &answer->next;
                continue;
            }
            *link = answer->next;
            free(answer);
            log->n_removed--;
        }
}

/* -- writing ---------------------------------------------------------------------------------------------------- */

/* One write that waits for no reader: bytes, or -1. */
static ssize_t write_some(struct tux_kernellog *log, const char *bytes, size_t len)
{
    if (log->is_file)
        return write(log->fd, bytes, len);
    struct pollfd room = {.fd = log->fd, .events = POLLOUT};
    if (poll(&room, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    ssize_t done = pwritev2(log->fd, &piece, 1, -1, RWF_NOWAIT);
    if (done >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL))
        return done;
    /* Pipes know RWF_NOWAIT since Linux 6.4. A writable pipe has room for PIPE_BUF bytes, unless others write to it,
     * too. */
    return write(log->fd, bytes, len < PIPE_BUF ? len : PIPE_BUF);
}

/* Write what is in the buffer: 0 when all is out, or -errno. */
static int flush(struct tux_kernellog *log)
{
    int error = 0;
    for (unsigned i = 0; i < FLUSH_WRITES && log->len > log->done && error == 0; i++) {
        ssize_t done = write_some(log, log->out + log->done, log->len - log->done);
        if (done > 0)
            log->done += (size_t)done;
        else if (done == 0 || errno != EINTR)
            error = done == 0 ? -EIO : -errno;
    }
    if (error == 0 && log->len > log->done)
        error = -EAGAIN;
    /* A line is kept whole until its end is out. */
    const char *end = log->done > 0 ? memrchr(log->out, '\n', log->done) : NULL;
    size_t whole = end == NULL ? 0 : (size_t)(end - log->out) + 1;
    memmove(log->out, log->out + whole, log->len - whole);
    log->len -= whole;
    log->done -= whole;
    return error;
}

static void name_peer(struct tux_kernellog *log, const uint32_t remote[4])
{
    if (log->peer_len > 0 && memcmp(log->remote, remote, sizeof log->remote) == 0)
        return;
    struct in6_addr address;
    memcpy(&address, remote, sizeof address);
    if (IN6_IS_ADDR_V4MAPPED(&address))
        inet_ntop(AF_INET, &address.s6_addr[12], log->peer, sizeof log->peer);
    else
        inet_ntop(AF_INET6, &address, log->peer, sizeof log->peer);
    memcpy(log->remote, remote, sizeof log->remote);
    log->peer_len = strlen(log->peer);
}

static void take(struct tux_kernellog *log, const uint8_t *payload, int64_t wall_offset_ns)
{
    struct tux_kernel_record record;
    memcpy(&record, payload, sizeof record);
    struct answer *answer = record.first_chunk < TUX_KERNELLOG_CHUNKS ? log->answers[record.first_chunk] : NULL;
    while (answer != NULL && answer->id != record.id) /* ends: one or two */
        answer = answer->next;
    if (answer == NULL) {
        log->counts.unknown++;
        return;
    }
    name_peer(log, record.remote);
    struct tux_log_record line = answer->line;
    line.peer = (struct tux_log_text){.ptr = (const uint8_t *)log->peer, .len = log->peer_len};
    line.wall_ms = (int64_t)(record.boot_ns + (uint64_t)wall_offset_ns) / 1000000;
    log->len += tux_log_format_record(log->format, &line, log->out + log->len, sizeof log->out - log->len);
    log->counts.lines++;
}

/* -- the ring --------------------------------------------------------------------------------------------------- */

/* The next record: 1 and where it is, 0 when there is none that is complete, -EIO when the ring makes no sense. */
static int next(struct tux_kernellog *log, uint64_t produced, const uint8_t **payload, uint32_t *len, uint64_t *after)
{
    if (produced == log->consumed)
        return 0;
    const uint8_t *at = log->ring.data + (log->consumed & (log->ring_bytes - 1));
    /* The writer sets the length without BUSY when all of the record is there. */
    uint32_t header = __atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_ACQUIRE);
    if (header & RECORD_BUSY)
        return 0;
    *len = header & ~(RECORD_BUSY | RECORD_DISCARD);
    *payload = header & RECORD_DISCARD ? NULL : at + RECORD_HEADER_BYTES;
    *after = log->consumed + (((uint64_t)*len + RECORD_HEADER_BYTES + 7) & ~UINT64_C(7));
    if (produced - log->consumed > log->ring_bytes || *after - log->consumed > produced - log->consumed)
        return -EIO;
    return 1;
}

static void release(struct tux_kernellog *log)
{
    __atomic_store_n(log->ring.consumer, log->consumed, __ATOMIC_RELEASE);
}

int tux_kernellog_drain(struct tux_kernellog *log, int64_t wall_offset_ns, uint32_t max_records)
{
    if (log->broken)
        return -EIO;
    int error = flush(log); /* what was left the last time */
    uint64_t produced = __atomic_load_n(log->ring.producer, __ATOMIC_ACQUIRE);
    uint32_t taken = 0;
    while (error == 0 && taken < max_records && taken < INT_MAX) {
        const uint8_t *payload;
        uint64_t after;
        uint32_t len;
        int got = next(log, produced, &payload, &len, &after);
        if (got < 0)
            log->broken = true;
        if (got <= 0)
            break;
        if (payload != NULL && len >= sizeof(struct tux_kernel_record))
            take(log, payload, wall_offset_ns);
        else if (payload != NULL)
            log->counts.unknown++;
        log->consumed = after;
        taken++;
        if (log->len >= TUX_KERNELLOG_BATCH_BYTES) {
            release(log);
            error = flush(log);
        }
    }
    if (taken > 0)
        release(log);
    if (error == 0)
        error = flush(log);
    if (log->n_removed > 0)
        sweep(log);
    if (error == 0 && log->broken)
        error = -EIO;
    return error != 0 ? error : (int)taken;
}
