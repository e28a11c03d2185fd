/* SPDX-License-Identifier: MIT */
#include "forward.h"

#include <string.h>

#include "line.h"
#include "scan.h"

#define BIT(field) (1u << (field))
#define CONSTANT_BYTES 800u  /* all literals that a head may get, together, and the addresses */

/* -- writing ----------------------------------------------------------------------------------------------------- */

/* Room was counted once, in tux_forward_request. */
static uint8_t *put(uint8_t *out, const void *bytes, size_t len)
{
    memcpy(out, bytes, len);
    return out + len;
}

#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static uint8_t *put_span(uint8_t *out, const uint8_t *buf, struct tux_span span)
{
    return put(out, buf + span.off, span.len);
}

/* -- Connection -------------------------------------------------------------------------------------------------- */

static bool same_name(const uint8_t *a, const uint8_t *b, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (tux_byte_lower(a[i]) != tux_byte_lower(b[i]))
            return false;
    return true;
}

/* The members of all Connection fields of a message, which are few: names of fields that are for the next hop alone. */
struct options {
    const uint8_t *member[TUX_MAX_CONNECTION_OPTIONS];
    size_t len[TUX_MAX_CONNECTION_OPTIONS];
    uint32_t n;
    bool overflow;
};

static void add_options(struct options *options, const uint8_t *value, size_t value_len)
{
    const uint8_t *member, *p = value;
    size_t len;
    while (tux_line_member(&p, value + value_len, &member, &len)) {
        if (len == 0)
            continue;
        if (options->n == TUX_MAX_CONNECTION_OPTIONS) {
            options->overflow = true;
            return;
        }
        options->member[options->n] = member;
        options->len[options->n++] = len;
    }
}

static bool is_option(const struct options *options, const uint8_t *name, size_t len)
{
    for (uint32_t i = 0; i < options->n; i++)
        if (options->len[i] == len && same_name(options->member[i], name, len))
            return true;
    return false;
}

static bool has_option(const struct options *options, const char *name)
{
    return is_option(options, (const uint8_t *)name, strlen(name));
}

/* -- requests ---------------------------------------------------------------------------------------------------- */

/* Fields without an id in the scanner that end here: those for one hop, and `Proxy`, which CGI-like servers turn into
 * HTTP_PROXY (CVE-2016-5385). `Trailer` announces what is not passed on. */
