/* SPDX-License-Identifier: MIT */
/* Calls: which server of its group a request goes to, when it goes to another one, and when it waits. */
#include "upstreams.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* -- passive health ---------------------------------------------------------------------------------------------- */

void tux_upserver_failed(struct tux_engine *engine, struct tux_upgroup *group, struct tux_upserver *server,
                         enum tux_upstream_failure failure)
{
    tux_count(&engine->stats.upstream_fails, 1);
    tux_count(&server->failures[failure], 1);
    if (group->config.max_fails == 0 || group->config.n_servers == 1) /* nobody else could do its work */
        return;
    if (server->fails == 0 || engine->now_ms - server->fails_since_ms >= group->config.fail_timeout_ms) {
        server->fails = 0;
        server->fails_since_ms = engine->now_ms;
    }
    if (++server->fails >= group->config.max_fails) {
        server->down_until_ms = engine->now_ms + group->config.fail_timeout_ms;
        server->fails = 0;
    }
}

const char *const tux_upstream_failure_names[TUX_UPFAIL_COUNT] = {
#define TUX_UPSTREAM_FAILURE(name) #name,
    TUX_UPSTREAM_FAILURES(TUX_UPSTREAM_FAILURE)
#undef TUX_UPSTREAM_FAILURE
};

int tux_upstream_failures(const struct tux_engine *engine, uint32_t group, uint32_t server, uint64_t counts[TUX_UPFAIL_COUNT])
{
    const struct tux_upserver *found = &engine->upstreams->groups[group]->servers[server];
    for (unsigned i = 0; i < TUX_UPFAIL_COUNT; i++)
        counts[i] = atomic_load_explicit(&found->failures[i], memory_order_relaxed);
    return atomic_load_explicit(&found->connect_error, memory_order_relaxed);
}

void tux_upserver_worked(struct tux_upserver *server)
{
    server->fails = 0;
    server->down_until_ms = 0;
}

void tux_upstream_health(struct tux_engine *engine, uint32_t group, uint32_t server, bool healthy)
{
    struct tux_upgroup *of = engine->upstreams->groups[group];
    uint64_t one = 1;
    bool was = !atomic_exchange_explicit(&of->servers[server].unhealthy, !healthy, memory_order_relaxed);
    if (was == healthy)
        return;
    /* Those that wait may go to this one, or wait for nobody any more; and no request may end that would say so. */
    atomic_store_explicit(&of->judged, true, memory_order_release);
    if (write(engine->wake_fd, &one, sizeof one) < 0) {
        /* Only when it is readable already. */
    }
}

static bool is_healthy(const struct tux_upserver *server)
{
    return !atomic_load_explicit(&server->unhealthy, memory_order_relaxed);
}

/* -- balancing --------------------------------------------------------------------------------------------------- */

/* May this server have the call now? `any`: also one that failed lately; but never one of which a check says that it does not
 * work. */
static bool is_candidate(const struct tux_engine *engine, const struct tux_upgroup *group,
                         const struct tux_upcall *call, const struct tux_upserver *server, bool any)
{
    if ((call->tried >> server->index & 1u) != 0 || !is_healthy(server))
        return false;
    if (!any && engine->now_ms < server->down_until_ms)
        return false;
    return group->config.connections == 0 || server->busy < group->config.connections;
}

/* Is `a` less loaded than `b`, for their weights? */
static bool is_freer(const struct tux_upserver *a, const struct tux_upserver *b)
{
    return (int64_t)a->busy * b->weight < (int64_t)b->busy * a->weight;
}

/* Round robin is smooth: each candidate gains its weight, the one that is chosen loses what all gained. So a server of
 * weight 5 beside two of weight 1 is chosen in the order a a b a c a a. It also settles ties of the least loaded. */
static struct tux_upserver *choose(struct tux_engine *engine, struct tux_upgroup *group, const struct tux_upcall *call,
                                   bool any)
{
    struct tux_upserver *best = NULL;
    int64_t total = 0;
    for (uint32_t i = 0; i < group->config.n_servers; i++) {
        struct tux_upserver *server = &group->servers[i];
        if (!is_candidate(engine, group, call, server, any))
            continue;
        server->current += server->weight;
        total += server->weight;
        if (best == NULL) {
            best = server;
        } else if (group->config.balance == TUX_BALANCE_LEAST_CONNECTIONS &&
                   (is_freer(server, best) || is_freer(best, server))) {
            if (is_freer(server, best))
                best = server;
        } else if (server->current > best->current) {
            best = server;
        }
    }
    if (best != NULL)
        best->current -= total;
    return best;
}

