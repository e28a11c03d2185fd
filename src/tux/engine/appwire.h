/* SPDX-License-Identifier: MIT */
/* The records between an engine and an application's process, and the shared page beside them. The engine trusts
 * nothing that comes from there: each record is read through tux_appwire_answer, which copies and checks it once, and
 * names an exchange by a tag and a serial number, which are looked up among those of this very process. The process reads
 * its half through tux_appwire_request. Offsets and numbers only. */
#ifndef TUX_APPWIRE_H
#define TUX_APPWIRE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bounds.h"
#include "head.h"
#include "ring.h"

#define TUX_APP_RING_BYTES (256u * 1024u) /* each way of one link: a window and much else; it stays in a cache */
#define TUX_APP_WINDOW_BYTES (128u * 1024u) /* body bytes of one exchange under way, each way, at most: half a ring */
#define TUX_APP_FILE_COST 16384u            /* what a piece of a file takes of the window: so few of them wait */
#define TUX_APP_HANDLES 32u                 /* files of one link that the engine keeps open */
#define TUX_APP_NO_HANDLE UINT32_MAX
#define TUX_APP_PIECE_BYTES 32768u          /* body bytes in one record: several fit into the ring */
#define TUX_MAX_APP_FIELDS_BYTES 65536u     /* fields of one answer, all lines together */
#define TUX_MAX_APP_REASON_BYTES 1024u      /* reason phrase of an answer; some put the message of an error into it */
#define TUX_MAX_APP_TAGS 65536u             /* exchanges of one link */
#define TUX_MAX_APP_PATH_BYTES 4095u        /* of an object: no file has a longer path */
#define TUX_MAX_APP_TYPE_BYTES 255u         /* of what is said of an object: media type and entity tag */
#define TUX_MAX_APP_REMEMBERED_BYTES 65536u /* body of an answer that may be remembered: it comes in one record */

/* -- what the engine says --------------------------------------------------------------------------------------- */
enum tux_app_call {
    TUX_APP_REQUEST = 1, /* struct tux_app_request, fields, head, peer, local address, body */
    TUX_APP_BODY,        /* more of the request's body; flag END */
    TUX_APP_CREDIT,      /* `n` more bytes of the answer may be sent */
    TUX_APP_GONE,        /* the client sends nothing any more; flag HARD: nor takes it, the exchange is over */
    TUX_APP_DRAIN,       /* no request follows on this link */
    TUX_APP_FOUND,       /* what LOOKUP found: struct tux_app_found, media type, entity tag */
    TUX_APP_UNUSED,      /* names no exchange: the file with the handle `n` need not be kept: FORGET it */
};

/* -- what the process says -------------------------------------------------------------------------------------- */
enum tux_app_reply {
    TUX_APP_ANSWER = 1, /* struct tux_app_answer, reason, fields, body; flags END, TRAILERS */
    TUX_APP_DATA,       /* more of the answer's body; flag END */
    TUX_APP_FILE,       /* struct tux_app_file; flags END, DESCRIPTOR */
    TUX_APP_TRAILER,    /* trailer fields; ends the answer */
    TUX_APP_INFORM,     /* a 1xx answer: status, fields */
    TUX_APP_UPGRADE,    /* 101 with these fields: a tunnel from here on */
    TUX_APP_CONSUMED,   /* `n` bytes of the request's body were used */
    TUX_APP_ABORT,      /* cut it */
    TUX_APP_NEXT,       /* not for me: the next step of the route's chain; flag FORWARD: the other server */
    TUX_APP_LEAVE,      /* names no exchange: send no more requests, and say DRAIN behind the last */
    TUX_APP_OBJECT,     /* answer with a file of the site: struct tux_app_object, fields, path */
    TUX_APP_LOOKUP,     /* find a file of the site, FOUND says what it is: path of `n` bytes */
    TUX_APP_FORGET,     /* names no exchange: the handle `n` is not named any more */
};

#define TUX_APP_END 1u       /* the last bytes of a body */
#define TUX_APP_HARD 2u      /* of GONE */
#define TUX_APP_TRAILERS 4u  /* of ANSWER: TRAILER will end it */
#define TUX_APP_UPGRADES 8u  /* of REQUEST: UPGRADE is a possible answer */
#define TUX_APP_HTTPS 16u    /* of REQUEST: the client's scheme */
#define TUX_APP_ABSOLUTE 32u /* of REQUEST: the host is the target's, not the Host field's */
#define TUX_APP_WITHHELD 64u /* of REQUEST: its body comes when the process says CONSUMED of a whole window; it may decline before */
#define TUX_APP_CLOSE 64u    /* of ANSWER, OBJECT, and of DATA that ends one: the connection ends with the answer */
#define TUX_APP_GENERAL 128u /* of ANSWER: the query does not matter where it is remembered */
#define TUX_APP_FORWARD 2u   /* of NEXT */
#define TUX_APP_DESCRIPTOR 2u /* of FILE: the descriptor was sent on the side socket before */

/* Begins every record. */
struct tux_app_record {
    uint8_t kind;
    uint8_t flags;
    uint16_t status;
    uint32_t tag;    /* of the exchange: its place in the link's table */
    uint32_t serial; /* ... and its number, so that a late record meets no other exchange */
    uint32_t n;      /* CREDIT, CONSUMED: bytes. Else: bytes of body at the record's end */
};

struct tux_app_field {
    uint16_t name, name_len, value, value_len; /* in the head: all of it is under 64 KiB */
    uint8_t id;                                /* enum tux_field_id */
    uint8_t unused;
};

