/* SPDX-License-Identifier: MIT */
/*
 * floor: the least work that an HTTP server can do on Linux, as a bound to compare servers with. One epoll_wait, one
 * recv, one send of an answer that was made before. It does not parse: it counts the ends of heads in what it
 * received. It is no web server, and must never be used as one.
 *
 *   floor --port PORT [--address 127.0.0.1] [--workers 2] [--status 200] [--size BYTES | --size path]
 *
 * --size path: the answer has the length in the path, as in /a/name-1024.html (for mixed sizes). Requests that are
 * pipelined must then all ask for the same size.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    WORKERS_MAX = 256,
    FDS_MAX = 65536,         /* descriptors, and so connections, of one worker */
    RECV_SIZE = 16 * 1024,
    BATCH_MAX = 32,          /* pipelined answers that are sent in one call */
    BATCH_BYTES = 64 * 1024, /* the batch is made of answers up to this size in all */
    SIZES_MAX = 4096,        /* distinct sizes with --size path; a power of two */
    BODY_MAX = 64 << 20,     /* bytes of the largest answer's body */
};

/* A ready answer, `copies` times in a row. */
typedef struct {
    long size;
    char *bytes;
    size_t length;
    int copies;
} answer_t;

/* What a connection still has to send: the rest of a batch. */
typedef struct {
    const char *at;
    size_t left;
    int due;         /* heads that wait for their answer */
    const answer_t *answer;
    uint32_t seen;   /* the last four bytes received: an end of a head may lie across two pieces */
    bool close, writing;
} conn_t;

static answer_t answers[SIZES_MAX];
static conn_t conns[FDS_MAX];
static int status = 200;
static long fixed_size = 1024;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static const answer_t *answer_of(long size)
{
    size_t slot = (size_t)size * 2654435761u % SIZES_MAX;
    while (answers[slot].bytes && answers[slot].size != size)
        slot = (slot + 1) % SIZES_MAX;
    answer_t *answer = &answers[slot];
    if (answer->bytes)
        return answer;
    char head[256];
    int length = status == 304 ? snprintf(head, sizeof head, "HTTP/1.1 304 Not Modified\r\nServer: floor\r\n"
                                          "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"floor\"\r\n\r\n")
                               : snprintf(head, sizeof head, "HTTP/1.1 %d OK\r\nServer: floor\r\nDate: Thu, 01 Jan "
                                          "2026 00:00:00 GMT\r\nContent-Type: text/html\r\nContent-Length: %ld\r\n"
                                          "ETag: \"floor\"\r\nAccept-Ranges: bytes\r\n\r\n", status, size);
    size_t whole = (size_t)length + (status == 304 ? 0 : (size_t)size);
    answer->size = size;
    answer->length = whole;
    answer->copies = whole * BATCH_MAX <= BATCH_BYTES ? BATCH_MAX : 1;
    answer->bytes = malloc(whole * (size_t)answer->copies);
    if (!answer->bytes)
        die("memory");
    memset(answer->bytes, 'x', whole * (size_t)answer->copies);
    for (int i = 0; i < answer->copies; i++)
        memcpy(answer->bytes + whole * (size_t)i, head, (size_t)length);
    return answer;
}

static long size_in_path(const char *bytes, size_t size)
{
    const char *from = memchr(bytes, ' ', size);
    const char *to = from ? memchr(from + 1, ' ', size - (size_t)(from + 1 - bytes)) : NULL;
    const char *dash = to ? memrchr(from, '-', (size_t)(to - from)) : NULL;
    long wanted = dash ? strtol(dash + 1, NULL, 10) : 0;
    return wanted >= 0 && wanted <= BODY_MAX ? wanted : 0;
}

static void conn_close(int fd)
{
    close(fd);
    conns[fd] = (conn_t){0};
}

static void want_write(int epoll, int fd, bool wish)
{
    if (conns[fd].writing == wish)
        return;
    conns[fd].writing = wish;
    struct epoll_event event = {.events = wish ? EPOLLOUT : EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
}

static void conn_send(int epoll, int fd)
{
    conn_t *conn = &conns[fd];
    while (conn->left || conn->due) {
        if (!conn->left) {
            int batch = conn->due < conn->answer->copies ? conn->due : conn->answer->copies;
            conn->due -= batch;
            conn->at = conn->answer->bytes;
            conn->left = conn->answer->length * (size_t)batch;
        }
        ssize_t sent = send(fd, conn->at, conn->left, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN)
                want_write(epoll, fd, true);
            else
                conn_close(fd);
            return;
        }
        conn->at += sent;
        conn->left -= (size_t)sent;
    }
    if (conn->close)
        conn_close(fd);
    else
        want_write(epoll, fd, false);
}

static void conn_receive(int epoll, int fd)
{
    static char bytes[RECV_SIZE];
    conn_t *conn = &conns[fd];
    ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            conn_close(fd);
        return;
    }
    /* Fast way: one whole head. Else count ends, the first of which may have begun in an earlier piece. */
    if (!conn->seen && memmem(bytes, (size_t)got, "\r\n\r\n", 4) == bytes + got - 4) {
        conn->due++;
    } else {
        for (ssize_t i = 0; i < got; i++) {
            conn->seen = conn->seen << 8 | (unsigned char)bytes[i];
            conn->due += conn->seen == 0x0d0a0d0a;
        }
        if (conn->seen == 0x0d0a0d0a)
            conn->seen = 0;
    }
    conn->close |= memmem(bytes, (size_t)got, "\r\nConnection: close\r\n", 21) != NULL;
    if (fixed_size < 0 || !conn->answer)
        conn->answer = answer_of(fixed_size < 0 ? size_in_path(bytes, (size_t)got) : fixed_size);
    conn_send(epoll, fd);
}

static int listen_on(struct in_addr host, int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = host};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0)
        die("listen");
    return fd;
}

static void serve(int listener)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[256], event = {.events = EPOLLIN, .data.fd = listener};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
        die("epoll");
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                if (conns[fd].writing)
                    conn_send(epoll, fd);
                else
                    conn_receive(epoll, fd);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                int on = 1;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                if (fd >= FDS_MAX || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
                    close(fd);
                else
                    conn_receive(epoll, fd); /* most often the request is there already */
            }
        }
    }
}

int main(int argc, char **argv)
{
    int port = 0, workers = 2;
    pid_t children[WORKERS_MAX];
    sigset_t ends;
    struct in_addr host = {htonl(INADDR_LOOPBACK)};
    bool valid = true;
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--port") == 0)
            port = atoi(value);
        else if (strcmp(name, "--address") == 0)
            valid = inet_pton(AF_INET, value, &host) == 1;
        else if (strcmp(name, "--workers") == 0)
            workers = atoi(value);
        else if (strcmp(name, "--status") == 0)
            status = atoi(value);
        else if (strcmp(name, "--size") == 0)
            fixed_size = strcmp(value, "path") == 0 ? -1 : atol(value);
    }
    if (!valid || port < 1 || workers < 1 || workers > WORKERS_MAX || fixed_size > BODY_MAX) {
        fputs("usage: floor --port PORT [--address A] [--workers N] [--status N] [--size BYTES|path]\n", stderr);
        return 2;
    }
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    for (int i = 0; i < workers; i++) {
        int listener = listen_on(host, port);
        children[i] = fork();
        if (children[i] < 0)
            die("fork");
        if (children[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve(listener);
        }
        close(listener);
    }
    int number;
    sigwait(&ends, &number);
    for (int i = 0; i < workers; i++)
        kill(children[i], SIGKILL);
    while (wait(NULL) > 0)
        continue;
    return 0;
}