/* NULL: none can have it now. If all have failed lately, they are tried all the same: a wrong guess must not take a site down. */
static struct tux_upserver *pick(struct tux_engine *engine, struct tux_upgroup *group, const struct tux_upcall *call)
{
    struct tux_upserver *server = choose(engine, group, call, false);
    return server != NULL ? server : choose(engine, group, call, true);
}

static bool has_candidate(const struct tux_engine *engine, const struct tux_upgroup *group, const struct tux_upcall *call)
{
    for (uint32_t i = 0; i < group->config.n_servers; i++)
        if (is_candidate(engine, group, call, &group->servers[i], true))
            return true;
    return false;
}

static bool all_tried(const struct tux_upgroup *group, const struct tux_upcall *call)
{
    return (uint32_t)__builtin_popcountll(call->tried) == group->config.n_servers;
}

/* Is there nobody whom it could wait for? */
static bool all_out(const struct tux_upgroup *group, const struct tux_upcall *call)
{
    for (uint32_t i = 0; i < group->config.n_servers; i++)
        if ((call->tried >> i & 1u) == 0 && is_healthy(&group->servers[i]))
            return false;
    return true;
}

/* -- calls ------------------------------------------------------------------------------------------------------- */

/* All servers that may have it are at their bound. */
static uint16_t enqueue(struct tux_engine *engine, struct tux_upcall *call)
{
    struct tux_upgroup *group = call->group;
    if (group->n_queued >= group->config.queue)
        return 503;
    call->next_queued = NULL;
    call->queued = true;
    call->queued_until_ms = engine->now_ms + group->config.queue_timeout_ms;
    *group->queue_tail = call;
    group->queue_tail = &call->next_queued;
    if (group->n_queued++ == 0)
        tux_timer_set(&engine->wheel, &group->timer, call->queued_until_ms);
    tux_count(&engine->stats.queued, 1);
    return 0;
}

static void dequeue(struct tux_engine *engine, struct tux_upcall *call)
{
    struct tux_upgroup *group = call->group;
    struct tux_upcall **link = &group->queue;
    while (*link != call) /* bounded by the limit of the queue; usually it is the first */
        link = &(*link)->next_queued;
    *link = call->next_queued;
    if (group->queue_tail == &call->next_queued)
        group->queue_tail = link;
    call->queued = false;
    group->n_queued--;
    tux_uncount(&engine->stats.queued, 1);
    if (group->queue == NULL)
        tux_timer_cancel(&engine->wheel, &group->timer);
}

/* The address that the client has connected to. */
static struct tux_address local_address(const struct tux_conn *conn)
{
    struct tux_address address = {.kind = TUX_ADDRESS_UNIX};
    struct sockaddr_storage local = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof local;
    if (getsockname(conn->fd, (struct sockaddr *)&local, &len) == 0)
        tux_address_of_socket(&local, &address);
    return address;
}

/* What goes to this server first, into upstreams->head; its length. */
static uint16_t write_head(struct tux_engine *engine, struct tux_upcall *call, const struct tux_upserver *server,
                           size_t *len)
{
    struct tux_conn *conn = call->conn;
    struct tux_forward_rules *rules = &call->group->rules;
    struct tux_client client;
    tux_conn_client(engine, conn, conn->exchange->head, &engine->head, &client);
    struct tux_forward_way way = {.peer = &conn->address,
                                  .client = &client,
                                  .server = server->name,
                                  .server_len = server->name_len,
                                  .close = call->group->config.keepalive == 0};
    if (call->group->host_of_server) {
        memcpy(rules->host, server->name, server->name_len);
        rules->host_len = server->name_len;
    }
    uint8_t *out = engine->upstreams->head;
    size_t header = 0;
    if (call->group->config.proxy_protocol != 0) {
        struct tux_address local = local_address(conn);
        header = tux_proxy_build(call->group->config.proxy_protocol, &client.address, &local, out);
    }
    uint16_t status = tux_forward_request(conn->exchange->head, &engine->head, rules, &way, out + header,
                                          sizeof engine->upstreams->head - header, &call->head);
    *len = header + call->head.length;
    return status;
}

