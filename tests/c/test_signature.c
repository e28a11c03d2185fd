/* SPDX-License-Identifier: MIT */
/* Equal signature must imply equal answer: every thing that is covered changes the signature when it changes, and what
 * is not covered does not. */
#include <stdio.h>

#include "check.h"
#include "head_text.h"

#define BASE "GET /a HTTP/1.1\r\nHost: b\r\n"

struct pair {
    const char *one, *other;
};

static struct tux_head a, b;

static bool scan_both(const struct pair *pair, const struct tux_sign_rules *rules)
{
    return CHECK_ROW(scan_copy(pair->one, strlen(pair->one), 0, &default_limits, rules, &a) == TUX_DONE, pair->one) &&
           CHECK_ROW(scan_copy(pair->other, strlen(pair->other), 0, &default_limits, rules, &b) == TUX_DONE,
                     pair->other);
}

/* -- what differs in general, and so in exact too ---------------------------------------------------------------- */

static const struct pair different[] = {
    {BASE "\r\n", "HEAD /a HTTP/1.1\r\nHost: b\r\n\r\n"},
    {BASE "\r\n", "OPTIONS /a HTTP/1.1\r\nHost: b\r\n\r\n"},
    {BASE "\r\n", "GET /a HTTP/1.0\r\nHost: b\r\n\r\n"},
    {BASE "\r\n", "GET /A HTTP/1.1\r\nHost: b\r\n\r\n"},
    {BASE "\r\n", "GET /a/ HTTP/1.1\r\nHost: b\r\n\r\n"},
    {BASE "\r\n", "GET //a HTTP/1.1\r\nHost: b\r\n\r\n"},
    {BASE "\r\n", "GET /%61 HTTP/1.1\r\nHost: b\r\n\r\n"},
    {"GET /1234567 HTTP/1.1\r\nHost: b\r\n\r\n", "GET /12345678 HTTP/1.1\r\nHost: b\r\n\r\n"},
    {BASE "\r\n", "GET /a HTTP/1.1\r\nHost: c\r\n\r\n"},
    {BASE "\r\n", "GET /a HTTP/1.1\r\nHost: b:80\r\n\r\n"},
    {BASE "\r\n", "GET /a HTTP/1.1\r\nHost: b.\r\n\r\n"},
    {"GET /a HTTP/1.0\r\n\r\n", "GET /a HTTP/1.0\r\nHost: b\r\n\r\n"},
    /* where the path ends and the host begins */
    {"GET /ab HTTP/1.1\r\nHost: c\r\n\r\n", "GET /a HTTP/1.1\r\nHost: bc\r\n\r\n"},
    /* absolute-form: the scheme, the authority, the Host line that it overrules, and the form itself */
    {BASE "\r\n", "GET http://b/a HTTP/1.1\r\nHost: b\r\n\r\n"},
    {"GET http://b/a HTTP/1.1\r\nHost: b\r\n\r\n", "GET https://b/a HTTP/1.1\r\nHost: b\r\n\r\n"},
    {"GET http://b/a HTTP/1.1\r\nHost: b\r\n\r\n", "GET http://c/a HTTP/1.1\r\nHost: b\r\n\r\n"},
    {"GET http://b/a HTTP/1.1\r\nHost: b\r\n\r\n", "GET http://b/a HTTP/1.1\r\nHost: c\r\n\r\n"},
    {"OPTIONS http://b/ HTTP/1.1\r\nHost: b\r\n\r\n", "OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n"},
    {"OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n", "OPTIONS /* HTTP/1.1\r\nHost: b\r\n\r\n"},
    /* each significant field: there or not, and its value to the last byte and case */
    {BASE "\r\n", BASE "Accept:\r\n\r\n"},
    {BASE "\r\n", BASE "Accept: */*\r\n\r\n"},
    {BASE "Accept: a\r\n\r\n", BASE "Accept: A\r\n\r\n"},
    {BASE "Accept: a,b\r\n\r\n", BASE "Accept: a, b\r\n\r\n"},
    {BASE "Accept: a\r\n\r\n", BASE "Accept-Encoding: a\r\n\r\n"},
    {BASE "Accept-Encoding: gzip\r\n\r\n", BASE "Accept-Encoding: br\r\n\r\n"},
    {BASE "If-Match: \"a\"\r\n\r\n", BASE "If-Match: \"b\"\r\n\r\n"},
    {BASE "If-Match: \"a\"\r\n\r\n", BASE "If-None-Match: \"a\"\r\n\r\n"},
    {BASE "If-None-Match: \"a\"\r\n\r\n", BASE "If-None-Match: \"b\"\r\n\r\n"},
    {BASE "If-Modified-Since: a\r\n\r\n", BASE "If-Modified-Since: b\r\n\r\n"},
    {BASE "If-Unmodified-Since: a\r\n\r\n", BASE "If-Unmodified-Since: b\r\n\r\n"},
    {BASE "If-Range: a\r\n\r\n", BASE "If-Range: b\r\n\r\n"},
    {BASE "Authorization: a\r\n\r\n", BASE "Authorization: b\r\n\r\n"},
    {BASE "Authorization: a\r\n\r\n", BASE "\r\n"},
    /* ranges: whether one is there, and all of it when it is not a plain one */
    {BASE "\r\n", BASE "Range: bytes=0-1\r\n\r\n"},
    {BASE "\r\n", BASE "Range: x\r\n\r\n"},
    {BASE "Range: bytes=0-1,2-3\r\n\r\n", BASE "Range: bytes=0-1,2-4\r\n\r\n"},
    {BASE "Range: bytes=0-1\r\n\r\n", BASE "Range: bytes=0-1,2-4\r\n\r\n"},
    /* repeated list fields: their number, their order, where one ends and the next begins */
    {BASE "Accept: a\r\n\r\n", BASE "Accept: a\r\nAccept: a\r\n\r\n"},
    {BASE "Accept: a\r\nAccept: b\r\n\r\n", BASE "Accept: b\r\nAccept: a\r\n\r\n"},
    {BASE "Accept: ab\r\nAccept: c\r\n\r\n", BASE "Accept: a\r\nAccept: bc\r\n\r\n"},
    {BASE "Accept: a\r\nAccept:\r\n\r\n", BASE "Accept: a\r\n\r\n"},
    {BASE "Accept: a\r\nIf-Match: b\r\n\r\n", BASE "Accept: b\r\nIf-Match: a\r\n\r\n"},
    /* padding to whole words is no part of the text */
    {BASE "Accept: a\r\nAccept-Encoding: b\r\n\r\n", BASE "Accept: a\r\nAccept: b\r\n\r\n"},
};

