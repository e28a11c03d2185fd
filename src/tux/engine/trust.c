/* SPDX-License-Identifier: MIT */
#include "trust.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "line.h"
#include "scan.h"

#define BIT(field) (1u << (field))

/* -- networks ---------------------------------------------------------------------------------------------------- */

struct network {
    struct tux_address base;
    uint32_t bits;
};

struct tux_trust {
    bool unix_sockets;
    uint32_t n;
    struct network networks[];
};

static bool in_network(const struct network *network, const struct tux_address *address)
{
    uint32_t bytes = network->bits / 8, rest = network->bits % 8;
    return address->kind == network->base.kind && memcmp(address->bytes, network->base.bytes, bytes) == 0 &&
           (rest == 0 || (address->bytes[bytes] ^ network->base.bytes[bytes]) >> (8 - rest) == 0);
}

static bool parse_network(const char *text, struct network *network)
{
    const uint8_t *begin = (const uint8_t *)text;
    const char *slash = strchr(text, '/');
    size_t len = slash == NULL ? strlen(text) : (size_t)(slash - text);
    uint64_t bits;
    if (!tux_address_parse(begin, len, &network->base))
        return false;
    /* IPv4 in the form of IPv6 has become IPv4, and its 96 bits in front of it are no part of the prefix any more. */
    uint32_t hidden = network->base.kind == TUX_ADDRESS_V4 && memchr(text, ':', len) != NULL ? 96 : 0;
    uint32_t most = network->base.kind == TUX_ADDRESS_V4 ? 32 : 128;
    network->bits = most;
    if (slash == NULL)
        return true;
    if (!tux_line_number((const uint8_t *)slash + 1, strlen(slash + 1), &bits) || bits < hidden || bits - hidden > most)
        return false;
    network->bits = (uint32_t)bits - hidden;
    struct network zeros = *network; /* the same network, without what is behind its prefix */
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t kept = network->bits <= i * 8 ? 0 : network->bits - i * 8;
        if (kept < 8)
            zeros.base.bytes[i] &= (uint8_t)(0xff00u >> kept);
    }
    return memcmp(zeros.base.bytes, network->base.bytes, 16) == 0;
}

struct tux_trust *tux_trust_new(const char *const *texts, uint32_t n)
{
    if (n > TUX_MAX_NETWORKS) {
        errno = EINVAL;
        return NULL;
    }
    struct tux_trust *trust = calloc(1, sizeof *trust + n * sizeof trust->networks[0]);
    if (trust == NULL)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(texts[i], "unix") == 0) {
            trust->unix_sockets = true;
        } else if (!parse_network(texts[i], &trust->networks[trust->n++])) {
            free(trust);
            errno = EINVAL;
            return NULL;
        }
    }
    return trust;
}

void tux_trust_free(struct tux_trust *trust)
{
    free(trust);
}

bool tux_trust_has(const struct tux_trust *trust, const struct tux_address *address)
{
    if (trust == NULL)
        return false;
    if (address->kind == TUX_ADDRESS_UNIX)
        return trust->unix_sockets;
    for (uint32_t i = 0; i < trust->n; i++)
        if (in_network(&trust->networks[i], address))
            return true;
    return false;
}

/* -- lists from the right ---------------------------------------------------------------------------------------- */

/* The members of a list that all fields of one name make up together, from the last to the first. */
struct walk {
    const uint8_t *buf;
    const struct tux_head *head;
    uint8_t id;
    bool quoted;                /* commas in quoted strings are no separators */
    uint32_t field;             /* those from this one on are done */
    const uint8_t *begin, *end; /* what is left of the value */
};

static struct walk walk_of(const uint8_t *buf, const struct tux_head *head, uint8_t id)
{
    return (struct walk){
        .buf = buf, .head = head, .id = id, .quoted = id == TUX_FIELD_FORWARDED, .field = head->n_fields};
}

/* Where the last member of [begin, end) begins. Quotes are counted from the right as well: what a client has sent cannot reach
 * into what a proxy has put behind it, with a quote that it leaves open. A backslash makes the member malformed, later. */
static const uint8_t *last_member(const uint8_t *begin, const uint8_t *end, bool quoted)
{
    bool inside = false;
    const uint8_t *p = end;
    for (; p > begin; p--) {
        if (p[-1] == ',' && !inside)
            break;
        inside ^= quoted && p[-1] == '"';
    }
    return p;
}

/* False: there is none any more. Empty ones are passed over. */
static bool walk_back(struct walk *walk, const uint8_t **member, size_t *len)
{
    for (;;) { /* ends: each round takes a byte from the value, or a field */
        while (walk->begin == walk->end) {
            if (walk->field == 0)
                return false;
            const struct tux_head_field *field = &walk->head->fields[--walk->field];
            if (field->id == walk->id) {
                walk->begin = walk->buf + field->value.off;
                walk->end = walk->begin + field->value.len;
            }
        }
        const uint8_t *from = last_member(walk->begin, walk->end, walk->quoted), *to = walk->end;
        walk->end = from > walk->begin ? from - 1 : from; /* without the comma */
        while (from < to && tux_byte_is_space(*from))
            from++;
        while (to > from && tux_byte_is_space(to[-1]))
            to--;
        *member = from;
        *len = (size_t)(to - from);
        if (*len > 0)
            return true;
    }
}

