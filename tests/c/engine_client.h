/* SPDX-License-Identifier: MIT */
/* Clients for the tests of the engine: blocking sockets, a small reader of answers. */
#ifndef TUX_ENGINE_CLIENT_H
#define TUX_ENGINE_CLIENT_H

#include "engine_kit.h"

struct client {
    int fd;
    size_t len;        /* bytes in `buf` */
    uint8_t buf[65536];
};

struct answer {
    int status;        /* 0: the connection ended before a whole head came */
    bool whole;        /* all announced body bytes came */
    char head[2048];
    uint64_t length;   /* of Content-Length */
    uint64_t received; /* body bytes */
    char body[4096];   /* its beginning, with a NUL behind */
    uint64_t sum;      /* of all its bytes, each times its place, to compare large bodies */
};

static inline uint64_t body_sum(const uint8_t *bytes, size_t len, uint64_t at)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum += (at + i + 1) * (bytes[i] + 1u);
    return sum;
}

static inline void client_open(struct client *client, int fd)
{
    struct timeval limit = {.tv_sec = KIT_LIMIT_MS / 1000};
    client->fd = fd;
    client->len = 0;
    MUST(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/* receive_bytes: size of the receive buffer, 0 for the usual one. */
static inline void client_connect_with(struct client *client, const struct kit *kit, int receive_bytes)
{
    int one = 1;
    client_open(client, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (receive_bytes > 0)
        setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    setsockopt(client->fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, sizeof one);
    MUST(connect(client->fd, (const struct sockaddr *)&kit->address, sizeof kit->address) == 0);
}

static inline void client_connect(struct client *client, const struct kit *kit)
{
    client_connect_with(client, kit, 0);
}

static inline void client_connect_unix(struct client *client, const struct kit *kit)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", kit->socket_path);
    client_open(client, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MUST(connect(client->fd, (struct sockaddr *)&un, sizeof un) == 0);
}

static inline void client_close(struct client *client)
{
    close(client->fd);
}

/* Gone without a word: the engine gets a RST. */
static inline void client_abort(struct client *client)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(client->fd);
}

static inline bool client_write(struct client *client, const void *bytes, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = send(client->fd, (const char *)bytes + at, len - at, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

static inline bool client_say(struct client *client, const char *text)
{
    return client_write(client, text, strlen(text));
}

/* GET path in HTTP/1.1. */
static inline void client_get(struct client *client, const char *path)
{
    char text[2048];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: kit\r\n\r\n", path);
    MUST(client_say(client, text));
}

/* More bytes into the buffer. False at the end of the stream, on an error or after the time limit. */
static inline bool client_fill(struct client *client)
{
    MUST(client->len < sizeof client->buf);
    ssize_t n;
    do
        n = recv(client->fd, client->buf + client->len, sizeof client->buf - client->len, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    client->len += (size_t)n;
    return true;
}

static inline void client_drop(struct client *client, size_t len)
{
    memmove(client->buf, client->buf + len, client->len - len);
    client->len -= len;
}

/* One answer. head_only: it answers HEAD. */
static inline void client_read_as(struct client *client, struct answer *answer, bool head_only)
{
    *answer = (struct answer){0};
    const uint8_t *end;
    while ((end = memmem(client->buf, client->len, "\r\n\r\n", 4)) == NULL)
        if (!client_fill(client))
            return;
    size_t head_len = (size_t)(end - client->buf) + 4;
    MUST(head_len < sizeof answer->head);
    memcpy(answer->head, client->buf, head_len);
    client_drop(client, head_len);
    MUST(sscanf(answer->head, "HTTP/1.1 %d ", &answer->status) == 1);
    const char *length = strstr(answer->head, "\r\nContent-Length: ");
    answer->length = length == NULL ? 0 : strtoull(length + 18, NULL, 10);
    uint64_t want = head_only ? 0 : answer->length;
    while (answer->received < want) {
        if (client->len == 0 && !client_fill(client))
            return;
        size_t n = client->len < want - answer->received ? client->len : (size_t)(want - answer->received);
        if (answer->received < sizeof answer->body - 1) {
            size_t room = sizeof answer->body - 1 - (size_t)answer->received;
            memcpy(answer->body + answer->received, client->buf, n < room ? n : room);
        }
        answer->sum += body_sum(client->buf, n, answer->received);
        answer->received += n;
        client_drop(client, n);
    }
    answer->whole = true;
}

static inline void client_read(struct client *client, struct answer *answer)
{
    client_read_as(client, answer, false);
}

/* The next answer has this status and this body. Gives the truth of it. */
#define CHECK_ANSWER(client, status, body) client_expect(client, status, body, __FILE__, __LINE__)

static inline bool client_expect(struct client *client, int status, const char *body, const char *file, int line)
{
    static struct answer answer;
    client_read(client, &answer);
    bool good = answer.status == status && answer.whole && strcmp(answer.body, body) == 0;
    if (!good)
        fprintf(stderr, "%s:%d: got %d \"%s\"%s\n", file, line, answer.status, answer.body,
                answer.whole ? "" : " (cut short)");
    return check_that(good, file, line, body) != 0;
}

/* The server has ended the connection, after what was read. `orderly`: with FIN, not RST. */
static inline bool client_at_end(struct client *client, bool orderly)
{
    if (client->len > 0)
        return false;
    ssize_t n = recv(client->fd, client->buf, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET && !orderly);
}

static inline bool has_field(const struct answer *answer, const char *line)
{
    char text[256];
    snprintf(text, sizeof text, "\r\n%s\r\n", line);
    return strstr(answer->head, text) != NULL;
}

#endif