static void test_different(void)
{
    for (size_t i = 0; i < sizeof(different) / sizeof(different[0]); i++) {
        if (!scan_both(&different[i], &default_rules))
            continue;
        CHECK_ROW(a.is_signed && b.is_signed, different[i].other);
        CHECK_ROW(!same_signature(a.general, b.general), different[i].other);
        CHECK_ROW(!same_signature(a.exact, b.exact), different[i].other);
    }
}

/* -- what is equal in both --------------------------------------------------------------------------------------- */

static const struct pair equal[] = {
    {BASE "\r\n", "\r\n" BASE "\r\n"},
    {BASE "\r\n", "GET /a HTTP/1.1\r\nhOST:b\r\n\r\n"},
    {BASE "\r\n", "GET /a HTTP/1.1\r\nHost: \t b \t\r\n\r\n"},
    {BASE "\r\n", "GET /a HTTP/1.1\r\nHost: B\r\n\r\n"},
    {"GET /a HTTP/1.1\r\nHost: WWW.Example.ORG:80\r\n\r\n", "GET /a HTTP/1.1\r\nHost: www.example.org:80\r\n\r\n"},
    {"GET /a HTTP/1.1\r\nHost: ABCDEFGHIJKLMNOPQRSTUVWXYZ09-._~\r\n\r\n",
     "GET /a HTTP/1.1\r\nHost: abcdefghijklmnopqrstuvwxyz09-._~\r\n\r\n"},
    {BASE "\r\n", "GET /a HTTP/1.2\r\nHost: b\r\n\r\n"}, /* both are answered as 1.1 */
    {BASE "\r\n", BASE "User-Agent: x\r\n\r\n"},
    {BASE "User-Agent: x\r\n\r\n", BASE "User-Agent: y\r\n\r\n"},
    {BASE "\r\n", BASE "Referer: http://x/\r\nCookie: a=b\r\nOrigin: null\r\nForwarded: for=x\r\nX-Forwarded-For: x\r\n"
                       "X-Forwarded-Proto: https\r\nX-Forwarded-Host: x\r\nAccept-Language: en\r\nX-Any: y\r\n\r\n"},
    {BASE "\r\n", BASE "Connection: close\r\n\r\n"}, /* the engine picks the form of the answer itself */
    {BASE "\r\n", BASE "Content-Length: 0\r\n\r\n"},
    {BASE "Accept: a\r\n\r\n", BASE "aCCEPT:a\t\r\n\r\n"},
    {BASE "Accept: a\r\nAccept-Encoding: b\r\n\r\n", BASE "Accept-Encoding: b\r\nAccept: a\r\n\r\n"},
    {BASE "Accept: a\r\nAccept: b\r\nIf-Match: c\r\n\r\n",
     BASE "Accept: a\r\nIf-Match: c\r\nX: y\r\nAccept: b\r\n\r\n"},
    {BASE "Accept: a\r\n\r\n", "GET /a HTTP/1.1\r\nAccept: a\r\nHost: b\r\n\r\n"},
    {"GET /a?b HTTP/1.1\r\nHost: c\r\nAccept: d\r\n\r\n",
     "GET /a?b HTTP/1.1\r\nUser-Agent: x\r\nAccept: d\r\nHost: C\r\n\r\n"},
};

