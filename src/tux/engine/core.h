/* SPDX-License-Identifier: MIT */
/* What the files of the engine share with each other and with nobody else. The flow of a request:
 * loop.c (event) -> conn.c (state machine) -> answer.c (a plan is known: send) or ask.c (it is not: ask, wait, reply). */
#ifndef TUX_CORE_H
#define TUX_CORE_H

#include <stddef.h>
#include <sys/uio.h>

#include "absent.h"
#include "address.h"
#include "chunked.h"
#include "engine.h"
#include "folders.h"
#include "helper.h"
#include "memo.h"
#include "own.h"
#include "recipe.h"
#include "route.h"
#include "timer.h"
#include "trust.h"
#include "wire.h"

enum tux_source_kind {
    TUX_SOURCE_CONN,
    TUX_SOURCE_LISTENER,
    TUX_SOURCE_WAKE,
    TUX_SOURCE_REPLIES,
    TUX_SOURCE_HELPER,
    TUX_SOURCE_UPSTREAM,
    TUX_SOURCE_APP,
};

/* First member of everything that epoll points to. */
struct tux_source {
    uint8_t kind;
};

struct tux_listener {
    struct tux_source source;
    bool shared, is_unix;
    bool accelerated; /* the kernel tier sees its connections */
    bool paused; /* not watched for a moment */
    int fd;
    uint32_t index;
};

/* The states of a connection, each with one function in conn.c; who may go where is in its table. */
enum tux_conn_state {
    TUX_CONN_HEAD,   /* reading heads and answering hits (idle when nothing is held) */
    TUX_CONN_BODY,   /* reading and dropping the body of a request before asking about it */
    TUX_CONN_WAIT,   /* a reply or the helper thread is awaited */
    TUX_CONN_RELAY,  /* a backend answers: the body goes to it, the answer comes from it (relay.c) */
    TUX_CONN_SEND,   /* bytes, then perhaps a file, are on their way out */
    TUX_CONN_LINGER, /* answered and half closed: reading the rest, so that no RST takes the answer away */
    TUX_CONN_CLOSED,
};

enum tux_step {
    TUX_STEP_AGAIN, /* progress was made: call the state's function again */
    TUX_STEP_WAIT,  /* nothing to do before an event */
    TUX_STEP_CLOSE, /* close now */
};

/* What an answer depends on beside its plan. */
struct tux_facts {
    uint8_t method;
    uint8_t minor;
    bool keep_alive;
    bool is_signed, same;
    struct tux_range range;
    struct tux_signature general, exact;
};

/* A request that could not be answered at once: what must outlive the shared receive buffer. The head itself is scanned
 * again when its fields are needed: cheaper than keeping 100 spans. */
struct tux_exchange {
    struct tux_conn *conn;
    struct tux_exchange *next_waiting; /* in plan->waiting */
    struct tux_plan *parked_on;        /* waits for the helper's word about this plan */
    struct tux_facts facts;
    const struct tux_chain *chain; /* of its route; NULL: the planner alone */
    uint8_t step;                  /* of the chain: whose turn it is */
    bool skip_planner;             /* it is known that the planner has nothing */
    struct tux_relay *relay;       /* while a backend has it */
    bool chunked;
    bool body_unread;      /* its body will not be read: close after the answer */
    uint8_t tier;          /* for the log */
    uint16_t status;       /* once answered */
    uint64_t body_left;    /* of Content-Length */
    uint64_t body_read;
    struct tux_chunked decoder;
    uint64_t asked_ms;
    uint64_t begun_us;
    int64_t wall_ms;
    uint64_t body_bytes;   /* sent, for the log */
    uint32_t head_len;
    uint8_t head[];
};

