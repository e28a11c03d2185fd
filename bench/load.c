/* SPDX-License-Identifier: MIT */
/*
 * load: an HTTP/1.1 load generator that costs little, because it shares the machine with the server it measures.
 *
 * It sends prepared request heads, byte for byte, over keep-alive connections; it checks status and length of every
 * answer; it prints one JSON object. Two ways to offer load:
 *   closed loop (default): every connection keeps --pipeline requests in flight; this finds the throughput.
 *   open loop (--rate): requests are due at fixed times, whatever the server does. Latency counts from the time at
 *   which a request was due, so that an answer that was late delays, in the figures too, all that wait behind it.
 * Bodies are counted, not read: the kernel discards them (MSG_TRUNC), as a client on another machine would cost us
 * nothing either. Method and options: README.md, and usage() below.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"

enum {
    PIPELINE_MAX = 64,      /* requests in flight on one connection */
    STATUS_MAX = 8,         /* statuses that --expect-status may list */
    HEAD_MAX = 4096,        /* bytes of an answer's head that may arrive in pieces */
    RECV_SIZE = 64 * 1024,  /* bytes of one recv when answers are pipelined, else the first part of one answer */
    EVENTS_MAX = 256,       /* epoll events taken at once */
    DRAIN_MS = 2000,        /* milliseconds that answers in flight may take after the end */
    RETRY_MS = 10,          /* milliseconds before a connection that failed is opened again */
    ERRORS_MAX = 10000,     /* failed connections after which a thread gives up: the server is gone */
    CLASSES = 2,            /* of requests whose latencies are counted apart: --second */
};

#define LENGTH_ANY (-1)      /* no expectation */
#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL

/* One prepared request: its bytes in the request file, and the length of body that its answer must have. */
typedef struct {
    const char *head;
    uint32_t size;
    int64_t length;
} request_t;

static struct {
    struct sockaddr_in address;
    int connections, threads, pipeline, per_connection;
    double duration, rate;
    int64_t count; /* requests to send in all; 0: until the duration ends */
    int statuses[STATUS_MAX], status_count;
    bool length_from_path, histogram;
    int64_t length;
    request_t *requests;
    size_t request_count;
    const uint32_t *order; /* indices into requests, used in turn; NULL: the order of the file */
    size_t order_count, start;
    int64_t tick; /* ns; 0: every request has a timer of its own */
    size_t second; /* heads from this one on are the second class */
} options = {
    .connections = 64, .threads = 1, .pipeline = 1, .duration = 2.0, .length = LENGTH_ANY,
    .second = SIZE_MAX,
};

typedef struct {
    int fd;
    bool open;
    bool wants_write;       /* EPOLLOUT is set, and `unsent` holds what the socket did not take */
    bool idle;              /* open loop: it is on the stack of idle connections */
    bool closing;           /* the last answer said, or the last request asked, that the connection ends */
    int inflight, first;    /* requests without their answer: a ring that starts at `first` */
    int sent_total;         /* requests sent over this connection */
    int64_t body_left;      /* bytes of the current body still to come */
    int64_t body_size;
    int status;             /* of the answer whose body is coming */
    uint32_t head_size;     /* bytes in `head` */
    uint32_t unsent_size, unsent_done;
    char *unsent;
    int64_t due[PIPELINE_MAX];
    int64_t expected[PIPELINE_MAX];
    bool second[PIPELINE_MAX];
    char head[HEAD_MAX];    /* the part of a head that came without its end */
} conn_t;

typedef struct {
    pthread_t thread;
    int index, epoll, connection_count, dead;
    conn_t *connections;
    int *idle, idle_count;  /* open loop: connections without a request in flight, a stack */
    size_t position;        /* in the order of requests */
    int64_t left;           /* requests still to be sent */
    int64_t started, end, last_answer, next_due, interval;
    bool ended;
    uint64_t in_time, completed, wrong, errors, reconnects, unsent, body_bytes;
    char first_wrong[160];
    char *buffer;
    histogram_t latency[CLASSES];
} worker_t;

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

static int64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * NS_PER_S + time.tv_nsec;
}

/* ---- request file ----------------------------------------------------------------------------------------------- */

