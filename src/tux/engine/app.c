/* SPDX-License-Identifier: MIT */
/* Requests for applications: which process gets them, and how they wait for one. */
#include "apps.h"
#include "origin.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "relay.h"

#define FIRST_BODY_BYTES 16384u    /* of a body, in the record of its request: what came with the head */
#define LATE_REQUESTS_MS 1500u     /* so long after a drain began, connections bring no new request: see loop.c */
#define SMALL_BODY_ROOM 4096u      /* of a body, when the ring is rather full */
#define BODY_OVERHEAD 6u           /* a chunk of one byte takes 6 on the wire and 32 in the ring */
#define WAKE_US 20u                /* what it costs to wake a process: the call, the processor's way to it, its own first steps */
#define MAX_SOCKET_NAME_BYTES 108u /* path of a unix socket */

static struct tux_apprequest *request_of(const struct tux_conn *conn)
{
    return conn->exchange->relay->peer;
}

/* -- the record of a request ------------------------------------------------------------------------------------ */

/* Where the connection came in: asked once. A path of a unix socket is left in `text`, and its length is returned. */
static uint8_t find_local(struct tux_conn *conn, char *text)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } name = {.any = {.sa_family = AF_UNSPEC}};
    socklen_t name_len = sizeof name;
    if (getsockname(conn->fd, &name.any, &name_len) < 0)
        return 0;
    if (name.any.sa_family == AF_INET) {
        tux_address_set(&conn->local, &name.in.sin_addr, 4, ntohs(name.in.sin_port));
    } else if (name.any.sa_family == AF_INET6) {
        tux_address_set(&conn->local, &name.in6.sin6_addr, 16, ntohs(name.in6.sin6_port));
    } else if (name.any.sa_family == AF_UNIX) {
        size_t before = offsetof(struct sockaddr_un, sun_path);
        size_t n = name_len > before ? name_len - before : 0;
        if (n > 0 && name.un.sun_path[0] != 0)
            n = strnlen(name.un.sun_path, n);
        memcpy(text, name.un.sun_path, n);
        if (n > 0 && text[0] == 0)
            text[0] = '@'; /* an abstract name, as ss(8) writes it */
        return (uint8_t)n;
    }
    return 0;
}

static uint8_t name_local(struct tux_conn *conn, char *text)
{
    if (conn->local.kind == TUX_ADDRESS_NONE) {
        uint8_t len = find_local(conn, text);
        if (len > 0)
            return len;
    }
    return tux_address_format(&conn->local, text);
}

/* Mostly the peer, whose text is there. */
static uint8_t name_client(const struct tux_conn *conn, const struct tux_client *client, char *text)
{
    if (client->address.kind == TUX_ADDRESS_UNIX)
        return 0;
    if (memcmp(&client->address, &conn->address, sizeof client->address) != 0)
        return tux_address_format(&client->address, text);
    memcpy(text, conn->peer, conn->peer_len);
    return conn->peer_len;
}

static bool lies_in(struct tux_span part, struct tux_span whole)
{
    return part.len > 0 && part.off >= whole.off && part.off + part.len <= whole.off + whole.len;
}

/* Without what a peer that nobody trusts says about the client. */
static uint32_t put_fields(const struct tux_head *head, const struct tux_client *client, struct tux_app_field *fields)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < head->n_fields; i++)
        if (!tux_client_hides(client, head->fields[i].id))
            fields[n++] = (struct tux_app_field){.name = (uint16_t)head->fields[i].name.off,
                                                 .name_len = (uint16_t)head->fields[i].name.len,
                                                 .value = (uint16_t)head->fields[i].value.off,
                                                 .value_len = (uint16_t)head->fields[i].value.len,
                                                 .id = head->fields[i].id};
    return n;
}

