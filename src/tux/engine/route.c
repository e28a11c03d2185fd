/* SPDX-License-Identifier: MIT */
/* Hosts are kept folded to lower case in three places: exact names in a sorted array (binary search), wildcards as their
 * suffix ".example.org" in an array from long to short, and the default site. A site's prefixes are an array from long to
 * short, too: the first that matches wins. Matching allocates nothing. */
#include "route.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MAX_HOST_BYTES 253u  /* of a DNS name, RFC 1035 section 2.3.4, in text without the final dot */
#define MAX_SITES 65536u     /* bounds of tables; Python checks what a user may configure */
#define MAX_HOSTS 65536u
#define MAX_ROUTES 4096u     /* of one site: they are looked through one by one */
#define MAX_PREFIX_BYTES 4095u

struct route {
    char *prefix;
    size_t len;
    uint32_t number;
    struct tux_chain *chain;
};

struct site {
    struct route *routes; /* longest prefix first */
    uint32_t count, capacity;
    uint32_t pages;
};

struct host {
    char *name; /* folded; of a wildcard, from its dot on */
    size_t len;
    uint32_t site;
};

struct hosts {
    struct host *table;
    uint32_t count, capacity;
};

struct tux_routes {
    struct hosts exact;     /* sorted */
    struct hosts wildcards; /* longest first */
    struct site *sites;
    uint32_t n_sites, sites_capacity;
    uint32_t default_site; /* TUX_NO_ROUTE: none */
    bool mixed;
};

/* An array with room for one more element: itself, or moved. NULL: no memory, and the array is as it was. */
static void *array_grow(void *array, uint32_t *capacity, uint32_t count, size_t element_bytes)
{
    if (count < *capacity)
        return array;
    uint32_t larger = *capacity == 0 ? 4 : *capacity * 2;
    void *moved = realloc(array, larger * element_bytes);
    if (moved != NULL)
        *capacity = larger;
    return moved;
}

struct tux_routes *tux_routes_new(void)
{
    struct tux_routes *routes = calloc(1, sizeof *routes);
    if (routes != NULL)
        routes->default_site = TUX_NO_ROUTE;
    return routes;
}

static void hosts_free(struct hosts *hosts)
{
    for (uint32_t i = 0; i < hosts->count; i++)
        free(hosts->table[i].name);
    free(hosts->table);
}

void tux_routes_free(struct tux_routes *routes)
{
    if (routes == NULL)
        return;
    hosts_free(&routes->exact);
    hosts_free(&routes->wildcards);
    for (uint32_t i = 0; i < routes->n_sites; i++) {
        for (uint32_t j = 0; j < routes->sites[i].count; j++) {
            free(routes->sites[i].routes[j].prefix);
            free(routes->sites[i].routes[j].chain);
        }
        free(routes->sites[i].routes);
    }
    free(routes->sites);
    free(routes);
}

/* -- hosts ------------------------------------------------------------------------------------------------------ */

static char fold(uint8_t byte)
{
    return (char)(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
}

/* The name without its port and one trailing dot, folded into `out`; false when it is longer than any name may be. */
static bool host_normalise(const uint8_t *host, size_t len, char out[MAX_HOST_BYTES], size_t *out_len)
{
    if (len > 0 && host[0] == '[') { /* an IPv6 literal: its colons are not a port's */
        const uint8_t *end = memchr(host, ']', len);
        if (end != NULL)
            len = (size_t)(end - host) + 1;
    } else {
        const uint8_t *colon = len == 0 ? NULL : memchr(host, ':', len);
        if (colon != NULL)
            len = (size_t)(colon - host);
    }
    if (len > 0 && host[len - 1] == '.')
        len--;
    if (len > MAX_HOST_BYTES)
        return false;
    for (size_t i = 0; i < len; i++)
        out[i] = fold(host[i]);
    *out_len = len;
    return true;
}

static int name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    if (order != 0)
        return order;
    return a_len < b_len ? -1 : a_len > b_len;
}

