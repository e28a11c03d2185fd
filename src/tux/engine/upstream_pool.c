/* SPDX-License-Identifier: MIT */
/* Groups from their configuration to their end, and the connections of theirs that have no call. */
#include "upstreams.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

/* -- idle connections -------------------------------------------------------------------------------------------- */

void tux_uppool_remove(struct tux_upconn *up)
{
    struct tux_upserver *server = up->server;
    *(up->newer != NULL ? &up->newer->older : &server->idle_newest) = up->older;
    *(up->older != NULL ? &up->older->newer : &server->idle_oldest) = up->newer;
    up->newer = up->older = NULL;
    up->state = TUX_UP_HEAD;
    server->n_idle--;
}

/* The newest is taken: it is the least likely to be closed by the server now. */
struct tux_upconn *tux_uppool_take(struct tux_engine *engine, struct tux_upserver *server, bool look)
{
    for (uint32_t n = server->n_idle; n > 0; n--) {
        struct tux_upconn *up = server->idle_newest;
        uint8_t byte;
        if (!look || (recv(up->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))) {
            tux_uppool_remove(up);
            return up;
        }
        tux_upconn_close(engine, up);
    }
    return NULL;
}

void tux_uppool_put(struct tux_engine *engine, struct tux_upconn *up)
{
    struct tux_upserver *server = up->server;
    up->state = TUX_UP_IDLE;
    up->reused = true;
    up->older = server->idle_newest;
    *(up->older != NULL ? &up->older->newer : &server->idle_oldest) = up;
    server->idle_newest = up;
    server->n_idle++;
    tux_timer_set(&engine->wheel, &up->timer, engine->now_ms + up->group->config.keepalive_timeout_ms);
    if (server->n_idle > up->group->config.keepalive)
        tux_upconn_close(engine, server->idle_oldest);
}

/* -- groups ------------------------------------------------------------------------------------------------------ */

void tux_upstream_defaults(struct tux_upstream_config *config)
{
    *config = (struct tux_upstream_config){
        .upgrade = true,
        .accel = true,
        .sendfile_root = -1,
        .keepalive = 64,
        .queue = 1024,
        .retries = 1,
        .max_fails = 1,
        .fail_timeout_ms = 10000,
        .keepalive_timeout_ms = 4000, /* under the 5 s of uvicorn and Node; a server that closes first costs a retry */
        .queue_timeout_ms = 30000,
        .connect_timeout_ms = 5000,
        .send_timeout_ms = 60000,
        .first_byte_timeout_ms = 60000,
        .idle_timeout_ms = 60000,
    };
}

static bool read_port(const char *text, in_port_t *port)
{
    unsigned long number = 0;
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        if (i == 5 || text[i] < '0' || text[i] > '9')
            return false;
        number = number * 10 + (unsigned long)(text[i] - '0');
    }
    *port = htons((uint16_t)number);
    return number > 0 && number <= UINT16_MAX;
}

bool tux_upstream_address(const char *text, struct tux_upstream_server *server)
{
    memset(&server->address, 0, sizeof server->address);
    if (strncmp(text, "unix:", 5) == 0) {
        struct sockaddr_un *un = (struct sockaddr_un *)&server->address;
        size_t len = strlen(text + 5);
        if (len == 0 || len >= sizeof un->sun_path)
            return false;
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, text + 5, len);
        if (un->sun_path[0] == '@')
            un->sun_path[0] = 0; /* abstract: its length counts, without a NUL at the end */
        server->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (text[5] != '@'));
        return true;
    }
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN + 2];
    if (colon == NULL || (size_t)(colon - text) >= sizeof host)
        return false;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    size_t len = strlen(host);
    if (host[0] == '[' && host[len - 1] == ']') {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&server->address;
        host[len - 1] = 0;
        in6->sin6_family = AF_INET6;
        server->address_len = sizeof *in6;
        return inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1 && read_port(colon + 1, &in6->sin6_port);
    }
    struct sockaddr_in *in = (struct sockaddr_in *)&server->address;
    in->sin_family = AF_INET;
    server->address_len = sizeof *in;
    return inet_pton(AF_INET, host, &in->sin_addr) == 1 && read_port(colon + 1, &in->sin_port);
}