/* Write the record of the request, whose scan is engine->head. False: the ring has no room for it now. */
static bool put_request(struct tux_engine *engine, struct tux_applink *link, struct tux_apprequest *request)
{
    struct tux_conn *conn = request->conn;
    struct tux_exchange *exchange = conn->exchange;
    const struct tux_head *head = &engine->head;
    char local[MAX_SOCKET_NAME_BYTES + 1], peer[TUX_MAX_PEER_BYTES];
    struct tux_app_field fields[TUX_MAX_FIELDS];
    struct tux_client client;
    tux_conn_client(engine, conn, exchange->head, head, &client);
    struct tux_app_request said = {
        .record = {.kind = TUX_APP_REQUEST},
        .length = head->has_length ? (int64_t)head->content_length : -1,
        .head_len = exchange->head_len,
        .n_fields = put_fields(head, &client, fields),
        .method = head->method_name,
        .target = head->target,
        .path = head->path,
        .query = head->query,
        .host = head->host,
        .listener = conn->listener->index,
        .peer_port = client.address.port,
        .peer_len = name_client(conn, &client, peer),
        .local_len = name_local(conn, local),
        .minor = head->minor,
    };
    said.local_port = conn->local.port;
    uint32_t fixed = tux_appwire_request_bytes(&said);
    uint8_t *at = tux_ring_reserve(&link->requests, fixed + FIRST_BODY_BYTES);
    if (at == NULL)
        return false;
    /* What somebody else may have to answer stays whole until it is taken. */
    bool withheld = tux_origin_has_next(exchange);
    const uint8_t *body;
    size_t body_len;
    bool end;
    tux_relay_body_now(engine, conn, withheld ? 0 : FIRST_BODY_BYTES, &body, &body_len, &end);
    withheld = withheld && !end;
    request->link = link;
    request->position = link->requests.position;
    request->with_body = body_len > 0;
    request->to_process = withheld ? 0 : (int64_t)TUX_APP_WINDOW_BYTES - (int64_t)body_len;
    size_t window = tux_relay_room(engine, conn);
    said.window = window < TUX_APP_WINDOW_BYTES ? (uint32_t)window : TUX_APP_WINDOW_BYTES;
    tux_apprequest_promise(engine, request, said.window);
    said.record.tag = request->tag;
    said.record.serial = request->serial;
    said.record.n = (uint32_t)body_len;
    said.record.flags = (uint8_t)((end ? TUX_APP_END : 0) | (exchange->relay->may_upgrade ? TUX_APP_UPGRADES : 0) |
                                  (lies_in(head->host, head->target) ? TUX_APP_ABSOLUTE : 0) |
                                  (client.secure ? TUX_APP_HTTPS : 0) | (withheld ? TUX_APP_WITHHELD : 0));
    memcpy(at, &said, sizeof said);
    at += sizeof said;
    memcpy(at, fields, said.n_fields * sizeof *fields);
    at += said.n_fields * sizeof *fields;
    memcpy(at, exchange->head, exchange->head_len);
    at += exchange->head_len;
    memcpy(at, peer, said.peer_len);
    at += said.peer_len;
    memcpy(at, local, said.local_len);
    if (body_len > 0)
        memcpy(at + said.local_len, body, body_len);
    tux_ring_commit(&link->requests, fixed + (uint32_t)body_len);
    tux_applink_touch(link);
    return true;
}

/* -- the choice ------------------------------------------------------------------------------------------------- */

/* Requests that the process has before it: by its own word, or by what was given to it and it has not seen yet. One that
 * has none, and sleeps, would have to be woken: that counts as the requests which it could answer in the same time, so where
 * they take less a few of them go to a process that is awake. */
static uint32_t load_of(const struct tux_applink *link)
{
    struct tux_app_shared *said = tux_app_shared(&link->answers);
    uint32_t load = atomic_load_explicit(&said->load, memory_order_relaxed);
    load = load > link->outstanding ? load : link->outstanding;
    if (load > 0 || !tux_ring_reader_sleeps(&link->requests))
        return load;
    uint32_t pace_us = atomic_load_explicit(&said->pace_us, memory_order_relaxed);
    return pace_us == 0 ? 0 : WAKE_US / pace_us;
}

