/* SPDX-License-Identifier: MIT */
/* The messages of the rings: an ask (engine -> Python) and a reply (Python -> engine). Offsets and numbers only. Each record is
 * read through tux_wire_reply/tux_wire_ask, which check every length against the record's size once. */
#ifndef TUX_WIRE_H
#define TUX_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "files.h"
#include "head.h"
#include "plan.h"

#define TUX_MAX_PEER_BYTES 48u       /* textual IPv6 with a scope number, or "unix:" */
#define TUX_MAX_CHECKS 256u          /* one per path looked at: index names times side files, a listing's folders */
#define TUX_MAX_REPLY_HEAD 65536u    /* of one answer's status line and fields */
#define TUX_MAX_REPLY_BODY (2u * 1024u * 1024u) /* in memory: half the reply ring, so that a second one fits */

#define TUX_ASK_SIGNED 1u
#define TUX_ASK_PLAIN_RANGE 2u
#define TUX_ASK_HAS_QUERY 4u
#define TUX_ASK_HAS_BODY 8u
#define TUX_ASK_EXPECT_OTHER 16u
#define TUX_ASK_INTERNAL 32u /* a backend wants the file to be sent, not a client */

/* An ask: this, then n_fields of struct tux_head_field, then head_len bytes of the head that all spans point into. */
struct tux_ask_record {
    uint64_t id;
    uint32_t listener;
    uint32_t flags;
    uint32_t head_len;
    uint32_t n_fields;
    uint32_t root; /* INTERNAL: the file is below this one; TUX_NO_ROUTE: where the site says */
    uint8_t minor;
    uint8_t peer_len;
    char peer[TUX_MAX_PEER_BYTES];
    struct tux_span method, target, path, query, host;
};

struct tux_wire_check {
    uint32_t root;
    uint32_t path_len;
    struct tux_found expected;
};

/* For which of the files of a route, with the extension of one, a recipe is; and all of them have a hash in their name, or none
 * (recipe.h). */
enum tux_recipe_scope {
    TUX_RECIPE_ALL,
    TUX_RECIPE_BELOW,  /* those below the first folder on the way to it */
    TUX_RECIPE_BESIDE, /* those in its own folder */
    TUX_RECIPE_SCOPES,
};

/* A recipe (recipe.h), said beside the plan for one of its files. */
struct tux_wire_recipe {
    uint32_t head_len;    /* so many bytes at the beginning of the plan's head are the same for all of its files; 0: there is none */
    uint32_t root;        /* where the files are */
    uint32_t mount_len;   /* bytes of the path that are taken off before they are looked for */
    uint32_t absent;      /* bits of the fields that a request must not have */
    uint32_t sides;       /* 1: a file that has a side file is not among them */
    uint32_t mode_allowed, mode_forbidden; /* permission bits: a file has one of these, and none of those */
    uint32_t small_bytes; /* bodies up to here are in memory, and tagged by their content */
    uint32_t scope;       /* enum tux_recipe_scope */
};

/* A reply: this, then n_checks of struct tux_wire_check, then their paths, the head and `inline_len` body bytes. */
struct tux_reply_record {
    uint64_t id;
    uint32_t flags;      /* TUX_PLAN_... */
    uint32_t ttl_ms;     /* UINT32_MAX: no limit */
    uint32_t head_len;
    uint32_t n_checks;
    uint32_t paths_len;  /* all paths together */
    uint32_t inline_len; /* body bytes in the record; 0 when a descriptor is given */
    uint64_t body_len;   /* equals inline_len without a descriptor, but for NO_BODY */
    uint64_t body_offset;
    int32_t fd;          /* of this process (only the planner's ring may carry one), or -1 */
    uint16_t status;
    struct tux_wire_recipe recipe;
};

/* A copy of the record, and its parts, which stay where they are: whoever can write the ring may change them still. */
struct tux_reply_view {
    struct tux_reply_record record;
    const struct tux_wire_check *checks;
    const char *paths;
    const uint8_t *head, *body;
};

struct tux_ask_view {
    const struct tux_ask_record *record;
    const struct tux_head_field *fields;
    const uint8_t *head;
};

/* False when any length does not add up to `size`, a limit is passed, or status and flags are none that an answer can have.
 * view->record is filled in (id and fd, above all) if `size` allows for one at all; else its id and status are 0. */
bool tux_wire_reply(const void *payload, uint32_t size, struct tux_reply_view *view);
bool tux_wire_ask(const void *payload, uint32_t size, struct tux_ask_view *view);

#endif