/* Where the name is among the sorted hosts, or belongs. */
static uint32_t exact_place(const struct hosts *hosts, const char *name, size_t len)
{
    uint32_t low = 0, high = hosts->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (name_compare(hosts->table[middle].name, hosts->table[middle].len, name, len) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool host_is(const struct hosts *hosts, uint32_t place, const char *name, size_t len)
{
    return place < hosts->count && hosts->table[place].len == len && memcmp(hosts->table[place].name, name, len) == 0;
}

static int host_insert(struct hosts *hosts, uint32_t place, const char *name, size_t len, uint32_t site)
{
    if (hosts->count == MAX_HOSTS)
        return -ENOSPC;
    struct host *table = array_grow(hosts->table, &hosts->capacity, hosts->count, sizeof *table);
    if (table == NULL)
        return -ENOMEM;
    hosts->table = table;
    char *copy = malloc(len + 1);
    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, name, len);
    copy[len] = 0;
    memmove(&hosts->table[place + 1], &hosts->table[place], (hosts->count - place) * sizeof *hosts->table);
    hosts->table[place] = (struct host){.name = copy, .len = len, .site = site};
    hosts->count++;
    return 0;
}

static int wildcard_add(struct tux_routes *routes, uint32_t site, const char *suffix, size_t len)
{
    uint32_t place = 0;
    while (place < routes->wildcards.count && routes->wildcards.table[place].len > len)
        place++;
    for (uint32_t i = place; i < routes->wildcards.count && routes->wildcards.table[i].len == len; i++) {
        if (host_is(&routes->wildcards, i, suffix, len))
            return -EEXIST;
    }
    return host_insert(&routes->wildcards, place, suffix, len, site);
}

static int host_add(struct tux_routes *routes, uint32_t site, const char *host, size_t host_len)
{
    char name[MAX_HOST_BYTES];
    size_t len;
    if (host_len == 0) {
        if (routes->default_site != TUX_NO_ROUTE)
            return -EEXIST;
        routes->default_site = site;
        return 0;
    }
    if (!host_normalise((const uint8_t *)host, host_len, name, &len) || len == 0)
        return -EINVAL;
    if (name[0] == '*') {
        if (len < 3 || name[1] != '.' || memchr(name + 1, '*', len - 1) != NULL)
            return -EINVAL;
        return wildcard_add(routes, site, name + 1, len - 1);
    }
    if (memchr(name, '*', len) != NULL)
        return -EINVAL;
    uint32_t place = exact_place(&routes->exact, name, len);
    if (host_is(&routes->exact, place, name, len))
        return -EEXIST;
    return host_insert(&routes->exact, place, name, len, site);
}

int tux_routes_add_site(struct tux_routes *routes, const char *host, size_t host_len)
{
    if (routes->n_sites == MAX_SITES)
        return -ENOSPC;
    struct site *sites = array_grow(routes->sites, &routes->sites_capacity, routes->n_sites, sizeof *sites);
    if (sites == NULL)
        return -ENOMEM;
    routes->sites = sites;
    int result = host_add(routes, routes->n_sites, host, host_len);
    if (result < 0)
        return result;
    routes->sites[routes->n_sites] = (struct site){0};
    return (int)routes->n_sites++;
}

int tux_routes_alias(struct tux_routes *routes, int site, const char *host, size_t host_len)
{
    if (site < 0 || (uint32_t)site >= routes->n_sites)
        return -EINVAL;
    return host_add(routes, (uint32_t)site, host, host_len);
}

/* The site of a host, or TUX_NO_ROUTE. */
static uint32_t site_of(const struct tux_routes *routes, const uint8_t *host, size_t host_len)
{
    char name[MAX_HOST_BYTES];
    size_t len;
    if (!host_normalise(host, host_len, name, &len))
        return routes->default_site;
    uint32_t place = exact_place(&routes->exact, name, len);
    if (host_is(&routes->exact, place, name, len))
        return routes->exact.table[place].site;
    for (uint32_t i = 0; i < routes->wildcards.count; i++) {
        const struct host *wildcard = &routes->wildcards.table[i];
        /* At least one byte stands for "*", and it does not begin with a dot: labels are not empty. */
        if (len > wildcard->len && name[0] != '.' &&
            memcmp(name + len - wildcard->len, wildcard->name, wildcard->len) == 0)
            return wildcard->site;
    }
    return routes->default_site;
}

int tux_routes_set_pages(struct tux_routes *routes, int site, uint32_t pages)
{
    if (site < 0 || (uint32_t)site >= routes->n_sites)
        return -EINVAL;
    routes->sites[site].pages = pages;
    return 0;
}

uint32_t tux_routes_pages(const struct tux_routes *routes, const uint8_t *host, size_t host_len)
{
    uint32_t found = site_of(routes, host, host_len);
    if (found == TUX_NO_ROUTE && host_len == 0 && routes->n_sites == 1)
        found = 0;
    return found == TUX_NO_ROUTE ? 0 : routes->sites[found].pages;
}

/* -- routes ----------------------------------------------------------------------------------------------------- */

/* Nobody is asked twice, and the planner has one rule for a route. */
static bool chain_sound(const struct tux_chain *chain)
{
    if (chain->n_steps == 0 || chain->n_steps > TUX_MAX_STEPS)
        return false;
    for (uint32_t i = 0; i < chain->n_steps; i++) {
        const struct tux_chain_step *step = &chain->steps[i];
        if (step->origin >= TUX_ORIGIN_COUNT)
            return false;
        for (uint32_t k = 0; k < i; k++)
            if (chain->steps[k].origin == step->origin &&
                (chain->steps[k].number == step->number || step->origin == TUX_ORIGIN_PLANNER))
                return false;
    }
    return true;
}

int tux_routes_add_route(struct tux_routes *routes, int site, const char *prefix, size_t prefix_len, uint32_t route,
                         const struct tux_chain *chain)
{
    static const struct tux_chain planner = {.n_steps = 1, .root = TUX_NO_ROUTE};
    if (chain == NULL)
        chain = &planner;
    if (!chain_sound(chain))
        return -EINVAL;
    if (site < 0 || (uint32_t)site >= routes->n_sites || prefix_len == 0 || prefix[0] != '/' ||
        prefix_len > MAX_PREFIX_BYTES || route == TUX_NO_ROUTE)
        return -EINVAL;
    struct site *owner = &routes->sites[site];
    if (owner->count == MAX_ROUTES)
        return -ENOSPC;
    uint32_t place = 0;
    while (place < owner->count && owner->routes[place].len > prefix_len)
        place++;
    for (uint32_t i = place; i < owner->count && owner->routes[i].len == prefix_len; i++) {
        if (memcmp(owner->routes[i].prefix, prefix, prefix_len) == 0)
            return -EEXIST;
    }
    struct route *table = array_grow(owner->routes, &owner->capacity, owner->count, sizeof *table);
    if (table == NULL)
        return -ENOMEM;
    owner->routes = table;
    char *copy = malloc(prefix_len + 1);
    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, prefix, prefix_len);
    copy[prefix_len] = 0;
    struct tux_chain *own = malloc(sizeof *own);
    if (own == NULL) {
        free(copy);
        return -ENOMEM;
    }
    *own = *chain;
    memmove(&owner->routes[place + 1], &owner->routes[place], (owner->count - place) * sizeof *owner->routes);
    owner->routes[place] = (struct route){.prefix = copy, .len = prefix_len, .number = route, .chain = own};
    owner->count++;
    routes->mixed = routes->mixed || chain->n_steps > 1 || chain->steps[0].origin != TUX_ORIGIN_PLANNER;
    return 0;
}

bool tux_routes_mixed(const struct tux_routes *routes)
{
    return routes->mixed;
}

static bool route_matches(const struct route *route, const uint8_t *path, size_t path_len)
{
    if (path_len < route->len || memcmp(path, route->prefix, route->len) != 0)
        return false;
    /* A whole segment ends here: by the prefix's own slash, by the path's next one, or by the path's end. */
    return route->prefix[route->len - 1] == '/' || path_len == route->len || path[route->len] == '/';
}

uint32_t tux_routes_match(const struct tux_routes *routes, const uint8_t *host, size_t host_len, const uint8_t *path,
                          size_t path_len, const struct tux_chain **chain)
{
    *chain = NULL;
    uint32_t found = site_of(routes, host, host_len);
    if (found == TUX_NO_ROUTE)
        return TUX_NO_ROUTE;
    const struct site *site = &routes->sites[found];
    for (uint32_t i = 0; i < site->count; i++) {
        if (route_matches(&site->routes[i], path, path_len)) {
            *chain = site->routes[i].chain;
            return site->routes[i].number;
        }
    }
    return TUX_NO_ROUTE;
}