/* The process with the least to do. */
static struct tux_applink *choose(struct tux_engine *engine, struct tux_app *app)
{
    struct tux_applink *best = NULL;
    uint32_t best_load = 0, i = 0, best_turn = 0;
    app->round++;
    for (struct tux_applink *link = app->links; link != NULL; link = link->next, i++) {
        if (!tux_applink_is_ready(engine, link))
            continue;
        uint32_t load = load_of(link);
        uint32_t turn = (i + app->round) % 64;
        if (best == NULL || load < best_load || (load == best_load && turn < best_turn)) {
            best = link;
            best_load = load;
            best_turn = turn;
        }
    }
    return best;
}

static bool give(struct tux_engine *engine, struct tux_apprequest *request)
{
    struct tux_applink *link = choose(engine, request->app);
    if (link == NULL || !tux_applink_add(link, request))
        return false;
    if (put_request(engine, link, request))
        return true;
    tux_applink_remove(engine, link, request);
    return false;
}

/* -- the queue -------------------------------------------------------------------------------------------------- */

static void time_queue(struct tux_engine *engine, struct tux_app *app)
{
    if (app->queue == NULL)
        tux_timer_cancel(&engine->wheel, &app->timer);
    else
        tux_timer_set(&engine->wheel, &app->timer, app->queue->deadline_ms);
}

/* In the order in which they came. `again`: it has waited before, so most of those that wait came later. */
static void enqueue(struct tux_engine *engine, struct tux_apprequest *request, bool again)
{
    struct tux_app *app = request->app;
    struct tux_apprequest *before = again ? NULL : app->queue_end;
    struct tux_apprequest *after = again ? app->queue : NULL;
    for (; after != NULL && after->number < request->number; after = after->next) /* passes those that came back, too */
        before = after;
    request->link = NULL;
    request->next = after;
    request->prev = before;
    if (request->next != NULL)
        request->next->prev = request;
    else
        app->queue_end = request;
    if (request->prev != NULL)
        request->prev->next = request;
    else
        app->queue = request;
    app->n_queued++;
    time_queue(engine, app);
}

static void dequeue(struct tux_engine *engine, struct tux_apprequest *request)
{
    struct tux_app *app = request->app;
    if (request->next != NULL)
        request->next->prev = request->prev;
    else
        app->queue_end = request->prev;
    if (request->prev != NULL)
        request->prev->next = request->next;
    else
        app->queue = request->next;
    request->next = request->prev = NULL;
    app->n_queued--;
    time_queue(engine, app);
}

bool tux_apprequest_again(struct tux_engine *engine, struct tux_apprequest *request)
{
    struct tux_relay *relay = request->conn->exchange->relay;
    if (request->with_body || relay->touched || relay->answered || relay->planned != NULL || request->over)
        return false;
    tux_applink_remove(engine, request->link, request);
    request->deadline_ms = engine->now_ms + request->app->config.queue_timeout_ms;
    enqueue(engine, request, true);
    if (request->next != NULL && request->next->deadline_ms < request->deadline_ms)
        request->deadline_ms = request->next->deadline_ms; /* so that the first in the queue is the first to give up */
    time_queue(engine, request->app);
    engine->apps->dispatch = true;
    return true;
}

void tux_apps_expired(struct tux_engine *engine, struct tux_timer *timer)
{
    if (timer == &engine->apps->late)
        return; /* tux_apps_turn looks */
    if (timer == &engine->apps->sweep) {
        tux_appfile_sweep(engine);
        return;
    }
    struct tux_app *app = (struct tux_app *)((char *)timer - offsetof(struct tux_app, timer));
    while (app->queue != NULL && app->queue->deadline_ms <= engine->now_ms) /* ends: each round makes it shorter */
        tux_relay_fail(engine, app->queue->conn, 503);
    time_queue(engine, app);
}

static bool has_process(const struct tux_app *app)
{
    for (const struct tux_applink *link = app->links; link != NULL; link = link->next)
        if (!link->dead)
            return true;
    return false;
}

static void half_closed(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_apprequest *request = request_of(conn);
    if (request->link != NULL)
        tux_applink_say(engine, request->link, request, TUX_APP_GONE, 0, 0);
}

