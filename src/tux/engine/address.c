/* SPDX-License-Identifier: MIT */
#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "line.h"
#include "scan.h"

#define MAX_PORT_DIGITS 5u

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}; /* ::ffff:0:0/96, RFC 4291 section 2.5.5.2 */

void tux_address_set(struct tux_address *address, const void *bytes, size_t len, uint16_t port)
{
    *address = (struct tux_address){.kind = TUX_ADDRESS_V4, .port = port};
    if (len == 16 && memcmp(bytes, mapped, sizeof mapped) == 0) {
        memcpy(address->bytes, (const uint8_t *)bytes + sizeof mapped, 4);
    } else if (len == 16) {
        address->kind = TUX_ADDRESS_V6;
        memcpy(address->bytes, bytes, 16);
    } else {
        memcpy(address->bytes, bytes, 4);
    }
}

void tux_address_of_socket(const struct sockaddr_storage *from, struct tux_address *address)
{
    *address = (struct tux_address){.kind = TUX_ADDRESS_UNIX};
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)from;
        tux_address_set(address, &in->sin_addr, 4, ntohs(in->sin_port));
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
        tux_address_set(address, &in6->sin6_addr, 16, ntohs(in6->sin6_port));
    }
}

bool tux_address_parse(const uint8_t *text, size_t len, struct tux_address *address)
{
    char copy[TUX_ADDRESS_TEXT_BYTES];
    uint8_t bytes[16];
    bool six = false;
    if (len == 0 || len >= sizeof copy)
        return false;
    for (size_t i = 0; i < len; i++) {
        six |= text[i] == ':';
        if (!tux_byte_is(text[i], TUX_BYTE_HEX) && text[i] != '.' && text[i] != ':')
            return false;
    }
    memcpy(copy, text, len);
    copy[len] = 0;
    if (inet_pton(six ? AF_INET6 : AF_INET, copy, bytes) != 1)
        return false;
    tux_address_set(address, bytes, six ? 16 : 4, 0);
    return true;
}

/* Digits, or the name of a hidden port. */
static bool parse_port(const uint8_t *text, size_t len, uint16_t *port)
{
    uint32_t number = 0;
    *port = 0;
    if (len > 1 && text[0] == '_')
        return tux_scan_class(text, text + len, TUX_BYTE_TOKEN) == text + len;
    if (len == 0 || len > MAX_PORT_DIGITS)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!tux_byte_is_digit(text[i]))
            return false;
        number = number * 10 + (uint32_t)(text[i] - '0');
    }
    *port = (uint16_t)number;
    return number <= UINT16_MAX;
}

bool tux_address_parse_node(const uint8_t *text, size_t len, struct tux_address *address)
{
    const uint8_t *end = text + len, *colon = NULL;
    if (len == 0)
        return false;
    if (text[0] == '[') {
        const uint8_t *bracket = memchr(text, ']', len);
        if (bracket == NULL || memchr(text, ':', (size_t)(bracket - text)) == NULL ||
            !tux_address_parse(text + 1, (size_t)(bracket - text) - 1, address))
            return false;
        if (bracket + 1 == end)
            return true;
        colon = bracket + 1;
        if (*colon != ':')
            return false;
    } else {
        colon = memchr(text, ':', len);
        if (colon == NULL || memchr(colon + 1, ':', (size_t)(end - colon) - 1) != NULL)
            return tux_address_parse(text, len, address);
        if (!tux_address_parse(text, (size_t)(colon - text), address))
            return false;
    }
    return parse_port(colon + 1, (size_t)(end - colon) - 1, &address->port);
}

/* inet_ntop does it by printf; applications are told an address with each request. */
static uint8_t format_v4(const uint8_t bytes[4], char *text)
{
    uint8_t *out = (uint8_t *)text;
    for (int i = 0; i < 4; i++) {
        out = tux_line_put_decimal(out, bytes[i]);
        *out++ = i < 3 ? '.' : 0;
    }
    return (uint8_t)(out - (uint8_t *)text - 1);
}

uint8_t tux_address_format(const struct tux_address *address, char text[TUX_ADDRESS_TEXT_BYTES])
{
    if (address->kind == TUX_ADDRESS_V4)
        return format_v4(address->bytes, text);
    text[0] = 0;
    if (address->kind == TUX_ADDRESS_UNIX)
        memcpy(text, "unix:", sizeof "unix:");
    else if (address->kind != TUX_ADDRESS_NONE)
        inet_ntop(AF_INET6, address->bytes, text, TUX_ADDRESS_TEXT_BYTES);
    return (uint8_t)strlen(text);
}
