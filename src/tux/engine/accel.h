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


/* What a backend wants to be answered with: the file that the site has at `path`, decoded. Fields are checked lines, and count
 * before those of the file. */
struct tux_accel_object {
    const uint8_t *path, *fields;
    uint32_t path_len, fields_len;
    uint16_t status; /* in place of 200; 0: it stays */
};

/* In place of tux_relay_answer: the file, or an error. The backend has been released. */
void tux_accel_object(struct tux_engine *engine, struct tux_conn *conn, const struct tux_accel_object *object);

/* Find a file of the site without answering. `found` gets the plan, now or later, unless the backend is released before. A
 * descriptor of that plan is known to nobody else. *facts: under which the plan may be remembered; not signed: it may not,
 * or is. False: there is no room, or no such path; it is not called. */
bool tux_accel_lookup(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *path, size_t len,
                      tux_relay_planned *found, struct tux_facts *facts);

#define TUX_MAX_ACCEL_VALUE_BYTES 255u /* of a field of a file's answer: longer ones are left out of what is told */

/* What a plan says of its file; it lies in the plan. */
struct tux_accel_facts {
    const uint8_t *type, *etag;
    uint16_t type_len, etag_len;
    int64_t modified_ns; /* 0: not known */
};
void tux_accel_describe(const struct tux_plan *plan, struct tux_accel_facts *facts);

#endif