/* Those that waited longest first. */
static void dispatch(struct tux_engine *engine, struct tux_app *app)
{
    bool hopeless = engine->draining && !has_process(app); /* the supervisor starts none while we end */
    for (uint32_t n = app->n_queued; n > 0 && app->queue != NULL; n--) {
        struct tux_apprequest *request = app->queue;
        struct tux_conn *conn = request->conn;
        if (hopeless) {
            tux_relay_fail(engine, conn, 503);
            continue;
        }
        if (choose(engine, app) == NULL)
            return;
        if (!tux_exchange_scan(engine, conn)) {
            tux_relay_fail(engine, conn, 502); /* it was scanned before */
            continue;
        }
        dequeue(engine, request);
        if (!give(engine, request)) {
            enqueue(engine, request, true);
            return;
        }
        tux_relay_given(engine, conn);
    }
}

/* -- the backend ------------------------------------------------------------------------------------------------ */

static uint16_t begin(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_relay *relay = conn->exchange->relay;
    struct tux_apps *apps = engine->apps;
    if (relay->number >= apps->n)
        return 502;
    struct tux_app *app = apps->apps[relay->number];
    struct tux_apprequest *request = calloc(1, sizeof *request);
    if (request == NULL)
        return 503;
    request->conn = conn;
    request->app = app;
    request->number = ++app->n_requests;
    relay->peer = request;
    if (app->queue == NULL && give(engine, request))
        return 0;
    if (app->n_queued >= app->config.queue) {
        free(request);
        relay->peer = NULL;
        return 503;
    }
    request->deadline_ms = engine->now_ms + app->config.queue_timeout_ms;
    enqueue(engine, request, false);
    apps->dispatch = true;
    return 0;
}

static size_t room(struct tux_engine *engine, struct tux_conn *conn)
{
    struct tux_apprequest *request = request_of(conn);
    struct tux_applink *link = request->link;
    (void)engine;
    if (link == NULL || request->to_process <= 0)
        return 0; /* CONSUMED, or a process that takes it, says when there is more */
    size_t size = FIRST_BODY_BYTES;
    if (link->pending != NULL || tux_ring_reserve(&link->requests, (uint32_t)size * BODY_OVERHEAD) == NULL) {
        size = SMALL_BODY_ROOM;
        if (link->pending != NULL || tux_ring_reserve(&link->requests, (uint32_t)size * BODY_OVERHEAD) == NULL) {
            tux_applink_want_room(engine, link, request);
            return 0;
        }
    }
    return size < (uint64_t)request->to_process ? size : (size_t)request->to_process;
}

static void body(struct tux_engine *engine, struct tux_conn *conn, const uint8_t *data, size_t len, bool end)
{
    struct tux_apprequest *request = request_of(conn);
    struct tux_applink *link = request->link;
    struct tux_app_record record = {.kind = TUX_APP_BODY,
                                    .flags = end ? TUX_APP_END : 0,
                                    .tag = request->tag,
                                    .serial = request->serial,
                                    .n = (uint32_t)len};
    if (link == NULL)
        return; /* there was no room for any */
    uint8_t *at = tux_ring_reserve(&link->requests, (uint32_t)(sizeof record + len));
    if (at == NULL) {
        tux_relay_fail(engine, conn, 502); /* room() looked */
        return;
    }
    memcpy(at, &record, sizeof record);
    if (len > 0)
        memcpy(at + sizeof record, data, len);
    tux_ring_commit(&link->requests, (uint32_t)(sizeof record + len));
    request->to_process -= (int64_t)len;
    tux_applink_touch(link);
}

static void drained(struct tux_engine *engine, struct tux_conn *conn)
{
    tux_apprequest_credit(engine, request_of(conn));
}

static void release(struct tux_engine *engine, struct tux_conn *conn, bool complete)
{
    struct tux_apprequest *request = request_of(conn);
    if (request == NULL)
        return;
    conn->exchange->relay->peer = NULL;
    if (request->link == NULL) {
        dequeue(engine, request);
    } else {
        if (!complete && !request->over && !request->link->dead) {
            request->over = true; /* should the link end over this, no other process gets it */
            tux_applink_say(engine, request->link, request, TUX_APP_GONE, TUX_APP_HARD, 0);
        }
        tux_applink_remove(engine, request->link, request);
        engine->apps->dispatch = true;
    }
    free(request);
}

