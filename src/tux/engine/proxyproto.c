/* SPDX-License-Identifier: MIT */
#include "proxyproto.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "line.h"

#define MAX_LINE_BYTES 107u /* of version 1, with its CRLF: section 2.1 */
#define FIXED_BYTES 16u     /* of version 2: signature, version and command, family and transport, length */
#define V4_BYTES 12u        /* of two addresses with their ports */
#define V6_BYTES 36u
#define UNIX_BYTES 216u

static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";
static const uint8_t word[6] = "PROXY ";

/* -- version 1 --------------------------------------------------------------------------------------------------- */

/* The next word, up to a space or the end of the line. Exactly one space is between two. */
static bool next_word(const uint8_t **p, const uint8_t *end, const uint8_t **text, size_t *len)
{
    const uint8_t *from = *p;
    if (from == NULL)
        return false;
    const uint8_t *to = memchr(from, ' ', (size_t)(end - from));
    *p = to == NULL ? NULL : to + 1;
    *text = from;
    *len = (size_t)((to == NULL ? end : to) - from);
    return *len > 0;
}

static bool next_address(const uint8_t **p, const uint8_t *end, bool six, struct tux_address *address)
{
    const uint8_t *text;
    size_t len;
    /* ::ffff:a.b.c.d has become an IPv4 address, but came as one of IPv6. */
    return next_word(p, end, &text, &len) && (memchr(text, ':', len) != NULL) == six &&
           tux_address_parse(text, len, address);
}

static bool next_port(const uint8_t **p, const uint8_t *end, uint16_t *port)
{
    const uint8_t *text;
    size_t len;
    uint64_t number;
    if (!next_word(p, end, &text, &len) || !tux_line_number(text, len, &number) || number > UINT16_MAX ||
        (len > 1 && text[0] == '0'))
        return false;
    *port = (uint16_t)number;
    return true;
}

static enum tux_outcome parse_line(const uint8_t *buf, size_t len, struct tux_proxy *proxy)
{
    const uint8_t *p = buf + sizeof word, *text, *end;
    size_t most = len < MAX_LINE_BYTES ? len : MAX_LINE_BYTES;
    const uint8_t *cr = memchr(buf, '\r', most);
    struct tux_address destination;
    uint16_t port;
    size_t text_len;
    const uint8_t *lf = memchr(buf, '\n', most);
    if (lf == NULL && most < MAX_LINE_BYTES && (cr == NULL || cr + 1 == buf + most))
        return TUX_MORE;
    end = cr;
    if (lf == NULL || cr == NULL || cr + 1 != lf || !next_word(&p, end, &text, &text_len))
        return TUX_MALFORMED;
    *proxy = (struct tux_proxy){.length = (uint32_t)(cr + 2 - buf), .version = 1};
    if (text_len == 7 && memcmp(text, "UNKNOWN", 7) == 0)
        return TUX_DONE; /* what follows on the line is to be ignored */
    bool six = text_len == 4 && memcmp(text, "TCP6", 4) == 0;
    if (!six && !(text_len == 4 && memcmp(text, "TCP4", 4) == 0))
        return TUX_MALFORMED;
    if (!next_address(&p, end, six, &proxy->source) || !next_address(&p, end, six, &destination) ||
        !next_port(&p, end, &proxy->source.port) || !next_port(&p, end, &port) || p != NULL)
        return TUX_MALFORMED;
    proxy->named = true;
    return TUX_DONE;
}

/* -- version 2 --------------------------------------------------------------------------------------------------- */

