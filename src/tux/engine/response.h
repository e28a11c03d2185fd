/* SPDX-License-Identifier: MIT */
/* The response head scanner: what an upstream sends, as strictly as requests are scanned (RFC 9112). What is doubtful is
 * malformed: two readings of one message are how responses get into the wrong hands. */
#ifndef TUX_RESPONSE_H
#define TUX_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bounds.h"
#include "span.h"

/* Where the body of a response ends (RFC 9112 section 6.3). */
enum tux_framing {
    TUX_FRAMING_NONE,    /* there is none, whatever the fields say: HEAD, 1xx, 204, 304 */
    TUX_FRAMING_LENGTH,  /* after content_length bytes */
    TUX_FRAMING_CHUNKED, /* where the chunked coding says */
    TUX_FRAMING_CLOSE,   /* with the connection */
};

/* Fields of responses that the engine knows by name. */
enum tux_response_field_id {
    TUX_RESPONSE_OTHER,
    TUX_RESPONSE_CONNECTION,
    TUX_RESPONSE_CONTENT_LENGTH,
    TUX_RESPONSE_TRANSFER_ENCODING,
    TUX_RESPONSE_UPGRADE,
    TUX_RESPONSE_DATE,
    TUX_RESPONSE_SERVER,
    TUX_RESPONSE_TRAILER,
    TUX_RESPONSE_HOP,              /* meant for the next hop alone: Keep-Alive, Proxy-Connection, TE, Proxy-Authenticate */
    TUX_RESPONSE_X_ACCEL_REDIRECT,
    TUX_RESPONSE_X_SENDFILE,
};

struct tux_response_field {
    struct tux_span name;  /* as sent */
    struct tux_span value; /* outer white space trimmed */
    uint8_t id;            /* enum tux_response_field_id */
};

struct tux_response {
    uint32_t length;          /* bytes of the head, its blank line included */
    const char *error_reason; /* when MALFORMED: a static text for the log */
    uint16_t status;          /* 100 to 599 */
    uint8_t minor;            /* 0 or 1 of HTTP/1.minor */
    uint8_t framing;          /* enum tux_framing; NONE for 101, after which there is no HTTP any more */
    bool keep_alive;          /* another request may be sent once the body is complete */
    bool has_length;          /* Content-Length was sent (it also tells of bodies that are not sent: HEAD, 304) */
    uint64_t content_length;
    struct tux_span reason;   /* may be empty */
    uint32_t seen;            /* bits of the field ids that occur */
    uint32_t n_fields;
    struct tux_response_field fields[TUX_MAX_RESPONSE_FIELDS];
};

/* Scan `len` bytes at `buf`, the answer to a request whose method was HEAD or not. `seen_len` of them were scanned before
 * (MORE was returned then); 0 at the first call. The outcomes and guarantees are those of tux_head_scan. */
enum tux_outcome tux_response_scan(const uint8_t *buf, size_t len, size_t seen_len, bool is_head,
                                   struct tux_response *response);

/* The id of a field name of any case. */
uint8_t tux_response_field_id(const uint8_t *name, size_t len);

#endif