const struct tux_backend tux_app_backend = {
    .tier = 'a',
    .begin = begin,
    .room = room,
    .body = body,
    .drained = drained,
    .half_closed = half_closed,
    .release = release,
};

/* -- the loop --------------------------------------------------------------------------------------------------- */

void tux_apps_event(struct tux_engine *engine, struct tux_source *source, uint32_t events)
{
    struct tux_appsource *from = (struct tux_appsource *)(void *)source;
    struct tux_applink *link = from->link;
    if (link->dead)
        return;
    if (!from->side) {
        link->asleep = false;
        engine->apps->stirred = true;
        tux_applink_room(engine, link);
    } else if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        tux_applink_read(engine, link); /* its last words */
        if (!link->dead)
            tux_applink_kill(engine, link);
    }
}

void tux_apps_read(struct tux_engine *engine)
{
    struct tux_apps *apps = engine->apps;
    for (uint32_t i = 0; apps->stirred && i < apps->n; i++)
        for (struct tux_applink *link = apps->apps[i]->links; link != NULL; link = link->next)
            if (!link->asleep && !link->dead && tux_ring_waits(&link->answers))
                tux_applink_read(engine, link);
}

/* While the engine drains, requests may still come for a moment: only then are the processes told that none will. */
static bool may_say_drain(struct tux_engine *engine, const struct tux_app *app)
{
    struct tux_apps *apps = engine->apps;
    if (atomic_load_explicit(&engine->drain_deadline_ms, memory_order_acquire) == UINT64_MAX)
        return true;
    if (apps->drain_since_ms == 0) {
        apps->drain_since_ms = engine->now_ms;
        tux_timer_set(&engine->wheel, &apps->late, engine->now_ms + LATE_REQUESTS_MS);
    }
    return app->queue == NULL && engine->now_ms - apps->drain_since_ms >= LATE_REQUESTS_MS;
}

void tux_apps_drain(struct tux_engine *engine)
{
    engine->apps->dispatch = true;
}

bool tux_apps_turn(struct tux_engine *engine)
{
    struct tux_apps *apps = engine->apps;
    bool busy = false;
    if (apps->dispatch) {
        apps->dispatch = false;
        for (uint32_t i = 0; i < apps->n; i++)
            if (apps->apps[i]->queue != NULL)
                dispatch(engine, apps->apps[i]);
    }
    if (!apps->stirred)
        return apps->dispatch;
    apps->stirred = false;
    for (uint32_t i = 0; i < apps->n; i++) {
        struct tux_app *app = apps->apps[i];
        bool dead = false;
        for (struct tux_applink *link = app->links; link != NULL; link = link->next) {
            dead = dead || link->dead;
            if (link->dead)
                continue;
            if (link->leaving && !link->drained && may_say_drain(engine, app)) {
                link->drained = true;
                tux_applink_say(engine, link, NULL, TUX_APP_DRAIN, 0, 0);
            }
            if (link->dirty)
                tux_applink_wake(link);
            if (!link->asleep)
                link->asleep = tux_ring_reader_sleep(&link->answers);
            busy = busy || !link->asleep;
            apps->stirred = apps->stirred || !link->asleep || link->dirty || (link->leaving && !link->drained);
        }
        if (dead)
            tux_applink_bury(engine, app);
    }
    return busy || apps->dispatch;
}

/* -- other threads ---------------------------------------------------------------------------------------------- */

static void command(struct tux_engine *engine, struct tux_appcommand *new)
{
    struct tux_apps *apps = engine->apps;
    pthread_mutex_lock(&apps->lock);
    *apps->commands_tail = new;
    apps->commands_tail = &new->next;
    pthread_mutex_unlock(&apps->lock);
    uint64_t one = 1;
    if (write(engine->wake_fd, &one, sizeof one) < 0) {
        /* Only when it is readable already. */
    }
}

static void close_all(const struct tux_app_link_config *config)
{
    close(config->requests_fd);
    close(config->answers_fd);
    close(config->process_wake_fd);
    close(config->wake_fd);
    close(config->side_fd);
}

