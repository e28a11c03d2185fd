/* SPDX-License-Identifier: MIT */
/* What app.c (requests, and whom they are given to), applink.c (links, and what goes over them) and appreply.c (what
 * processes say) share. */
#ifndef TUX_APPS_H
#define TUX_APPS_H

#include <pthread.h>

#include "app.h"
#include "appwire.h"
#include "core.h"

/* A process that has so many bytes of requests before it which it did not take gets no more for now: they wait in the
 * engine, for whichever process is ready first, and are not lost with one that crashes. About 30 requests. */
#define TUX_APP_UNREAD_BYTES 16384u

struct tux_applink;

struct tux_apprequest {
    struct tux_conn *conn;
    struct tux_app *app;
    struct tux_applink *link; /* NULL: it waits in the application's queue */
    struct tux_apprequest *next, *prev; /* in the queue, or among those of the link that want room for their body */
    uint32_t tag, serial;
    int64_t to_process;   /* bytes of the request's body that may be sent */
    int64_t from_process; /* bytes of the answer that may come; set by tux_apprequest_promise */
    uint64_t position;    /* of its record in the ring: was it read? */
    uint64_t number;      /* among the application's, in the order in which they came */
    uint64_t deadline_ms; /* in the queue; never later than that of the next */
    bool waits_for_room;  /* it is in the link's list */
    bool with_body;       /* part of the request's body is in its record */
    bool over;            /* the process knows that it is over */
    uint8_t informed;     /* number of 1xx answers */
    struct tux_facts looks; /* of the lookup under way */
};

/* A control record for which there was no room. */
struct tux_apppending {
    struct tux_apppending *next;
    struct tux_app_record record;
};

/* What epoll points to. */
struct tux_appsource {
    struct tux_source source;
    bool side;
    struct tux_applink *link;
};

/* A file that the process may name. */
struct tux_apphandle {
    struct tux_file *file; /* NULL: none */
    uint64_t used_ms;
    bool told;             /* the process was told that it need not be kept */
};

struct tux_applink {
    struct tux_appsource wake_source, side_source;
    struct tux_apps *apps;
    struct tux_app *app;
    struct tux_applink *next; /* of the application */
    uint64_t number;
    struct tux_ring requests, answers;
    int process_wake_fd, wake_fd, side_fd;
    struct tux_apprequest **by_tag;
    uint32_t *free_tags;
    uint32_t n_tags, n_free;
    uint32_t last_serial;
    uint32_t outstanding;
    struct tux_apppending *pending, **pending_tail;
    struct tux_apprequest *want_room;
    uint64_t files; /* descriptors taken */
    struct tux_apphandle handles[TUX_APP_HANDLES];
    uint64_t given; /* descriptors sent */
    bool asleep;    /* the engine's end of the answers: the process will wake it */
    bool dirty;     /* the process may have to be woken */
    bool awaits;    /* the process was asked to say when there is room */
    bool leaving;   /* it wants no more requests */
    bool drained;   /* ... and will get none */
    bool dead;      /* to be freed at the end of the turn */
};

struct tux_app {
    struct tux_app_config config;
    struct tux_applink *links;
    struct tux_apprequest *queue, *queue_end; /* first come, first served */
    uint32_t n_queued;
    uint64_t n_requests; /* so far */
    uint64_t epoch;      /* changes when a process leaves: what it left in the memo is over then */
    uint32_t round; /* whose turn it is among equals */
    struct tux_timer timer; /* of the first in the queue */
};

struct tux_appcommand {
    struct tux_appcommand *next;
    bool unlink;
    struct tux_app_link_config config; /* unlink: its serial alone */
};