/* -- Forwarded --------------------------------------------------------------------------------------------------- */

struct element {
    struct tux_span node, proto, host; /* into the buffer; len 0: not there */
};

/* The value of a parameter, a token or a quoted string without escapes: in none that counts is there a need for them. */
static const uint8_t *read_value(const uint8_t *buf, const uint8_t *p, const uint8_t *end, struct tux_span *value)
{
    const uint8_t *from = p;
    if (p < end && *p == '"') {
        from = ++p;
        p = tux_scan_class(p, end, TUX_BYTE_QUOTED);
        *value = (struct tux_span){(uint32_t)(from - buf), (uint32_t)(p - from)};
        return p < end && *p == '"' ? p + 1 : NULL;
    }
    /* Colons and brackets are no part of a token, but many write addresses and hosts without quotes. */
    while (p < end && (tux_byte_is(*p, TUX_BYTE_TOKEN) || *p == ':' || *p == '[' || *p == ']'))
        p++;
    *value = (struct tux_span){(uint32_t)(from - buf), (uint32_t)(p - from)};
    return p > from ? p : NULL;
}

/* One forwarded-element, RFC 7239 section 4. False: it is malformed, or says something twice. */
static bool parse_element(const uint8_t *buf, const uint8_t *p, size_t len, struct element *element)
{
    const uint8_t *end = p + len;
    *element = (struct element){.node = {0, 0}};
    while (p < end) {
        const uint8_t *name = p;
        struct tux_span value = {0, 0}, *place = NULL;
        p = tux_scan_class(p, end, TUX_BYTE_TOKEN);
        size_t name_len = (size_t)(p - name);
        if (name_len > 0) { /* parameters may be missing between semicolons */
            if (p == end || *p != '=' || (p = read_value(buf, p + 1, end, &value)) == NULL)
                return false;
            if (tux_line_equals(name, name_len, "for"))
                place = &element->node;
            else if (tux_line_equals(name, name_len, "proto"))
                place = &element->proto;
            else if (tux_line_equals(name, name_len, "host"))
                place = &element->host;
        }
        if (place != NULL) {
            if (place->off != 0)
                return false;
            *place = value;
        }
        while (p < end && tux_byte_is_space(*p))
            p++;
        if (p == end)
            break;
        if (*p++ != ';')
            return false;
        while (p < end && tux_byte_is_space(*p))
            p++;
    }
    return true;
}

/* -- who asked --------------------------------------------------------------------------------------------------- */

/* "ws" and "wss" are what some write for the requests of a WebSocket. */
static void set_scheme(struct tux_client *client, const uint8_t *text, size_t len)
{
    client->secure = tux_line_equals(text, len, "https") || tux_line_equals(text, len, "wss");
}

static void set_host(struct tux_client *client, const uint8_t *buf, const uint8_t *text, size_t len)
{
    if (tux_host_is_valid(text, text + len, false))
        client->host = (struct tux_span){(uint32_t)(text - buf), (uint32_t)len};
}

/* The member that was written along with the client's address: as far from the right as that. A proxy may have replaced the
 * whole list, which is then shorter. */
static bool find_member(const uint8_t *buf, const struct tux_head *head, uint8_t id, uint32_t distance,
                        const uint8_t **member, size_t *len)
{
    struct walk walk = walk_of(buf, head, id);
    bool found = false;
    for (uint32_t i = 0; i <= distance && walk_back(&walk, member, len); i++)
        found = true;
    return found;
}

static void read_x_forwarded(const struct tux_trust *trust, const uint8_t *buf, const struct tux_head *head,
                             struct tux_client *client)
{
    struct walk walk = walk_of(buf, head, TUX_FIELD_X_FORWARDED_FOR);
    struct tux_address address;
    const uint8_t *member;
    size_t len;
    uint32_t distance = 0;
    for (uint32_t i = 0; i < TUX_MAX_FORWARDED && walk_back(&walk, &member, &len); i++) {
        distance = i;
        if (!tux_address_parse_node(member, len, &address))
            break;
        client->address = address;
        if (!tux_trust_has(trust, &address))
            break;
    }
    if (find_member(buf, head, TUX_FIELD_X_FORWARDED_PROTO, distance, &member, &len))
        set_scheme(client, member, len);
    if (find_member(buf, head, TUX_FIELD_X_FORWARDED_HOST, distance, &member, &len))
        set_host(client, buf, member, len);
}

