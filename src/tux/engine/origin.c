/* SPDX-License-Identifier: MIT */
#include "origin.h"

#include "path.h"
#include "relay.h"

/* Is there surely no file for this path? Asked without blocking; what cannot be said so is left to the planner. */
static bool is_absent(struct tux_engine *engine, const struct tux_chain *chain, const uint8_t *path, size_t len)
{
    if (chain->root == TUX_NO_ROUTE || len < chain->mount_len)
        return false;
    path += chain->mount_len;
    len -= chain->mount_len;
    if (len < 2 || path[0] != '/' || path[len - 1] == '/') /* a folder: it may have an index */
        return false;
    path++;
    len--;
    if (len > TUX_MAX_PATH_BYTES)
        return true;
    uint64_t hash = tux_absent_hash(engine->config.sign.key, chain->root, path, len);
    if (tux_absent_known(&engine->absent, hash, engine->now_ms))
        return true;
    struct tux_found found;
    if (!tux_files_look(engine->roots, chain->root, (const char *)path, len, engine->now_ms, true, &found) ||
        found.kind != TUX_FOUND_ABSENT)
        return false;
    tux_absent_note(&engine->absent, hash, engine->now_ms);
    return true;
}

/* Whoever takes "%2F" for a slash must come to the same route, or "/public/..%2Fadmin" would pass by the route of /admin. */
static bool leads_to(const struct tux_engine *engine, const struct tux_exchange *exchange, uint32_t route)
{
    const struct tux_head *head = &engine->head;
    const uint8_t *bytes = exchange->head;
    const struct tux_chain *chain;
    uint8_t path[TUX_MAX_HEAD_BYTES];
    size_t len = 0;
    return tux_path_decode_slashes(bytes + head->path.off, head->path.len, path, &len) == 0 &&
           tux_routes_match(engine->config.routes, bytes + head->host.off, head->host.len, path, len, &chain) == route;
}

void tux_origin_choose(struct tux_engine *engine, struct tux_exchange *exchange, bool declined)
{
    const struct tux_head *head = &engine->head;
    const uint8_t *bytes = exchange->head;
    uint8_t path[TUX_MAX_HEAD_BYTES];
    size_t len = 0;
    bool odd = false; /* no file can have that name */
    if (engine->config.routes == NULL || !tux_routes_mixed(engine->config.routes) ||
        tux_path_decode(bytes + head->path.off, head->path.len, path, &len, &odd) != 0)
        return; /* "*" and authority-form, too: the planner knows */
    uint32_t route =
        tux_routes_match(engine->config.routes, bytes + head->host.off, head->host.len, path, len, &exchange->chain);
    if (odd && !leads_to(engine, exchange, route))
        exchange->chain = NULL; /* the planner answers with 404 */
    if (exchange->chain == NULL)
        return;
    for (uint32_t i = 0; i + 1 < exchange->chain->n_steps; i++) {
        if (exchange->chain->steps[i].origin != TUX_ORIGIN_PLANNER)
            continue;
        bool reads = head->method == TUX_METHOD_GET || head->method == TUX_METHOD_HEAD ||
                     head->method == TUX_METHOD_OPTIONS;
        exchange->skip_planner = declined || odd || !reads || head->chunked || head->content_length > 0 || head->upgrade ||
                                 is_absent(engine, exchange->chain, path, len);
    }
    if (exchange->skip_planner && exchange->chain->steps[0].origin == TUX_ORIGIN_PLANNER)
        exchange->step = 1;
}

uint32_t tux_origin_pages(struct tux_engine *engine, struct tux_conn *conn)
{
    const struct tux_exchange *exchange = conn->exchange;
    const struct tux_chain *chain = exchange->chain;
    const struct tux_routes *routes = engine->config.routes;
    if (chain != NULL)
        return chain->pages;
    if (routes == NULL || !tux_exchange_scan(engine, conn))
        return 0;
    const struct tux_head *head = &engine->head;
    const uint8_t *bytes = exchange->head;
    uint8_t path[TUX_MAX_HEAD_BYTES];
    size_t len = 0;
    if (tux_path_decode(bytes + head->path.off, head->path.len, path, &len, NULL) == 0)
        tux_routes_match(routes, bytes + head->host.off, head->host.len, path, len, &chain);
    return chain != NULL ? chain->pages : tux_routes_pages(routes, bytes + head->host.off, head->host.len);
}

enum tux_step tux_origin_begin(struct tux_engine *engine, struct tux_conn *conn)
{
    return tux_origin_is_planner(conn->exchange) ? tux_ask_send(engine, conn) : tux_relay_begin(engine, conn);
}

bool tux_origin_next(struct tux_exchange *exchange)
{
    while (tux_origin_has_next(exchange)) { /* ends: the step grows */
        exchange->step++;
        if (!tux_origin_is_planner(exchange) || !exchange->skip_planner || !tux_origin_has_next(exchange))
            return true;
    }
    return false;
}

bool tux_origin_skip(struct tux_exchange *exchange, enum tux_origin origin)
{
    for (uint32_t i = exchange->step + 1u; exchange->chain != NULL && i < exchange->chain->n_steps; i++)
        if (exchange->chain->steps[i].origin == origin) {
            exchange->step = (uint8_t)(i - 1); /* tux_origin_next follows */
            return true;
        }
    return false;
}

enum tux_step tux_origin_answer(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan)
{
    if ((plan->flags & TUX_PLAN_NEXT) && tux_origin_next(conn->exchange))
        return tux_origin_begin(engine, conn);
    return tux_answer_exchange(engine, conn, plan);
}
