/* SPDX-License-Identifier: MIT */
/* A request at a backend (another server, or an application's process): both directions stream, within bounds. The relay
 * is the client's half: it reads the body, frames the answer, buffers what the client does not take at once. The backend's
 * half is in upstream.c and app.c.
 *
 * Nothing here runs the connection's state machine: what a backend says is noted, and the connection goes on in the same
 * turn of the loop, when the event has been worked off. So a head, a body and its end that come together leave in one
 * send(2). Data that is passed either way is valid during the call only. */
#ifndef TUX_RELAY_H
#define TUX_RELAY_H

#include "core.h"
#include "outq.h"

#define TUX_RELAY_BUFFER_BYTES (256u * 1024u) /* of an answer, for a client that is slower than the backend */
#define TUX_RELAY_CORK_BYTES 16384u /* what is less waits for more of it until the event has been worked off */
#define TUX_RELAY_RESUME_BYTES (TUX_RELAY_BUFFER_BYTES / 2u) /* a backend that found no room goes on at so much */

struct tux_backend {
    char tier; /* for the access log */
    /* Take the request of conn->exchange, of which engine->head is the scan (spans into exchange->head); relay->number
     * says which application or group of servers. 0: taken, else the status to answer with. May call tux_relay_*. */
    uint16_t (*begin)(struct tux_engine *engine, struct tux_conn *conn);
    /* How many bytes of the request's body can be taken now. After 0, tux_relay_take_body says when there is room. */
    size_t (*room)(struct tux_engine *engine, struct tux_conn *conn);
    /* Decoded body bytes, no more than there was room for; in a tunnel the bytes as they come. end: no more follow (also
     * with len 0). */
    void (*body)(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *data, size_t len, bool end);
    /* There is room for the answer again, after tux_relay_room was too small. */
    void (*drained)(struct tux_engine *engine, struct tux_conn *conn);
    /* The client has sent its FIN behind the whole request. It may still read. */
    void (*half_closed)(struct tux_engine *engine, struct tux_conn *conn);
    /* The exchange ends for the backend; nothing is called for it afterwards, either way. complete: after tux_relay_end. */
    void (*release)(struct tux_engine *engine, struct tux_conn *conn, bool complete);
};

/* What becomes of a plan that a backend has asked for; NULL: none could be made. The reference stays the caller's. */
typedef void tux_relay_planned(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan);

struct tux_relay {
    const struct tux_backend *backend; /* NULL: released */
    void *peer;           /* the backend's own */
    uint32_t number;
    uint16_t failed;      /* status of the answer in place of the backend's */
    bool body_end;        /* all of the request's body has been passed on */
    bool continues;       /* 100 is due before the body is read */
    bool answered, ended; /* the final head, the whole answer was given */
    bool no_body, chunked, until_close, tunnel;
    bool keep;            /* the connection stays open, as far as the answer goes */
    bool starved;         /* the backend awaits drained() */
    bool blocked;         /* the socket takes no more: EPOLLOUT is awaited */
    bool next;            /* the backend declines */
    bool told_half_closed;
    bool may_upgrade;     /* the client has asked for it */
    uint32_t body_taken;  /* of conn->held, by tux_relay_body_now */
    uint64_t left;        /* of the announced body */
    uint64_t sent;        /* to the client */
    uint64_t progress;    /* bytes that the client sent or took */
    uint64_t timed_progress; /* ... when the timer was set */
    uint64_t counted;     /* bytes of `out` in the engine's gauge */
    bool dirty;           /* the backend has said something since the last look */
    bool broken;          /* the client's socket is, or the backend contradicted itself: close */
    bool touched;         /* body bytes were passed on, or asked for */
    bool timed;           /* the connection's timer is set */
    tux_relay_planned *planned; /* a plan was asked for in the backend's name */
    struct tux_plan *plan;      /* it is the answer, in place of one by tux_relay_answer */
    struct tux_own_head *own;   /* ... with this head; NULL: its own */
    struct tux_outq out;
};