static void read_forwarded(const struct tux_trust *trust, const uint8_t *buf, const struct tux_head *head,
                           struct tux_client *client)
{
    struct walk walk = walk_of(buf, head, TUX_FIELD_FORWARDED);
    struct tux_address address;
    const uint8_t *member;
    size_t len;
    for (uint32_t i = 0; i < TUX_MAX_FORWARDED && walk_back(&walk, &member, &len); i++) {
        struct element element;
        if (!parse_element(buf, member, len, &element))
            break;
        if (element.proto.len > 0)
            set_scheme(client, buf + element.proto.off, element.proto.len);
        if (element.host.len > 0)
            set_host(client, buf, buf + element.host.off, element.host.len);
        if (!tux_address_parse_node(buf + element.node.off, element.node.len, &address))
            break;
        client->address = address;
        if (!tux_trust_has(trust, &address))
            break;
    }
}

void tux_trust_client(const struct tux_trust *trust, const struct tux_address *peer, const uint8_t *buf,
                      const struct tux_head *head, struct tux_client *client)
{
    *client = (struct tux_client){.address = *peer, .believed = tux_trust_has(trust, peer)};
    if (!client->believed || (head->seen & TUX_FORWARDED_FIELDS) == 0)
        return;
    if ((head->seen & BIT(TUX_FIELD_FORWARDED)) != 0 && (head->seen & BIT(TUX_FIELD_X_FORWARDED_FOR)) == 0)
        read_forwarded(trust, buf, head, client);
    else
        read_x_forwarded(trust, buf, head, client);
}

/* -- what the next server is told -------------------------------------------------------------------------------- */

static uint8_t *put(uint8_t *out, const void *bytes, size_t len)
{
    memcpy(out, bytes, len);
    return out + len;
}

#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static uint8_t *put_address(uint8_t *out, const struct tux_address *address)
{
    char text[TUX_ADDRESS_TEXT_BYTES];
    return put(out, text, tux_address_format(address, text));
}

static bool is_number(const struct tux_address *address)
{
    return address->kind == TUX_ADDRESS_V4 || address->kind == TUX_ADDRESS_V6;
}

static bool same_address(const struct tux_address *a, const struct tux_address *b)
{
    return a->kind == b->kind && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* The list so far: all values, each with a comma behind it. */
static uint8_t *put_list(uint8_t *out, const uint8_t *buf, const struct tux_head *head, uint8_t id)
{
    for (uint32_t i = 0; i < head->n_fields; i++) {
        const struct tux_head_field *field = &head->fields[i];
        if (field->id != id || field->value.len == 0)
            continue;
        out = put(out, buf + field->value.off, field->value.len);
        out = PUT(out, ", ");
    }
    return out;
}

/* End the list: with this address, or without its last comma. Nothing is written when it is empty. */
static uint8_t *end_list(uint8_t *field, uint8_t *list, uint8_t *out, const struct tux_address *address)
{
    if (is_number(address))
        out = put_address(out, address);
    else if (out > list)
        out -= 2;
    return out == list ? field : PUT(out, "\r\n");
}

size_t tux_trust_put(const struct tux_address *peer, const uint8_t *buf, const struct tux_head *head,
                     const struct tux_client *client, bool forwarded, uint8_t *out)
{
    uint8_t *start = out, *list = PUT(out, "X-Forwarded-For: ");
    struct tux_span host = client->host.len > 0 ? client->host : head->host;
    bool has_list = client->believed && (head->seen & BIT(TUX_FIELD_X_FORWARDED_FOR)) != 0;
    uint8_t *end = list;
    if (has_list) {
        end = put_list(end, buf, head, TUX_FIELD_X_FORWARDED_FOR);
    } else if (is_number(&client->address) && !same_address(&client->address, peer)) { /* by way of Forwarded */
        end = put_address(end, &client->address);
        end = PUT(end, ", ");
    }
    out = end_list(out, list, end, peer);
    out = client->secure ? PUT(out, "X-Forwarded-Proto: https\r\n") : PUT(out, "X-Forwarded-Proto: http\r\n");
    if (host.len > 0) {
        out = PUT(out, "X-Forwarded-Host: ");
        out = put(out, buf + host.off, host.len);
        out = PUT(out, "\r\n");
    }
    if (!forwarded)
        return (size_t)(out - start);
    out = PUT(out, "Forwarded: ");
    if (client->believed && !has_list)
        out = put_list(out, buf, head, TUX_FIELD_FORWARDED);
    /* Where X-Forwarded-For has told who it is, this is all that is known of the way. */
    const struct tux_address *from = has_list ? &client->address : peer;
    if (from->kind == TUX_ADDRESS_V6) {
        out = PUT(out, "for=\"[");
        out = put_address(out, from);
        out = PUT(out, "]\"");
    } else {
        out = PUT(out, "for=");
        out = from->kind == TUX_ADDRESS_V4 ? put_address(out, from) : PUT(out, "unknown");
    }
    if (host.len > 0) {
        out = PUT(out, ";host=\"");
        out = put(out, buf + host.off, host.len);
        out = PUT(out, "\"");
    }
    out = client->secure ? PUT(out, ";proto=https\r\n") : PUT(out, ";proto=http\r\n");
    return (size_t)(out - start);
}