static void test_equal(void)
{
    for (size_t i = 0; i < sizeof(equal) / sizeof(equal[0]); i++) {
        if (!scan_both(&equal[i], &default_rules))
            continue;
        CHECK_ROW(a.is_signed && b.is_signed && a.same == b.same, equal[i].other);
        CHECK_ROW(same_signature(a.general, b.general), equal[i].other);
        CHECK_ROW(same_signature(a.exact, b.exact), equal[i].other);
    }
}

/* -- what is equal in general only: the query, and the numbers of a plain range ----------------------------------- */

static const struct pair equal_in_general[] = {
    {BASE "\r\n", "GET /a? HTTP/1.1\r\nHost: b\r\n\r\n"},
    {BASE "\r\n", "GET /a?c HTTP/1.1\r\nHost: b\r\n\r\n"},
    {"GET /a?c HTTP/1.1\r\nHost: b\r\n\r\n", "GET /a?d HTTP/1.1\r\nHost: b\r\n\r\n"},
    {"GET /a? HTTP/1.1\r\nHost: b\r\n\r\n", "GET /a?? HTTP/1.1\r\nHost: b\r\n\r\n"},
    {BASE "Range: bytes=0-1\r\n\r\n", BASE "Range: bytes=0-2\r\n\r\n"},
    {BASE "Range: bytes=0-1\r\n\r\n", BASE "Range: bytes=1-\r\n\r\n"},
    {BASE "Range: bytes=0-1\r\n\r\n", BASE "Range: bytes=-1\r\n\r\n"},
    {BASE "Range: bytes=0-1\r\n\r\n", BASE "Range: bytes=00-1\r\n\r\n"},
    {BASE "Range: bytes=0-1\r\n\r\n", "GET /a?c HTTP/1.1\r\nHost: b\r\nRange: bytes=0-1\r\n\r\n"},
    {"GET /a?bytes=0-1 HTTP/1.1\r\nHost: b\r\nRange: bytes=0-2\r\n\r\n",
     "GET /a?bytes=0-2 HTTP/1.1\r\nHost: b\r\nRange: bytes=0-1\r\n\r\n"},
};

static void test_equal_in_general(void)
{
    for (size_t i = 0; i < sizeof(equal_in_general) / sizeof(equal_in_general[0]); i++) {
        const char *row = equal_in_general[i].other;
        if (!scan_both(&equal_in_general[i], &default_rules))
            continue;
        CHECK_ROW(a.is_signed && b.is_signed, row);
        CHECK_ROW(same_signature(a.general, b.general), row);
        CHECK_ROW(!same_signature(a.exact, b.exact), row);
        CHECK_ROW(a.same == same_signature(a.general, a.exact) && b.same == same_signature(b.general, b.exact), row);
        CHECK_ROW(!b.same, row);
    }
}

/* -- what is never signed ----------------------------------------------------------------------------------------- */

