/* SPDX-License-Identifier: MIT */
/* The life of an engine: what it is made of, and what is left when it ends. */
#include "app.h"
#include "core.h"
#include "kernel.h"
#include "upstream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TUX_SPARE_FILES 64u /* descriptors for everything that is neither a connection nor a remembered file */

void tux_engine_defaults(struct tux_engine_config *config)
{
    *config = (struct tux_engine_config){
        .sign = {.significant = TUX_SIGNIFICANT_BY_DEFAULT},
        .limits = {.target_bytes = TUX_MAX_TARGET_BYTES,
                   .head_bytes = TUX_MAX_HEAD_BYTES,
                   .fields = TUX_MAX_FIELDS,
                   .body_bytes = TUX_MAX_BODY_BYTES,
                   .drain_bytes = TUX_MAX_DRAIN_BYTES,
                   .connections = TUX_MAX_CONNECTIONS,
                   .pipelined = TUX_MAX_PIPELINED,
                   .head_timeout_ms = TUX_HEAD_TIMEOUT_MS,
                   .idle_timeout_ms = TUX_IDLE_TIMEOUT_MS,
                   .stall_timeout_ms = TUX_STALL_TIMEOUT_MS,
                   .memo_bytes = TUX_MEMO_BYTES,
                   .memo_files = TUX_MEMO_FILES,
                   .held_bytes = TUX_HELD_BYTES},
        .log_fd = -1,
        .log_format = TUX_LOG_COMMON,
    };
}

static bool limits_fit(const struct tux_engine_limits *limits)
{
    return limits->target_bytes > 0 && limits->target_bytes <= limits->head_bytes &&
           limits->head_bytes <= TUX_MAX_HEAD_BYTES && limits->fields > 0 && limits->fields <= TUX_MAX_FIELDS &&
           limits->connections > 0 && limits->connections <= TUX_MAX_CONNECTIONS && limits->pipelined > 0 &&
           limits->pipelined <= TUX_MAX_PIPELINED && limits->head_timeout_ms > 0 && limits->idle_timeout_ms > 0 &&
           limits->stall_timeout_ms > 0;
}

/* Connections and remembered files must fit under RLIMIT_NOFILE together, three quarters to the former. */
static void fit_descriptors(struct tux_engine_limits *limits)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur == RLIM_INFINITY)
        return;
    uint64_t usable = files.rlim_cur > 2 * TUX_SPARE_FILES ? files.rlim_cur - TUX_SPARE_FILES : TUX_SPARE_FILES;
    if (limits->memo_files > usable / 4)
        limits->memo_files = usable / 4;
    if (limits->connections > usable - limits->memo_files)
        limits->connections = usable - limits->memo_files;
}

static int copy_roots(struct tux_engine *engine, const struct tux_engine_config *config)
{
    char **roots = calloc(config->n_roots + 1u, sizeof *roots);
    if (roots == NULL)
        return -ENOMEM;
    engine->root_paths = roots;
    for (uint32_t i = 0; i < config->n_roots; i++) {
        if ((roots[i] = strdup(config->roots[i])) == NULL)
            return -ENOMEM;
        engine->config.n_roots++;
        int index = tux_roots_add(engine->roots, roots[i]);
        if (index < 0)
            return index;
    }
    return 0;
}