/* engine->head has the scan of its head. 0: it is on its way, or waits; else the status to answer with. */
static uint16_t start(struct tux_engine *engine, struct tux_upcall *call)
{
    struct tux_upgroup *group = call->group;
    for (uint32_t i = 0; i <= 2 * TUX_MAX_UPSTREAM_SERVERS; i++) { /* each round takes a connection away, or a server */
        struct tux_upserver *server = pick(engine, group, call);
        if (server == NULL)
            return all_tried(group, call) ? 502 : all_out(group, call) ? 503 : enqueue(engine, call);
        size_t len = 0;
        uint16_t status = write_head(engine, call, server, &len);
        if (status != 0)
            return status;
        /* What must not be sent twice goes over a connection that is known to be alive a moment before. */
        struct tux_upconn *up = call->fresh ? NULL : tux_uppool_take(engine, server, !call->idempotent || call->has_body);
        if (up == NULL)
            up = tux_upconn_new(engine, group, server);
        if (up != NULL) {
            call->up = up;
            up->call = call;
            server->busy++;
            call->body_done = !call->has_body;
            call->waits_continue = call->head.expect && call->has_body;
            if (tux_upconn_send_head(engine, up, engine->upstreams->head, len,
                                     call->has_body && !call->waits_continue))
                return 0;
            if (up->reused) { /* it had just died: the next is new */
                call->fresh = true;
                continue;
            }
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            return 503; /* our own trouble */
        }
        atomic_store_explicit(&server->connect_error, errno, memory_order_relaxed);
        tux_upserver_failed(engine, group, server, TUX_UPFAIL_connect);
        call->tried |= UINT64_C(1) << server->index;
        if (call->tries++ >= group->config.retries)
            return 502;
        tux_count(&engine->stats.retries, 1);
    }
    return 502;
}

/* Later than in begin(), the scan of the head is somebody else's. */
static uint16_t start_again(struct tux_engine *engine, struct tux_upcall *call)
{
    if (!tux_exchange_scan(engine, call->conn))
        return 500; /* it was scanned before */
    uint16_t status = start(engine, call);
    if (status == 0 && call->up != NULL)
        tux_upconn_offer_room(engine, call->up);
    return status;
}

void tux_upcall_failed(struct tux_engine *engine, struct tux_upcall *call, struct tux_upserver *server, bool stale,
                       bool silent, enum tux_upstream_failure failure)
{
    struct tux_upgroup *group = call->group;
    bool late = failure == TUX_UPFAIL_connect_time || failure == TUX_UPFAIL_send_time || failure == TUX_UPFAIL_answer_time;
    uint16_t status = late ? 504 : 502;
    bool again = !call->answered && !call->body_started && (silent || call->idempotent);
    if (stale) {
        call->fresh = true; /* an idle connection may end at any time: no fault of the server's, and the next is new */
    } else {
        tux_upserver_failed(engine, group, server, failure);
        call->tried |= UINT64_C(1) << server->index;
        again = again && call->tries++ < group->config.retries && !all_tried(group, call);
    }
    if (again) {
        tux_count(&engine->stats.retries, 1);
        uint16_t error = start_again(engine, call);
        if (error == 0)
            return;
        status = error;
    }
    tux_relay_fail(engine, call->conn, status);
}

/* -- the backend ------------------------------------------------------------------------------------------------- */

static uint16_t begin(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_relay *relay = conn->exchange->relay;
    const struct tux_head *head = &engine->head;
    struct tux_upcall *call = calloc(1, sizeof *call);
    if (call == NULL)
        return 503;
    call->conn = conn;
    call->group = engine->upstreams->groups[relay->number];
    call->is_head = head->method == TUX_METHOD_HEAD;
    call->idempotent = head->method == TUX_METHOD_GET || call->is_head || head->method == TUX_METHOD_OPTIONS ||
                       head->method == TUX_METHOD_PUT || head->method == TUX_METHOD_DELETE;
    call->chunked = head->chunked;
    call->has_body = head->chunked || head->content_length > 0;
    relay->peer = call;
    tux_count(&engine->stats.forwarded, 1);
    /* Those that wait go first. */
    uint16_t status = call->group->n_queued > 0 ? enqueue(engine, call) : start(engine, call);
    if (status != 0) {
        relay->peer = NULL;
        free(call);
    }
    return status;
}