struct tux_conn {
    struct tux_source source;
    uint8_t state;
    bool readable;   /* recv may have something (edge-triggered) */
    bool rdhup;      /* the client has sent its FIN: read until 0 */
    bool closing;    /* no request is read after what is being answered */
    bool lingers;    /* ... and unread bytes may be around */
    bool queued;     /* in engine->ready */
    bool warming;    /* the helper is bringing its slice into the page cache */
    bool warmed;     /* ... and has: it is sent, wherever its pages are now */
    bool heard;      /* it has sent something already */
    bool unnamed;    /* a header of the PROXY protocol must come first */
    bool slotless;   /* the kernel tier has no slot for it, and will not have one */
    uint8_t watched; /* 0 not in epoll, 1 for input, 2 for output too */
    uint8_t peer_len;
    int fd;
    uint32_t slot;
    uint32_t serial; /* of its exchange, 0 without one; a number of the engine, so that a late reply meets no other
                        request, be it in this connection or in the next one in the same slot */
    uint32_t held_len, held_seen;
    uint32_t out_len, out_off;
    uint32_t received, sent; /* bytes from and to the stack, modulo 2^32 */
    uint8_t *held;   /* bytes received and not yet consumed; held_seen of them were scanned as an incomplete head */
    uint8_t *out;    /* bytes to send, private copy */
    struct tux_plan *file; /* then this file: file_left bytes from file_off */
    uint64_t file_off, file_left;
    uint64_t lingered;
    struct tux_exchange *exchange;
    struct tux_listener *listener;
    struct tux_kernel_slot *kernel_slot; /* where the kernel tier reads whether it is at rest; NULL: nowhere */
    struct tux_conn *next; /* in engine->ready or engine->graveyard */
    struct tux_timer timer;
    struct tux_address address; /* of the peer */
    struct tux_address local;   /* where it came in; NONE until an application wants to know */
    char peer[TUX_MAX_PEER_BYTES]; /* ... and its text */
};

#define TUX_BATCH_PLANS (TUX_MAX_PIPELINED + 1u) /* one error may follow a full batch */
#define TUX_BATCH_IOVECS (TUX_BATCH_PLANS * 3u) /* head, what the engine adds, body */
#define TUX_EXTRA_BYTES 192u /* Content-Range with three 20-digit numbers, Content-Length, Date, Connection, blank line */

/* Answers on their way into one writev. */
struct tux_batch {
    struct iovec iov[TUX_BATCH_IOVECS];
    uint8_t extra[TUX_BATCH_PLANS][TUX_EXTRA_BYTES];
    struct tux_plan *plans[TUX_BATCH_PLANS];
    uint32_t n_iov, n_plans;
    size_t bytes;
    size_t piece; /* bytes of the last iovec, when it is a piece of conn->file */
};

enum { TUX_CANNED_COUNT = 13 };

/* Answers to errors that the engine finds by itself, by their place in canned_status; NULL: as those of number 0. */
struct tux_canned {
    struct tux_plan *plans[TUX_CANNED_COUNT];
};

struct tux_engine {
    struct tux_source wake_source, replies_source, helper_source;
    int epoll_fd, wake_fd;
    int leaving_fd; /* see tux_engine_leaving_fd */
    bool accept_paused; /* some listener is */
    bool draining;
    bool proxy_protocol;                /* connections of trusted peers begin with a header of it */
    bool busy;                          /* a part of it goes on in the next turn, which must not sleep */
    _Atomic uint64_t drain_deadline_ms; /* UINT64_MAX: serving */
    uint64_t turn;                      /* number of this turn of the loop */
    uint64_t now_ms, now_us;            /* CLOCK_MONOTONIC, once a turn */
    uint64_t accept_again_ms;
    int64_t wall_ms, wall_s;            /* CLOCK_REALTIME, once a turn */
    char date[TUX_DATE_LINE_BYTES + 1]; /* "Date: ... GMT\r\n" of wall_s */
    uint64_t context_high;
    struct tux_engine_config config;
    char **root_paths; /* config.n_roots of them */
    struct tux_head_limits head_limits;
    struct tux_memo *memo;
    struct tux_roots *roots;
    struct tux_helper *helper;
    struct tux_trust *trust; /* NULL: the word of no peer is believed */
    struct tux_accesslog *log;
    struct tux_kernel *kernel; /* NULL: no kernel tier */
    const struct tux_backend *backends[TUX_ORIGIN_COUNT]; /* NULL: none of that kind is configured */
    struct tux_absent absent;
    struct tux_recipes *recipes;
    struct tux_folders folders;
    struct tux_own own;
    struct tux_upstreams *upstreams; /* NULL: none */
    struct tux_apps *apps;           /* NULL: none */
    uint64_t promised; /* bytes of answers that processes of applications may send unasked */
    struct tux_ring asks, replies;
    struct tux_wheel wheel;
    struct tux_listener *listeners;
    uint32_t n_listeners;
    struct tux_canned *canned; /* n_canned of them, at least one */
    uint32_t n_canned;
    struct tux_conn **conns; /* by slot */
    uint32_t *free_slots;
    uint32_t n_free, n_slots, n_conns;
    uint32_t last_serial;
    struct tux_conn *ready, **ready_tail;
    struct tux_conn *graveyard;
    struct tux_engine_stats stats;
    struct tux_head head;
    const struct tux_exchange *scanned; /* the exchange of which `head` is the scan; NULL: of something else */
    struct tux_batch batch;
    uint8_t text[TUX_MAX_HEAD_BYTES]; /* a request that the engine writes itself */
    uint8_t copy[TUX_COPY_BYTES];
    uint8_t recv[TUX_RECV_BYTES + TUX_MAX_HELD_BYTES];
};

