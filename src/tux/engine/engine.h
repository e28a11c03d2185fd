/* SPDX-License-Identifier: MIT */
/* The engine: one event loop that answers what was decided before, and asks about the rest. Public face of the library. */
#ifndef TUX_ENGINE_H
#define TUX_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "accesslog.h"
#include "head.h"
#include "ring.h"
#include "route.h"

struct tux_engine;

/* All limits are those of bounds.h, in the same units; tux_engine_defaults fills them in. */
struct tux_engine_limits {
    uint64_t target_bytes, head_bytes, fields;
    uint64_t body_bytes;
    uint64_t drain_bytes;
    uint64_t connections, pipelined;
    uint64_t head_timeout_ms, idle_timeout_ms, stall_timeout_ms;
    uint64_t memo_bytes, memo_files, held_bytes;
};

struct tux_engine_config {
    struct tux_sign_rules sign;
    uint32_t generation;      /* of the configuration; part of every signature */
    struct tux_engine_limits limits;
    int log_fd;               /* -1: no access log */
    enum tux_log_format log_format;
    const struct tux_routes *routes; /* NULL: everything is the planner's. Outlives the engine */
    const char *const *roots; /* folders, in the order of their numbers in checks */
    uint32_t n_roots;
};

/* Counters since the start, and gauges; written by the engine's thread, read by any. */
#define TUX_STATS(X)                                                                                                   \
    X(accepted) X(requests) X(hits) X(made) X(recipes) X(asks) X(replies) X(stale_replies) X(rejected) X(refused)      \
    X(ring_full) X(timeouts) X(rechecks) X(changed) X(parked) X(changed_while_sent) X(warmed) X(accept_paused)         \
    X(connections) X(exchanges) X(held) X(plans) X(memo_entries) X(memo_bytes) X(memo_evicted) X(memo_inserted)        \
    X(relayed) X(app_links) X(app_lost) X(app_loaded) X(frozen) X(log_lost) X(log_error) X(published) X(publishes) X(retires)                                           \
    X(forwarded) X(retries) X(queued) X(upstream_connections) X(upstream_fails)

struct tux_engine_stats {
#define TUX_STATS_FIELD(name) _Atomic uint64_t name;
    TUX_STATS(TUX_STATS_FIELD)
#undef TUX_STATS_FIELD
};

struct tux_counter_entry {
    const char *name;
    uint64_t value;
};

#define TUX_STATS_ONE(name) +1
enum { TUX_STATS_COUNT = 0 TUX_STATS(TUX_STATS_ONE) };
#undef TUX_STATS_ONE

void tux_engine_defaults(struct tux_engine_config *config);

/* 0 and *engine, or -errno. Copies the configuration. */
int tux_engine_new(const struct tux_engine_config *config, struct tux_engine **engine);
/* After run returned. Returns what leaked: connections, exchanges and held bytes still alive (0 when all is well); tux_plans_alive
 * counts plans. The planner writes no more replies: files in those that were not read are closed. */
uint64_t tux_engine_free(struct tux_engine *engine);

/* Before run. listen: the socket stays the caller's; `shared` when other processes accept from it, too. */
int tux_engine_listen(struct tux_engine *engine, int fd, uint32_t listener, bool shared);
/* Before run: peers whose word about the client is believed: "10.0.0.0/8", "::1", "unix". -EINVAL: one of them is none of
 * these, or there are more than TUX_MAX_NETWORKS. proxy_protocol: their connections begin with a header of that protocol. */
int tux_engine_trust(struct tux_engine *engine, const char *const *networks, uint32_t n, bool proxy_protocol);
/* At any time, by one thread after the other: a file of the server itself, by device and inode, which no recipe may send. 0 or
 * -ENOMEM. */
int tux_engine_own(struct tux_engine *engine, uint64_t dev, uint64_t ino);
/* Before run: the answer to an error that the engine finds by itself. pages: 0 for where nothing else is said, or a number that
 * sites and routes have (tux_chain, tux_routes_set_pages); what those do not say is as in 0. Returns 0, -ENOMEM, -ENOSPC
 * (too many pages), or -ENOENT for a status it never sends. */
int tux_engine_canned(struct tux_engine *engine, uint32_t pages, uint16_t status, const void *head, uint32_t head_len,
                      const void *body, uint32_t body_len);

/* What the supervisor gives to a worker for the kernel tier. Sizes of the two maps are those of kernel/bpf/layout.h. */
struct tux_kernel_config {
    int slots_fd, cells_fd;     /* this worker's maps: BPF arrays, or other files that can be mapped */
    int message_fd;             /* SOCK_SEQPACKET to the supervisor */
    uint64_t secret[2];         /* of the hash over heads */
    const uint32_t *listeners;  /* indices of the listeners whose connections the programs see; all of them TCP */
    uint32_t n_listeners;
    uint32_t hits;              /* of one head, from memory, until it is published; at least 1 */
    uint32_t max_answer_bytes;  /* head and body; larger ones are not published */
    uint64_t unused_ms;         /* how long an answer that nobody asks for stays published; 0: TUX_KERNEL_UNUSED_MS */
};

/* Before run and after tux_engine_listen, once: work with the kernel tier. The three descriptors are the engine's from here
 * on (closed even on failure); the maps' contents are cleared. -ENOENT: one of the listeners is not there, or not TCP. */
int tux_engine_kernel(struct tux_engine *engine, const struct tux_kernel_config *config);

/* The loop; returns 0 when drained, or -errno when it could not be set up. */
int tux_engine_run(struct tux_engine *engine);

/* From any thread: stop accepting, finish what is in flight for at most grace_ms, then end run. Repeated calls may only
 * shorten the grace. */
void tux_engine_drain(struct tux_engine *engine, uint64_t grace_ms);
/* The engine's own eventfd, only to be watched: readable from the moment when a drain has begun in the loop, and no connection is
 * accepted any more. */
int tux_engine_leaving_fd(const struct tux_engine *engine);
void tux_engine_reopen_log(struct tux_engine *engine, int fd);
/* After run returned, and when nobody reopens the log any more: write what is left of it (bounded, see accesslog.h). The
 * counters log_lost and log_error are final then. */
void tux_engine_end_log(struct tux_engine *engine);
/* Fills entries[TUX_STATS_COUNT]; the names are static. */
void tux_engine_read_stats(struct tux_engine *engine, struct tux_counter_entry *entries);

/* The planner's ends are attached to these two (tux_ring_attach with their descriptors). */
const struct tux_ring *tux_engine_asks(struct tux_engine *engine);
const struct tux_ring *tux_engine_replies(struct tux_engine *engine);

#endif
