/* SPDX-License-Identifier: MIT */
/* What is passed on, and how: the head of a request is written anew for the upstream, from what was parsed and nothing else;
 * fields of responses are filtered. Pure functions. */
#ifndef TUX_FORWARD_H
#define TUX_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "head.h"
#include "response.h"
#include "trust.h"

/* Room that every head fits in: Host may come from the target and is told three times more; each line may grow by one space. */
#define TUX_FORWARD_HEAD_BYTES (4u * TUX_MAX_HEAD_BYTES + 1536u)
#define TUX_MAX_HOST_BYTES 255u         /* of a Host that the configuration sets, or that names a server */
#define TUX_MAX_CONNECTION_OPTIONS 32u  /* members of Connection: more are an attempt to make us search; 400 */
#define TUX_MAX_UPGRADE_BYTES 64u       /* a protocol's name; "websocket" has 9 */

/* What a route says about its requests. */
struct tux_forward_rules {
    char host[TUX_MAX_HOST_BYTES + 1]; /* Host for the upstream; empty: the client's */
    uint32_t host_len;
    bool underscores; /* pass fields with "_" in their names: to CGI-like servers they equal those with "-" */
    bool upgrade;     /* pass requests for an upgrade on as such */
    bool forwarded;   /* add Forwarded, beside X-Forwarded-For and its like */
};

/* Where a request came from, and where it goes. */
struct tux_forward_way {
    const struct tux_address *peer;  /* of the connection that it came by */
    const struct tux_client *client; /* what is known about its sender */
    const char *server;              /* the server's authority */
    uint32_t server_len;
    bool close;                      /* the upstream is to close the connection after its response */
};

/* How the head came out. */
struct tux_forward_head {
    uint32_t length;    /* bytes written */
    bool expect;        /* has Expect: 100-continue */
    bool upgrade;       /* asks for a protocol, whose lower-case name is in `protocol` */
    uint8_t protocol_len;
    char protocol[TUX_MAX_UPGRADE_BYTES];
};

/* Write the head of a scanned request (`head` has spans into `buf`) to out[0..size). Returns 0 and fills *result, or the
 * status to refuse the request with: 400, 417, 431 (no room), or 501 (CONNECT, TRACE). */
uint16_t tux_forward_request(const uint8_t *buf, const struct tux_head *head, const struct tux_forward_rules *rules,
                             const struct tux_forward_way *way, uint8_t *out, size_t size,
                             struct tux_forward_head *result);

/* Write the field lines of a scanned response that are not meant for us alone to `out`, without Content-Length and
 * Transfer-Encoding, too. Returns their length. `out` has room for response->length bytes, and may be where the first field is. */
size_t tux_forward_response(const uint8_t *buf, const struct tux_response *response, uint8_t *out);

/* The same for the trailer section at section[0..len), which ends with its blank line and was checked by the chunked
 * decoder: what would frame, route or authorise a message has no place there. */
size_t tux_forward_trailers(const uint8_t *section, size_t len, uint8_t *out);

/* Does a 101 response switch to this protocol, and no other? */
bool tux_forward_upgrades(const uint8_t *buf, const struct tux_response *response, const struct tux_forward_head *request);

#endif