static inline void tux_count(_Atomic uint64_t *counter, uint64_t by)
{
    /* One writer: no locked instruction is needed. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by, memory_order_relaxed);
}

static inline void tux_uncount(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) - by, memory_order_relaxed);
}

/* -- loop.c -- */
bool tux_loop_watch(struct tux_engine *engine, struct tux_conn *conn, bool output); /* false: no memory for it */
void tux_loop_queue(struct tux_engine *engine, struct tux_conn *conn); /* go on with it in the next turn */
void tux_loop_resume_accept(struct tux_engine *engine);

/* -- conn.c -- */
struct tux_conn *tux_conn_new(struct tux_engine *engine, int fd, struct tux_listener *listener); /* NULL: no memory */
void tux_conn_run(struct tux_engine *engine, struct tux_conn *conn); /* until it waits or is closed (then in the graveyard) */
void tux_conn_close(struct tux_engine *engine, struct tux_conn *conn);
void tux_conn_expired(struct tux_engine *engine, struct tux_conn *conn);
/* recv, with the bookkeeping of edge-triggered readiness. >0 bytes; 0 end of stream; -1 nothing now; -2 broken. */
ssize_t tux_conn_receive(struct tux_conn *conn, void *buf, size_t size, int flags);
bool tux_conn_hold(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *bytes, size_t len, size_t seen);
static inline uint64_t tux_conn_id(const struct tux_conn *conn)
{
    return (uint64_t)conn->serial << 32 | conn->slot;
}
/* Who sent the request at `bytes`, of which `head` is the scan. */
static inline void tux_conn_client(const struct tux_engine *engine, const struct tux_conn *conn, const uint8_t *bytes,
                                   const struct tux_head *head, struct tux_client *client)
{
    tux_trust_client(engine->trust, &conn->address, bytes, head, client);
}
void tux_conn_set_peer(struct tux_conn *conn, const struct tux_address *address);
struct tux_conn *tux_conn_by_id(struct tux_engine *engine, uint64_t id); /* NULL: gone, or on to another request */

/* -- answer.c -- */
enum tux_found_plan { TUX_PLAN_FOUND, TUX_PLAN_MISSING, TUX_PLAN_MUST_BLOCK };
enum tux_found_plan tux_answer_find(struct tux_engine *engine, const struct tux_facts *facts, struct tux_plan **plan);
/* Whether a plan answers this request: a template does only if it can be filled with the request's range. */
bool tux_answer_fits(const struct tux_facts *facts, const struct tux_plan *plan);
void tux_batch_begin(struct tux_batch *batch);
bool tux_batch_full(const struct tux_engine *engine, const struct tux_batch *batch);
/* Put one answer in. Sets conn->closing, and conn->file when the body is a file (which must then be the last). Returns the
 * number of body bytes. */
uint64_t tux_batch_add(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan,
                       const struct tux_facts *facts);
/* Send what is in: AGAIN when all left (or goes on in state SEND), CLOSE on error. */
enum tux_step tux_batch_flush(struct tux_engine *engine, struct tux_conn *conn);
enum tux_step tux_answer_send(struct tux_engine *engine, struct tux_conn *conn); /* state SEND */
/* The answer to an error, of those pages; always something. */
struct tux_plan *tux_answer_canned(struct tux_engine *engine, uint32_t pages, uint16_t status);
/* Answer the connection's exchange with an error, which has the pages of its route. */
enum tux_step tux_answer_error(struct tux_engine *engine, struct tux_conn *conn, uint16_t status);
/* Answer the connection's exchange, which is logged and freed when all is out. The caller runs the connection. */
enum tux_step tux_answer_exchange(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan);
/* ... with another head than the plan's, of the same form. NULL: the plan's. */
struct tux_own_head {
    uint32_t len;
    uint16_t status;
    uint8_t bytes[];
};
enum tux_step tux_answer_exchange_as(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan,
                                     const struct tux_own_head *own);
void tux_answer_log(struct tux_engine *engine, struct tux_conn *conn, const struct tux_head *head, const uint8_t *bytes,
                    uint16_t status, uint64_t body_bytes, char tier);
void tux_answer_log_exchange(struct tux_engine *engine, struct tux_conn *conn);

/* -- recipes.c -- */
void tux_recipes_learn(struct tux_engine *engine, struct tux_conn *conn, const struct tux_reply_view *view);
/* The plan for a request of which `head` is the scan, and which the memo does not know, when a recipe makes one: see there. */
enum tux_recipe_result tux_recipes_use(struct tux_engine *engine, const struct tux_head *head, const uint8_t *bytes,
                                       struct tux_plan **plan);
/* Have the helper thread make it, for the connection's exchange, which waits from here on. False: nothing has happened. */
bool tux_recipes_hand_over(struct tux_engine *engine, struct tux_conn *conn);
void tux_recipes_made(struct tux_engine *engine, struct tux_job *job); /* it has: answer, or ask the planner */

/* -- ask.c -- */
struct tux_exchange *tux_exchange_new(struct tux_engine *engine, struct tux_conn *conn, const struct tux_head *head,
                                      const uint8_t *bytes); /* NULL: no memory */
void tux_exchange_free(struct tux_engine *engine, struct tux_conn *conn);
/* Make engine->head the scan of the exchange's head, if it is not. False does not happen: it was scanned before. */
bool tux_exchange_scan(struct tux_engine *engine, struct tux_conn *conn);
/* A reply to this exchange's ask would come too late from here on. */
void tux_exchange_renew(struct tux_engine *engine, struct tux_conn *conn);
/* Of the signatures of a listener's requests. */
static inline uint64_t tux_conn_context(const struct tux_engine *engine, const struct tux_conn *conn)
{
    return engine->context_high | conn->listener->index;
}
/* The exchange is complete: look again or ask. Sets state WAIT, or answers 503 when the ring is full. */
enum tux_step tux_ask_send(struct tux_engine *engine, struct tux_conn *conn);
/* Ask about a file that a backend has named, by a request of its own, of which engine->head is the scan. root: where it is, or
 * TUX_NO_ROUTE: where the site says. False: there is no room. */
bool tux_ask_file(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *bytes, uint32_t root);
/* Put a plan into the memo if it may be there and was asked for before. */
void tux_ask_remember(struct tux_engine *engine, const struct tux_facts *facts, struct tux_plan *plan);
bool tux_ask_check(struct tux_engine *engine, struct tux_plan *plan); /* by the helper thread; false: no memory */
void tux_ask_park(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan); /* until its checks are known */
void tux_ask_replies(struct tux_engine *engine); /* take all replies */
void tux_ask_discard_replies(struct tux_engine *engine); /* at the end: close the files that nobody takes any more */
void tux_ask_helped(struct tux_engine *engine);  /* take all jobs that are done */
void tux_ask_load(struct tux_engine *engine, const struct tux_facts *facts, struct tux_plan *plan); /* if it is hot */
/* Have the helper thread read all of it, to be kept in memory. False: no memory for that. */
bool tux_ask_load_file(struct tux_engine *engine, struct tux_file *file);
/* Have the helper thread bring this of a file into the page cache; the connection then runs. False: no memory. */
bool tux_ask_warm(struct tux_engine *engine, struct tux_conn *conn, struct tux_file *file, uint64_t offset,
                  uint64_t length);
void tux_ask_count_memo(struct tux_engine *engine); /* the memo has changed: its numbers go into the stats */
struct tux_facts tux_facts_of(const struct tux_head *head);

#endif