int tux_engine_link_app(struct tux_engine *engine, const struct tux_app_link_config *config)
{
    struct tux_appcommand *new = calloc(1, sizeof *new);
    bool known = engine->apps != NULL && config->app < engine->apps->n;
    if (new == NULL || !known) {
        free(new);
        close_all(config);
        return known ? -ENOMEM : -ENOENT;
    }
    new->config = *config;
    command(engine, new);
    return 0;
}

int tux_engine_unlink_app(struct tux_engine *engine, uint64_t serial)
{
    if (engine->apps == NULL)
        return 0;
    struct tux_appcommand *new = calloc(1, sizeof *new);
    if (new == NULL)
        return -ENOMEM;
    new->unlink = true;
    new->config.serial = serial;
    command(engine, new);
    return 0;
}

static struct tux_appcommand *take_commands(struct tux_apps *apps)
{
    pthread_mutex_lock(&apps->lock);
    struct tux_appcommand *list = apps->commands;
    apps->commands = NULL;
    apps->commands_tail = &apps->commands;
    pthread_mutex_unlock(&apps->lock);
    return list;
}

static void unlink_serial(struct tux_engine *engine, uint64_t serial)
{
    struct tux_apps *apps = engine->apps;
    for (uint32_t i = 0; i < apps->n; i++)
        for (struct tux_applink *link = apps->apps[i]->links; link != NULL; link = link->next)
            if (link->number == serial && !link->dead) {
                tux_applink_read(engine, link);
                if (!link->dead)
                    tux_applink_kill(engine, link);
                return;
            }
}

void tux_apps_commands(struct tux_engine *engine)
{
    struct tux_appcommand *list = take_commands(engine->apps);
    while (list != NULL) {
        struct tux_appcommand *done = list;
        list = list->next;
        if (done->unlink)
            unlink_serial(engine, done->config.serial);
        else
            tux_applink_open(engine, &done->config);
        free(done);
    }
}

/* -- the life of it all ----------------------------------------------------------------------------------------- */

int tux_engine_app(struct tux_engine *engine, const struct tux_app_config *config)
{
    if (config->sendfile_root >= (int64_t)engine->config.n_roots)
        return -EINVAL;
    if (engine->apps == NULL) {
        struct tux_apps *apps = calloc(1, sizeof *apps);
        if (apps == NULL)
            return -ENOMEM;
        apps->commands_tail = &apps->commands;
        pthread_mutex_init(&apps->lock, NULL);
        apps->late.kind = apps->sweep.kind = TUX_TIMER_APP;
        apps->sweep_ms = TUX_APP_SWEEP_MS;
        apps->unused_ms = TUX_APP_UNUSED_MS;
        engine->apps = apps;
        engine->backends[TUX_ORIGIN_APP] = &tux_app_backend;
    }
    struct tux_apps *apps = engine->apps;
    struct tux_app **grown = realloc(apps->apps, (apps->n + 1u) * sizeof *grown);
    if (grown == NULL)
        return -ENOMEM;
    apps->apps = grown;
    struct tux_app *app = calloc(1, sizeof *app);
    if (app == NULL)
        return -ENOMEM;
    app->config = *config;
    app->timer.kind = TUX_TIMER_APP;
    apps->apps[apps->n] = app;
    return (int)apps->n++;
}

void tux_apps_free(struct tux_engine *engine)
{
    struct tux_apps *apps = engine->apps;
    if (apps == NULL)
        return;
    struct tux_appcommand *list = take_commands(apps);
    while (list != NULL) {
        struct tux_appcommand *done = list;
        list = list->next;
        if (!done->unlink)
            close_all(&done->config);
        free(done);
    }
    for (uint32_t i = 0; i < apps->n; i++) {
        for (struct tux_applink *link = apps->apps[i]->links; link != NULL; link = link->next)
            link->dead = true;
        tux_applink_bury(engine, apps->apps[i]);
        free(apps->apps[i]);
    }
    pthread_mutex_destroy(&apps->lock);
    free(apps->apps);
    free(apps);
    engine->apps = NULL;
}
