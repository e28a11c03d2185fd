/* SPDX-License-Identifier: MIT */
/* The links to processes: opening and ending them, and what is written into their rings. */
#include "apps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "relay.h"

#define FIRST_TAGS 64u
#define SERIALS ((1u << 28) - 1u) /* of exchanges: a key in Python stays small, and the same number comes late */

/* -- writing ---------------------------------------------------------------------------------------------------- */

void tux_applink_wake(struct tux_applink *link)
{
    link->dirty = false;
    if (!tux_ring_take_wake(&link->requests))
        return;
    uint64_t one = 1;
    if (write(link->process_wake_fd, &one, sizeof one) < 0) {
        /* Full after 2^64 of them: the process is awake. */
    }
}

static void want_no_room(struct tux_applink *link, struct tux_apprequest *request)
{
    if (!request->waits_for_room)
        return;
    request->waits_for_room = false;
    if (request->next != NULL)
        request->next->prev = request->prev;
    if (request->prev != NULL)
        request->prev->next = request->next;
    else
        link->want_room = request->next;
    request->next = request->prev = NULL;
}

/* Those that wait for room look again. */
static void offer_room(struct tux_engine *engine, struct tux_applink *link)
{
    while (link->want_room != NULL) { /* ends: each is taken out, and comes back only when the connection runs */
        struct tux_apprequest *request = link->want_room;
        want_no_room(link, request);
        tux_relay_take_body(engine, request->conn);
    }
}

/* Have the process say when there is room for a record of `size`; false: there is now. Then it will say nothing, also to
 * those that have waited for longer: they are told here. */
static bool await(struct tux_engine *engine, struct tux_applink *link, uint32_t size)
{
    link->awaits = tux_ring_writer_sleep(&link->requests, size);
    if (!link->awaits)
        offer_room(engine, link);
    return link->awaits;
}

static bool put(struct tux_applink *link, const struct tux_app_record *record)
{
    void *at = tux_ring_reserve(&link->requests, sizeof *record);
    if (at == NULL)
        return false;
    memcpy(at, record, sizeof *record);
    tux_ring_commit(&link->requests, sizeof *record);
    tux_applink_touch(link);
    return true;
}

/* Write what waits; true: nothing waits any more. */
static bool put_pending(struct tux_engine *engine, struct tux_applink *link)
{
    do { /* ends: each round either writes something or waits */
        while (link->pending != NULL && put(link, &link->pending->record)) {
            struct tux_apppending *done = link->pending;
            link->pending = done->next;
            free(done);
        }
        if (link->pending == NULL) {
            link->pending_tail = &link->pending;
            return true;
        }
    } while (!await(engine, link, sizeof(struct tux_app_record)));
    return false;
}

void tux_applink_say(struct tux_engine *engine, struct tux_applink *link, const struct tux_apprequest *request,
                     uint8_t kind, uint8_t flags, uint32_t n)
{
    struct tux_app_record record = {.kind = kind, .flags = flags, .n = n};
    if (request != NULL) {
        record.tag = request->tag;
        record.serial = request->serial;
    }
    if (link->dead || (link->pending == NULL && put(link, &record)))
        return;
    struct tux_apppending *pending = calloc(1, sizeof *pending);
    if (pending == NULL) {
        tux_applink_kill(engine, link); /* it would never learn of it */
        return;
    }
    pending->record = record;
    *link->pending_tail = pending;
    link->pending_tail = &pending->next;
    put_pending(engine, link);
}

void tux_applink_want_room(struct tux_engine *engine, struct tux_applink *link, struct tux_apprequest *request)
{
    if (!request->waits_for_room) {
        request->waits_for_room = true;
        request->prev = NULL;
        request->next = link->want_room;
        if (request->next != NULL)
            request->next->prev = request;
        link->want_room = request;
    }
    if (link->pending == NULL)
        await(engine, link, TUX_APP_RING_BYTES / 2);
}

void tux_applink_room(struct tux_engine *engine, struct tux_applink *link)
{
    if (!link->awaits)
        return;
    link->awaits = false;
    if (!put_pending(engine, link))
        return;
    offer_room(engine, link);
    engine->apps->dispatch = true;
}

/* -- exchanges -------------------------------------------------------------------------------------------------- */

bool tux_applink_is_ready(struct tux_engine *engine, struct tux_applink *link)
{
    bool draining = atomic_load_explicit(&engine->drain_deadline_ms, memory_order_relaxed) != UINT64_MAX;
    if (link->dead || link->drained || (link->leaving && !draining) || link->pending != NULL)
        return false;
    return tux_ring_reserve(&link->requests, TUX_APP_RING_BYTES - TUX_APP_UNREAD_BYTES) != NULL ||
           !await(engine, link, TUX_APP_RING_BYTES - TUX_APP_UNREAD_BYTES);
}

