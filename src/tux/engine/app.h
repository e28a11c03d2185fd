/* SPDX-License-Identifier: MIT */
/* Applications, which run in processes of their own and are reached over rings. A process is linked to an engine at any
 * time, from any thread, and gone at any time; whatever it writes harms nobody but its own exchanges. */
#ifndef TUX_APP_H
#define TUX_APP_H

#include <stdbool.h>
#include <stdint.h>

struct tux_engine;
struct tux_source;
struct tux_timer;

struct tux_app_config {
    uint32_t queue;            /* requests that wait while no process is ready; over it: 503 */
    uint64_t queue_timeout_ms; /* after so long: 503 */
    bool accel;                /* X-Accel-Redirect in its answers is honoured */
    int64_t sendfile_root;     /* number of the root below which X-Sendfile is; -1: it is not */
    bool hands_on_404;         /* its 404 says that others are to be asked, the next step of the chain, if it has not asked
                                  for the body; without it, its processes say that in a record of its own */
};

/* Before run: one more application. Its number, counted from 0, or -errno. */
int tux_engine_app(struct tux_engine *engine, const struct tux_app_config *config);

/* One process of an application. The supervisor made all of it. */
struct tux_app_link_config {
    uint32_t app;        /* its number */
    uint64_t serial;     /* of the link, for unlink; never used twice */
    int requests_fd, answers_fd; /* memory of the two rings */
    int process_wake_fd; /* eventfd that wakes the process, which has no access to it */
    int wake_fd;         /* eventfd by which the process wakes the engine; never read or written here: the process shares
                            it, and could make that block */
    int side_fd;         /* SOCK_SEQPACKET: descriptors from the process; its end is the process's end */
};

/* From any thread, also before run. The descriptors are the engine's from here on, whatever is returned: 0 or -errno
 * (-ENOENT: no such application). What is wrong with them is found later, and costs the link. */
int tux_engine_link_app(struct tux_engine *engine, const struct tux_app_link_config *config);
/* From any thread: the process is gone. A link that is not there any more is no error. 0 or -ENOMEM. */
int tux_engine_unlink_app(struct tux_engine *engine, uint64_t serial);

/* -- for the engine --------------------------------------------------------------------------------------------- */

void tux_apps_event(struct tux_engine *engine, struct tux_source *source, uint32_t events);
void tux_apps_expired(struct tux_engine *engine, struct tux_timer *timer);
/* Another thread has said something. */
void tux_apps_commands(struct tux_engine *engine);
/* After the events of a turn, before connections run: take what the processes have said. */
void tux_apps_read(struct tux_engine *engine);
/* The engine drains from now on: what waits for an application without a process waits in vain. */
void tux_apps_drain(struct tux_engine *engine);
/* At the end of a turn: hand out what waits, wake processes. True: there is more to do, do not sleep. */
bool tux_apps_turn(struct tux_engine *engine);
void tux_apps_free(struct tux_engine *engine);

#endif
