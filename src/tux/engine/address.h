/* SPDX-License-Identifier: MIT */
/* Addresses of peers and clients: as text and as bytes, with a port if it is known. */
#ifndef TUX_ADDRESS_H
#define TUX_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define TUX_ADDRESS_TEXT_BYTES 46u /* INET6_ADDRSTRLEN: the longest IPv6 address with a NUL */

enum tux_address_kind {
    TUX_ADDRESS_NONE, /* not known */
    TUX_ADDRESS_UNIX, /* a unix socket, whose text is "unix:" */
    TUX_ADDRESS_V4,   /* also of ::ffff:a.b.c.d */
    TUX_ADDRESS_V6,
};

struct tux_address {
    uint8_t kind; /* enum tux_address_kind */
    uint16_t port; /* host order; 0: not known */
    uint8_t bytes[16]; /* network order; IPv4: the first four; what is not used is 0 */
};

/* Strictly four decimal numbers, or IPv6 without brackets and scope. The port becomes 0. */
bool tux_address_parse(const uint8_t *text, size_t len, struct tux_address *address);
/* An address with or without a port: "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80". A
 * port may be hidden (RFC 7239 section 6.3): "192.0.2.1:_gazonk" has port 0. */
bool tux_address_parse_node(const uint8_t *text, size_t len, struct tux_address *address);
/* From the bytes of a socket address: 4 or 16. */
void tux_address_set(struct tux_address *address, const void *bytes, size_t len, uint16_t port);
/* Families other than those of IP count as unix sockets. */
void tux_address_of_socket(const struct sockaddr_storage *from, struct tux_address *address);
/* The usual text without the port, and its length: 0 for NONE. */
uint8_t tux_address_format(const struct tux_address *address, char text[TUX_ADDRESS_TEXT_BYTES]);

#endif