static void test_unsigned(void)
{
    static const char *const texts[] = {
        "POST /a HTTP/1.1\r\nHost: b\r\n\r\n",
        "PUT /a HTTP/1.1\r\nHost: b\r\n\r\n",
        "DELETE /a HTTP/1.1\r\nHost: b\r\n\r\n",
        "TRACE /a HTTP/1.1\r\nHost: b\r\n\r\n",
        "FROB /a HTTP/1.1\r\nHost: b\r\n\r\n",
        "get /a HTTP/1.1\r\nHost: b\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: b\r\n\r\n",
        BASE "Transfer-Encoding: chunked\r\n\r\n",
        BASE "Content-Length: 1\r\n\r\n",
        BASE "Content-Length: 010\r\n\r\n",
        BASE "Expect: 100-continue\r\n\r\n",
        BASE "Expect: x\r\n\r\n",
        "GET /a HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
        BASE "Upgrade: h2c\r\n\r\n",
        BASE "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        BASE "Range: bytes=0-1\r\nRange: bytes=0-1\r\n\r\n",
        BASE "If-Modified-Since: a\r\nIf-Modified-Since: a\r\n\r\n",
        BASE "If-Unmodified-Since: a\r\nIf-Unmodified-Since: a\r\n\r\n",
        BASE "If-Range: a\r\nIf-Range: a\r\n\r\n",
        BASE "Authorization: a\r\nauthorization: a\r\n\r\n",
        BASE "Origin: a\r\nOrigin: a\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        CHECK_ROW(scan_copy(texts[i], strlen(texts[i]), 0, &default_limits, &default_rules, &a) == TUX_DONE, texts[i]);
        CHECK_ROW(!a.is_signed, texts[i]);
    }
}

/* Covered bytes are bounded; bytes that are not covered are not counted. */
static void test_signed_bytes(void)
{
    static char text[TUX_MAX_HEAD_BYTES];
    const char *const shapes[] = {/* each covers %d bytes and two more */
                                  "GET /%0*d HTTP/1.1\r\nHost: b\r\n\r\n", "GET /?%0*d HTTP/1.0\r\n\r\n",
                                  "GET / HTTP/1.0\r\nAccept:\r\nAccept: a%0*d\r\n\r\n"};
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        int covered = TUX_MAX_SIGNED_BYTES - (i == 0 ? 3 : 2); /* the Host line counts as host and as a value */
        for (int extra = 0; extra < 2; extra++) {
            size_t len = (size_t)snprintf(text, sizeof(text), shapes[i], covered + extra, 0);
            CHECK_EQ(scan_copy(text, len, 0, &default_limits, &default_rules, &a), TUX_DONE);
            CHECK_ROW(a.is_signed == (extra == 0), shapes[i]);
        }
    }
    size_t len = (size_t)snprintf(text, sizeof(text), BASE "X: %0*d\r\n\r\n", (int)TUX_MAX_SIGNED_BYTES + 1, 0);
    CHECK_EQ(scan_copy(text, len, 0, &default_limits, &default_rules, &a), TUX_DONE);
    CHECK(a.is_signed);
}

/* -- rules ------------------------------------------------------------------------------------------------------- */