static struct tux_upcall *call_of(const struct tux_conn *conn)
{
    return conn->exchange->relay->peer;
}

static size_t room(struct tux_engine *engine, struct tux_conn *conn)
{
    (void)engine;
    struct tux_upcall *call = call_of(conn);
    size_t bytes = call->up == NULL ? 0 : tux_upconn_room(call->up);
    call->body_wanted = bytes == 0;
    return bytes;
}

static void body(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *data, size_t len, bool end)
{
    struct tux_upcall *call = call_of(conn);
    if (call->up != NULL)
        tux_upconn_send_body(engine, call->up, data, len, end);
}

static void drained(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_upcall *call = call_of(conn);
    if (call->up != NULL)
        tux_upconn_defer(engine, call->up);
}

static void half_closed(struct tux_engine *engine, struct tux_conn *conn)
{
    (void)engine, (void)conn; /* it may still read its answer, and most do */
}

static void release(struct tux_engine *engine, struct tux_conn *conn, bool complete)
{
    (void)complete;
    struct tux_upcall *call = call_of(conn);
    if (call == NULL)
        return;
    if (call->queued)
        dequeue(engine, call);
    if (call->up != NULL)
        tux_upconn_close(engine, call->up);
    conn->exchange->relay->peer = NULL;
    free(call);
}

const struct tux_backend tux_upstream_backend = {
    .tier = 'f',
    .begin = begin,
    .room = room,
    .body = body,
    .drained = drained,
    .half_closed = half_closed,
    .release = release,
};

/* -- the loop ---------------------------------------------------------------------------------------------------- */

/* Connections have become free, or there are none to wait for: those that waited longest get them, or are told. */
static void serve_queue(struct tux_engine *engine, struct tux_upgroup *group)
{
    group->wanted = false;
    for (uint32_t n = group->n_queued; n > 0 && group->queue != NULL; n--) {
        struct tux_upcall *call = group->queue;
        if (!has_candidate(engine, group, call) && !all_out(group, call))
            return;
        dequeue(engine, call);
        uint16_t status = start_again(engine, call);
        if (status != 0)
            tux_relay_fail(engine, call->conn, status);
    }
}

void tux_upstream_queue_expired(struct tux_engine *engine, struct tux_timer *timer)
{
    struct tux_upgroup *group = (struct tux_upgroup *)((char *)timer - offsetof(struct tux_upgroup, timer));
    for (uint32_t n = group->n_queued; n > 0 && group->queue != NULL; n--) {
        struct tux_upcall *call = group->queue;
        if (engine->now_ms < call->queued_until_ms)
            break;
        dequeue(engine, call);
        tux_count(&engine->stats.timeouts, 1);
        tux_relay_fail(engine, call->conn, 503);
    }
    if (group->queue != NULL)
        tux_timer_set(&engine->wheel, &group->timer, group->queue->queued_until_ms);
}

bool tux_upstream_turn(struct tux_engine *engine)
{
    struct tux_upstreams *all = engine->upstreams;
    struct tux_upconn *list = all->ready;
    all->ready = NULL;
    all->ready_tail = &all->ready;
    while (list != NULL) {
        struct tux_upconn *up = list;
        list = up->next;
        up->deferred = false;
        if (up->state == TUX_UP_CLOSED) {
            up->next = all->graveyard;
            all->graveyard = up;
        } else {
            tux_upconn_run(engine, up);
        }
    }
    for (uint32_t i = 0; i < all->n_groups; i++)
        if (all->groups[i]->wanted ||
            (all->groups[i]->queue != NULL && atomic_exchange_explicit(&all->groups[i]->judged, false, memory_order_acquire)))
            serve_queue(engine, all->groups[i]);
    while (all->graveyard != NULL) {
        struct tux_upconn *up = all->graveyard;
        all->graveyard = up->next;
        free(up);
    }
    return all->ready != NULL;
}
