/* SPDX-License-Identifier: MIT */
/* What the files of the forwarder share with each other and with nobody else. The flow of a request:
 * upstream.c (a call: which server, again, or wait) -> upstream_conn.c (a connection to a server: request out, response in),
 * upstream_pool.c (connections without a call). */
#ifndef TUX_UPSTREAMS_H
#define TUX_UPSTREAMS_H

#include "accel.h"
#include "chunked.h"
#include "core.h"
#include "forward.h"
#include "proxyproto.h"
#include "relay.h"
#include "response.h"
#include "upstream.h"

struct tux_upgroup;

struct tux_upserver {
    struct sockaddr_storage address;
    socklen_t address_len;
    char name[TUX_MAX_HOST_BYTES + 1];
    uint32_t name_len;
    uint32_t index; /* in its group */
    int64_t weight, current; /* smooth weighted round robin */
    uint32_t busy;  /* connections with a call */
    uint32_t n_idle;
    struct tux_upconn *idle_newest, *idle_oldest;
    _Atomic bool unhealthy; /* says whoever checks actively */
    uint32_t fails;
    uint64_t fails_since_ms, down_until_ms;
    _Atomic uint64_t failures[TUX_UPFAIL_COUNT]; /* since the start, for the log */
    _Atomic int connect_error;                   /* errno of the last one */
};

struct tux_upgroup {
    struct tux_upstream_config config; /* servers and host in it are not used */
    struct tux_forward_rules rules;
    struct tux_accel_rules accel;
    bool host_of_server;
    bool wanted; /* a connection may have become free: look at the queue in this turn */
    _Atomic bool judged; /* ... or a check says of a server that it works again, or does not any more */
    struct tux_upserver *servers;
    struct tux_upcall *queue, **queue_tail;
    uint32_t n_queued;
    struct tux_timer timer; /* of the first in the queue */
};

enum tux_upconn_state {
    TUX_UP_CONNECTING,
    TUX_UP_HEAD,   /* the request goes out, the head of the response is awaited */
    TUX_UP_BODY,
    TUX_UP_TUNNEL, /* after 101: bytes both ways */
    TUX_UP_IDLE,   /* in the pool */
    TUX_UP_CLOSED, /* in the graveyard until the turn ends */
};

/* A connection to a server. */
struct tux_upconn {
    struct tux_source source;
    uint8_t state;
    uint8_t framing;    /* of the response */
    bool readable;      /* recv may have something (edge-triggered) */
    bool rdhup;         /* the server has sent its FIN: read until 0 */
    uint8_t watched;    /* 0 not in epoll, 1 for input, 2 for output too */
    bool reused;        /* it had a call before this one */
    bool connect_again; /* a unix socket's queue was full */
    bool deferred;      /* in upstreams->ready */
    bool broken;        /* the server takes no bytes any more; it may have answered */
    bool silent;        /* no byte of this call has been taken by the system yet */
    bool blocked;       /* the system takes no more now */
    bool paused;        /* the client takes no more now */
    bool fin;           /* half close it when all is out */
    bool keep;          /* the response allows another request after it */
    uint8_t informed;   /* number of 1xx heads */
    int fd;
    struct tux_upgroup *group;
    struct tux_upserver *server;
    struct tux_upcall *call;  /* NULL: idle or closed */
    uint64_t taken_turn;      /* engine->turn at which it got its call */
    uint64_t connect_until_ms;
    uint8_t *out;             /* of the request, not yet sent */
    uint32_t out_len, out_off;
    uint8_t *held;            /* an incomplete head; or the trailer section */
    uint32_t held_len, held_seen;
    uint64_t left;            /* of a body with a length */
    struct tux_chunked decoder;
    struct tux_timer timer;
    struct tux_upconn *newer, *older;        /* in the pool */
    struct tux_upconn *next;                 /* in upstreams->ready, or the graveyard */
};

/* A request at a group: relay->peer. */
struct tux_upcall {
    struct tux_conn *conn;    /* the client's */
    struct tux_upgroup *group;
    struct tux_upconn *up;    /* NULL: in the queue */
    struct tux_upcall *next_queued;
    uint64_t queued_until_ms;
    uint64_t tried;           /* bits of servers */
    uint32_t tries;           /* servers that failed it */
    bool queued;
    bool fresh;               /* only a new connection: one of the pool was dead */
    bool is_head, idempotent, chunked;
    bool has_body;
    bool body_started;        /* bytes of it were taken: it cannot be sent again */
    bool body_done;           /* all of it is in the connection's hands */
    bool body_wanted;         /* room was refused: say when there is some */
    bool waits_continue;      /* for 100, before the body is asked for */
    bool answered;            /* the head of the response was passed on, or a 1xx */
    struct tux_forward_head head;
};

