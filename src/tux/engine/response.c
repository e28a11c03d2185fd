/* SPDX-License-Identifier: MIT */
#include "response.h"

#include <string.h>

#include "line.h"
#include "scan.h"

#define BIT(field) (1u << (field))
#define VERSION_BYTES 8u     /* "HTTP/1.1" */
#define STATUS_BYTES 4u      /* SP, three digits */
#define MIN_STATUS 100u
#define MAX_STATUS 599u      /* RFC 9110 section 15: others are invalid */

/* One scan under way. Positions move only forward; end is the end of the bytes that may be read. */
struct scanner {
    const uint8_t *buf, *p, *end;
    struct tux_response *response;
    bool close, keep_alive; /* what Connection says */
    bool chunked;
};

static enum tux_outcome malformed(struct tux_response *response, const char *reason)
{
    response->error_reason = reason;
    return TUX_MALFORMED;
}

static struct tux_span span_of(const struct scanner *s, const uint8_t *from, const uint8_t *to)
{
    return (struct tux_span){(uint32_t)(from - s->buf), (uint32_t)(to - from)};
}

uint8_t tux_response_field_id(const uint8_t *name, size_t len)
{
    static const struct {
        const char *name;
        uint8_t id;
    } names[] = {
        {"te", TUX_RESPONSE_HOP},
        {"date", TUX_RESPONSE_DATE},
        {"server", TUX_RESPONSE_SERVER},
        {"trailer", TUX_RESPONSE_TRAILER},
        {"upgrade", TUX_RESPONSE_UPGRADE},
        {"connection", TUX_RESPONSE_CONNECTION},
        {"keep-alive", TUX_RESPONSE_HOP},
        {"x-sendfile", TUX_RESPONSE_X_SENDFILE},
        {"content-length", TUX_RESPONSE_CONTENT_LENGTH},
        {"x-accel-redirect", TUX_RESPONSE_X_ACCEL_REDIRECT},
        {"proxy-connection", TUX_RESPONSE_HOP},
        {"transfer-encoding", TUX_RESPONSE_TRANSFER_ENCODING},
        {"proxy-authenticate", TUX_RESPONSE_HOP},
        {"proxy-authentication-info", TUX_RESPONSE_HOP},
    };
    /* Where the names of a length begin in the table; so most names meet one comparison, or none. */
    static const uint8_t first[] = {
        [2] = 1, [4] = 2, [6] = 3, [7] = 4, [10] = 6, [14] = 9, [16] = 10, [17] = 12, [18] = 13, [25] = 14,
    };
    if (len >= sizeof first || first[len] == 0)
        return TUX_RESPONSE_OTHER;
    for (size_t i = first[len] - 1u; i < sizeof names / sizeof *names && strlen(names[i].name) == len; i++)
        if (tux_line_equals(name, len, names[i].name))
            return names[i].id;
    return TUX_RESPONSE_OTHER;
}

/* HTTP-version SP status-code [ SP reason-phrase ] CRLF. The space after the code is missing in some old servers when there
 * is no phrase; nothing else could be meant. */
static enum tux_outcome scan_status_line(struct scanner *s)
{
    static const char shape[VERSION_BYTES + STATUS_BYTES + 1] = "HTTP/1.0 000";
    struct tux_response *response = s->response;
    const uint8_t *p = s->p;

