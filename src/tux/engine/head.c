/* SPDX-License-Identifier: MIT */
#include "head.h"

#include <string.h>

#include "field.h"
#include "line.h"
#include "scan.h"
#include "signature.h"

#define BIT(field) (1u << (field))

/* Fields that the scanner itself has to understand. */
#define INTERPRETED                                                                                                    \
    (BIT(TUX_FIELD_HOST) | BIT(TUX_FIELD_CONNECTION) | BIT(TUX_FIELD_RANGE) | BIT(TUX_FIELD_TRANSFER_ENCODING) |       \
     BIT(TUX_FIELD_CONTENT_LENGTH) | BIT(TUX_FIELD_EXPECT) | BIT(TUX_FIELD_UPGRADE))

#define VERSION_BYTES 10u     /* "HTTP/1.1" CRLF */
#define MAX_ADDRESS_BYTES 45u /* the longest text of an IPv6 address, with an IPv4 tail */

/* One scan under way. Positions move only forward; end is the end of the bytes that may be read. */
struct scanner {
    const uint8_t *buf, *p, *end;
    const struct tux_head_limits *limits;
    struct tux_head *head;
    bool connection_close, connection_keep_alive;
    struct tux_signing signing;
};

static enum tux_outcome malformed(struct tux_head *head, uint16_t status, const char *reason)
{
    head->error_status = status;
    head->error_reason = reason;
    return TUX_MALFORMED;
}

static inline struct tux_span span_of(const struct scanner *s, const uint8_t *from, const uint8_t *to)
{
    return (struct tux_span){(uint32_t)(from - s->buf), (uint32_t)(to - from)};
}

/* -- request line ------------------------------------------------------------------------------------------------ */

static uint8_t method_of(const uint8_t *name, size_t len)
{
    static const struct {
        const char *name;
        uint8_t method;
    } methods[] = {
        {"HEAD", TUX_METHOD_HEAD},       {"POST", TUX_METHOD_POST},     {"OPTIONS", TUX_METHOD_OPTIONS},
        {"PUT", TUX_METHOD_PUT},         {"DELETE", TUX_METHOD_DELETE}, {"PATCH", TUX_METHOD_PATCH},
        {"CONNECT", TUX_METHOD_CONNECT}, {"TRACE", TUX_METHOD_TRACE},   {"GET", TUX_METHOD_GET},
    };
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strlen(methods[i].name) == len && memcmp(methods[i].name, name, len) == 0)
            return methods[i].method;
    }
    return TUX_METHOD_OTHER;
}

/* token SP */
static enum tux_outcome scan_method(struct scanner *s)
{
    const uint8_t *start = s->p;
    size_t left = (size_t)(s->end - start);

    if (left >= 4 && memcmp(start, "GET ", 4) == 0) {
        s->head->method = TUX_METHOD_GET;
        s->head->method_name = span_of(s, start, start + 3);
        s->p = start + 4;
        return TUX_DONE;
    }
    const uint8_t *stop = left > TUX_MAX_METHOD_BYTES ? start + TUX_MAX_METHOD_BYTES + 1 : s->end;
    const uint8_t *q = tux_scan_class(start, stop, TUX_BYTE_TOKEN);
    size_t len = (size_t)(q - start);
    if (len > TUX_MAX_METHOD_BYTES)
        return malformed(s->head, 501, "method is too long");
    if (q == s->end)
        return TUX_MORE;
    if (len == 0 || *q != ' ')
        return malformed(s->head, 400, "method is not a token followed by one space");
    s->head->method = method_of(start, len);
    s->head->method_name = span_of(s, start, q);
    s->p = q + 1;
    return TUX_DONE;
}

/* "HTTP/" DIGIT "." DIGIT CRLF */
static enum tux_outcome scan_version(struct scanner *s)
{
    static const char shape[VERSION_BYTES + 1] = "HTTP/0.0\r\n";
    const uint8_t *p = s->p;

    if (s->end - p >= (ptrdiff_t)VERSION_BYTES && memcmp(p, "HTTP/1.1\r\n", VERSION_BYTES) == 0) {
        s->head->minor = 1;
        s->p = p + VERSION_BYTES;
        return TUX_DONE;
    }
    for (size_t i = 0; i < VERSION_BYTES; i++) {
        if (p + i == s->end)
            return TUX_MORE;
        if (shape[i] == '0' ? !tux_byte_is_digit(p[i]) : p[i] != (uint8_t)shape[i])
            return malformed(s->head, 400, "version is not HTTP/d.d followed by CRLF");
    }
    if (p[5] != '1')
        return malformed(s->head, 505, "major version is not 1");
    s->head->minor = p[7] == '0' ? 0 : 1; /* a higher minor version is answered as the highest known one */
    s->p = p + VERSION_BYTES;
    return TUX_DONE;
}

