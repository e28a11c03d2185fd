/* SPDX-License-Identifier: MIT */
/* Who asked: networks, addresses as text, the walk through X-Forwarded-For and Forwarded, what the next server is told. */
#include "check.h"
#include "head_text.h"
#include "trust.h"

#include <errno.h>
#include <stdio.h>

static struct tux_head head;

static struct tux_address address_of(const char *text)
{
    struct tux_address address = {.kind = TUX_ADDRESS_UNIX};
    if (strcmp(text, "unix:") != 0)
        CHECK_ROW(tux_address_parse_node((const uint8_t *)text, strlen(text), &address), text);
    return address;
}

static void test_addresses(void)
{
    static const struct {
        const char *text, *want; /* NULL: none */
        uint16_t port;
    } rows[] = {
        {"192.0.2.1", "192.0.2.1", 0},
        {"192.0.2.1:80", "192.0.2.1", 80},
        {"192.0.2.1:65535", "192.0.2.1", 65535},
        {"192.0.2.1:_port", "192.0.2.1", 0},
        {"2001:DB8::1", "2001:db8::1", 0},
        {"[2001:db8::1]", "2001:db8::1", 0},
        {"[2001:db8::1]:443", "2001:db8::1", 443},
        {"::ffff:192.0.2.1", "192.0.2.1", 0},
        {"[::ffff:c000:201]:1", "192.0.2.1", 1},
        {"2001:db8::80", "2001:db8::80", 0},
        {"::", "::", 0},
        {"255.255.255.255", "255.255.255.255", 0},
        {"0.0.0.0", "0.0.0.0", 0},
        {"10.0.100.9:80", "10.0.100.9", 80},
        {"", NULL, 0},
        {"192.0.2", NULL, 0},
        {"192.0.2.01", NULL, 0},
        {"192.0.2.256", NULL, 0},
        {"192.0.2.1.1", NULL, 0},
        {"192.0.2.1:", NULL, 0},
        {"192.0.2.1:65536", NULL, 0},
        {"192.0.2.1:000080", NULL, 0},
        {"192.0.2.1:8a", NULL, 0},
        {"192.0.2.1:_", NULL, 0},
        {"192.0.2.1:_a b", NULL, 0},
        {" 192.0.2.1", NULL, 0},
        {"[192.0.2.1]", NULL, 0},
        {"[192.0.2.1]:80", NULL, 0},
        {"[2001:db8::1", NULL, 0},
        {"[2001:db8::1]443", NULL, 0},
        {"[2001:db8::1]:", NULL, 0},
        {"[]:80", NULL, 0},
        {"fe80::1%eth0", NULL, 0},
        {"unknown", NULL, 0},
        {"_hidden", NULL, 0},
        {"unix:", NULL, 0},
        {"localhost", NULL, 0},
        {"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000", NULL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tux_address address;
        char text[TUX_ADDRESS_TEXT_BYTES];
        bool good = tux_address_parse_node((const uint8_t *)rows[i].text, strlen(rows[i].text), &address);
        CHECK_ROW(good == (rows[i].want != NULL), rows[i].text);
        if (!good || rows[i].want == NULL)
            continue;
        CHECK_ROW(tux_address_format(&address, text) == strlen(rows[i].want), rows[i].text);
        CHECK_ROW(strcmp(text, rows[i].want) == 0 && address.port == rows[i].port, rows[i].text);
    }
    struct tux_address none = {.kind = TUX_ADDRESS_NONE}, nul;
    char text[TUX_ADDRESS_TEXT_BYTES];
    CHECK_EQ(tux_address_format(&none, text), 0);
    CHECK(!tux_address_parse((const uint8_t *)"1.2.3.4\0", 8, &nul));
}

static void test_networks(void)
{
    static const struct {
        const char *network, *address;
        bool inside;
    } rows[] = {
        {"10.0.0.0/8", "10.255.1.2", true},      {"10.0.0.0/8", "11.0.0.0", false},
        {"10.0.0.0/8", "::ffff:10.1.1.1", true}, {"10.0.0.0/8", "a00::", false},
        {"192.0.2.1", "192.0.2.1", true},        {"192.0.2.1", "192.0.2.0", false},
        {"192.0.2.128/25", "192.0.2.200", true}, {"192.0.2.128/25", "192.0.2.127", false},
        {"192.0.2.4/31", "192.0.2.5", true},     {"192.0.2.4/31", "192.0.2.6", false},
        {"0.0.0.0/0", "203.0.113.1", true},      {"0.0.0.0/0", "::1", false},
        {"::/0", "::1", true},                   {"::/0", "1.2.3.4", false},
        {"2001:db8::/33", "2001:db8:7fff::", true}, {"2001:db8::/33", "2001:db8:8000::", false},
        {"::ffff:10.0.0.0/104", "10.3.2.1", true},  {"::ffff:10.0.0.0/104", "11.3.2.1", false},
        {"unix", "unix:", true},                 {"unix", "127.0.0.1", false},
        {"127.0.0.1", "unix:", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tux_trust *trust = tux_trust_new(&rows[i].network, 1);
        struct tux_address address = address_of(rows[i].address);
        if (CHECK_ROW(trust != NULL, rows[i].network))
            CHECK_ROW(tux_trust_has(trust, &address) == rows[i].inside, rows[i].address);
        CHECK(!tux_trust_has(NULL, &address));
        tux_trust_free(trust);
    }
    static const char *const bad[] = {"",            "10.0.0.0/33",  "10.0.0.0/",     "10.0.0.1/8", "10.0.0.0/-1",
                                      "10.0.0.0/8/8", "/8",           "2001:db8::/129", "Unix",      "2001:db8::1/64",
                                      "[::1]",        "10.0.0.0:80", "::ffff:10.0.0.0/95"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        errno = 0;
        CHECK_ROW(tux_trust_new(&bad[i], 1) == NULL && errno == EINVAL, bad[i]);
    }
    static const char *many[TUX_MAX_NETWORKS + 1];
    for (size_t i = 0; i <= TUX_MAX_NETWORKS; i++)
        many[i] = "10.0.0.0/8";
    CHECK(tux_trust_new(many, TUX_MAX_NETWORKS + 1) == NULL);
    struct tux_trust *trust = tux_trust_new(many, TUX_MAX_NETWORKS);
    CHECK(trust != NULL);
    tux_trust_free(trust);
}

#define XFF "X-Forwarded-For: "
#define FWD "Forwarded: "
#define PROTO "X-Forwarded-Proto: "
#define HOST "X-Forwarded-Host: "
#define N "\r\n"

/* Trusted are 10.0.0.0/8, 2001:db8::/32 and unix sockets. */
static const struct {
    const char *peer, *fields, *address, *host;
    uint16_t port;
    bool secure;
} rows[] = {
    /* nobody to believe */
    {"192.0.2.1:99", "", "192.0.2.1", "", 99, false},
    {"192.0.2.1", XFF "1.1.1.1" N PROTO "https" N HOST "b" N FWD "for=2.2.2.2" N, "192.0.2.1", "", 0, false},
    {"10.0.0.1:99", "", "10.0.0.1", "", 99, false},
    /* one proxy */
    {"10.0.0.1:99", XFF "1.1.1.1" N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", XFF "1.1.1.1:5" N, "1.1.1.1", "", 5, false},
    {"unix:", XFF "1.1.1.1" N, "1.1.1.1", "", 0, false},
    {"unix:", "", "unix:", "", 0, false},
    {"10.0.0.1", XFF "9.9.9.9, 1.1.1.1" N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", XFF "9.9.9.9" N XFF "1.1.1.1" N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", XFF "1.1.1.1," N XFF N XFF " , ," N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", XFF "2a00::1" N, "2a00::1", "", 0, false},
    /* several */
    {"10.0.0.1", XFF "9.9.9.9, 1.1.1.1, 10.2.2.2,2001:db8::7 ,10.3.3.3" N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", XFF "10.2.2.2, 10.3.3.3" N, "10.2.2.2", "", 0, false},
    {"10.0.0.1", XFF "10.4.4.4, 1.1.1.1" N, "1.1.1.1", "", 0, false},
    /* what makes no sense */
    {"10.0.0.1:99", XFF "unknown" N, "10.0.0.1", "", 99, false},
    {"10.0.0.1", XFF "1.1.1.1, garbage, 10.2.2.2" N, "10.2.2.2", "", 0, false},
    {"10.0.0.1", XFF "garbage, 1.1.1.1" N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", XFF "\"1.1.1.1\"" N, "10.0.0.1", "", 0, false},
    {"10.0.0.1", XFF "1.1.1.1 10.2.2.2" N, "10.0.0.1", "", 0, false},
    {"10.0.0.1", XFF ",,," N, "10.0.0.1", "", 0, false},
    /* scheme and host */
    {"10.0.0.1", PROTO "https" N HOST "b.example:81" N, "10.0.0.1", "b.example:81", 0, true},
    {"10.0.0.1", PROTO "HTTPS" N, "10.0.0.1", "", 0, true},
    {"10.0.0.1", PROTO "wss" N, "10.0.0.1", "", 0, true},
    {"10.0.0.1", PROTO "httpss" N HOST "a b" N, "10.0.0.1", "", 0, false},
    {"10.0.0.1", HOST "a,b" N, "10.0.0.1", "b", 0, false},
    {"10.0.0.1", XFF "1.1.1.1" N PROTO "https, http" N HOST "evil, b" N, "1.1.1.1", "b", 0, false},
    {"10.0.0.1", XFF "1.1.1.1, 10.2.2.2" N PROTO "https, http" N HOST "evil, b, c" N, "1.1.1.1", "b", 0, true},
    {"10.0.0.1", XFF "1.1.1.1, 10.2.2.2" N PROTO "https" N HOST "b" N, "1.1.1.1", "b", 0, true},
    {"10.0.0.1", XFF "unknown, 10.2.2.2" N PROTO "https, http" N, "10.2.2.2", "", 0, true},
    /* Forwarded */
    {"10.0.0.1", FWD "for=1.1.1.1" N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", FWD "For=\"1.1.1.1:5\" ; PROTO=https;by=_x; Host=\"b:81\"" N, "1.1.1.1", "b:81", 5, true},
    {"10.0.0.1", FWD "for=\"[2a00::1]:_p\";x=\"a\\\"b\"" N, "10.0.0.1", "", 0, false},
    {"10.0.0.1", FWD "for=\"[2a00::1]:_p\";x=\"a,b\"" N, "2a00::1", "", 0, false},
    {"10.0.0.1", FWD "for=[2a00::1]" N, "2a00::1", "", 0, false},
    {"10.0.0.1", FWD "for=9.9.9.9, for=1.1.1.1;proto=https, for=10.2.2.2;proto=http" N, "1.1.1.1", "", 0, true},
    {"10.0.0.1", FWD "for=9.9.9.9;proto=https" N FWD "for=1.1.1.1;proto=http" N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", FWD "for=1.1.1.1, for=_hidden, for=10.2.2.2" N, "10.2.2.2", "", 0, false},
    {"10.0.0.1", FWD "for=unknown;proto=https" N, "10.0.0.1", "", 0, true},
    {"10.0.0.1", FWD "proto=https" N, "10.0.0.1", "", 0, true},
    {"10.0.0.1", FWD "for=1.1.1.1;;host=b;" N, "1.1.1.1", "b", 0, false},
    /* a quote that is left open reaches no further than its own member */
    {"10.0.0.1", FWD "for=\"9.9.9.9, for=1.1.1.1" N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", FWD "for=\"9.9.9.9" N FWD "for=1.1.1.1" N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", FWD "for=\"9.9.9.9, for=\"1.1.1.1\"" N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", FWD "x=\"\\, for=1.1.1.1" N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", FWD "for=1.1.1.1;for=2.2.2.2;proto=https" N, "10.0.0.1", "", 0, false},
    {"10.0.0.1", FWD "for" N, "10.0.0.1", "", 0, false},
    {"10.0.0.1", FWD "for=" N, "10.0.0.1", "", 0, false},
    {"10.0.0.1", FWD "for=1.1.1.1 proto=https" N, "10.0.0.1", "", 0, false},
    {"10.0.0.1", FWD "=1.1.1.1" N, "10.0.0.1", "", 0, false},
    /* both */
    {"10.0.0.1", XFF "1.1.1.1" N FWD "for=2.2.2.2;proto=https" N, "1.1.1.1", "", 0, false},
    {"10.0.0.1", PROTO "https" N HOST "b" N FWD "for=2.2.2.2" N, "2.2.2.2", "", 0, false},
};

static struct tux_trust *usual_trust(void)
{
    static const char *const networks[] = {"10.0.0.0/8", "unix", "2001:db8::/32"};
    return tux_trust_new(networks, 3);
}

static const char *scan(const char *fields)
{
    static char text[8192];
    int len = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);
    CHECK_ROW(scan_copy(text, (size_t)len, 0, &default_limits, &default_rules, &head) == TUX_DONE, fields);
    return text;
}

static void test_clients(void)
{
    struct tux_trust *trust = usual_trust();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *text = scan(rows[i].fields);
        struct tux_address peer = address_of(rows[i].peer);
        struct tux_client client;
        char address[TUX_ADDRESS_TEXT_BYTES];
        tux_trust_client(trust, &peer, (const uint8_t *)text, &head, &client);
        tux_address_format(&client.address, address);
        CHECK_ROW(client.believed == tux_trust_has(trust, &peer), rows[i].fields);
        if (!CHECK_ROW(strcmp(address, rows[i].address) == 0, rows[i].fields))
            fprintf(stderr, "got: %s\n", address);
        CHECK_ROW(client.address.port == rows[i].port && client.secure == rows[i].secure, rows[i].fields);
        CHECK_ROW(client.host.len == strlen(rows[i].host) &&
                      memcmp(text + client.host.off, rows[i].host, client.host.len) == 0, rows[i].fields);
        CHECK(tux_client_hides(&client, TUX_FIELD_FORWARDED) == !client.believed);
        CHECK(!tux_client_hides(&client, TUX_FIELD_HOST) && !tux_client_hides(&client, TUX_FIELD_OTHER));
    }
    tux_trust_free(trust);
}

static void test_long_lists(void)
{
    static char fields[4096];
    struct tux_trust *trust = usual_trust();
    struct tux_address peer = address_of("10.0.0.1");
    struct tux_client client;
    char address[TUX_ADDRESS_TEXT_BYTES];
    size_t at = (size_t)snprintf(fields, sizeof fields, XFF "1.1.1.1");
    for (unsigned i = 0; i < TUX_MAX_FORWARDED; i++)
        at += (size_t)snprintf(fields + at, sizeof fields - at, ", 10.9.9.%u", TUX_MAX_FORWARDED - i);
    snprintf(fields + at, sizeof fields - at, "\r\n");
    const char *text = scan(fields);
    tux_trust_client(trust, &peer, (const uint8_t *)text, &head, &client);
    tux_address_format(&client.address, address);
    CHECK(strcmp(address, "10.9.9.32") == 0); /* the last one that is followed */
    tux_trust_free(trust);
}

static const struct {
    const char *peer, *fields, *plain, *forwarded;
} told[] = {
    {"192.0.2.1", XFF "1.1.1.1" N PROTO "https" N HOST "b" N FWD "for=2.2.2.2" N,
     XFF "192.0.2.1" N PROTO "http" N HOST "a" N, FWD "for=192.0.2.1;host=\"a\";proto=http" N},
    {"2a00::1", "", XFF "2a00::1" N PROTO "http" N HOST "a" N, FWD "for=\"[2a00::1]\";host=\"a\";proto=http" N},
    {"10.0.0.1", "", XFF "10.0.0.1" N PROTO "http" N HOST "a" N, FWD "for=10.0.0.1;host=\"a\";proto=http" N},
    {"10.0.0.1", XFF "1.1.1.1" N XFF N XFF "10.2.2.2" N PROTO "https" N HOST "b:81" N FWD "for=6.6.6.6" N,
     XFF "1.1.1.1, 10.2.2.2, 10.0.0.1" N PROTO "https" N HOST "b:81" N, FWD "for=1.1.1.1;host=\"b:81\";proto=https" N},
    {"10.0.0.1", FWD "for=1.1.1.1;proto=https;host=b" N, XFF "1.1.1.1, 10.0.0.1" N PROTO "https" N HOST "b" N,
     FWD "for=1.1.1.1;proto=https;host=b, for=10.0.0.1;host=\"b\";proto=https" N},
    {"unix:", "", PROTO "http" N HOST "a" N, FWD "for=unknown;host=\"a\";proto=http" N},
    {"unix:", XFF "1.1.1.1" N, XFF "1.1.1.1" N PROTO "http" N HOST "a" N, FWD "for=1.1.1.1;host=\"a\";proto=http" N},
    {"unix:", FWD "for=1.1.1.1" N, XFF "1.1.1.1" N PROTO "http" N HOST "a" N,
     FWD "for=1.1.1.1, for=unknown;host=\"a\";proto=http" N},
    {"unix:", XFF N, PROTO "http" N HOST "a" N, FWD "for=unknown;host=\"a\";proto=http" N},
};

static void test_told(void)
{
    struct tux_trust *trust = usual_trust();
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        const char *text = scan(told[i].fields);
        struct tux_address peer = address_of(told[i].peer);
        struct tux_client client;
        char want[1024];
        uint8_t out[1024];
        tux_trust_client(trust, &peer, (const uint8_t *)text, &head, &client);
        size_t len = tux_trust_put(&peer, (const uint8_t *)text, &head, &client, false, out);
        if (!CHECK_ROW(len == strlen(told[i].plain) && memcmp(out, told[i].plain, len) == 0, told[i].fields))
            fprintf(stderr, "got: %.*s\n", (int)len, (const char *)out);
        snprintf(want, sizeof want, "%s%s", told[i].plain, told[i].forwarded);
        len = tux_trust_put(&peer, (const uint8_t *)text, &head, &client, true, out);
        if (!CHECK_ROW(len == strlen(want) && memcmp(out, want, len) == 0, told[i].fields))
            fprintf(stderr, "got: %.*s\n", (int)len, (const char *)out);
    }
    tux_trust_free(trust);
}

int main(void)
{
    test_addresses();
    test_networks();
    test_clients();
    test_long_lists();
    test_told();
    return check_report();
}
