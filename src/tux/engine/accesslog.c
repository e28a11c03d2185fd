/* SPDX-License-Identifier: MIT */
/* The ring's positions count bytes and never wrap; records lie one after the other and end with a line feed, which occurs
 * nowhere else in them.
 *
 * Waking. The writing thread says in `state` how it sleeps: IDLE, until there is a record; GATHERING, until its flush time
 * or a half full ring. The engine publishes (store written), then looks (load state); the thread says (store state), then
 * looks (load written). All four are sequentially consistent, so one of the two sees the other. While records flow the
 * thread wakes by its own time and the engine makes no system call. */
#include "accesslog.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

_Static_assert((TUX_LOG_RING_BYTES & (TUX_LOG_RING_BYTES - 1)) == 0, "positions are masked");
_Static_assert(TUX_LOG_MAX_RECORD_BYTES < TUX_LOG_RING_BYTES / 4, "the longest record leaves room for others");

#define HALF_FULL (TUX_LOG_RING_BYTES / 2)
#define WRITABLE_POLL_MS 100 /* how often a thread that waits for the reader of its pipe looks whether time is up */

enum state { AWAKE, IDLE, GATHERING };

struct tux_accesslog {
    /* The engine's side. */
    _Alignas(64) _Atomic uint64_t written;
    uint64_t read_seen; /* `read` when last looked at */
    enum tux_log_format format;
    /* The thread's side. */
    _Alignas(64) _Atomic uint64_t read;
    int fd;              /* the thread's own; replaced from next_fd */
    bool is_file;        /* regular: a write never waits for a reader */
    size_t tail_len;     /* end of a record whose beginning is in fd already, when writing failed in its middle */
    char *tail;
    /* Both. */
    _Alignas(64) _Atomic uint32_t state;
    _Atomic int next_fd; /* -1: none */
    _Atomic bool stop;
    _Atomic int64_t stop_by_ms; /* valid once stop is set */
    _Atomic uint64_t lost;
    _Atomic int error;
    int wake_fd, done_fd; /* eventfds */
    pthread_t thread;
    char *ring;    /* TUX_LOG_RING_BYTES */
    char *scratch; /* TUX_LOG_MAX_RECORD_BYTES, where the engine formats */
};

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void eventfd_raise(int fd)
{
    uint64_t one = 1;
    ssize_t ignored = write(fd, &one, sizeof one); /* cannot fail: it is ours and far from full */
    (void)ignored;
}

/* -- the engine's thread ---------------------------------------------------------------------------------------- */

void tux_accesslog_write(struct tux_accesslog *log, const struct tux_log_record *record)
{
    size_t len = tux_log_format_record(log->format, record, log->scratch, TUX_LOG_MAX_RECORD_BYTES);
    uint64_t written = atomic_load_explicit(&log->written, memory_order_relaxed);
    uint64_t used = written - log->read_seen;
    if (used + len > HALF_FULL) {
        log->read_seen = atomic_load_explicit(&log->read, memory_order_acquire);
        used = written - log->read_seen;
    }
    if (len == 0 || used + len > TUX_LOG_RING_BYTES) {
        atomic_fetch_add_explicit(&log->lost, 1, memory_order_relaxed);
        return;
    }
    size_t at = written & (TUX_LOG_RING_BYTES - 1);
    size_t to_end = TUX_LOG_RING_BYTES - at;
    size_t first = len < to_end ? len : to_end;
    memcpy(log->ring + at, log->scratch, first);
    memcpy(log->ring, log->scratch + first, len - first);
    atomic_store(&log->written, written + len);
    uint32_t state = atomic_load(&log->state);
    if (state == IDLE || (state == GATHERING && used + len > HALF_FULL)) {
        if (atomic_exchange(&log->state, AWAKE) != AWAKE)
            eventfd_raise(log->wake_fd);
    }
}

/* -- the writing thread ----------------------------------------------------------------------------------------- */

static uint64_t count_lines(const char *bytes, size_t len)
{
    uint64_t lines = 0;
    const char *end = bytes + len, *found;
    while (bytes < end && (found = memchr(bytes, '\n', (size_t)(end - bytes))) != NULL) {
        lines++;
        bytes = found + 1;
    }
    return lines;
}

static void count_lost(struct tux_accesslog *log, uint64_t lines)
{
    atomic_fetch_add_explicit(&log->lost, lines, memory_order_relaxed);
}

