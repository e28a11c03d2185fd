/* SPDX-License-Identifier: MIT */
/* Who asked: the peer of the connection, or, if the peer is a proxy that is trusted, whom it says. Pure functions.
 *
 * X-Forwarded-For is read from the right, where the nearest proxy has written: addresses of trusted proxies are passed over, the
 * first other one is the client. What is left of it is the client's own word, and nobody's business. If X-Forwarded-For is
 * there, Forwarded (RFC 7239) is not looked at: nearly every proxy writes the former, and few remove the latter when a client
 * has sent it. Only without it Forwarded counts, and then X-Forwarded-Proto and -Host do not. Where an address is hidden or
 * makes no sense the walk ends: the client is then the proxy that said so. */
#ifndef TUX_TRUST_H
#define TUX_TRUST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "head.h"

#define TUX_MAX_NETWORKS 1024u  /* of trusted peers: those of the large content networks have some dozen each */
#define TUX_MAX_FORWARDED 32u   /* proxies that are followed: more in a row are a loop */

/* Bits of the fields that a proxy may tell about the client in. */
#define TUX_FORWARDED_FIELDS                                                                                           \
    ((1u << TUX_FIELD_FORWARDED) | (1u << TUX_FIELD_X_FORWARDED_FOR) | (1u << TUX_FIELD_X_FORWARDED_PROTO) |           \
     (1u << TUX_FIELD_X_FORWARDED_HOST))

struct tux_trust; /* the networks of trusted peers; immutable */

/* texts: "10.0.0.0/8", "::1", "unix". NULL with errno EINVAL (one of them is none of these; bits behind the prefix count as
 * that, too) or ENOMEM. */
struct tux_trust *tux_trust_new(const char *const *texts, uint32_t n);
void tux_trust_free(struct tux_trust *trust);
/* NULL trusts nobody. */
bool tux_trust_has(const struct tux_trust *trust, const struct tux_address *address);

/* What is known about the sender of a request. */
struct tux_client {
    struct tux_address address;
    bool believed;         /* the peer is trusted: its fields about the client may be passed on */
    bool secure;           /* the client used https */
    struct tux_span host;  /* what the client asked for, by a trusted proxy's word; len 0: it said nothing */
};

/* `head` has spans into `buf`, and so has client->host. */
void tux_trust_client(const struct tux_trust *trust, const struct tux_address *peer, const uint8_t *buf,
                      const struct tux_head *head, struct tux_client *client);

/* Is this a field in which a peer that nobody trusts tells about the client? Then it must not be passed on. */
static inline bool tux_client_hides(const struct tux_client *client, uint8_t field_id)
{
    return !client->believed && ((TUX_FORWARDED_FIELDS >> field_id) & 1u) != 0;
}

/* Write the fields that tell the next server about the client: X-Forwarded-For, -Proto and -Host, and Forwarded if it is asked
 * for. What a trusted peer said is continued, the word of others is replaced. Returns the number of bytes: at
 * most those of the fields in `head` that are continued, twice its host, and 400. */
size_t tux_trust_put(const struct tux_address *peer, const uint8_t *buf, const struct tux_head *head,
                     const struct tux_client *client, bool forwarded, uint8_t *out);

#endif
