/* SPDX-License-Identifier: MIT */
/* The route table: host and path prefix -> what is tried. Compiled by Python from the configuration, read by both. */
#ifndef TUX_ROUTE_H
#define TUX_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TUX_NO_ROUTE UINT32_MAX /* no site for this host and no default, or no route for this path */

#define TUX_MAX_STEPS 5u /* of a chain: files, scripts among them, modules, an application, a forwarded server */

enum tux_origin {
    TUX_ORIGIN_PLANNER, /* files, and whatever else Python answers by itself */
    TUX_ORIGIN_APP,     /* an application, in processes of its own */
    TUX_ORIGIN_FORWARD, /* another server */
    TUX_ORIGIN_COUNT,
};

struct tux_chain_step {
    uint32_t origin; /* enum tux_origin */
    uint32_t number; /* of the application, of the group of servers; unused for the planner */
};

/* What is tried for a request, in this order. */
struct tux_chain {
    uint32_t n_steps; /* at least 1 */
    struct tux_chain_step steps[TUX_MAX_STEPS];
    uint32_t root;      /* where the planner's files are: index of a root; TUX_NO_ROUTE: not said */
    uint32_t mount_len; /* bytes of the path that are taken off before they are looked for */
    uint32_t pages;     /* which answers to errors, see tux_engine_canned */
};

struct tux_routes; /* immutable once filled */

struct tux_routes *tux_routes_new(void);
void tux_routes_free(struct tux_routes *routes);
/* Returns the site's index or -errno (-EEXIST: the host is taken). host: "example.org", "*.example.org" (one or more
 * labels in front, longest match wins), or "" for the default site. One site may have several hosts: see _alias. */
int tux_routes_add_site(struct tux_routes *routes, const char *host, size_t host_len);
int tux_routes_alias(struct tux_routes *routes, int site, const char *host, size_t host_len);
/* prefix: decoded, begins with "/"; it matches whole segments: "/a" matches "/a" and "/a/b", not "/ab"; "/a/" matches
 * only what begins with "/a/". The longest prefix wins. `route` is Python's number for it; `chain` is copied, NULL stands
 * for the planner alone. Returns 0 or -errno. */
int tux_routes_add_route(struct tux_routes *routes, int site, const char *prefix, size_t prefix_len, uint32_t route,
                         const struct tux_chain *chain);
/* Which answers to errors a site has where no route is known; 0 unless said. Returns 0 or -EINVAL: no such site. */
int tux_routes_set_pages(struct tux_routes *routes, int site, uint32_t pages);
/* Those of the site of a host, 0 when no site has it. No host (it is not known): those of the default site, or of the only
 * one. */
uint32_t tux_routes_pages(const struct tux_routes *routes, const uint8_t *host, size_t host_len);
/* Whether some route tries more than the planner: only then need the engine look at paths. */
bool tux_routes_mixed(const struct tux_routes *routes);

/* host: as sent, port included, any case; trailing dot ignored. path: decoded and normalised. Exact host, else the
 * longest wildcard, else the default site. The chain lives as long as the table; it is NULL where there is no route. */
uint32_t tux_routes_match(const struct tux_routes *routes, const uint8_t *host, size_t host_len, const uint8_t *path,
                          size_t path_len, const struct tux_chain **chain);

#endif