/* The number between the last '-' and the last '.' of the path, as in /hot/page-1024.html; -1 without one. */
static int64_t length_in_path(const char *head, size_t size)
{
    const char *from = memchr(head, ' ', size);
    const char *to = from ? memchr(from + 1, ' ', size - (size_t)(from + 1 - head)) : NULL;
    if (!to)
        return LENGTH_ANY;
    const char *dot = memrchr(from, '.', (size_t)(to - from));
    const char *dash = dot ? memrchr(from, '-', (size_t)(dot - from)) : NULL;
    return dash ? strtoll(dash + 1, NULL, 10) : LENGTH_ANY;
}

static char *map_file(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0)
        die(path);
    *size = (size_t)status.st_size;
    char *bytes = mmap(NULL, *size ? *size : 1, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED)
        die(path);
    close(fd);
    return bytes;
}

static void read_requests(const char *path)
{
    size_t size, room = 0;
    const char *bytes = map_file(path, &size), *at = bytes, *end = bytes + size;
    while (at < end) {
        const char *stop = memmem(at, (size_t)(end - at), "\r\n\r\n", 4);
        if (!stop) {
            fprintf(stderr, "load: %s: the last head has no end\n", path);
            exit(2);
        }
        if (options.request_count == room) {
            room = room ? room * 2 : 1024;
            options.requests = realloc(options.requests, room * sizeof *options.requests);
            if (!options.requests)
                die("memory");
        }
        request_t *request = &options.requests[options.request_count++];
        *request = (request_t){.head = at, .size = (uint32_t)(stop + 4 - at), .length = options.length};
        if (options.length_from_path)
            request->length = length_in_path(at, request->size);
        at = stop + 4;
    }
    if (!options.request_count) {
        fprintf(stderr, "load: %s: no request\n", path);
        exit(2);
    }
}

static void read_order(const char *path)
{
    size_t size;
    options.order = (const uint32_t *)(const void *)map_file(path, &size);
    options.order_count = size / sizeof(uint32_t);
    for (size_t i = 0; i < options.order_count; i++) {
        if (options.order[i] >= options.request_count) {
            fprintf(stderr, "load: %s: entry %zu is not the index of a request\n", path, i);
            exit(2);
        }
    }
}

static const request_t *next_request(worker_t *worker)
{
    size_t entries = options.order ? options.order_count : options.request_count, entry = worker->position;
    worker->position = entry + 1 < entries ? entry + 1 : 0;
    return &options.requests[options.order ? options.order[entry] : entry];
}

static bool is_second(const request_t *request)
{
    return (size_t)(request - options.requests) >= options.second;
}

/* ---- connections ------------------------------------------------------------------------------------------------ */

static void wish_write(worker_t *worker, conn_t *conn, bool wish)
{
    if (conn->wants_write == wish)
        return;
    conn->wants_write = wish;
    struct epoll_event event = {.events = EPOLLIN | (wish ? EPOLLOUT : 0), .data.ptr = conn};
    epoll_ctl(worker->epoll, EPOLL_CTL_MOD, conn->fd, &event);
}

static void conn_close(worker_t *worker, conn_t *conn)
{
    if (!conn->open)
        return;
    close(conn->fd);
    conn->open = false;
    worker->dead++;
}

/* A connection that broke: counted, closed, and opened again after RETRY_MS. */
static void conn_fail(worker_t *worker, conn_t *conn, const char *why)
{
    worker->errors++;
    if (!worker->first_wrong[0])
        snprintf(worker->first_wrong, sizeof worker->first_wrong, "%s (%s)", why, errno ? strerror(errno) : "-");
    conn_close(worker, conn);
}

static void conn_flush(worker_t *worker, conn_t *conn)
{
    while (conn->unsent_done < conn->unsent_size) {
        ssize_t sent = send(conn->fd, conn->unsent + conn->unsent_done, conn->unsent_size - conn->unsent_done,
                            MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN && errno != ENOTCONN)
                conn_fail(worker, conn, "send");
            return;
        }
        conn->unsent_done += (uint32_t)sent;
    }
    conn->unsent_size = conn->unsent_done = 0;
    wish_write(worker, conn, false);
}

