/* SPDX-License-Identifier: MIT */
/* A plan: an answer that Python decided, in the form in which the engine sends it again and again. Reference counted by
 * one thread; immutable after tux_plan_new but for the words marked "engine". */
#ifndef TUX_PLAN_H
#define TUX_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "file.h"
#include "head.h"

#define TUX_PLAN_REMEMBER 1u /* may enter the memo */
#define TUX_PLAN_EXACT 2u    /* found under the exact signature only (query or range numbers matter) */
#define TUX_PLAN_RANGE 4u    /* a template for one plain range: the engine adds Content-Range and Content-Length */
#define TUX_PLAN_CLOSE 8u    /* the connection ends after this answer */
#define TUX_PLAN_NO_BODY 16u /* the answer to HEAD, or 204/304: body lengths are for the head only */

#define TUX_PLAN_PUBLISH 32u /* the kernel tier may answer with it, if its status and form are among those that it takes */

#define TUX_PLAN_NEXT 64u    /* not here: what comes next in the route's chain is asked, and answered is only at its end */

#define TUX_PLAN_FLAGS 127u  /* all of them */

/* One check: what was found at a path when the plan was decided. The path's bytes lie in the plan's block. */
struct tux_check {
    uint32_t root;
    uint32_t path_len;
    const char *path;
    struct tux_found expected;
};

struct tux_plan {
    uint32_t refs;
    uint16_t status;
    uint16_t flags;
    uint32_t head_len;       /* status line and fields, each with its CRLF, without Date, Connection and the blank line */
    uint32_t n_checks;
    uint64_t body_len;       /* bytes of the representation: in memory or in the file */
    uint64_t body_offset;    /* first byte of it in the file */
    struct tux_file *file;   /* NULL: the body is in memory */
    uint32_t memo_entries;   /* memo: entries that hold it; a plan is in one memo at most */
    uint64_t bytes;          /* memory that the plan accounts for in the memo */
    struct tux_check *checks;
    uint8_t *head;           /* head, then room for "Date: " 29 bytes CRLF, then CRLF, then the body in memory: one send */
    uint8_t *body;           /* in memory, else NULL */
    uint64_t key[2];
    bool sealed;                  /* content is valid */
    struct tux_signature content; /* keyed hash over everything above: equal plans share one object in the memo */
    /* -- engine: */
    uint64_t expires_ms;     /* not replayed after this; UINT64_MAX: no time to live */
    const uint64_t *epoch;   /* of whoever made it, NULL: nobody's ... */
    uint64_t made_in;        /* ... and what it was then: not replayed when it has changed */
    uint64_t fresh_until_ms; /* its checks held then; after it they are repeated first */
    int64_t date_s;          /* second of the Date now written in head */
    bool checking;             /* the helper thread repeats its checks; `waiting` waits for that */
    struct tux_exchange *waiting; /* exchanges parked until a helper thread has repeated the checks */
    uint32_t published;           /* kernel tier: index of the first head that is published with it, plus one; 0: none */
    struct tux_plan *same_next;   /* memo: chain of the content table */
};

#define TUX_DATE_LINE_BYTES 37u /* "Date: Tue, 24 Nov 2026 21:00:00 GMT\r\n" */

/* What a new plan is made of; everything is copied but fd, which the plan owns from then on (closed even on failure). */
struct tux_plan_parts {
    uint16_t status, flags;
    const void *head;
    uint32_t head_len;
    const void *body;     /* in memory, when fd < 0 */
    uint64_t body_len;
    uint64_t body_offset;
    int fd;
    uint64_t expires_ms;
    const struct tux_check *checks;
    uint32_t n_checks;
};

/* A plan with one reference. Its Date says 1970 and date_s 0 until the engine writes the time into it. NULL: no memory,
 * fstat of fd failed, or the parts contradict each other (the file is shorter than the body; a body is announced but
 * neither given nor ruled out by TUX_PLAN_NO_BODY, which takes none). `key` keys the content hash. */
struct tux_plan *tux_plan_new(const struct tux_plan_parts *parts, const uint64_t key[2]);
/* Compute the content hash, unless it is there. Takes about 1 ns a byte of the body: only what enters the memo needs it. */
void tux_plan_seal(struct tux_plan *plan);
/* Not to be replayed, whatever its checks say. */
static inline bool tux_plan_is_over(const struct tux_plan *plan, uint64_t now_ms)
{
    return now_ms >= plan->expires_ms || (plan->epoch != NULL && *plan->epoch != plan->made_in);
}
struct tux_plan *tux_plan_ref(struct tux_plan *plan);
void tux_plan_unref(struct tux_plan *plan);
extern _Atomic uint64_t tux_plans_alive; /* leak counter of the process, over all threads */

#endif