static int build(struct tux_engine *engine, const struct tux_engine_config *config)
{
    engine->config = *config;
    engine->config.roots = NULL; /* the caller's; copies are in root_paths */
    engine->config.n_roots = 0;
    struct tux_engine_limits *limits = &engine->config.limits;
    fit_descriptors(limits);
    engine->head_limits = (struct tux_head_limits){.target_bytes = (uint32_t)limits->target_bytes,
                                                   .head_bytes = (uint32_t)limits->head_bytes,
                                                   .fields = (uint32_t)limits->fields};
    engine->context_high = (uint64_t)config->generation << 32;
    engine->wake_source.kind = TUX_SOURCE_WAKE;
    engine->replies_source.kind = TUX_SOURCE_REPLIES;
    engine->helper_source.kind = TUX_SOURCE_HELPER;
    engine->ready_tail = &engine->ready;
    atomic_store(&engine->drain_deadline_ms, UINT64_MAX);

    if ((engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
        (engine->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ||
        (engine->leaving_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        return -errno;
    int error = tux_ring_create(&engine->asks, TUX_ASK_RING_BYTES);
    if (error == 0)
        error = tux_ring_create(&engine->replies, TUX_REPLY_RING_BYTES);
    if (error != 0)
        return error;
    engine->conns = calloc(limits->connections, sizeof *engine->conns);
    engine->free_slots = calloc(limits->connections, sizeof *engine->free_slots);
    engine->memo = tux_memo_new(limits->memo_bytes, (uint32_t)limits->memo_files);
    engine->roots = tux_roots_new();
    engine->recipes = tux_recipes_new();
    if (engine->conns == NULL || engine->free_slots == NULL || engine->memo == NULL || engine->roots == NULL ||
        engine->recipes == NULL)
        return -ENOMEM;
    if ((error = copy_roots(engine, config)) != 0)
        return error;
    engine->helper = tux_helper_new((const char *const *)engine->root_paths, engine->config.n_roots, &engine->own,
                                    engine->config.sign.key);
    if (engine->helper == NULL)
        return -ENOMEM;
    if (config->log_fd >= 0 && (engine->log = tux_accesslog_new(config->log_fd, config->log_format)) == NULL)
        return -ENOMEM;
    static const char head[] = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n";
    if ((engine->canned = calloc(1, sizeof *engine->canned)) == NULL)
        return -ENOMEM;
    engine->n_canned = 1;
    for (uint32_t i = 0; i < TUX_CANNED_COUNT; i++) {
        struct tux_plan_parts parts = {
            .status = 500, .head = head, .head_len = sizeof head - 1, .fd = -1, .expires_ms = UINT64_MAX};
        if ((engine->canned->plans[i] = tux_plan_new(&parts, config->sign.key)) == NULL)
            return -ENOMEM;
    }
    return 0;
}

int tux_engine_new(const struct tux_engine_config *config, struct tux_engine **out)
{
    *out = NULL;
    if (!limits_fit(&config->limits))
        return -EINVAL;
    struct tux_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return -ENOMEM;
    engine->epoll_fd = engine->wake_fd = engine->leaving_fd = -1;
    engine->asks.memfd = engine->replies.memfd = -1;
    int error = build(engine, config);
    if (error != 0) {
        tux_engine_free(engine);
        return error;
    }
    *out = engine;
    return 0;
}

uint64_t tux_engine_free(struct tux_engine *engine)
{
    /* Order: what refers to plans first, then the plans' holders, then what is left is a leak. */
    tux_batch_begin(&engine->batch);
    tux_helper_free(engine->helper);
    tux_kernel_free(engine);
    if (engine->memo != NULL)
        tux_memo_free(engine->memo);
    for (uint32_t i = 0; i < engine->n_canned; i++)
        for (uint32_t j = 0; j < TUX_CANNED_COUNT; j++)
            if (engine->canned[i].plans[j] != NULL)
                tux_plan_unref(engine->canned[i].plans[j]);
    free(engine->canned);
    uint64_t leaked = atomic_load(&engine->stats.connections) + atomic_load(&engine->stats.exchanges) +
                      atomic_load(&engine->stats.held) + tux_upstream_free(engine);
    tux_apps_free(engine);
    tux_engine_end_log(engine);
    tux_trust_free(engine->trust);
    tux_roots_free(engine->roots);
    tux_recipes_free(engine->recipes);
    tux_own_free(&engine->own);
    for (uint32_t i = 0; engine->root_paths != NULL && i < engine->config.n_roots; i++)
        free(engine->root_paths[i]);
    free(engine->root_paths);
    if (engine->asks.memfd >= 0)
        tux_ring_close(&engine->asks);
    if (engine->replies.memfd >= 0) {
        tux_ask_discard_replies(engine);
        tux_ring_close(&engine->replies);
    }
    if (engine->epoll_fd >= 0)
        close(engine->epoll_fd);
    if (engine->wake_fd >= 0)
        close(engine->wake_fd);
    if (engine->leaving_fd >= 0)
        close(engine->leaving_fd);
    free(engine->listeners);
    free(engine->conns);
    free(engine->free_slots);
    free(engine);
    return leaked;
}

int tux_engine_listen(struct tux_engine *engine, int fd, uint32_t index, bool shared)
{
    struct tux_listener *grown = realloc(engine->listeners, (engine->n_listeners + 1u) * sizeof *grown);
    if (grown == NULL)
        return -ENOMEM;
    engine->listeners = grown;
    int domain = 0;
    socklen_t len = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0)
        return -errno;
    engine->listeners[engine->n_listeners++] = (struct tux_listener){.source = {.kind = TUX_SOURCE_LISTENER},
                                                                     .shared = shared,
                                                                     .is_unix = domain == AF_UNIX,
                                                                     .fd = fd,
                                                                     .index = index};
    return 0;
}

int tux_engine_trust(struct tux_engine *engine, const char *const *networks, uint32_t n, bool proxy_protocol)
{
    struct tux_trust *trust = n == 0 ? NULL : tux_trust_new(networks, n);
    if (trust == NULL && n > 0)
        return -errno;
    tux_trust_free(engine->trust);
    engine->trust = trust;
    engine->proxy_protocol = proxy_protocol;
    return 0;
}

int tux_engine_own(struct tux_engine *engine, uint64_t dev, uint64_t ino)
{
    return tux_own_add(&engine->own, dev, ino) ? 0 : -ENOMEM;
}

void tux_engine_drain(struct tux_engine *engine, uint64_t grace_ms)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
    uint64_t most = UINT64_MAX - 1 - now_ms; /* UINT64_MAX itself would mean that no drain was asked for */
    uint64_t deadline = now_ms + (grace_ms < most ? grace_ms : most);
    uint64_t current = atomic_load(&engine->drain_deadline_ms);
    while (deadline < current && !atomic_compare_exchange_weak(&engine->drain_deadline_ms, &current, deadline)) {
    }
    uint64_t one = 1;
    if (write(engine->wake_fd, &one, sizeof one) < 0) {
        /* Only when it is readable already. */
    }
}

int tux_engine_leaving_fd(const struct tux_engine *engine)
{
    return engine->leaving_fd;
}

void tux_engine_reopen_log(struct tux_engine *engine, int fd)
{
    if (engine->log != NULL)
        tux_accesslog_reopen(engine->log, fd);
}

void tux_engine_end_log(struct tux_engine *engine)
{
    if (engine->log == NULL)
        return;
    struct tux_log_end end = tux_accesslog_end(engine->log);
    engine->log = NULL;
    atomic_store_explicit(&engine->stats.log_lost, end.lost, memory_order_relaxed);
    atomic_store_explicit(&engine->stats.log_error, (uint64_t)end.error, memory_order_relaxed);
}

void tux_engine_read_stats(struct tux_engine *engine, struct tux_counter_entry *entries)
{
    uint32_t i = 0;
    atomic_store_explicit(&engine->stats.plans, tux_plans_alive, memory_order_relaxed);
#define TUX_STATS_READ(name)                                                                                           \
    entries[i++] = (struct tux_counter_entry){#name, atomic_load_explicit(&engine->stats.name, memory_order_relaxed)};
    TUX_STATS(TUX_STATS_READ)
#undef TUX_STATS_READ
}

const struct tux_ring *tux_engine_asks(struct tux_engine *engine)
{
    return &engine->asks;
}

const struct tux_ring *tux_engine_replies(struct tux_engine *engine)
{
    return &engine->replies;
}