struct tux_apps {
    struct tux_app **apps;
    uint32_t n;
    pthread_mutex_t lock; /* over commands */
    struct tux_appcommand *commands, **commands_tail;
    uint64_t drain_since_ms; /* 0: the engine serves */
    struct tux_timer late;   /* ... and when it may be told to the processes */
    struct tux_timer sweep;  /* over files that are kept */
    bool sweeps;             /* ... is set */
    uint64_t sweep_ms, unused_ms;
    bool dispatch;           /* something in a queue may find a process now */
    bool stirred;            /* some link is awake, dirty, leaving or dead: there is something to do in each turn */
    uint8_t scratch[TUX_APP_SCRATCH_BYTES];
};

/* -- app.c -- */
extern const struct tux_backend tux_app_backend;
/* The process has not seen this request: back into the queue, to its place. False: it cannot be given to another one, and
 * nothing happened. */
bool tux_apprequest_again(struct tux_engine *engine, struct tux_apprequest *request);

/* -- applink.c -- */
void tux_applink_open(struct tux_engine *engine, const struct tux_app_link_config *config);
/* All its exchanges end; freed at the end of the turn. */
void tux_applink_kill(struct tux_engine *engine, struct tux_applink *link);
void tux_applink_bury(struct tux_engine *engine, struct tux_app *app);
bool tux_applink_is_ready(struct tux_engine *engine, struct tux_applink *link);
/* A tag for the request; false: none is left. */
bool tux_applink_add(struct tux_applink *link, struct tux_apprequest *request);
void tux_applink_remove(struct tux_engine *engine, struct tux_applink *link, struct tux_apprequest *request);
/* A record without content, now or as soon as there is room. request NULL: it names no exchange. */
void tux_applink_say(struct tux_engine *engine, struct tux_applink *link, const struct tux_apprequest *request,
                     uint8_t kind, uint8_t flags, uint32_t n);
void tux_applink_want_room(struct tux_engine *engine, struct tux_applink *link, struct tux_apprequest *request);
/* There may be room in the ring again. */
void tux_applink_room(struct tux_engine *engine, struct tux_applink *link);
void tux_applink_wake(struct tux_applink *link);
/* A record was written: wake the process at the end of the turn. */
static inline void tux_applink_touch(struct tux_applink *link)
{
    link->dirty = true;
    link->apps->stirred = true;
}

/* -- appfile.c -- */
/* What a FILE record names, a reference for the caller; *file NULL: it cannot be had. False: the link cannot go on. */
bool tux_appfile_take(struct tux_engine *engine, struct tux_applink *link, const struct tux_app_answer_view *view,
                      struct tux_file **file);
void tux_appfile_forget(struct tux_applink *link, uint32_t handle);
/* Processes are told which of their files are not worth keeping. */
void tux_appfile_sweep(struct tux_engine *engine);
/* The link ends. */
void tux_appfile_end(struct tux_applink *link);

/* -- appmemo.c -- */
/* The answer as a plan, if it may be given again and was asked for before; it is in the memo then, and the caller has a
 * reference of its own. Else NULL. */
struct tux_plan *tux_apprequest_remember(struct tux_engine *engine, const struct tux_apprequest *request,
                                         const struct tux_app_answer_view *view);

/* -- appfind.c -- */
/* The process wants to know about a file of the site. False: it must not, now. */
bool tux_apprequest_lookup(struct tux_engine *engine, struct tux_apprequest *request, const uint8_t *path, uint32_t len);

/* -- appreply.c -- */
void tux_applink_read(struct tux_engine *engine, struct tux_applink *link);
/* There may be room for more of this answer: the process is told, in portions; else drained() leads here. */
void tux_apprequest_credit(struct tux_engine *engine, struct tux_apprequest *request);
/* So many bytes of the answer may come from now on. Whatever may come counts as held, or it would not find room then. */
static inline void tux_apprequest_promise(struct tux_engine *engine, struct tux_apprequest *request, int64_t bytes)
{
    engine->promised -= request->from_process > 0 ? (uint64_t)request->from_process : 0;
    engine->promised += bytes > 0 ? (uint64_t)bytes : 0;
    request->from_process = bytes;
}

#endif
