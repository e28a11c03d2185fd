/* SPDX-License-Identifier: MIT */
/* The route table: which site a host names, and which route a path takes there. */
#include "check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "route.h"

static int add_site(struct tux_routes *routes, const char *host)
{
    return tux_routes_add_site(routes, host, strlen(host));
}

static int add_route(struct tux_routes *routes, int site, const char *prefix, uint32_t route)
{
    return tux_routes_add_route(routes, site, prefix, strlen(prefix), route, NULL);
}

/* From copies of exact size, so that the sanitizer sees any byte read beyond them. */
static uint32_t match(const struct tux_routes *routes, const char *host, const char *path)
{
    size_t host_len = strlen(host), path_len = strlen(path);
    uint8_t *host_copy = malloc(host_len ? host_len : 1), *path_copy = malloc(path_len ? path_len : 1);
    const struct tux_chain *chain;
    memcpy(host_copy, host, host_len);
    memcpy(path_copy, path, path_len);
    uint32_t route = tux_routes_match(routes, host_copy, host_len, path_copy, path_len, &chain);
    CHECK((chain == NULL) == (route == TUX_NO_ROUTE));
    CHECK(chain == NULL || (chain->n_steps == 1 && chain->steps[0].origin == TUX_ORIGIN_PLANNER));
    free(host_copy);
    free(path_copy);
    return route;
}

struct example {
    const char *host, *path;
    uint32_t route;
};

static void expect(const struct tux_routes *routes, const struct example *examples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t got = match(routes, examples[i].host, examples[i].path);
        if (got != examples[i].route)
            fprintf(stderr, "%s %s: route %u\n", examples[i].host, examples[i].path, got);
        CHECK(got == examples[i].route);
    }
}

#define EXPECT(routes, ...)                                                  \
    do {                                                                     \
        const struct example examples[] = {__VA_ARGS__};                     \
        expect(routes, examples, sizeof examples / sizeof examples[0]);      \
    } while (0)

/* Every site has one route with the site's number, so that a match names the site. */
static int site_with_route(struct tux_routes *routes, const char *host)
{
    int site = add_site(routes, host);
    CHECK(site >= 0 && add_route(routes, site, "/", (uint32_t)site) == 0);
    return site;
}

static void test_hosts(void)
{
    struct tux_routes *routes = tux_routes_new();
    EXPECT(routes, {"example.org", "/", TUX_NO_ROUTE}, {"", "/", TUX_NO_ROUTE});
    CHECK(site_with_route(routes, "Example.ORG") == 0);
    CHECK(site_with_route(routes, "*.example.org") == 1);
    CHECK(site_with_route(routes, "*.deep.example.org") == 2);
    CHECK(site_with_route(routes, "www.example.org") == 3);
    CHECK(site_with_route(routes, "[2001:db8::1]") == 4);
    CHECK(site_with_route(routes, "192.0.2.1") == 5);
    CHECK(site_with_route(routes, "*.org") == 6);
    EXPECT(routes,
           /* exact, in any case, with any port, with one dot at the end */
           {"example.org", "/", 0}, {"EXAMPLE.org", "/", 0}, {"example.org:8080", "/", 0}, {"example.org.", "/", 0},
           {"example.org.:80", "/", 0}, {"example.org:", "/", 0}, {"www.example.org", "/", 3},
           /* a wildcard stands for one or more labels; the longest one wins; an exact name wins over it */
           {"a.example.org", "/", 1}, {"A.B.Example.Org:1", "/", 1}, {"a.deep.example.org", "/", 2},
           {"deep.example.org", "/", 1}, {"other.org", "/", 6}, {"badexample.org", "/", 6},
           /* addresses */
           {"[2001:db8::1]", "/", 4}, {"[2001:DB8::1]:443", "/", 4}, {"[2001:db8::2]", "/", TUX_NO_ROUTE},
           {"192.0.2.1:80", "/", 5},
           /* none */
           {"example.com", "/", TUX_NO_ROUTE}, {"org", "/", TUX_NO_ROUTE}, {".org", "/", TUX_NO_ROUTE},
           {".example.org", "/", TUX_NO_ROUTE}, {"", "/", TUX_NO_ROUTE}, {":80", "/", TUX_NO_ROUTE},
           {".", "/", TUX_NO_ROUTE}, {"*", "/", TUX_NO_ROUTE}, {"[", "/", TUX_NO_ROUTE}, {"[2001:db8::1", "/", TUX_NO_ROUTE});

    CHECK(site_with_route(routes, "") == 7); /* a default site takes what no other does */
    char long_host[400];
    memset(long_host, 'a', sizeof long_host);
    memcpy(long_host + 300, ".example.org", 13);
    EXPECT(routes, {"example.com", "/", 7}, {"", "/", 7}, {":80", "/", 7}, {".example.org", "/", 7}, {"example.org", "/", 0},
           {long_host, "/", 7}, {long_host + 100, "/", 1});
    tux_routes_free(routes);
}

