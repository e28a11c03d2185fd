/* SPDX-License-Identifier: MIT */
/* Servers that requests are forwarded to. The public part: what they are, before tux_engine_run. */
#ifndef TUX_UPSTREAM_H
#define TUX_UPSTREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct tux_engine;
struct tux_backend;

/* One server of a group. */
struct tux_upstream_server {
    struct sockaddr_storage address; /* AF_INET, AF_INET6 or AF_UNIX */
    socklen_t address_len;
    const char *name;                /* its authority ("HOST:PORT"), for Host; copied; at most TUX_MAX_HOST_BYTES */
    uint32_t weight;                 /* 1 to TUX_MAX_UPSTREAM_WEIGHT */
};

enum tux_balance {
    TUX_BALANCE_ROUND_ROBIN,       /* in turn, smoothly by weight */
    TUX_BALANCE_LEAST_CONNECTIONS, /* the one with the fewest requests in work, in relation to its weight */
};

/* A group. All numbers are per worker; 0 of a count means what its comment says, times are at least 1 ms. */
struct tux_upstream_config {
    const struct tux_upstream_server *servers;
    uint32_t n_servers;             /* 1 to TUX_MAX_UPSTREAM_SERVERS */
    uint8_t balance;                /* enum tux_balance */
    const char *host;               /* Host for the servers: NULL as the client sent it, "" the server's name, else this */
    bool underscores;               /* pass fields with "_" in their names */
    bool upgrade;                   /* pass upgrades (WebSocket) */
    bool forwarded;                 /* add Forwarded, beside X-Forwarded-For and its like */
    uint8_t proxy_protocol;         /* begin each connection with a header of this version, which names the client: such a
                                       connection is used once. 0: none */
    bool accel;                     /* X-Accel-Redirect in its answers is honoured */
    int64_t sendfile_root;          /* number of the root below which X-Sendfile is; -1: it is not */
    uint32_t keepalive;             /* idle connections kept to each server; 0: none is used twice */
    uint32_t connections;           /* in use to each server at a time; 0: no bound */
    uint32_t queue;                 /* requests that wait for such a connection; over it: 503 */
    uint32_t retries;               /* further servers that are tried */
    uint32_t max_fails;             /* failures within fail_timeout that take a server out for fail_timeout; 0: never */
    uint64_t fail_timeout_ms;
    uint64_t keepalive_timeout_ms;  /* of an idle connection */
    uint64_t queue_timeout_ms;      /* over it: 503 */
    uint64_t connect_timeout_ms;    /* over it: another server, or 504 */
    uint64_t send_timeout_ms;       /* no byte of the request taken by the server; over it: 504 */
    uint64_t first_byte_timeout_ms; /* from the end of the request to the first byte of the response; over it: 504 */
    uint64_t idle_timeout_ms;       /* no byte of the response, while the client takes them, or in a tunnel */
};

/* All but the servers. */
void tux_upstream_defaults(struct tux_upstream_config *config);

/* "1.2.3.4:80", "[::1]:80", "unix:/path" (a path that begins with "@" is an abstract name). False: none of these. */
bool tux_upstream_address(const char *text, struct tux_upstream_server *server);

/* Before run. Copies what it gets; the group's index (0, 1, ...), -EINVAL when something is out of bounds, or -ENOMEM. */
int tux_engine_upstream(struct tux_engine *engine, const struct tux_upstream_config *config);

/* Why a server failed a request. */
#define TUX_UPSTREAM_FAILURES(X)                                                                                       \
    X(connect)      /* the connection was refused, or was not possible: see the error */                               \
    X(connect_time) /* it was not accepted in time */                                                                  \
    X(send_time)    /* the request was not read in time */                                                             \
    X(answer_time)  /* no answer in time */                                                                            \
    X(idle_time)    /* the answer stood still */                                                                       \
    X(closed)       /* the connection ended without an answer */                                                       \
    X(cut)          /* the connection ended in the middle of an answer */                                              \
    X(nonsense)     /* what came is no HTTP, or not to be framed */

enum tux_upstream_failure {
#define TUX_UPSTREAM_FAILURE(name) TUX_UPFAIL_##name,
    TUX_UPSTREAM_FAILURES(TUX_UPSTREAM_FAILURE)
#undef TUX_UPSTREAM_FAILURE
    TUX_UPFAIL_COUNT,
};

/* From any thread: what a check of the server has found. One that is not healthy gets no requests. */
void tux_upstream_health(struct tux_engine *engine, uint32_t group, uint32_t server, bool healthy);
/* From any thread: how often the server failed since the start, by enum tux_upstream_failure; returns the errno of its last
 * failure of the kind `connect`. */
extern const char *const tux_upstream_failure_names[TUX_UPFAIL_COUNT];
int tux_upstream_failures(const struct tux_engine *engine, uint32_t group, uint32_t server, uint64_t counts[TUX_UPFAIL_COUNT]);

/* -- for the engine ----------------------------------------------------------------------------------------------- */

struct tux_source;
struct tux_timer;
struct tux_upstreams; /* of an engine: engine->upstreams, NULL when it has none */

extern const struct tux_backend tux_upstream_backend; /* relay->number is the group's */

void tux_upstream_event(struct tux_engine *engine, struct tux_source *source, uint32_t events);
void tux_upstream_expired(struct tux_engine *engine, struct tux_timer *timer);       /* kind TUX_TIMER_UPSTREAM */
void tux_upstream_queue_expired(struct tux_engine *engine, struct tux_timer *timer); /* kind TUX_TIMER_UPSTREAM_QUEUE */
/* At the end of each turn of the loop: what was put off. True: it wants to go on at once, the loop must not sleep. */
bool tux_upstream_turn(struct tux_engine *engine);
/* When the loop has ended and all exchanges are over: idle connections are closed. */
void tux_upstream_end(struct tux_engine *engine);
/* Returns the number of connections that are still there (0 when all is well). */
uint64_t tux_upstream_free(struct tux_engine *engine);

#endif