struct tux_app_request {
    struct tux_app_record record;
    int64_t length; /* Content-Length, -1: not known, or no body */
    uint32_t head_len;
    uint32_t n_fields;
    struct tux_span method, target, path, query, host; /* in the head */
    uint32_t listener;
    uint16_t peer_port, local_port; /* 0: a unix socket, or not known */
    uint8_t peer_len, local_len; /* peer_len 0: a unix socket */
    uint8_t minor;
    uint8_t unused;
    uint32_t window; /* bytes of the answer's body that may be sent before a CREDIT; less when memory is scarce */
};

struct tux_app_answer {
    struct tux_app_record record;
    int64_t length; /* of the body, -1: not known */
    uint32_t fields_len;
    uint32_t remember_ms; /* with END: so long the same answer may be given again, without a question; 0: it may not */
    uint32_t reason_len; /* 0: the usual reason phrase of the status */
    uint32_t unused;
};

/* Paths are decoded, and begin with "/". */
struct tux_app_object {
    struct tux_app_record record; /* status 0: the file's own */
    uint32_t fields_len;
    uint32_t path_len;
};

struct tux_app_found {
    struct tux_app_record record; /* status: what GET would be answered with */
    uint64_t number;              /* of the descriptor on the side socket: they are counted, on both ends; 0: none */
    uint64_t size;
    int64_t modified_ns;          /* since 1970; 0: not known */
    uint16_t type_len, etag_len;
    uint32_t unused;
};

struct tux_app_file {
    struct tux_app_record record;
    uint64_t offset, length;
    uint64_t number; /* of the descriptor: they are counted, on both ends */
    uint32_t handle; /* with DESCRIPTOR: what it is to be kept as, in place of what was, or TUX_APP_NO_HANDLE; else it is there */
    uint32_t unused;
};

/* In the page of the answers' ring, behind the ring's own words. Written by the process, only a hint. */
struct tux_app_shared {
    _Atomic uint32_t load;    /* requests that it works on, of all engines */
    _Atomic uint32_t pace_us; /* time that it needs for one, while it has some; 0: not known yet */
};

#define TUX_APP_SHARED_OFFSET 1024u

static inline struct tux_app_shared *tux_app_shared(const struct tux_ring *answers)
{
    return (struct tux_app_shared *)(void *)((uint8_t *)answers->shared + TUX_APP_SHARED_OFFSET);
}

static inline void tux_app_tell_load(const struct tux_ring *answers, uint32_t load)
{
    atomic_store_explicit(&tux_app_shared(answers)->load, load, memory_order_relaxed);
}

static inline void tux_app_tell_pace(const struct tux_ring *answers, uint32_t pace_us)
{
    atomic_store_explicit(&tux_app_shared(answers)->pace_us, pace_us, memory_order_relaxed);
}

/* -- the process's side ----------------------------------------------------------------------------------------- */

struct tux_app_request_view {
    struct tux_app_request request;
    const struct tux_app_field *fields;
    const uint8_t *head, *peer, *local, *body;
};

/* Bytes of the record of a request with so much in it. */
uint32_t tux_appwire_request_bytes(const struct tux_app_request *request);
/* Read a REQUEST; false: nonsense. */
bool tux_appwire_request(const void *payload, uint32_t size, struct tux_app_request_view *view);

struct tux_app_found_view {
    struct tux_app_found found;
    const uint8_t *type, *etag;
};

/* Read a FOUND; false: nonsense. */
bool tux_appwire_found(const void *payload, uint32_t size, struct tux_app_found_view *view);
/* Whether this field would be taken in an answer: its syntax, and that it says nothing about the connection, which is
 * the engine's. TUX_APP_FIELD_LENGTH: Content-Length, which goes into tux_app_answer.length. */
enum tux_app_field_kind {
    TUX_APP_FIELD_BAD_NAME,
    TUX_APP_FIELD_BAD_VALUE,
    TUX_APP_FIELD_LENGTH,
    TUX_APP_FIELD_HOP,
    TUX_APP_FIELD_PLAIN,
};
enum tux_app_field_kind tux_appwire_field(const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len,
                                          bool upgrade);

/* Whether this is a reason phrase (RFC 9112 section 4). */
bool tux_appwire_is_reason(const uint8_t *reason, size_t len);

/* Whether an object may be sent with this status: one of an answer that has a body. */
static inline bool tux_appwire_is_object_status(unsigned status)
{
    return status >= 200 && status <= 599 && status != 204 && status != 205 && status != 206 && status != 304;
}

/* -- the engine's side ------------------------------------------------------------------------------------------ */

struct tux_app_answer_view {
    struct tux_app_record record; /* a copy: the process cannot change it any more */
    int64_t length;               /* ANSWER */
    uint32_t remember_ms;         /* ANSWER */
    uint64_t offset, file_len, number; /* FILE */
    uint32_t handle;              /* FILE */
    const uint8_t *fields;        /* ANSWER, INFORM, UPGRADE, TRAILER, OBJECT */
    uint32_t fields_len;
    const uint8_t *reason;        /* ANSWER */
    uint32_t reason_len;
    const uint8_t *path;          /* OBJECT, LOOKUP */
    uint32_t path_len;
    const uint8_t *body;          /* record.n bytes; they may still change, as bytes of a body may */
    bool has_date, has_server;
};

#define TUX_APP_SCRATCH_BYTES (TUX_MAX_APP_FIELDS_BYTES + TUX_MAX_APP_PATH_BYTES) /* a reason is shorter than a path */

/* Read a record of the process. `scratch`, of TUX_APP_SCRATCH_BYTES, takes a copy of fields, reason and path, in which they
 * are checked and from which they are used. False: nonsense, whatever wrote it must not be believed any more. */
bool tux_appwire_answer(const void *payload, uint32_t size, uint8_t *scratch, struct tux_app_answer_view *view);

#endif