struct tux_upstreams {
    struct tux_upgroup **groups;
    uint32_t n_groups;
    uint64_t n_conns;
    struct tux_upconn *ready, **ready_tail; /* to go on with at the end of the turn */
    struct tux_upconn *graveyard;
    struct tux_response response;
    uint8_t head[TUX_PROXY_BUILD_BYTES + TUX_FORWARD_HEAD_BYTES]; /* of a request, perhaps with the header before it */
    uint8_t recv[TUX_UPSTREAM_RECV_BYTES + TUX_MAX_RESPONSE_HEAD_BYTES];
};

/* -- upstream.c -- */
/* A server did not do its part of the call, whose connection is closed already: try again, or answer with the status. `stale`:
 * it was a connection of the pool that had ended. `silent`: no byte of the request has left. */
void tux_upcall_failed(struct tux_engine *engine, struct tux_upcall *call, struct tux_upserver *server, bool stale,
                       bool silent, enum tux_upstream_failure failure);
void tux_upserver_failed(struct tux_engine *engine, struct tux_upgroup *group, struct tux_upserver *server,
                         enum tux_upstream_failure failure);
void tux_upserver_worked(struct tux_upserver *server);

/* -- upstream_conn.c -- */
/* A new connection, perhaps not yet established. NULL: that failed at once, with errno. */
struct tux_upconn *tux_upconn_new(struct tux_engine *engine, struct tux_upgroup *group, struct tux_upserver *server);
/* Send the head of its call as far as possible; `later`: at the end of the turn, so that body bytes can go out with it.
 * False, with errno: no byte of it was taken and none will be; the connection is closed, the call without one. */
bool tux_upconn_send_head(struct tux_engine *engine, struct tux_upconn *up, const uint8_t *head, size_t len, bool later);
size_t tux_upconn_room(const struct tux_upconn *up); /* for body bytes */
void tux_upconn_offer_room(struct tux_engine *engine, struct tux_upconn *up); /* if the relay found none before */
void tux_upconn_send_body(struct tux_engine *engine, struct tux_upconn *up, const uint8_t *data, size_t len, bool end);
void tux_upconn_defer(struct tux_engine *engine, struct tux_upconn *up); /* go on with it at the end of the turn */
void tux_upconn_run(struct tux_engine *engine, struct tux_upconn *up);
void tux_upconn_detach(struct tux_engine *engine, struct tux_upconn *up); /* from its call */
void tux_upconn_close(struct tux_engine *engine, struct tux_upconn *up);  /* its call, if any, is left without one */
/* Close it and let the call try again, or answer. */
void tux_upconn_fail(struct tux_engine *engine, struct tux_upconn *up, bool stale, enum tux_upstream_failure failure);
/* Keep bytes in up->held. False: no memory, or over the budget. */
bool tux_upconn_hold(struct tux_engine *engine, struct tux_upconn *up, const uint8_t *bytes, size_t len, bool append);
void tux_upconn_unhold(struct tux_engine *engine, struct tux_upconn *up);

/* -- upstream_response.c -- */
/* Bytes from the server; in state HEAD the first `seen` of them are known to be an incomplete head. `buf` is overwritten.
 * False: the call is over, or has another connection. */
bool tux_upconn_feed(struct tux_engine *engine, struct tux_upconn *up, uint8_t *buf, size_t len, size_t seen);
/* The server has ended the connection: with FIN (`orderly`), or not. */
void tux_upconn_ended(struct tux_engine *engine, struct tux_upconn *up, bool orderly);
/* The response cannot become whole: no further try. */
void tux_upconn_cut(struct tux_engine *engine, struct tux_upconn *up, enum tux_upstream_failure failure);

/* -- upstream_pool.c -- */
/* NULL: none. `look`: it is looked at, whether it still lives. */
struct tux_upconn *tux_uppool_take(struct tux_engine *engine, struct tux_upserver *server, bool look);
void tux_uppool_put(struct tux_engine *engine, struct tux_upconn *up);
void tux_uppool_remove(struct tux_upconn *up);

#endif