static bool ends_here(const uint8_t *name, size_t len)
{
    static const char *const names[] = {
        "te",         "proxy",          "trailer",          "keep-alive",
        "proxy-connection", "http2-settings", "proxy-authenticate", "proxy-authorization",
    };
    switch (tux_byte_lower(name[0])) { /* few names begin so: most fields need no comparison */
    case 't':
    case 'p':
    case 'k':
    case 'h':
        break;
    default:
        return false;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (tux_line_equals(name, len, names[i]))
            return true;
    return false;
}

/* Fields that are written anew, or not at all, whatever Connection says. */
#define REWRITTEN                                                                                                      \
    (BIT(TUX_FIELD_HOST) | BIT(TUX_FIELD_CONNECTION) | BIT(TUX_FIELD_TRANSFER_ENCODING) |                              \
     BIT(TUX_FIELD_CONTENT_LENGTH) | BIT(TUX_FIELD_EXPECT) | BIT(TUX_FIELD_UPGRADE) | BIT(TUX_FIELD_FORWARDED) |       \
     BIT(TUX_FIELD_X_FORWARDED_FOR) | BIT(TUX_FIELD_X_FORWARDED_PROTO) | BIT(TUX_FIELD_X_FORWARDED_HOST))

/* May the client's Upgrade be passed on? One protocol, in a request that has no body to be mistaken for it; and none that
 * would carry further HTTP past us: "h2c" smuggles requests. */
static void read_upgrade(const uint8_t *buf, const struct tux_head *head, const struct options *options,
                         struct tux_forward_head *result)
{
    struct tux_span value = {0, 0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < head->n_fields; i++) {
        if (head->fields[i].id == TUX_FIELD_UPGRADE) {
            value = head->fields[i].value;
            n++;
        }
    }
    const uint8_t *text = buf + value.off;
    bool http = value.len >= 2 && tux_byte_lower(text[0]) == 'h' && (text[1] == '2' || tux_byte_lower(text[1]) == 't');
    bool tls = value.len >= 3 && tux_line_equals(text, 3, "tls");
    if (n != 1 || value.len == 0 || value.len > TUX_MAX_UPGRADE_BYTES || head->minor == 0 || head->chunked ||
        head->content_length > 0 || http || tls || !has_option(options, "upgrade"))
        return;
    for (uint32_t i = 0; i < value.len; i++) {
        if (!tux_byte_is(text[i], TUX_BYTE_TOKEN) && text[i] != '/')
            return;
        result->protocol[i] = (char)tux_byte_lower(text[i]);
    }
    result->protocol_len = (uint8_t)value.len;
    result->upgrade = true;
}

/* The target in origin-form. One without a path means "/", or with OPTIONS "*" (RFC 9112 section 3.2.4). */
static uint8_t *put_target(uint8_t *out, const uint8_t *buf, const struct tux_head *head)
{
    bool absolute = buf[head->target.off] != '/' && buf[head->target.off] != '*';
    if (!absolute)
        return put_span(out, buf, head->target);
    bool empty = head->path.off < head->host.off; /* then it is one of the slashes before the authority */
    if (empty && head->method == TUX_METHOD_OPTIONS && !head->has_query)
        return PUT(out, "*");
    out = put_span(out, buf, head->path);
    if (head->has_query) {
        out = PUT(out, "?");
        out = put_span(out, buf, head->query);
    }
    return out;
}

uint16_t tux_forward_request(const uint8_t *buf, const struct tux_head *head, const struct tux_forward_rules *rules,
                             const struct tux_forward_way *way, uint8_t *out, size_t size,
                             struct tux_forward_head *result)
{
    uint8_t *start = out;
    struct options options = {.n = 0};
    bool te_trailers = false;

    result->expect = head->expect_continue;
    result->upgrade = false;
    result->length = result->protocol_len = 0;
    /* What can be written at most: every byte of the head, a space in each of its lines, and what is added. */
    uint32_t host_len = way->client->host.len > head->host.len ? way->client->host.len : head->host.len;
    size_t bound = head->length + head->n_fields + 3u * host_len + rules->host_len + way->server_len + CONSTANT_BYTES;
    if (bound > size)
        return 431;
    if (head->method == TUX_METHOD_CONNECT || head->method == TUX_METHOD_TRACE)
        return 501;
    if (head->expect_other)
        return 417;
    if (head->seen & BIT(TUX_FIELD_CONNECTION)) {
        for (uint32_t i = 0; i < head->n_fields; i++)
            if (head->fields[i].id == TUX_FIELD_CONNECTION)
                add_options(&options, buf + head->fields[i].value.off, head->fields[i].value.len);
        if (options.overflow)
            return 400;
    }
    if (head->upgrade && rules->upgrade)
        read_upgrade(buf, head, &options, result);

    out = put_span(out, buf, head->method_name);
    out = PUT(out, " ");
    out = put_target(out, buf, head);
    out = PUT(out, " HTTP/1.1\r\nHost: ");
    if (rules->host_len > 0)
        out = put(out, rules->host, rules->host_len);
    else if (head->host.len > 0)
        out = put_span(out, buf, head->host);
    else /* HTTP/1.0 without one */
        out = put(out, way->server, way->server_len);
    out = PUT(out, "\r\n");

    for (uint32_t i = 0; i < head->n_fields; i++) {
        const struct tux_head_field *field = &head->fields[i];
        const uint8_t *name = buf + field->name.off;
        if (field->id != TUX_FIELD_OTHER ? (REWRITTEN & BIT(field->id)) != 0 : ends_here(name, field->name.len)) {
            if (field->id == TUX_FIELD_OTHER && tux_line_equals(name, field->name.len, "te"))
                te_trailers |= tux_line_lists(buf + field->value.off, buf + field->value.off + field->value.len, "trailers");
            continue;
        }
        if (options.n > 0 && is_option(&options, name, field->name.len))
            continue;
        if (!rules->underscores && memchr(name, '_', field->name.len) != NULL)
            continue;
        out = put(out, name, field->name.len);
        out = PUT(out, ": ");
        out = put_span(out, buf, field->value);
        out = PUT(out, "\r\n");
    }
    out += tux_trust_put(way->peer, buf, head, way->client, rules->forwarded, out);

    if (head->chunked) {
        out = PUT(out, "Transfer-Encoding: chunked\r\n");
    } else if (head->has_length) {
        out = PUT(out, "Content-Length: ");
        out = tux_line_put_decimal(out, head->content_length);
        out = PUT(out, "\r\n");
    }
    if (result->expect)
        out = PUT(out, "Expect: 100-continue\r\n");
    if (result->upgrade) {
        out = PUT(out, "Connection: upgrade\r\nUpgrade: ");
        out = put(out, result->protocol, result->protocol_len);
        out = PUT(out, "\r\n");
    } else if (way->close) {
        out = PUT(out, "Connection: close\r\n");
    } else if (te_trailers) {
        out = PUT(out, "Connection: TE\r\n");
    }
    if (te_trailers)
        out = PUT(out, "TE: trailers\r\n");
    out = PUT(out, "\r\n");
    result->length = (uint32_t)(out - start);
    return 0;
}

/* -- responses --------------------------------------------------------------------------------------------------- */

size_t tux_forward_response(const uint8_t *buf, const struct tux_response *response, uint8_t *out)
{
    struct options options = {.n = 0};
    uint32_t dropped = BIT(TUX_RESPONSE_CONNECTION) | BIT(TUX_RESPONSE_CONTENT_LENGTH) |
                       BIT(TUX_RESPONSE_TRANSFER_ENCODING) | BIT(TUX_RESPONSE_HOP);
    uint8_t *start = out;

    if (response->status != 101)
        dropped |= BIT(TUX_RESPONSE_UPGRADE);
    if (response->framing != TUX_FRAMING_CHUNKED)
        dropped |= BIT(TUX_RESPONSE_TRAILER);
    if (response->seen & BIT(TUX_RESPONSE_CONNECTION)) {
        for (uint32_t i = 0; i < response->n_fields; i++)
            if (response->fields[i].id == TUX_RESPONSE_CONNECTION) /* beyond the limit they are passed on: no harm here */
                add_options(&options, buf + response->fields[i].value.off, response->fields[i].value.len);
    }
    /* Lines that are kept move together in runs, as they were sent. */
    for (uint32_t i = 0; i < response->n_fields;) {
        const struct tux_response_field *field = &response->fields[i];
        const uint8_t *name = buf + field->name.off;
        bool kept = (dropped & BIT(field->id)) == 0 &&
                    (options.n == 0 || field->id == TUX_RESPONSE_UPGRADE || !is_option(&options, name, field->name.len));
        uint32_t line_end = ++i < response->n_fields ? response->fields[i].name.off : response->length - 2;
        size_t len = line_end - field->name.off;
        if (!kept)
            continue;
        if (out != name)
            memmove(out, name, len);
        out += len;
    }
    return (size_t)(out - start);
}

size_t tux_forward_trailers(const uint8_t *section, size_t len, uint8_t *out)
{
    static const char *const never[] = {
        "host", "trailer", "set-cookie", "content-type", "content-range", "content-encoding", "authorization",
        "www-authenticate", "cache-control", "expires", "location", "vary", "retry-after", "age",
    };
    const uint8_t *p = section, *end = section + len;
    uint8_t *start = out;
    while (end - p > 2) { /* what is left then is the blank line */
        const uint8_t *colon = memchr(p, ':', (size_t)(end - p));
        const uint8_t *line_end = memchr(p, '\n', (size_t)(end - p));
        if (colon == NULL || line_end == NULL || colon > line_end)
            break; /* the decoder lets none of these through */
        size_t name_len = (size_t)(colon - p), line_len = (size_t)(line_end + 1 - p);
        uint8_t id = tux_response_field_id(p, name_len);
        bool kept = id == TUX_RESPONSE_OTHER;
        for (size_t i = 0; kept && i < sizeof never / sizeof *never; i++)
            kept = !tux_line_equals(p, name_len, never[i]);
        if (kept) {
            memmove(out, p, line_len);
            out += line_len;
        }
        p = line_end + 1;
    }
    return (size_t)(out - start);
}

bool tux_forward_upgrades(const uint8_t *buf, const struct tux_response *response, const struct tux_forward_head *request)
{
    uint32_t n = 0;
    bool same = false, connection = false;
    for (uint32_t i = 0; i < response->n_fields; i++) {
        const struct tux_response_field *field = &response->fields[i];
        const uint8_t *value = buf + field->value.off;
        if (field->id == TUX_RESPONSE_UPGRADE) {
            n++;
            same = field->value.len == request->protocol_len &&
                   same_name(value, (const uint8_t *)request->protocol, field->value.len);
        } else if (field->id == TUX_RESPONSE_CONNECTION) {
            connection |= tux_line_lists(value, value + field->value.len, "upgrade");
        }
    }
    return request->upgrade && response->status == 101 && n == 1 && same && connection;
}