static void test_prefixes(void)
{
    struct tux_routes *routes = tux_routes_new();
    int site = add_site(routes, "a");
    CHECK(add_route(routes, site, "/app", 1) == 0);
    CHECK(add_route(routes, site, "/app/admin", 2) == 0);
    CHECK(add_route(routes, site, "/files/", 3) == 0);
    CHECK(add_route(routes, site, "/app.html", 4) == 0);
    EXPECT(routes,
           /* whole segments */
           {"a", "/app", 1}, {"a", "/app/", 1}, {"a", "/app/x", 1}, {"a", "/apple", TUX_NO_ROUTE}, {"a", "/ap", TUX_NO_ROUTE},
           {"a", "/app.html", 4}, {"a", "/App", TUX_NO_ROUTE},
           /* the longest wins */
           {"a", "/app/admin", 2}, {"a", "/app/admin/x", 2}, {"a", "/app/administrator", 1},
           /* a slash at the end asks for one */
           {"a", "/files/", 3}, {"a", "/files/x", 3}, {"a", "/files", TUX_NO_ROUTE},
           {"a", "/", TUX_NO_ROUTE}, {"a", "", TUX_NO_ROUTE}, {"a", "*", TUX_NO_ROUTE});
    CHECK(add_route(routes, site, "/", 0) == 0);
    EXPECT(routes, {"a", "/apple", 0}, {"a", "/", 0}, {"a", "/files", 0}, {"a", "/app", 1}, {"a", "", TUX_NO_ROUTE},
           {"a", "*", TUX_NO_ROUTE});
    tux_routes_free(routes);
}

static void test_aliases_and_separate_sites(void)
{
    struct tux_routes *routes = tux_routes_new();
    int first = add_site(routes, "first"), second = add_site(routes, "second");
    CHECK(tux_routes_alias(routes, first, "alias", 5) == 0);
    CHECK(tux_routes_alias(routes, first, "*.alias", 7) == 0);
    CHECK(tux_routes_alias(routes, second, "", 0) == 0);
    CHECK(add_route(routes, first, "/", 10) == 0);
    CHECK(add_route(routes, first, "/only-first", 11) == 0);
    CHECK(add_route(routes, second, "/x", 20) == 0);
    EXPECT(routes, {"first", "/", 10}, {"alias", "/only-first", 11}, {"x.alias", "/", 10}, {"second", "/x", 20},
           {"second", "/only-first", TUX_NO_ROUTE}, {"other", "/x", 20}, {"other", "/", TUX_NO_ROUTE});
    tux_routes_free(routes);
}

static void expect_pages(const struct tux_routes *routes, const char *host, uint32_t pages)
{
    CHECK_ROW(tux_routes_pages(routes, (const uint8_t *)host, strlen(host)) == pages, host);
}

static void test_pages_of_sites_and_routes(void)
{
    struct tux_routes *routes = tux_routes_new();
    const struct tux_chain *found;
    struct tux_chain chain = {.n_steps = 1, .root = TUX_NO_ROUTE, .pages = 9};
    expect_pages(routes, "", 0);
    int only = add_site(routes, "only");
    CHECK(tux_routes_set_pages(routes, only, 7) == 0 && tux_routes_set_pages(routes, only + 1, 8) == -EINVAL);
    CHECK(tux_routes_set_pages(routes, -1, 8) == -EINVAL);
    expect_pages(routes, "only:80", 7);
    expect_pages(routes, "other", 0);
    expect_pages(routes, "", 7); /* there is no other */
    CHECK(tux_routes_add_route(routes, only, "/", 1, 0, &chain) == 0);
    CHECK(tux_routes_match(routes, (const uint8_t *)"only", 4, (const uint8_t *)"/x", 2, &found) == 0 && found->pages == 9);
    int second = add_site(routes, "*.second");
    expect_pages(routes, "", 0);
    CHECK(tux_routes_alias(routes, second, "", 0) == 0 && tux_routes_set_pages(routes, second, 3) == 0);
    expect_pages(routes, "", 3);
    expect_pages(routes, "other", 3);
    expect_pages(routes, "a.second", 3);
    expect_pages(routes, "ONLY", 7);
    tux_routes_free(routes);
}