bool tux_host_is_valid(const uint8_t *p, const uint8_t *end, bool port_required)
{
    if (p < end && *p == '[') {
        const uint8_t *address = ++p;
        bool colon = false;
        for (; p < end && (tux_byte_is(*p, TUX_BYTE_HEX) || *p == ':' || *p == '.'); p++)
            colon |= *p == ':';
        if (!colon || p - address < 2 || p - address > (ptrdiff_t)MAX_ADDRESS_BYTES || p == end || *p != ']')
            return false;
        p++;
    } else {
        const uint8_t *name = p;
        while ((p = tux_scan_class(p, end, TUX_BYTE_HOST)) < end && *p == '%') {
            if (end - p < 3 || !tux_byte_is(p[1], TUX_BYTE_HEX) || !tux_byte_is(p[2], TUX_BYTE_HEX))
                return false;
            p += 3;
        }
        if (p == name)
            return false;
    }
    if (p == end)
        return !port_required;
    if (*p++ != ':')
        return false;
    if (p == end)
        return !port_required;
    uint32_t port = 0;
    for (const uint8_t *digits = p; p < end; p++) {
        if (p - digits == 5 || !tux_byte_is_digit(*p))
            return false;
        port = port * 10 + (uint32_t)(*p - '0');
    }
    return port >= 1 && port <= 65535;
}

/* Split the target into its parts by its form (RFC 9112 section 3.2). */
static enum tux_outcome split_target(struct scanner *s, const uint8_t *target, const uint8_t *end, const uint8_t *query)
{
    struct tux_head *head = s->head;
    const uint8_t *path_end = query != NULL ? query : end;
    size_t len = (size_t)(end - target);

    head->target = span_of(s, target, end);
    head->has_query = query != NULL;
    head->query = query != NULL ? span_of(s, query + 1, end) : span_of(s, end, end);
    if (head->method == TUX_METHOD_CONNECT) {
        s->signing.form = TUX_TARGET_AUTHORITY;
        head->path = span_of(s, target, target);
        if (!tux_host_is_valid(target, end, true))
            return malformed(head, 400, "target of CONNECT is not host:port");
        return TUX_DONE;
    }
    if (*target == '/') {
        s->signing.form = TUX_TARGET_ORIGIN;
        head->path = span_of(s, target, path_end);
        return TUX_DONE;
    }
    if (*target == '*') {
        s->signing.form = TUX_TARGET_ASTERISK;
        head->path = span_of(s, target, end);
        if (len != 1 || head->method != TUX_METHOD_OPTIONS)
            return malformed(head, 400, "target \"*\" without OPTIONS");
        return TUX_DONE;
    }

    const uint8_t *authority;
    if (len > 7 && tux_line_equals(target, 7, "http://"))
        authority = target + 7;
    else if (len > 8 && tux_line_equals(target, 8, "https://"))
        authority = target + 8;
    else
        return malformed(head, 400, "target has no known form");
    const uint8_t *path = authority;
    while (path < path_end && *path != '/')
        path++;
    if (!tux_host_is_valid(authority, path, false))
        return malformed(head, 400, "authority of the target is not valid");
    head->host = span_of(s, authority, path);
    s->signing.authority_end = (uint32_t)(path - s->buf);
    if (path < path_end) {
        s->signing.form = TUX_TARGET_ABSOLUTE;
        head->path = span_of(s, path, path_end);
    } else { /* an empty path means "/": the second slash of "://" stands for it */
        s->signing.form = TUX_TARGET_ABSOLUTE_EMPTY;
        head->path = span_of(s, authority - 1, authority);
    }
    return TUX_DONE;
}

/* method SP request-target SP HTTP-version CRLF, after at most one empty line (RFC 9112 section 2.2).
 * Targets are taken wider than RFC 3986: browsers and crawlers send " < > \ ^ ` { | } and bytes over 0x7f as they are.
 * Those are passed on, and Python treats each as an ordinary byte of a name. Controls, DEL and "#" are refused. */
static enum tux_outcome scan_request_line(struct scanner *s)
{
    struct tux_head *head = s->head;

    if (s->p < s->end && *s->p == '\r') {
        if (s->end - s->p < 2)
            return TUX_MORE;
        if (s->p[1] != '\n')
            return malformed(head, 400, "CR without LF");
        s->p += 2;
        if (s->p < s->end && *s->p == '\r')
            return malformed(head, 400, "more than one empty line before the request line");
    }
    enum tux_outcome outcome = scan_method(s);
    if (outcome != TUX_DONE)
        return outcome;