static void adopt_fd(struct tux_accesslog *log, int fd)
{
    struct stat st;
    log->fd = fd;
    log->is_file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static void take_next_fd(struct tux_accesslog *log)
{
    int next = atomic_exchange(&log->next_fd, -1);
    if (next < 0)
        return;
    if (log->tail_len > 0) { /* its beginning is in the old file */
        log->tail_len = 0;
        count_lost(log, 1);
    }
    close(log->fd);
    adopt_fd(log, next);
}

static bool time_is_up(struct tux_accesslog *log)
{
    return atomic_load(&log->stop) && monotonic_ms() >= atomic_load(&log->stop_by_ms);
}

/* One write that does not wait for a reader: bytes written, or -1. */
static ssize_t write_some(struct tux_accesslog *log, const struct iovec *pieces, int count)
{
    if (log->is_file)
        return writev(log->fd, pieces, count);
    ssize_t done = pwritev2(log->fd, pieces, count, -1, RWF_NOWAIT);
    if (done >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL))
        return done;
    /* Pipes know RWF_NOWAIT since Linux 6.4. A writable pipe has room for PIPE_BUF bytes, unless others write to it, too. */
    return write(log->fd, pieces[0].iov_base, pieces[0].iov_len < PIPE_BUF ? pieces[0].iov_len : PIPE_BUF);
}

/* Write what can be written now, after waiting until a pipe, socket or terminal takes bytes. Returns the number of bytes,
 * which may be 0; or sets *error: nothing more can be written. */
static size_t write_once(struct tux_accesslog *log, const struct iovec *pieces, int count, int *error)
{
    struct pollfd waiting = {.fd = log->fd, .events = POLLOUT};
    if (time_is_up(log)) {
        *error = ETIMEDOUT;
        return 0;
    }
    if (!log->is_file && poll(&waiting, 1, WRITABLE_POLL_MS) <= 0)
        return 0;
    ssize_t done = write_some(log, pieces, count);
    if (done > 0)
        return (size_t)done;
    if (done == 0)
        *error = EIO; /* as no file system answers */
    else if (errno != EINTR && errno != EAGAIN)
        *error = errno;
    return 0;
}

/* Finish the record that is cut off in the file, so that the next one does not continue its line. */
static int write_tail(struct tux_accesslog *log)
{
    int error = 0;
    while (log->tail_len > 0 && error == 0) {
        struct iovec piece = {.iov_base = log->tail, .iov_len = log->tail_len};
        size_t done = write_once(log, &piece, 1, &error);
        log->tail_len -= done;
        memmove(log->tail, log->tail + done, log->tail_len);
    }
    return error;
}

/* The bytes of the ring from `from` to `to`, as at most two pieces. */
static int ring_pieces(const struct tux_accesslog *log, uint64_t from, uint64_t to, struct iovec pieces[2])
{
    size_t at = from & (TUX_LOG_RING_BYTES - 1);
    size_t len = (size_t)(to - from);
    size_t first = len < TUX_LOG_RING_BYTES - at ? len : TUX_LOG_RING_BYTES - at;
    pieces[0] = (struct iovec){.iov_base = log->ring + at, .iov_len = first};
    pieces[1] = (struct iovec){.iov_base = log->ring, .iov_len = len - first};
    return first < len ? 2 : 1;
}

/* Writing stopped at `from`. A record that is in the file in part goes on in the tail; whole ones up to `to` are lost. */
static void drop(struct tux_accesslog *log, uint64_t from, uint64_t to, bool in_record)
{
    while (in_record && from < to) {
        char byte = log->ring[from++ & (TUX_LOG_RING_BYTES - 1)];
        log->tail[log->tail_len++] = byte;
        in_record = byte != '\n';
    }
    struct iovec pieces[2];
    int count = ring_pieces(log, from, to, pieces);
    for (int i = 0; i < count; i++)
        count_lost(log, count_lines(pieces[i].iov_base, pieces[i].iov_len));
}

/* Write or drop all that is in the ring. */
static void flush(struct tux_accesslog *log)
{
    uint64_t from = atomic_load_explicit(&log->read, memory_order_relaxed);
    uint64_t to = atomic_load(&log->written);
    take_next_fd(log); /* after `written`: no record that is later than a reopen goes to the old file */
    if (from == to)
        return;
    bool in_record = false;
    int error = write_tail(log);
    while (from < to && error == 0) {
        /* All at once: in a file with O_APPEND whole records of several workers then follow each other. */
        struct iovec pieces[2];
        int count = ring_pieces(log, from, to, pieces);
        size_t done = write_once(log, pieces, count, &error);
        if (done == 0)
            continue;
        from += done;
        in_record = log->ring[(from - 1) & (TUX_LOG_RING_BYTES - 1)] != '\n';
        atomic_store_explicit(&log->read, from, memory_order_release);
    }
    atomic_store_explicit(&log->error, error, memory_order_relaxed);
    if (error != 0)
        drop(log, from, to, in_record);
    atomic_store_explicit(&log->read, to, memory_order_release);
}

static uint64_t waiting_bytes(struct tux_accesslog *log)
{
    return atomic_load(&log->written) - atomic_load_explicit(&log->read, memory_order_relaxed);
}