static bool more_tags(struct tux_applink *link)
{
    uint32_t n = link->n_tags == 0 ? FIRST_TAGS : 2 * link->n_tags;
    if (n > TUX_MAX_APP_TAGS)
        return false;
    struct tux_apprequest **by_tag = realloc(link->by_tag, n * sizeof(struct tux_apprequest *));
    if (by_tag == NULL)
        return false;
    link->by_tag = by_tag;
    uint32_t *free_tags = realloc(link->free_tags, n * sizeof *free_tags);
    if (free_tags == NULL)
        return false;
    link->free_tags = free_tags;
    for (uint32_t tag = n; tag > link->n_tags; tag--) {
        by_tag[tag - 1] = NULL;
        free_tags[link->n_free++] = tag - 1;
    }
    link->n_tags = n;
    return true;
}

bool tux_applink_add(struct tux_applink *link, struct tux_apprequest *request)
{
    if (link->n_free == 0 && !more_tags(link))
        return false;
    link->last_serial = link->last_serial % SERIALS + 1;
    request->tag = link->free_tags[--link->n_free];
    request->serial = link->last_serial;
    link->by_tag[request->tag] = request;
    link->outstanding++;
    return true;
}

void tux_applink_remove(struct tux_engine *engine, struct tux_applink *link, struct tux_apprequest *request)
{
    tux_apprequest_promise(engine, request, 0);
    want_no_room(link, request);
    link->by_tag[request->tag] = NULL;
    link->free_tags[link->n_free++] = request->tag;
    link->outstanding--;
    request->link = NULL;
}

/* -- beginning and end ------------------------------------------------------------------------------------------ */

static bool watch(struct tux_engine *engine, int fd, uint32_t events, struct tux_appsource *source)
{
    struct epoll_event event = {.events = events | EPOLLET, .data.ptr = &source->source};
    return epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

void tux_applink_open(struct tux_engine *engine, const struct tux_app_link_config *config)
{
    struct tux_applink *link = calloc(1, sizeof *link);
    struct tux_app *app = engine->apps->apps[config->app];
    if (link == NULL) {
        close(config->requests_fd);
        close(config->answers_fd);
        close(config->process_wake_fd);
        close(config->wake_fd);
        close(config->side_fd);
        return;
    }
    *link = (struct tux_applink){
        .wake_source = {.source = {.kind = TUX_SOURCE_APP}, .link = link},
        .side_source = {.source = {.kind = TUX_SOURCE_APP}, .side = true, .link = link},
        .apps = engine->apps,
        .app = app,
        .number = config->serial,
        .requests = {.memfd = -1},
        .answers = {.memfd = -1},
        .process_wake_fd = config->process_wake_fd,
        .wake_fd = config->wake_fd,
        .side_fd = config->side_fd,
    };
    link->pending_tail = &link->pending;
    bool ok = tux_ring_attach(&link->requests, config->requests_fd, -1, -1, TUX_APP_RING_BYTES) == 0;
    if (!ok)
        close(config->requests_fd);
    bool ok_too = tux_ring_attach(&link->answers, config->answers_fd, -1, -1, TUX_APP_RING_BYTES) == 0;
    if (!ok_too)
        close(config->answers_fd);
    link->next = app->links;
    app->links = link;
    engine->apps->stirred = true;
    tux_count(&engine->stats.app_links, 1);
    if (!ok || !ok_too || !watch(engine, link->wake_fd, EPOLLIN, &link->wake_source) ||
        !watch(engine, link->side_fd, EPOLLRDHUP, &link->side_source)) {
        tux_applink_kill(engine, link);
        return;
    }
    engine->apps->dispatch = true;
}

void tux_applink_kill(struct tux_engine *engine, struct tux_applink *link)
{
    if (link->dead)
        return;
    link->dead = true;
    link->app->epoch++;
    engine->apps->stirred = true;
    tux_uncount(&engine->stats.app_links, 1);
    uint64_t read = link->requests.shared == NULL
                        ? 0
                        : atomic_load_explicit(&link->requests.shared->read, memory_order_acquire);
    for (uint32_t tag = link->n_tags; tag > 0; tag--) {
        struct tux_apprequest *request = link->by_tag[tag - 1];
        if (request == NULL)
            continue;
        if (request->position >= read && tux_apprequest_again(engine, request))
            continue;
        tux_count(&engine->stats.app_lost, 1);
        tux_relay_fail(engine, request->conn, 502);
    }
    engine->apps->dispatch = true;
}

static void free_link(struct tux_engine *engine, struct tux_applink *link)
{
    epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, link->wake_fd, NULL);
    epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, link->side_fd, NULL);
    if (link->requests.shared != NULL)
        tux_ring_close(&link->requests);
    if (link->answers.shared != NULL)
        tux_ring_close(&link->answers);
    close(link->process_wake_fd);
    close(link->wake_fd);
    close(link->side_fd);
    while (link->pending != NULL) {
        struct tux_apppending *pending = link->pending;
        link->pending = pending->next;
        free(pending);
    }
    tux_appfile_end(link);
    free(link->by_tag);
    free(link->free_tags);
    free(link);
}

void tux_applink_bury(struct tux_engine *engine, struct tux_app *app)
{
    struct tux_applink **at = &app->links;
    while (*at != NULL) {
        struct tux_applink *link = *at;
        if (link->dead) {
            *at = link->next;
            free_link(engine, link);
        } else {
            at = &link->next;
        }
    }
}