static uint16_t number_of(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static enum tux_outcome parse_binary(const uint8_t *buf, size_t len, struct tux_proxy *proxy)
{
    static const uint16_t sizes[4] = {0, V4_BYTES, V6_BYTES, UNIX_BYTES};
    if (len > 12 && (buf[12] >> 4 != 2 || (buf[12] & 15) > 1))
        return TUX_MALFORMED;
    if (len > 13 && (buf[13] >> 4 > 3 || (buf[13] & 15) > 2))
        return TUX_MALFORMED;
    if (len < FIXED_BYTES)
        return TUX_MORE;
    unsigned family = buf[13] >> 4, transport = buf[13] & 15;
    uint32_t rest = number_of(buf + 14);
    bool local = (buf[12] & 15) == 0;
    /* For LOCAL all of it is to be ignored, the family, too. */
    if (FIXED_BYTES + rest > TUX_MAX_PROXY_BYTES || (!local && rest < sizes[family]))
        return TUX_MALFORMED;
    if (!local && transport == 2) /* datagrams: this is a stream */
        return TUX_MALFORMED;
    if (len < FIXED_BYTES + rest)
        return TUX_MORE;
    *proxy = (struct tux_proxy){.length = FIXED_BYTES + rest, .version = 2};
    if (local || transport == 0)
        return TUX_DONE;
    const uint8_t *p = buf + FIXED_BYTES;
    if (family == 1)
        tux_address_set(&proxy->source, p, 4, number_of(p + 8));
    else if (family == 2)
        tux_address_set(&proxy->source, p, 16, number_of(p + 32));
    proxy->named = family == 1 || family == 2;
    return TUX_DONE;
}

enum tux_outcome tux_proxy_parse(const uint8_t *buf, size_t len, struct tux_proxy *proxy)
{
    if (len == 0)
        return TUX_MORE;
    if (memcmp(buf, signature, len < sizeof signature ? len : sizeof signature) == 0)
        return len < sizeof signature ? TUX_MORE : parse_binary(buf, len, proxy);
    if (memcmp(buf, word, len < sizeof word ? len : sizeof word) == 0)
        return len < sizeof word ? TUX_MORE : parse_line(buf, len, proxy);
    return TUX_MALFORMED;
}

/* -- building ---------------------------------------------------------------------------------------------------- */

/* 4 or 16 bytes. */
static uint8_t *put_bytes(uint8_t *out, const struct tux_address *address, bool six)
{
    if (six && address->kind == TUX_ADDRESS_V4) {
        memset(out, 0, 10);
        memset(out + 10, 0xff, 2);
        memcpy(out + 12, address->bytes, 4);
    } else {
        memcpy(out, address->bytes, six ? 16 : 4);
    }
    return out + (six ? 16 : 4);
}

static uint8_t *put_port(uint8_t *out, uint16_t port)
{
    out[0] = (uint8_t)(port >> 8);
    out[1] = (uint8_t)port;
    return out + 2;
}

static size_t build_line(const struct tux_address *source, const struct tux_address *destination, bool six, uint8_t *out)
{
    char from[INET6_ADDRSTRLEN] = "", to[INET6_ADDRSTRLEN] = "", line[TUX_PROXY_BUILD_BYTES + 1];
    uint8_t bytes[2][16];
    put_bytes(bytes[0], source, six);
    put_bytes(bytes[1], destination, six);
    inet_ntop(six ? AF_INET6 : AF_INET, bytes[0], from, sizeof from);
    inet_ntop(six ? AF_INET6 : AF_INET, bytes[1], to, sizeof to);
    int len = snprintf(line, sizeof line, "PROXY TCP%c %s %s %u %u\r\n", six ? '6' : '4', from, to,
                       (unsigned)source->port, (unsigned)destination->port);
    memcpy(out, line, (size_t)len);
    return (size_t)len;
}

size_t tux_proxy_build(unsigned version, const struct tux_address *source, const struct tux_address *destination,
                       uint8_t *out)
{
    bool six = source->kind == TUX_ADDRESS_V6 || destination->kind == TUX_ADDRESS_V6;
    bool named = (source->kind == TUX_ADDRESS_V4 || source->kind == TUX_ADDRESS_V6) &&
                 (destination->kind == TUX_ADDRESS_V4 || destination->kind == TUX_ADDRESS_V6);
    if (version == 1 && named)
        return build_line(source, destination, six, out);
    if (version == 1) {
        static const char unknown[] = "PROXY UNKNOWN\r\n";
        memcpy(out, unknown, sizeof unknown - 1);
        return sizeof unknown - 1;
    }
    uint8_t *p = out;
    memcpy(p, signature, sizeof signature);
    p += sizeof signature;
    *p++ = named ? 0x21 : 0x20;
    *p++ = !named ? 0 : six ? 0x21 : 0x11;
    p = put_port(p, !named ? 0 : six ? V6_BYTES : V4_BYTES);
    if (named) {
        p = put_bytes(p, source, six);
        p = put_bytes(p, destination, six);
        p = put_port(p, source->port);
        p = put_port(p, destination->port);
    }
    return (size_t)(p - out);
}