/* A rule that looks at a field makes it covered. */
static void test_rules_add_fields(void)
{
    static const struct {
        uint8_t id;
        const char *name;
    } rows[] = {
        {TUX_FIELD_COOKIE, "Cookie"},
        {TUX_FIELD_ORIGIN, "Origin"},
        {TUX_FIELD_FORWARDED, "Forwarded"},
        {TUX_FIELD_X_FORWARDED_FOR, "X-Forwarded-For"},
        {TUX_FIELD_X_FORWARDED_PROTO, "X-Forwarded-Proto"},
        {TUX_FIELD_X_FORWARDED_HOST, "X-Forwarded-Host"},
        {TUX_FIELD_REFERER, "Referer"},
        {TUX_FIELD_USER_AGENT, "User-Agent"},
        {TUX_FIELD_ACCEPT_LANGUAGE, "Accept-Language"},
        {TUX_FIELD_CONNECTION, "Connection"},
        {TUX_FIELD_OTHER, "X-Any"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tux_sign_rules rules = default_rules;
        char one[128], other[128];
        struct pair pair = {one, other};
        snprintf(one, sizeof(one), BASE "%s: x\r\n\r\n", rows[i].name);
        snprintf(other, sizeof(other), BASE "%s: y\r\n\r\n", rows[i].name);
        if (scan_both(&pair, &rules))
            CHECK_ROW(same_signature(a.general, b.general), one);
        rules.significant |= 1u << rows[i].id;
        if (scan_both(&pair, &rules))
            CHECK_ROW(a.is_signed && b.is_signed && !same_signature(a.general, b.general), one);
    }
}

/* Bit 0 covers every field without an id: its name, case folded, as well as its value. */
static void test_rules_with_other_fields(void)
{
    struct tux_sign_rules rules = default_rules;
    struct pair names = {BASE "X-A: b\r\n\r\n", BASE "X-B: b\r\n\r\n"},
                edge = {BASE "X-A: b\r\n\r\n", BASE "X-Ab:\r\n\r\n"};
    struct pair folded = {BASE "X-A: b\r\n\r\n", BASE "x-a:b\r\n\r\n"};
    struct pair lines = {BASE "A: b\r\nC: d\r\n\r\n", BASE "A: b\r\n\r\n"};
    rules.significant |= 1u << TUX_FIELD_OTHER;
    CHECK(scan_both(&names, &rules) && !same_signature(a.general, b.general));
    CHECK(scan_both(&edge, &rules) && !same_signature(a.general, b.general));
    CHECK(scan_both(&folded, &rules) && same_signature(a.general, b.general));
    CHECK(scan_both(&lines, &rules) && !same_signature(a.general, b.general));
}

/* What is significant by default is so without any rule. */
static void test_rules_cannot_remove_fields(void)
{
    struct tux_sign_rules rules = default_rules;
    rules.significant = 0;
    for (size_t i = 0; i < sizeof(different) / sizeof(different[0]); i++) {
        if (scan_both(&different[i], &rules))
            CHECK_ROW(!same_signature(a.general, b.general), different[i].other);
    }
}

static void test_key_and_context(void)
{
    const uint8_t *text = (const uint8_t *)BASE "\r\n";
    size_t len = strlen(BASE "\r\n");
    struct tux_sign_rules rules = default_rules;
    CHECK_EQ(tux_head_scan(text, len, 0, &default_limits, &rules, 1, &a), TUX_DONE);
    CHECK_EQ(tux_head_scan(text, len, 0, &default_limits, &rules, 1, &b), TUX_DONE);
    CHECK(same_signature(a.general, b.general) && same_signature(a.exact, b.exact) && a.same);
    CHECK_EQ(tux_head_scan(text, len, 0, &default_limits, &rules, 2, &b), TUX_DONE);
    CHECK(!same_signature(a.general, b.general));
    rules.key[0] ^= 1;
    CHECK_EQ(tux_head_scan(text, len, 0, &default_limits, &rules, 1, &b), TUX_DONE);
    CHECK(!same_signature(a.general, b.general));
    rules.key[0] ^= 1;
    rules.key[1] ^= (uint64_t)1 << 63;
    CHECK_EQ(tux_head_scan(text, len, 0, &default_limits, &rules, 1, &b), TUX_DONE);
    CHECK(!same_signature(a.general, b.general));
}

/* Each byte of a path, and of a value, matters, wherever it stands in its word and in the buffer. Nothing that follows
 * the head does. */
static void test_each_byte(void)
{
    static const char text[] =
        "GET /0123456789abcdefghijk HTTP/1.1\r\nHost: b\r\nAccept-Encoding: 0123456789abcdefghijk\r\n\r\n";
    char changed[sizeof(text) + 8];
    size_t len = sizeof(text) - 1;
    CHECK_EQ(scan_copy(text, len, 0, &default_limits, &default_rules, &a), TUX_DONE);
    for (size_t i = 0; i < len; i++) {
        bool covered = (i >= a.path.off + 1 && i < a.path.off + a.path.len) ||
                       (i >= a.fields[1].value.off && i < a.fields[1].value.off + a.fields[1].value.len);
        if (!covered)
            continue;
        memcpy(changed, text, len);
        changed[i] ^= 1;
        CHECK_EQ(scan_copy(changed, len, 0, &default_limits, &default_rules, &b), TUX_DONE);
        CHECK(!same_signature(a.general, b.general));
    }
    for (size_t extra = 1; extra <= 8; extra++) {
        memcpy(changed, text, len);
        memset(changed + len, 'X', extra);
        CHECK_EQ(scan_copy(changed, len + extra, 0, &default_limits, &default_rules, &b), TUX_DONE);
        CHECK(same_head(&a, &b));
    }
}

/* All heads of the tables together: no two signatures meet, but of those that are said to be equal. */
static void test_no_accidental_meeting(void)
{
    enum { COUNT = sizeof(different) / sizeof(different[0]) };
    static struct tux_signature of[COUNT];
    unsigned meetings = 0;
    for (size_t i = 0; i < COUNT; i++) {
        scan_copy(different[i].other, strlen(different[i].other), 0, &default_limits, &default_rules, &b);
        of[i] = b.general;
        for (size_t k = 0; k < i; k++)
            meetings += same_signature(of[i], of[k]) && strcmp(different[i].other, different[k].other) != 0;
    }
    CHECK_EQ(meetings, 0);
}

int main(void)
{
    test_different();
    test_equal();
    test_equal_in_general();
    test_unsigned();
    test_signed_bytes();
    test_rules_add_fields();
    test_rules_with_other_fields();
    test_rules_cannot_remove_fields();
    test_key_and_context();
    test_each_byte();
    test_no_accidental_meeting();
    return check_report();
}