static bool is_sound(const struct tux_upstream_config *config)
{
    const uint64_t times[] = {config->fail_timeout_ms,       config->keepalive_timeout_ms, config->queue_timeout_ms,
                              config->connect_timeout_ms,    config->send_timeout_ms,      config->first_byte_timeout_ms,
                              config->idle_timeout_ms};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        if (times[i] == 0 || times[i] > UINT32_MAX)
            return false;
    if (config->n_servers == 0 || config->n_servers > TUX_MAX_UPSTREAM_SERVERS ||
        config->balance > TUX_BALANCE_LEAST_CONNECTIONS || config->proxy_protocol > 2 ||
        (config->host != NULL && strlen(config->host) > TUX_MAX_HOST_BYTES))
        return false;
    for (uint32_t i = 0; i < config->n_servers; i++)
        if (config->servers[i].weight == 0 || config->servers[i].weight > TUX_MAX_UPSTREAM_WEIGHT ||
            strlen(config->servers[i].name) > TUX_MAX_HOST_BYTES)
            return false;
    return true;
}

static void free_group(struct tux_upgroup *group)
{
    if (group == NULL)
        return;
    free(group->servers);
    free(group);
}

static struct tux_upgroup *new_group(const struct tux_upstream_config *config)
{
    struct tux_upgroup *group = calloc(1, sizeof *group);
    if (group == NULL || (group->servers = calloc(config->n_servers, sizeof *group->servers)) == NULL) {
        free_group(group);
        return NULL;
    }
    group->config = *config;
    if (config->proxy_protocol != 0)
        group->config.keepalive = 0; /* the next request is another client's */
    group->config.servers = NULL;
    group->config.host = NULL;
    group->queue_tail = &group->queue;
    group->timer.kind = TUX_TIMER_UPSTREAM_QUEUE;
    group->rules.underscores = config->underscores;
    group->rules.upgrade = config->upgrade;
    group->accel.redirect = config->accel;
    group->accel.sendfile_root = config->sendfile_root < 0 ? TUX_NO_ROUTE : (uint32_t)config->sendfile_root;
    group->rules.forwarded = config->forwarded;
    group->host_of_server = config->host != NULL && config->host[0] == 0;
    if (config->host != NULL) {
        group->rules.host_len = (uint32_t)strlen(config->host);
        memcpy(group->rules.host, config->host, group->rules.host_len);
    }
    for (uint32_t i = 0; i < config->n_servers; i++) {
        struct tux_upserver *server = &group->servers[i];
        server->index = i;
        server->address = config->servers[i].address;
        server->address_len = config->servers[i].address_len;
        server->weight = config->servers[i].weight;
        server->name_len = (uint32_t)strlen(config->servers[i].name);
        memcpy(server->name, config->servers[i].name, server->name_len);
    }
    return group;
}

int tux_engine_upstream(struct tux_engine *engine, const struct tux_upstream_config *config)
{
    if (!is_sound(config) || config->sendfile_root >= (int64_t)engine->config.n_roots)
        return -EINVAL;
    if (engine->upstreams == NULL) {
        if ((engine->upstreams = calloc(1, sizeof *engine->upstreams)) == NULL)
            return -ENOMEM;
        engine->upstreams->ready_tail = &engine->upstreams->ready;
        engine->backends[TUX_ORIGIN_FORWARD] = &tux_upstream_backend;
    }
    struct tux_upstreams *all = engine->upstreams;
    struct tux_upgroup **groups = realloc(all->groups, (all->n_groups + 1u) * sizeof(struct tux_upgroup *));
    if (groups == NULL)
        return -ENOMEM;
    all->groups = groups;
    if ((groups[all->n_groups] = new_group(config)) == NULL)
        return -ENOMEM;
    return (int)all->n_groups++;
}

void tux_upstream_end(struct tux_engine *engine)
{
    struct tux_upstreams *all = engine->upstreams;
    for (uint32_t i = 0; i < all->n_groups; i++)
        for (uint32_t k = 0; k < all->groups[i]->config.n_servers; k++)
            while (all->groups[i]->servers[k].idle_newest != NULL)
                tux_upconn_close(engine, all->groups[i]->servers[k].idle_newest);
    tux_upstream_turn(engine); /* all are in the graveyard, or on their way there */
}

uint64_t tux_upstream_free(struct tux_engine *engine)
{
    struct tux_upstreams *all = engine->upstreams;
    if (all == NULL)
        return 0;
    uint64_t left = all->n_conns;
    for (uint32_t i = 0; i < all->n_groups; i++)
        free_group(all->groups[i]);
    free(all->groups);
    free(all);
    engine->upstreams = NULL;
    return left;
}