static void test_what_is_refused(void)
{
    struct tux_routes *routes = tux_routes_new();
    char long_name[300];
    memset(long_name, 'a', sizeof long_name);
    int site = add_site(routes, "example.org");
    CHECK(site == 0);
    CHECK(add_site(routes, "EXAMPLE.org.") == -EEXIST && add_site(routes, "example.org:80") == -EEXIST);
    CHECK(add_site(routes, "*.a") == 1 && add_site(routes, "*.A") == -EEXIST);
    CHECK(add_site(routes, "") == 2 && add_site(routes, "") == -EEXIST);
    CHECK(tux_routes_alias(routes, site, "*.a", 3) == -EEXIST);
    static const char *const invalid[] = {"*", "*.", "*a.org", "a.*.org", "*.*.org", ".", ":80"};
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++)
        CHECK(add_site(routes, invalid[i]) == -EINVAL);
    CHECK(tux_routes_add_site(routes, long_name, 254) == -EINVAL && tux_routes_add_site(routes, long_name, 253) == 3);
    CHECK(tux_routes_alias(routes, 99, "b", 1) == -EINVAL && tux_routes_alias(routes, -1, "b", 1) == -EINVAL);
    CHECK(add_route(routes, site, "", 1) == -EINVAL && add_route(routes, site, "a", 1) == -EINVAL);
    CHECK(add_route(routes, 99, "/", 1) == -EINVAL && add_route(routes, -1, "/", 1) == -EINVAL);
    CHECK(add_route(routes, site, "/", TUX_NO_ROUTE) == -EINVAL);
    CHECK(add_route(routes, site, "/", 1) == 0 && add_route(routes, site, "/", 2) == -EEXIST);
    EXPECT(routes, {"example.org", "/", 1});
    tux_routes_free(routes);
    tux_routes_free(NULL);
}

static void test_many_hosts(void)
{
    struct tux_routes *routes = tux_routes_new();
    char host[64], path[64];
    bool right = true;
    for (uint32_t i = 0; i < 2000; i++) { /* in no order */
        snprintf(host, sizeof host, "host%u.example", i * 7919 % 2000);
        int site = add_site(routes, host);
        right &= site >= 0;
        for (uint32_t j = 0; j < 3; j++) {
            snprintf(path, sizeof path, "/%u", j);
            right &= add_route(routes, site, path, i * 7919 % 2000 * 3 + j) == 0;
        }
    }
    for (uint32_t i = 0; i < 2000; i++) {
        snprintf(host, sizeof host, "HOST%u.example:80", i);
        for (uint32_t j = 0; j < 3; j++) {
            snprintf(path, sizeof path, "/%u/x", j);
            right &= match(routes, host, path) == i * 3 + j;
        }
    }
    CHECK(right);
    tux_routes_free(routes);
}

static void test_chains(void)
{
    struct tux_routes *routes = tux_routes_new();
    int site = add_site(routes, "");
    const struct tux_chain *found;
    struct tux_chain chain = {.n_steps = 2,
                              .steps = {{TUX_ORIGIN_PLANNER, 0}, {TUX_ORIGIN_APP, 7}},
                              .root = 3,
                              .mount_len = 4};
    CHECK(add_route(routes, site, "/plain", 1) == 0 && !tux_routes_mixed(routes));
    CHECK(tux_routes_add_route(routes, site, "/", 1, 2, &chain) == 0 && tux_routes_mixed(routes));
    CHECK(tux_routes_match(routes, (const uint8_t *)"a", 1, (const uint8_t *)"/b", 2, &found) == 2);
    CHECK(found != NULL && found != &chain && memcmp(found, &chain, sizeof chain) == 0);
    chain.n_steps = 3; /* a module, say, and an application */
    chain.steps[2] = (struct tux_chain_step){TUX_ORIGIN_APP, 8};
    CHECK(tux_routes_add_route(routes, site, "/two", 4, 4, &chain) == 0);
    chain.steps[2].number = 7; /* twice */
    CHECK(tux_routes_add_route(routes, site, "/a", 2, 3, &chain) == -EINVAL);
    chain.n_steps = 2;
    chain.steps[1] = (struct tux_chain_step){TUX_ORIGIN_PLANNER, 1};
    CHECK(tux_routes_add_route(routes, site, "/a", 2, 3, &chain) == -EINVAL);
    chain.steps[1].origin = TUX_ORIGIN_COUNT;
    CHECK(tux_routes_add_route(routes, site, "/a", 2, 3, &chain) == -EINVAL);
    chain.n_steps = 0;
    CHECK(tux_routes_add_route(routes, site, "/a", 2, 3, &chain) == -EINVAL);
    chain.n_steps = TUX_MAX_STEPS + 1;
    CHECK(tux_routes_add_route(routes, site, "/a", 2, 3, &chain) == -EINVAL);
    tux_routes_free(routes);
}

int main(void)
{
    test_chains();
    test_hosts();
    test_prefixes();
    test_aliases_and_separate_sites();
    test_pages_of_sites_and_routes();
    test_what_is_refused();
    test_many_hosts();
    return check_report();
}
