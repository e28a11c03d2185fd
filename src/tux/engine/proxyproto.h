/* SPDX-License-Identifier: MIT */
/* The PROXY protocol (haproxy.org, proxy-protocol.txt), versions 1 and 2: what a proxy says in front of the first byte of a
 * connection about whose connection it is. Pure functions. */
#ifndef TUX_PROXYPROTO_H
#define TUX_PROXYPROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "span.h"

/* A header of version 1 has at most 107 bytes, of version 2 at least 16 and, with addresses of unix sockets, 232. The rest is for
 * TLVs, which are passed over: a client certificate of usual size fits. Longer ones are malformed. */
#define TUX_MAX_PROXY_BYTES 4096u
#define TUX_PROXY_BUILD_BYTES 107u /* the longest that is built: version 1 with IPv6 */

struct tux_proxy {
    uint32_t length;           /* bytes of the header */
    uint8_t version;           /* 1 or 2 */
    bool named;                /* source is the client's address. Else the connection is the proxy's own (LOCAL: a health check),
                                  or it cannot say (UNKNOWN, and families that are no addresses) */
    struct tux_address source; /* V4 or V6, with its port */
};

/* DONE: *proxy is filled. MORE: the begin of a header. MALFORMED: it is none. Reads buf[0..len) only. */
enum tux_outcome tux_proxy_parse(const uint8_t *buf, size_t len, struct tux_proxy *proxy);

/* Write a header of version 1 or 2 to out[0..TUX_PROXY_BUILD_BYTES); its length. Where one of the two is no IP address it says
 * UNKNOWN or LOCAL. An IPv4 address beside one of IPv6 is written as ::ffff:a.b.c.d. */
size_t tux_proxy_build(unsigned version, const struct tux_address *source, const struct tux_address *destination,
                       uint8_t *out);

#endif