    for (size_t i = 0; i < sizeof shape - 1; i++) {
        if (p + i == s->end)
            return TUX_MORE;
        if (shape[i] == '0' ? !tux_byte_is_digit(p[i]) : p[i] != (uint8_t)shape[i])
            return malformed(response, "status line does not begin with HTTP/1.d and three digits");
    }
    response->minor = p[7] == '0' ? 0 : 1;
    response->status = (uint16_t)((p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0'));
    if (response->status < MIN_STATUS || response->status > MAX_STATUS)
        return malformed(response, "status is not between 100 and 599");
    p += sizeof shape - 1;
    const uint8_t *reason = p < s->end && *p == ' ' ? p + 1 : p;
    const uint8_t *line_end = tux_scan_text(reason, s->end);
    if (p < s->end && *p != ' ' && *p != '\r')
        return malformed(response, "status is followed by neither a space nor the end of the line");
    if (line_end == s->end)
        return TUX_MORE;
    if (*line_end != '\r')
        return malformed(response, "reason phrase holds a control");
    if (line_end + 1 == s->end)
        return TUX_MORE;
    if (line_end[1] != '\n')
        return malformed(response, "CR without LF");
    response->reason = span_of(s, reason, line_end);
    s->p = line_end + 2;
    return TUX_DONE;
}

/* The fields that frame the response or steer the connection. */
static enum tux_outcome interpret(struct scanner *s, uint8_t id, const uint8_t *value, size_t len, bool repeated)
{
    struct tux_response *response = s->response;
    switch (id) {
    case TUX_RESPONSE_CONNECTION:
        s->close |= tux_line_lists(value, value + len, "close");
        s->keep_alive |= tux_line_lists(value, value + len, "keep-alive");
        break;
    case TUX_RESPONSE_TRANSFER_ENCODING:
        if (repeated || response->minor == 0 || !tux_line_equals(value, len, "chunked"))
            return malformed(response, "Transfer-Encoding is not one \"chunked\" in HTTP/1.1");
        s->chunked = true;
        break;
    case TUX_RESPONSE_CONTENT_LENGTH:
        if (repeated || !tux_line_number(value, len, &response->content_length))
            return malformed(response, "Content-Length is not one decimal number");
        response->has_length = true;
        break;
    default:
        break;
    }
    return TUX_DONE;
}

/* *( field-line CRLF ) CRLF. Leaves p after the blank line. */
static enum tux_outcome scan_fields(struct scanner *s)
{
    struct tux_response *response = s->response;
    const uint8_t *p = s->p, *end = s->end;

    for (;; response->n_fields++) {
        const uint8_t *name_end = tux_scan_name(p, end);
        if (name_end == end)
            return TUX_MORE;
        if (name_end == p && *p == '\r')
            break;
        if (*name_end != ':' || name_end == p)
            return malformed(response, "a field name is not a token followed by a colon");
        if (response->n_fields == TUX_MAX_RESPONSE_FIELDS)
            return malformed(response, "too many field lines");
        const uint8_t *value = name_end + 1;
        while (value < end && tux_byte_is_space(*value))
            value++;
        const uint8_t *line_end = tux_scan_text(value, end);
        if (end - line_end < 2)
            return line_end < end && *line_end != '\r' ? malformed(response, "a field value holds a control") : TUX_MORE;
        if (line_end[0] != '\r' || line_end[1] != '\n')
            return malformed(response, "a field value holds a control");
        const uint8_t *value_end = line_end;
        while (value_end > value && tux_byte_is_space(value_end[-1]))
            value_end--;
        uint8_t id = tux_response_field_id(p, (size_t)(name_end - p));
        bool repeated = (response->seen & BIT(id)) != 0;
        response->fields[response->n_fields] =
            (struct tux_response_field){span_of(s, p, name_end), span_of(s, value, value_end), id};
        if (id != TUX_RESPONSE_OTHER &&
            interpret(s, id, value, (size_t)(value_end - value), repeated) == TUX_MALFORMED)
            return TUX_MALFORMED;
        response->seen |= BIT(id);
        p = line_end + 2;
    }
    if (end - p < 2)
        return TUX_MORE;
    if (p[1] != '\n')
        return malformed(response, "CR without LF");
    s->p = p + 2;
    return TUX_DONE;
}

/* RFC 9112 section 6.3. */
static uint8_t framing_of(const struct scanner *s, bool is_head)
{
    const struct tux_response *response = s->response;
    if (is_head || response->status < 200 || response->status == 204 || response->status == 304)
        return TUX_FRAMING_NONE;
    if (s->chunked)
        return TUX_FRAMING_CHUNKED;
    return response->has_length ? TUX_FRAMING_LENGTH : TUX_FRAMING_CLOSE;
}

static enum tux_outcome scan_whole(const uint8_t *buf, size_t len, bool is_head, struct tux_response *response)
{
    struct scanner s = {.buf = buf, .p = buf, .end = buf + len, .response = response};
    response->has_length = false;
    response->content_length = 0;
    response->seen = response->n_fields = 0;
    enum tux_outcome outcome = scan_status_line(&s);
    if (outcome == TUX_DONE)
        outcome = scan_fields(&s);
    if (outcome != TUX_DONE)
        return outcome;
    if (s.chunked && response->has_length)
        return malformed(response, "Transfer-Encoding and Content-Length together");
    response->framing = framing_of(&s, is_head);
    response->keep_alive = !s.close && (response->minor == 1 || s.keep_alive) && response->framing != TUX_FRAMING_CLOSE;
    response->length = (uint32_t)(s.p - buf);
    return TUX_DONE;
}

/* Does the blank line lie in buf[seen_len..len)? Then the head is scanned as a whole; so many small pieces cost no more
 * than one look at each byte. */
static bool has_end(const uint8_t *buf, size_t len, size_t seen_len)
{
    const uint8_t *p = buf + (seen_len > 3 ? seen_len - 3 : 0);
    return len >= 4 && memmem(p, (size_t)(buf + len - p), "\r\n\r\n", 4) != NULL;
}

enum tux_outcome tux_response_scan(const uint8_t *buf, size_t len, size_t seen_len, bool is_head,
                                   struct tux_response *response)
{
    size_t visible = len < TUX_MAX_RESPONSE_HEAD_BYTES ? len : TUX_MAX_RESPONSE_HEAD_BYTES;
    enum tux_outcome outcome = TUX_MORE;

    if (seen_len > visible)
        seen_len = visible;
    if (seen_len == 0 || has_end(buf, visible, seen_len))
        outcome = scan_whole(buf, visible, is_head, response);
    if (outcome == TUX_MORE && len >= TUX_MAX_RESPONSE_HEAD_BYTES)
        return malformed(response, "head is too long");
    return outcome;
}