/* Send the next `wanted` requests, each due at `due`, in one call. What the socket does not take waits for EPOLLOUT. */
static void conn_send(worker_t *worker, conn_t *conn, int wanted, int64_t due)
{
    struct iovec parts[PIPELINE_MAX];
    size_t total = 0;
    int count = 0;
    errno = 0;
    while (count < wanted && worker->left > 0) {
        if (options.per_connection && conn->sent_total == options.per_connection)
            break;
        const request_t *request = next_request(worker);
        int slot = (conn->first + conn->inflight) % PIPELINE_MAX;
        conn->due[slot] = due;
        conn->expected[slot] = request->length;
        conn->second[slot] = is_second(request);
        conn->inflight++;
        conn->sent_total++;
        worker->left--;
        parts[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)request->head, .iov_len = request->size};
        total += request->size;
    }
    if (!count)
        return;
    ssize_t sent = 0;
    if (!conn->unsent_size) {
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        sent = count == 1 ? send(conn->fd, parts[0].iov_base, parts[0].iov_len, MSG_NOSIGNAL)
                          : sendmsg(conn->fd, &message, MSG_NOSIGNAL);
        if (sent == (ssize_t)total)
            return;
        if (sent < 0 && errno != EAGAIN && errno != ENOTCONN) {
            conn_fail(worker, conn, "send");
            return;
        }
        sent = sent < 0 ? 0 : sent;
    }
    conn->unsent = realloc(conn->unsent, conn->unsent_size + total);
    if (!conn->unsent)
        die("memory");
    size_t skip = (size_t)sent;
    for (int i = 0; i < count; i++) {
        size_t done = skip < parts[i].iov_len ? skip : parts[i].iov_len;
        memcpy(conn->unsent + conn->unsent_size, (char *)parts[i].iov_base + done, parts[i].iov_len - done);
        conn->unsent_size += (uint32_t)(parts[i].iov_len - done);
        skip -= done;
    }
    wish_write(worker, conn, true);
}

