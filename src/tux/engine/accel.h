/* SPDX-License-Identifier: MIT */
/* Answers of backends that name a file to be sent in place of their bodies: X-Accel-Redirect (a path of the same site) and
 * X-Sendfile (a path in the file system, below a folder that the configuration names). The planner is asked as for any static
 * file, so ranges and conditions work, and what is not served to others is not served this way either. The fields themselves
 * never reach a client. */
#ifndef TUX_ACCEL_H
#define TUX_ACCEL_H

#include "relay.h"

struct tux_accel_rules {
    bool redirect;          /* X-Accel-Redirect is honoured */
    uint32_t sendfile_root; /* X-Sendfile is, below this root; TUX_NO_ROUTE: it is not */
};

/* Is one of the two among these field lines? */
bool tux_accel_mentioned(const uint8_t *fields, size_t len);
/* ... and does it count? */
bool tux_accel_applies(const struct tux_accel_rules *rules, const uint8_t *fields, size_t len);
/* In place of tux_relay_answer, for a head in which one is mentioned. True: a file is sent instead, or an error: the backend has
 * been released. False: it was answered with the head, without these fields. */
bool tux_accel_answer(struct tux_engine *engine, struct tux_conn *conn, const struct tux_accel_rules *rules,
                      const struct tux_relay_head *head);

/* -- for ask.c: the planner's reply ------------------------------------------------------------------------------- */

bool tux_accel_waits(const struct tux_conn *conn);
void tux_accel_reply(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan); /* NULL: none could be made */

#endif