/* The final head. Fields are whole lines with their CRLF, checked, without Content-Length and all that is hop-by-hop. */
struct tux_relay_head {
    uint16_t status;
    const uint8_t *reason; /* may be empty: the usual one is taken */
    uint32_t reason_len;
    const uint8_t *fields;
    uint32_t fields_len;
    int64_t length;        /* of the body; -1: not known */
    bool has_date, has_server;
    bool trailers;         /* tux_relay_end may bring trailer fields */
};

/* -- for backends ----------------------------------------------------------------------------------------------- */

/* 1xx other than 100 and 101; dropped for clients of HTTP/1.0. */
void tux_relay_inform(struct tux_engine *engine, struct tux_conn *conn, uint16_t status, const uint8_t *fields,
                      size_t fields_len);
/* The final head, once. */
void tux_relay_answer(struct tux_engine *engine, struct tux_conn *conn, const struct tux_relay_head *head);
/* Body bytes, after the head. More than was announced cuts the connection. What the answer to HEAD has is dropped. */
void tux_relay_data(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *data, size_t len);
/* Body bytes from a file, which has so many. The relay takes a reference of its own. */
void tux_relay_file(struct tux_engine *engine, struct tux_conn *conn, struct tux_file *file, uint64_t offset,
                    uint64_t len);
/* The answer is complete; less than was announced cuts the connection. The backend is released. */
void tux_relay_end(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *trailers, size_t len);
/* The answer will not become complete: before its head this status is answered, after it the connection is cut. The
 * backend is released. */
void tux_relay_fail(struct tux_engine *engine, struct tux_conn *conn, uint16_t status);
/* 101 with these fields: from here on bytes are passed both ways until tux_relay_end. */
void tux_relay_upgrade(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *fields, size_t fields_len);
/* Before the head: a plan is the answer, with another head than its own if `own` is not NULL, which is the relay's from here
 * on. It is sent as a hit of the memo would be. The backend is released. */
void tux_relay_plan(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan, struct tux_own_head *own);
/* The planner was asked, and `planned` is called for its reply, while the backend is not released. */
void tux_relay_await(struct tux_conn *conn, tux_relay_planned *planned);
/* It is not waited for any more. */
void tux_relay_unplanned(struct tux_engine *engine, struct tux_conn *conn);
/* Before the head: the next step of the chain is to answer; forward: the step that forwards. The backend is released.
 * False: there is none, or the body has been touched; then nothing happened. */
bool tux_relay_next(struct tux_engine *engine, struct tux_conn *conn, bool forward);
/* Before the head: another backend answers; the one so far is released. */
void tux_relay_replace(struct tux_engine *engine, struct tux_conn *conn, const struct tux_backend *backend, void *peer);
/* There is room for the request's body (again). */
void tux_relay_take_body(struct tux_engine *engine, struct tux_conn *conn);

/* The backend has let the request wait, and now somebody has it: what there is to be told about its client, and the rest of
 * its body, follow. */
void tux_relay_given(struct tux_engine *engine, struct tux_conn *conn);
/* Bytes of the answer that may be given now. After 0, drained() says when there is room. */
size_t tux_relay_room(struct tux_engine *engine, struct tux_conn *conn);
/* In begin(): body bytes that came with the head, at most `max` of them, for a backend that sends them along. They are
 * taken by this. *end: they are all. */
void tux_relay_body_now(struct tux_engine *engine, struct tux_conn *conn, size_t max, const uint8_t **data, size_t *len,
                        bool *end);
/* -- for conn.c and origin.c ------------------------------------------------------------------------------------ */

/* Hand the exchange to the backend of its step. */
enum tux_step tux_relay_begin(struct tux_engine *engine, struct tux_conn *conn);
/* State RELAY. AGAIN: the answer is out, or another state was set. */
enum tux_step tux_relay_step(struct tux_engine *engine, struct tux_conn *conn);
/* The client made the deadline pass. */
enum tux_step tux_relay_expired(struct tux_engine *engine, struct tux_conn *conn);
/* EPOLLOUT: the socket takes bytes again. */
static inline void tux_relay_writable(struct tux_conn *conn)
{
    if (conn->exchange != NULL && conn->exchange->relay != NULL)
        conn->exchange->relay->blocked = false;
}
void tux_relay_free(struct tux_engine *engine, struct tux_conn *conn);

#endif