static bool conn_open(worker_t *worker, conn_t *conn)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) != 0)
        die("socket");
    conn->fd = fd;
    conn->open = true;
    conn->wants_write = conn->closing = false;
    conn->inflight = conn->first = conn->sent_total = conn->status = 0;
    conn->body_left = conn->body_size = 0;
    conn->head_size = conn->unsent_size = conn->unsent_done = 0;
    worker->dead--;
    errno = 0;
    if (connect(fd, (struct sockaddr *)&options.address, sizeof options.address) != 0 && errno != EINPROGRESS) {
        conn_fail(worker, conn, "connect");
        return false;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (epoll_ctl(worker->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl");
    return true;
}

static void conn_rest(worker_t *worker, conn_t *conn)
{
    if (!conn->idle)
        worker->idle[worker->idle_count++] = (int)(conn - worker->connections);
    conn->idle = true;
}

/* Open a connection and give it work: a batch in the closed loop, a place among the idle ones in the open loop. */
static void conn_start(worker_t *worker, conn_t *conn, int64_t now)
{
    if (!conn_open(worker, conn))
        return;
    worker->interval ? conn_rest(worker, conn) : conn_send(worker, conn, options.pipeline, now);
}

/* The connection came to its announced end. Requests it still owed are sent again elsewhere. */
static void conn_renew(worker_t *worker, conn_t *conn, int64_t now)
{
    worker->left += conn->inflight;
    conn_close(worker, conn);
    worker->reconnects++;
    if (!worker->ended && worker->left > 0)
        conn_start(worker, conn, now);
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

static void note_wrong(worker_t *worker, const char *what, int64_t got, int64_t expected)
{
    worker->wrong++;
    if (!worker->first_wrong[0])
        snprintf(worker->first_wrong, sizeof worker->first_wrong, "%s %lld, expected %lld", what, (long long)got,
                 (long long)expected);
}

static void conn_answered(worker_t *worker, conn_t *conn)
{
    int64_t now = now_ns(), expected = conn->expected[conn->first];
    bool status_right = options.status_count == 0;
    for (int i = 0; i < options.status_count && !status_right; i++)
        status_right = options.statuses[i] == conn->status;
    if (!status_right)
        note_wrong(worker, "status", conn->status, options.statuses[0]);
    else if (expected != LENGTH_ANY && conn->status != 304 && expected != conn->body_size)
        note_wrong(worker, "length", conn->body_size, expected);
    else {
        worker->completed++;
        worker->in_time += !worker->ended;
    }
    histogram_record(&worker->latency[conn->second[conn->first]], now - conn->due[conn->first]);
    worker->body_bytes += (uint64_t)conn->body_size;
    worker->last_answer = now;
    conn->first = (conn->first + 1) % PIPELINE_MAX;
    conn->inflight--;
    conn->status = 0;
    if (worker->interval && !conn->closing)
        conn_rest(worker, conn);
}

/* Parse a whole head of `size` bytes, "\r\n\r\n" included. False: it is not one that we can frame. */
static bool parse_head(conn_t *conn, const char *head, size_t size)
{
    int64_t length = LENGTH_ANY;
    const char *end = head + size;
    if (size < 16 || memcmp(head, "HTTP/1.", 7) != 0 || head[8] != ' ')
        return false;
    conn->status = (head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0');
    conn->closing |= head[7] == '0';
    for (const char *line = memchr(head, '\n', size); line && line + 1 < end;
         line = memchr(line + 1, '\n', (size_t)(end - line - 1))) {
        const char *field = line + 1;
        size_t room = (size_t)(end - field);
        if ((*field | 0x20) == 'c' && room > 19) {
            if (strncasecmp(field, "content-length:", 15) == 0) {
                if (length != LENGTH_ANY)
                    return false;
                char *stop;
                length = strtoll(field + 15, &stop, 10);
                if (length < 0 || *stop != '\r')
                    return false;
            } else if (strncasecmp(field, "connection: close\r", 18) == 0) {
                conn->closing = true;
            }
        } else if ((*field | 0x20) == 't' && room > 18 && strncasecmp(field, "transfer-encoding:", 18) == 0) {
            return false;
        }
    }
    if (conn->status == 304 || conn->status == 204 || conn->status < 200)
        length = 0;
    if (length == LENGTH_ANY || conn->status < 200)
        return false;
    conn->body_left = conn->body_size = length;
    return true;
}

/* Take in `size` bytes at `data`. False: the connection was closed. */
static bool conn_take(worker_t *worker, conn_t *conn, const char *data, size_t size)
{
    while (size > 0) {
        if (conn->status) {
            size_t part = (int64_t)size < conn->body_left ? size : (size_t)conn->body_left;
            conn->body_left -= (int64_t)part;
            data += part;
            size -= part;
        } else {
            if (!conn->inflight) {
                conn_fail(worker, conn, "bytes that no request asked for");
                return false;
            }
            /* The end of the head may lie across two pieces: then look at the joined bytes. */
            const char *head = data;
            size_t old = conn->head_size, room = size;
            if (old) {
                room = size < HEAD_MAX - old ? size : HEAD_MAX - old;
                memcpy(conn->head + old, data, room);
                head = conn->head;
                room += old;
            }
            const char *stop = memmem(head, room, "\r\n\r\n", 4);
            if (!stop && room < HEAD_MAX) {
                if (!old)
                    memcpy(conn->head, data, room);
                conn->head_size = (uint32_t)room;
                return true;
            }
            size_t whole = stop ? (size_t)(stop + 4 - head) : 0;
            conn->head_size = 0;
            if (!stop || !parse_head(conn, head, whole)) {
                conn_fail(worker, conn, "head not understood");
                return false;
            }
            data += whole - old;
            size -= whole - old;
        }
        if (conn->status && conn->body_left == 0)
            conn_answered(worker, conn);
    }
    return true;
}

static void conn_readable(worker_t *worker, conn_t *conn)
{
    /* A long body is discarded in the kernel. Never more than this body: the next head must be seen. */
    bool skip = conn->status && conn->body_left > RECV_SIZE / 4;
    size_t room = skip ? (size_t)conn->body_left : options.pipeline > 1 ? RECV_SIZE : RECV_SIZE / 4;
    errno = 0;
    ssize_t got = skip ? recv(conn->fd, NULL, room, MSG_TRUNC) : recv(conn->fd, worker->buffer, room, 0);
    if (got < 0) {
        if (errno != EAGAIN)
            conn_fail(worker, conn, "recv");
        return;
    }
    if (got == 0) {
        /* An announced end, or one between requests, is no error; one inside an answer is. */
        if ((conn->closing || !conn->inflight) && !conn->status && !conn->head_size)
            conn_renew(worker, conn, now_ns());
        else
            conn_fail(worker, conn, "closed by the server before its answer");
        return;
    }
    if (skip) {
        conn->body_left -= got;
        if (conn->body_left == 0)
            conn_answered(worker, conn);
    } else if (!conn_take(worker, conn, worker->buffer, (size_t)got)) {
        return;
    }
    if (conn->closing || worker->interval || worker->ended)
        return;
    if (options.per_connection && conn->sent_total == options.per_connection && !conn->inflight) {
        conn->closing = true; /* the request asked for the end: wait for it, so that the server closes first */
        return;
    }
    if (!conn->inflight)
        conn_send(worker, conn, options.pipeline, now_ns());
}

/* ---- the loop --------------------------------------------------------------------------------------------------- */

/* Open loop: send everything that is due, as long as a connection is free. */
static void dispatch(worker_t *worker, int64_t now)
{
    while (worker->next_due <= now && worker->next_due < worker->end && worker->idle_count && worker->left > 0) {
        conn_t *conn = &worker->connections[worker->idle[--worker->idle_count]];
        conn->idle = false;
        if (!conn->open)
            continue; /* it failed while it was idle; conn_start puts it back */
        conn_send(worker, conn, 1, worker->next_due);
        worker->next_due += worker->interval;
    }
}

static void revive(worker_t *worker, int64_t now)
{
    for (int i = 0; i < worker->connection_count && worker->dead; i++)
        if (!worker->connections[i].open)
            conn_start(worker, &worker->connections[i], now);
}

static bool all_done(const worker_t *worker)
{
    for (int i = 0; i < worker->connection_count; i++)
        if (worker->connections[i].open && worker->connections[i].inflight)
            return false;
    return true;
}

static void wait_events(worker_t *worker, int64_t until)
{
    struct epoll_event events[EVENTS_MAX];
    int64_t left = until - now_ns();
    struct timespec time = {.tv_sec = left > 0 ? left / NS_PER_S : 0, .tv_nsec = left > 0 ? left % NS_PER_S : 0};
    int count = epoll_pwait2(worker->epoll, events, EVENTS_MAX, &time, NULL);
    if (count < 0 && errno != EINTR)
        die("epoll_pwait2");
    for (int i = 0; i < count; i++) {
        conn_t *conn = events[i].data.ptr;
        if (conn->wants_write && events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            conn_flush(worker, conn);
        if (conn->open && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            conn_readable(worker, conn);
    }
}

static void *worker_run(void *argument)
{
    worker_t *worker = argument;
    prctl(PR_SET_TIMERSLACK, 1UL); /* nanosecond; the default of 50 us would be most of a latency */
    worker->started = worker->last_answer = worker->next_due = now_ns();
    worker->next_due += worker->interval * worker->index / options.threads;
    worker->end = worker->started + (int64_t)(options.duration * (double)NS_PER_S);
    worker->dead = worker->connection_count;
    int64_t retry = worker->started, now;
    while ((now = now_ns()) < worker->end && worker->errors < ERRORS_MAX) {
        if (worker->left <= 0 && all_done(worker))
            break;
        if (worker->dead && worker->left > 0 && now >= retry) {
            revive(worker, now);
            retry = now + RETRY_MS * NS_PER_MS;
        }
        int64_t until = worker->dead && retry < worker->end ? retry : worker->end;
        if (worker->left <= 0 && now + RETRY_MS * NS_PER_MS < until)
            until = now + RETRY_MS * NS_PER_MS;
        if (worker->interval) {
            dispatch(worker, now);
            int64_t due = worker->next_due;
            if (options.tick)
                due += options.tick - 1 - (due - worker->started + options.tick - 1) % options.tick;
            if (worker->idle_count && due < until)
                until = due;
        }
        wait_events(worker, until);
    }
    worker->ended = true;
    int64_t window_end = now < worker->end ? now : worker->end;
    /* Requests that were due and could not even be sent waited at least until now. */
    for (; worker->interval && worker->next_due < window_end; worker->next_due += worker->interval) {
        histogram_record(&worker->latency[is_second(next_request(worker))], window_end - worker->next_due);
        worker->unsent++;
    }
    int64_t drain_end = now + DRAIN_MS * NS_PER_MS;
    while (now_ns() < drain_end && worker->errors < ERRORS_MAX && !all_done(worker))
        wait_events(worker, now_ns() + RETRY_MS * NS_PER_MS);
    for (int i = 0; i < worker->connection_count; i++) {
        conn_t *conn = &worker->connections[i];
        if (conn->open && conn->inflight)
            worker->errors += (uint64_t)conn->inflight; /* never answered */
        conn_close(worker, conn);
        free(conn->unsent);
    }
    return NULL;
}

static worker_t *worker_new(int index)
{
    worker_t *worker = calloc(1, sizeof *worker);
    if (!worker)
        die("memory");
    int share = options.connections / options.threads, rest = options.connections % options.threads;
    size_t entries = options.order ? options.order_count : options.request_count;
    worker->index = index;
    worker->connection_count = share + (index < rest);
    worker->connections = calloc((size_t)worker->connection_count, sizeof *worker->connections);
    worker->idle = calloc((size_t)worker->connection_count, sizeof *worker->idle);
    worker->buffer = malloc(RECV_SIZE);
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!worker->connections || !worker->idle || !worker->buffer || worker->epoll < 0)
        die("worker");
    worker->position = (options.start + entries * (size_t)index / (size_t)options.threads) % entries;
    worker->left = INT64_MAX / 2; /* no limit */
    if (options.count)
        worker->left = options.count / options.threads + (index < options.count % options.threads);
    if (options.rate > 0)
        worker->interval = (int64_t)((double)NS_PER_S * options.threads / options.rate);
    return worker;
}

/* ---- options and report ----------------------------------------------------------------------------------------- */

static void usage(void)
{
    fputs("usage: load --port PORT --requests FILE [option...]\n"
          "  --requests FILE             request heads, one after the other, each ended by an empty line\n"
          "  --order FILE                32-bit indices (machine byte order) of the heads to send, used in turn\n"
          "  --start N                   begin at entry N of the order\n"
          "  --second N                  heads from the Nth on (0 is the first): latencies of their own, second_us\n"
          "  --address A                 IPv4 address of the server (127.0.0.1)\n"
          "  --connections N             (64)\n"
          "  --threads N                 (1)\n"
          "  --duration SECONDS          (2)\n"
          "  --count N                   stop after N requests, if that is before the duration ends\n"
          "  --rate N                    open loop: N requests a second in all, at fixed times\n"
          "  --tick MICROSECONDS         with --rate: send what is due this often; latency counts as ever\n"
          "  --pipeline N                closed loop: N requests at once on a connection (1)\n"
          "  --requests-per-connection N the last one must ask for Connection: close; 0: no limit (0)\n"
          "  --expect-status N[,N...]    any other status is a wrong answer\n"
          "  --expect-length N|path      so is any other length; path: the number in name-NUMBER.suffix\n"
          "  --histogram                 also print [upper bound in us, count] of every bucket in use\n",
          stderr);
    exit(2);
}

static void parse_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", 1, NULL, 'p'}, {"requests", 1, NULL, 'q'}, {"order", 1, NULL, 'o'}, {"start", 1, NULL, 'a'},
        {"connections", 1, NULL, 'c'}, {"threads", 1, NULL, 't'}, {"duration", 1, NULL, 'd'}, {"count", 1, NULL, 'n'},
        {"rate", 1, NULL, 'r'}, {"pipeline", 1, NULL, 'l'}, {"requests-per-connection", 1, NULL, 'k'},
        {"expect-status", 1, NULL, 's'}, {"expect-length", 1, NULL, 'b'}, {"histogram", 0, NULL, 'g'},
        {"second", 1, NULL, '2'}, {"tick", 1, NULL, 'w'}, {"address", 1, NULL, 'i'}, {NULL, 0, NULL, 0},
    };
    const char *requests = NULL, *order = NULL, *address = "127.0.0.1";
    int port = 0, option;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'q': requests = optarg; break;
        case 'o': order = optarg; break;
        case 'a': options.start = (size_t)atoll(optarg); break;
        case 'c': options.connections = atoi(optarg); break;
        case 't': options.threads = atoi(optarg); break;
        case 'd': options.duration = atof(optarg); break;
        case 'n': options.count = atoll(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'l': options.pipeline = atoi(optarg); break;
        case 'k': options.per_connection = atoi(optarg); break;
        case 's':
            for (char *part = strtok(optarg, ","); part && options.status_count < STATUS_MAX; part = strtok(NULL, ","))
                options.statuses[options.status_count++] = atoi(part);
            break;
        case 'b':
            options.length_from_path = strcmp(optarg, "path") == 0;
            options.length = options.length_from_path ? LENGTH_ANY : atoll(optarg);
            break;
        case 'g': options.histogram = true; break;
        case '2': options.second = (size_t)atoll(optarg); break;
        case 'w': options.tick = atoll(optarg) * 1000; break;
        case 'i': address = optarg; break;
        default: usage();
        }
    }
    options.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &options.address.sin_addr) != 1 || !requests || port < 1 || port > 65535 ||
        options.threads < 1 || options.connections < options.threads || options.pipeline < 1 ||
        options.pipeline > PIPELINE_MAX || options.duration <= 0 || options.rate < 0 || options.count < 0 ||
        options.tick < 0 || optind != argc || (options.rate > 0 && options.pipeline + options.per_connection > 1))
        usage();
    read_requests(requests);
    if (order)
        read_order(order);
}

