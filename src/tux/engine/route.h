/* SPDX-License-Identifier: MIT */
/* The route table: host and path prefix -> who decides. Compiled by Python from the configuration, read by the engine. */
#ifndef TUX_ROUTE_H
#define TUX_ROUTE_H

#include <stddef.h>
#include <stdint.h>

#define TUX_NO_ROUTE UINT32_MAX /* no site for this host and no default, or no route for this path */

enum tux_decider {
    TUX_DECIDE_ASK, /* the planner */
};

struct tux_routes; /* immutable once filled */

struct tux_routes *tux_routes_new(void);
void tux_routes_free(struct tux_routes *routes);
/* Returns the site's index or -errno (-EEXIST: the host is taken). host: "example.org", "*.example.org" (one or more
 * labels in front, longest match wins), or "" for the default site. One site may have several hosts: see _alias. */
int tux_routes_add_site(struct tux_routes *routes, const char *host, size_t host_len);
int tux_routes_alias(struct tux_routes *routes, int site, const char *host, size_t host_len);
/* prefix: decoded, begins with "/"; it matches whole segments: "/a" matches "/a" and "/a/b", not "/ab"; "/a/" matches
 * only what begins with "/a/". The longest prefix wins. `route` is Python's number for it. Returns 0 or -errno. */
int tux_routes_add_route(struct tux_routes *routes, int site, const char *prefix, size_t prefix_len, uint32_t route,
                         enum tux_decider decider);

/* host: as sent, port included, any case; trailing dot ignored. path: decoded and normalised. Exact host, else the
 * longest wildcard, else the default site. */
uint32_t tux_routes_match(const struct tux_routes *routes, const uint8_t *host, size_t host_len, const uint8_t *path,
                          size_t path_len, enum tux_decider *decider);

#endif