    const uint8_t *target = s->p, *query;
    const uint8_t *target_end = tux_scan_target(target, s->end, &query);
    if ((size_t)(target_end - target) > s->limits->target_bytes)
        return malformed(head, 414, "request target is too long");
    if (target_end == s->end)
        return TUX_MORE;
    if (target_end == target || *target_end != ' ')
        return malformed(head, 400, "target is empty, holds a forbidden byte, or no version follows");
    s->p = target_end + 1;
    outcome = scan_version(s);
    if (outcome != TUX_DONE)
        return outcome;
    return split_target(s, target, target_end, query);
}

/* -- fields ------------------------------------------------------------------------------------------------------ */

/* Connection is a list of tokens; unknown ones, and what is no token, are not the scanner's business. */
static void read_connection(struct scanner *s, const uint8_t *p, const uint8_t *end)
{
    if (end - p == 10 && memcmp(p, "keep-alive", 10) == 0) { /* what browsers send, with each request */
        s->connection_keep_alive = true;
        return;
    }
    const uint8_t *member;
    size_t len;
    while (tux_line_member(&p, end, &member, &len)) {
        if (tux_line_equals(member, len, "close"))
            s->connection_close = true;
        else if (tux_line_equals(member, len, "keep-alive"))
            s->connection_keep_alive = true;
    }
}

/* The fields that frame the request or steer the connection. `repeated`: this id was there before. */
static enum tux_outcome interpret(struct scanner *s, uint8_t id, const uint8_t *value, const uint8_t *end,
                                  bool repeated)
{
    struct tux_head *head = s->head;
    size_t len = (size_t)(end - value);

    switch (id) {
    case TUX_FIELD_HOST:
        if (repeated)
            return malformed(head, 400, "Host is repeated");
        if (!tux_host_is_valid(value, end, false))
            return malformed(head, 400, "Host is not valid");
        if (head->host.len == 0) /* the authority of an absolute-form goes first (RFC 9112 section 3.2.2) */
            head->host = span_of(s, value, end);
        break;
    case TUX_FIELD_CONNECTION:
        read_connection(s, value, end);
        break;
    case TUX_FIELD_RANGE:
        head->range = tux_range_parse(value, len);
        if (repeated)
            head->range.kind = TUX_RANGE_NONE;
        break;
    case TUX_FIELD_TRANSFER_ENCODING:
        if (repeated || head->minor == 0 || !tux_line_equals(value, len, "chunked"))
            return malformed(head, 400, "Transfer-Encoding is not one \"chunked\" in HTTP/1.1");
        head->chunked = true;
        break;
    case TUX_FIELD_CONTENT_LENGTH:
        if (repeated || !tux_line_number(value, len, &head->content_length))
            return malformed(head, 400, "Content-Length is not one decimal number");
        head->has_length = true;
        break;
    case TUX_FIELD_EXPECT:
        if (!tux_line_equals(value, len, "100-continue"))
            head->expect_other = true;
        else if (head->minor == 1)
            head->expect_continue = true;
        break;
    case TUX_FIELD_UPGRADE:
        head->upgrade = true;
        break;
    default:
        break;
    }
    return TUX_DONE;
}

/* *( field-line CRLF ) CRLF. Leaves p after the blank line. */
static enum tux_outcome scan_fields(struct scanner *s)
{
    struct tux_head *head = s->head;
    const uint8_t *p = s->p, *end = s->end;
    uint32_t max_fields = s->limits->fields < TUX_MAX_FIELDS ? s->limits->fields : TUX_MAX_FIELDS;
    uint32_t n = 0, seen = 0;

    for (;;) {
        const uint8_t *name_end = tux_scan_name(p, end);
        if (name_end == end)
            return TUX_MORE;
        if (*name_end != ':' || name_end == p) {
            if (*name_end == '\r' && name_end == p)
                break;
            if (name_end == p && tux_byte_is_space(*p))
                return malformed(head, 400, "a line begins with white space");
            return malformed(head, 400, "a field name is not a token followed by a colon");
        }
        if (n == max_fields)
            return malformed(head, 431, "too many field lines");

        const uint8_t *value = name_end + 1;
        while (value < end && tux_byte_is_space(*value))
            value++;
        const uint8_t *line_end = tux_scan_text(value, end);
        if (line_end == end)
            return TUX_MORE;
        if (*line_end != '\r')
            return malformed(head, 400, "a field value holds a control");
        if (line_end + 1 == end)
            return TUX_MORE;
        if (line_end[1] != '\n')
            return malformed(head, 400, "CR without LF");
        const uint8_t *value_end = line_end;
        while (value_end > value && tux_byte_is_space(value_end[-1]))
            value_end--;

        uint8_t id = tux_field_id_of_token(p, (size_t)(name_end - p));
        uint32_t bit = BIT(id);
        head->fields[n] = (struct tux_head_field){span_of(s, p, name_end), span_of(s, value, value_end), id};
        if ((seen & bit) == 0)
            s->signing.first[id] = (uint8_t)n;
        else
            s->signing.repeated |= bit;
        if ((s->signing.significant & bit) != 0) {
            s->signing.covered_bytes += (uint32_t)(value_end - value);
            if (id == TUX_FIELD_OTHER)
                s->signing.covered_bytes += (uint32_t)(name_end - p);
        }
        if ((INTERPRETED & bit) != 0) {
            enum tux_outcome outcome = interpret(s, id, value, value_end, (seen & bit) != 0);
            if (outcome != TUX_DONE)
                return outcome;
        }
        seen |= bit;
        n++;
        p = line_end + 2;
    }
    if (end - p < 2)
        return TUX_MORE;
    if (p[1] != '\n')
        return malformed(head, 400, "CR without LF");
    s->p = p + 2;
    head->n_fields = n;
    head->seen = seen;
    return TUX_DONE;
}