static double cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void add_up(worker_t *sum, const worker_t *one)
{
    sum->in_time += one->in_time, sum->completed += one->completed, sum->wrong += one->wrong;
    sum->errors += one->errors, sum->reconnects += one->reconnects, sum->unsent += one->unsent;
    sum->body_bytes += one->body_bytes;
    for (int i = 0; i < CLASSES; i++)
        histogram_add(&sum->latency[i], &one->latency[i]);
    if (!sum->first_wrong[0])
        memcpy(sum->first_wrong, one->first_wrong, sizeof sum->first_wrong);
}

static void report(worker_t **workers)
{
    worker_t *sum = workers[0];
    int64_t last = 0;
    for (int i = 0; i < options.threads; i++) {
        worker_t *one = workers[i];
        int64_t until = one->last_answer < one->end ? one->last_answer : one->end;
        /* Without a limit the window is the duration; with one it ends at the last answer. */
        if (!options.count && one->errors < ERRORS_MAX)
            until = one->end;
        if (until - one->started > last)
            last = until - one->started;
        if (i > 0)
            add_up(sum, one);
    }
    printf("{\"requests\": %llu, \"completed\": %llu, \"seconds\": %.6f, \"wrong\": %llu, \"errors\": %llu, "
           "\"unsent\": %llu, \"reconnects\": %llu, \"body_bytes\": %llu, \"client_cpu_us\": %.0f, "
           "\"first_wrong\": \"%s\"",
           (unsigned long long)sum->in_time, (unsigned long long)sum->completed, (double)last / (double)NS_PER_S,
           (unsigned long long)sum->wrong, (unsigned long long)sum->errors, (unsigned long long)sum->unsent,
           (unsigned long long)sum->reconnects, (unsigned long long)sum->body_bytes, cpu_us(), sum->first_wrong);
    histogram_print_percentiles("latency_us", &sum->latency[0]);
    if (options.second != SIZE_MAX)
        histogram_print_percentiles("second_us", &sum->latency[1]);
    if (options.histogram)
        histogram_print("histogram_us", &sum->latency[0]);
    printf("}\n");
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    worker_t **workers = calloc((size_t)options.threads, sizeof *workers);
    if (!workers)
        die("memory");
    for (int i = 0; i < options.threads; i++)
        workers[i] = worker_new(i);
    for (int i = 1; i < options.threads; i++)
        if (pthread_create(&workers[i]->thread, NULL, worker_run, workers[i]) != 0)
            die("thread");
    worker_run(workers[0]);
    for (int i = 1; i < options.threads; i++)
        pthread_join(workers[i]->thread, NULL);
    report(workers);
    return 0;
}
