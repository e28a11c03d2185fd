/* SPDX-License-Identifier: MIT */
/* A load generator for WebSocket echo servers (RFC 6455): each connection sends a text frame and waits for the same text.
 * Its options and figures are those of load.c, as far as they have a meaning here; --requests is the head that asks for the
 * upgrade. One thread. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"

enum { TEXT_BYTES = 32, MAX_HEAD = 8192, NS_PER_S = 1000000000, EVENTS = 256, ANSWER_BYTES = 4096 };

typedef struct {
    int fd;
    bool open;          /* the handshake is done */
    int64_t sent_ns;
    size_t received;    /* of the present answer, in `answer` */
    uint32_t number;    /* of the message: its text differs from the one before */
    char answer[ANSWER_BYTES];
} conn_t;

static struct {
    const char *address, *requests;
    int port, connections;
    double duration;
} options = {.address = "127.0.0.1", .connections = 64, .duration = 2.0};

static char head[MAX_HEAD];
static size_t head_len;
static histogram_t latency;
static unsigned long long completed, wrong, errors;
static char first_wrong[128];

static void die(const char *what)
{
    fprintf(stderr, "wsload: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void text_of(const conn_t *conn, char text[TEXT_BYTES + 1])
{
    snprintf(text, TEXT_BYTES + 1, "message %09u of socket %04u", conn->number % 1000000000u, (unsigned)conn->fd % 10000u);
}

static void complain(const char *what)
{
    if (first_wrong[0] == 0)
        snprintf(first_wrong, sizeof first_wrong, "%s", what);
}

/* One masked text frame; the mask is not random, which only matters to proxies. */
static void say(conn_t *conn)
{
    static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
    uint8_t frame[6 + TEXT_BYTES] = {0x81, 0x80 | TEXT_BYTES};
    char text[TEXT_BYTES + 1];
    conn->number++;
    text_of(conn, text);
    memcpy(frame + 2, mask, 4);
    for (int i = 0; i < TEXT_BYTES; i++)
        frame[6 + i] = (uint8_t)text[i] ^ mask[i % 4];
    conn->received = 0;
    conn->sent_ns = now_ns();
    if (send(conn->fd, frame, sizeof frame, MSG_NOSIGNAL) != sizeof frame) {
        errors++;
        complain("a frame could not be sent");
        conn->open = false;
    }
}

static void hear(conn_t *conn, int64_t begin_ns)
{
    ssize_t n = recv(conn->fd, conn->answer + conn->received, sizeof conn->answer - conn->received, 0);
    if (n <= 0) {
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        errors++;
        complain("the connection was closed");
        close(conn->fd);
        conn->fd = -1;
        return;
    }
    conn->received += (size_t)n;
    if (!conn->open) {
        char *end = memmem(conn->answer, conn->received, "\r\n\r\n", 4);
        if (end == NULL)
            return;
        if (memcmp(conn->answer, "HTTP/1.1 101 ", 13) != 0) {
            errors++;
            complain("the answer to the upgrade is not 101");
            close(conn->fd);
            conn->fd = -1;
            return;
        }
        conn->open = true;
        say(conn);
        return;
    }
    if (conn->received < 2 + TEXT_BYTES)
        return;
    char text[TEXT_BYTES + 1];
    text_of(conn, text);
    int64_t now = now_ns();
    completed++;
    if (conn->received != 2 + TEXT_BYTES || (uint8_t)conn->answer[0] != 0x81 || conn->answer[1] != TEXT_BYTES ||
        memcmp(conn->answer + 2, text, TEXT_BYTES) != 0) {
        wrong++;
        complain("the echo is another text");
    }
    if (conn->sent_ns >= begin_ns)
        histogram_record(&latency, now - conn->sent_ns);
    say(conn);
}

static void connect_one(conn_t *conn, int epoll_fd)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    int one = 1;
    if (inet_pton(AF_INET, options.address, &to.sin_addr) != 1)
        die("address");
    if ((conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0 ||
        connect(conn->fd, (struct sockaddr *)&to, sizeof to) < 0)
        die("connect");
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (send(conn->fd, head, head_len, MSG_NOSIGNAL) != (ssize_t)head_len)
        die("send");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) < 0)
        die("epoll_ctl");
}

static void parse_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"address", required_argument, NULL, 'a'},  {"port", required_argument, NULL, 'p'},
        {"requests", required_argument, NULL, 'r'}, {"connections", required_argument, NULL, 'c'},
        {"duration", required_argument, NULL, 'd'}, {"threads", required_argument, NULL, '-'},
        {"pipeline", required_argument, NULL, '-'}, {"start", required_argument, NULL, '-'},
        {"expect-status", required_argument, NULL, '-'}, {"expect-length", required_argument, NULL, '-'}, {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 'a': options.address = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'r': options.requests = optarg; break;
        case 'c': options.connections = atoi(optarg); break;
        case 'd': options.duration = atof(optarg); break;
        case '-': break; /* of load.c, without a meaning here */
        default: exit(2);
        }
    }
    if (options.requests == NULL || options.port == 0 || options.connections < 1)
        die("--requests, --port and --connections are needed");
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    FILE *file = fopen(options.requests, "rb");
    if (file == NULL || (head_len = fread(head, 1, sizeof head, file)) == 0)
        die(options.requests);
    fclose(file);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    conn_t *conns = calloc((size_t)options.connections, sizeof *conns);
    if (epoll_fd < 0 || conns == NULL)
        die("set-up");
    int64_t begin = now_ns();
    for (int i = 0; i < options.connections; i++)
        connect_one(&conns[i], epoll_fd);
    int64_t end = begin + (int64_t)(options.duration * NS_PER_S);
    struct epoll_event events[EVENTS];
    while (now_ns() < end) {
        int n = epoll_wait(epoll_fd, events, EVENTS, 100);
        for (int i = 0; i < n; i++)
            hear(events[i].data.ptr, begin);
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu_us = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
                    (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    double seconds = (double)(now_ns() - begin) / NS_PER_S;
    printf("{\"requests\": %llu, \"completed\": %llu, \"seconds\": %.6f, \"wrong\": %llu, \"errors\": %llu, "
           "\"unsent\": 0, \"reconnects\": 0, \"body_bytes\": %llu, \"client_cpu_us\": %.0f, \"first_wrong\": \"%s\"",
           completed, completed, seconds, wrong, errors, completed * TEXT_BYTES, cpu_us, first_wrong);
    histogram_print_percentiles("latency_us", &latency);
    printf("}\n");
    return 0;
}