/* -- the whole head ---------------------------------------------------------------------------------------------- */

static enum tux_outcome scan_whole(const uint8_t *buf, size_t len, const struct tux_head_limits *limits,
                                   const struct tux_sign_rules *rules, uint64_t context, struct tux_head *head)
{
    struct scanner s;
    s.buf = s.p = buf;
    s.end = buf + len;
    s.limits = limits;
    s.head = head;
    s.connection_close = s.connection_keep_alive = false;
    s.signing.significant = rules->significant | TUX_SIGNIFICANT_BY_DEFAULT;
    s.signing.repeated = s.signing.covered_bytes = s.signing.authority_end = 0;

    enum tux_outcome outcome = scan_request_line(&s);
    if (outcome != TUX_DONE)
        return outcome;

    head->has_length = head->chunked = head->expect_continue = head->expect_other = head->upgrade = false;
    head->content_length = 0;
    head->range = (struct tux_range){TUX_RANGE_NONE, 0, 0};
    outcome = scan_fields(&s);
    if (outcome != TUX_DONE)
        return outcome;

    if (head->minor == 1 && (head->seen & BIT(TUX_FIELD_HOST)) == 0)
        return malformed(head, 400, "Host is missing");
    if (head->chunked && head->has_length)
        return malformed(head, 400, "Transfer-Encoding and Content-Length together");
    head->keep_alive = !s.connection_close && (head->minor == 1 || s.connection_keep_alive);
    head->length = (uint32_t)(s.p - buf);
    tux_signature_compute(buf, len, &s.signing, rules->key, context, head);
    return TUX_DONE;
}

/* Look at the new bytes of a head that was incomplete before. DONE: its blank line is there, scan it as a whole.
 * What can never become right, and is cheap to see here, is refused at once. */
static enum tux_outcome look_for_end(const uint8_t *buf, size_t len, size_t seen_len,
                                     const struct tux_head_limits *limits, struct tux_head *head)
{
    const uint8_t *p = buf + seen_len, *end = buf + len;

    if (p < end && p[-1] == '\r' && *p != '\n')
        return malformed(head, 400, "CR without LF");
    while ((p = tux_scan_text(p, end)) < end) {
        if (*p == '\r') {
            if (p + 1 < end && p[1] != '\n')
                return malformed(head, 400, "CR without LF");
        } else if (*p != '\n') {
            return malformed(head, 400, "a control in the head");
        } else if (p[-1] != '\r') {
            return malformed(head, 400, "LF without CR");
        } else if (p - buf >= 2 && p[-2] == '\n') {
            return TUX_DONE;
        }
        p++;
    }
    /* A request line that has not ended here cannot fit its limits. Looked at once, when that size is reached. */
    size_t line_bytes = 2 + TUX_MAX_METHOD_BYTES + 1 + (size_t)limits->target_bytes + 1 + VERSION_BYTES;
    if (seen_len < line_bytes && len >= line_bytes && memchr(buf + 2, '\n', line_bytes - 2) == NULL)
        return malformed(head, 414, "request target is too long");
    return TUX_MORE;
}

enum tux_outcome tux_head_scan(const uint8_t *buf, size_t len, size_t seen_len, const struct tux_head_limits *limits,
                               const struct tux_sign_rules *rules, uint64_t context, struct tux_head *head)
{
    size_t visible = len < limits->head_bytes ? len : limits->head_bytes; /* nothing after it can belong to this head */
    enum tux_outcome outcome = TUX_DONE;

    head->host = (struct tux_span){0, 0};
    if (seen_len > visible)
        seen_len = visible;
    if (seen_len > 0)
        outcome = look_for_end(buf, visible, seen_len, limits, head);
    if (outcome == TUX_DONE)
        outcome = scan_whole(buf, visible, limits, rules, context, head);
    if (outcome == TUX_MORE && len >= limits->head_bytes) {
        if (seen_len > 0) /* for its host, once */
            scan_whole(buf, visible, limits, rules, context, head);
        return malformed(head, 431, "head is too long");
    }
    return outcome;
}