/* Sleep in this state until woken, closed, or (gathering) the flush time. */
static void sleep_as(struct tux_accesslog *log, enum state state)
{
    uint64_t enough = state == IDLE ? 1 : HALF_FULL + 1;
    atomic_store(&log->state, state);
    if (waiting_bytes(log) < enough && !atomic_load(&log->stop)) {
        struct pollfd waiting = {.fd = log->wake_fd, .events = POLLIN};
        (void)poll(&waiting, 1, state == IDLE ? -1 : (int)TUX_LOG_FLUSH_MS);
    }
    atomic_store(&log->state, AWAKE);
    uint64_t count;
    ssize_t ignored = read(log->wake_fd, &count, sizeof count);
    (void)ignored;
}

static void *write_log(void *arg)
{
    struct tux_accesslog *log = arg;
    pthread_setname_np(pthread_self(), "tux-log");
    while (!atomic_load(&log->stop)) {
        sleep_as(log, IDLE);
        take_next_fd(log); /* so that a file that was moved away is let go of, even if nothing is logged */
        while (waiting_bytes(log) > 0 && !atomic_load(&log->stop)) {
            sleep_as(log, GATHERING);
            flush(log);
        }
    }
    flush(log);
    if (log->tail_len > 0 && write_tail(log) != 0)
        count_lost(log, 1);
    eventfd_raise(log->done_fd);
    return NULL;
}

/* -- life ------------------------------------------------------------------------------------------------------- */

static int duplicate(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static void release(struct tux_accesslog *log)
{
    int next = atomic_load(&log->next_fd);
    int fds[] = {log->fd, log->wake_fd, log->done_fd, next};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    free(log->ring);
    free(log->scratch);
    free(log->tail);
    free(log);
}

struct tux_accesslog *tux_accesslog_new(int fd, enum tux_log_format format)
{
    struct tux_accesslog *log = aligned_alloc(_Alignof(struct tux_accesslog), sizeof *log);
    if (log == NULL)
        return NULL;
    memset(log, 0, sizeof *log);
    log->format = format;
    atomic_store(&log->next_fd, -1);
    adopt_fd(log, duplicate(fd));
    log->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    log->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    log->ring = malloc(TUX_LOG_RING_BYTES);
    log->scratch = malloc(TUX_LOG_MAX_RECORD_BYTES);
    log->tail = malloc(TUX_LOG_MAX_RECORD_BYTES);
    bool complete = log->fd >= 0 && log->wake_fd >= 0 && log->done_fd >= 0 && log->ring != NULL && log->scratch != NULL &&
                    log->tail != NULL;
    /* The thread takes no signals: SIGPIPE and SIGXFSZ of a failing write become plain errors, the rest is not for it. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (complete)
        complete = pthread_create(&log->thread, NULL, write_log, log) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!complete) {
        release(log);
        return NULL;
    }
    return log;
}

int tux_accesslog_reopen(struct tux_accesslog *log, int fd)
{
    int copy = duplicate(fd);
    if (copy < 0)
        return -errno;
    int unused = atomic_exchange(&log->next_fd, copy);
    if (unused >= 0)
        close(unused);
    eventfd_raise(log->wake_fd);
    return 0;
}

struct tux_log_end tux_accesslog_end(struct tux_accesslog *log)
{
    int64_t stop_by_ms = monotonic_ms() + TUX_LOG_CLOSE_MS;
    atomic_store(&log->stop_by_ms, stop_by_ms);
    atomic_store(&log->stop, true);
    eventfd_raise(log->wake_fd);
    struct pollfd done = {.fd = log->done_fd, .events = POLLIN};
    int ready = 0;
    for (int64_t left = TUX_LOG_CLOSE_MS; ready <= 0 && left > 0; left = stop_by_ms + 2 * WRITABLE_POLL_MS - monotonic_ms())
        ready = poll(&done, 1, (int)left);
    if (ready <= 0) {
        /* The kernel holds the thread in a write: it and its memory are left behind. */
        struct tux_log_end stuck = {.lost = tux_accesslog_lost(log), .error = ETIMEDOUT};
        pthread_detach(log->thread);
        return stuck;
    }
    pthread_join(log->thread, NULL);
    struct tux_log_end end = {.lost = tux_accesslog_lost(log), .error = tux_accesslog_error(log)};
    release(log);
    return end;
}

void tux_accesslog_free(struct tux_accesslog *log)
{
    if (log != NULL)
        tux_accesslog_end(log);
}

uint64_t tux_accesslog_lost(const struct tux_accesslog *log)
{
    return atomic_load_explicit(&log->lost, memory_order_relaxed);
}

int tux_accesslog_error(const struct tux_accesslog *log)
{
    return atomic_load_explicit(&log->error, memory_order_relaxed);
}
