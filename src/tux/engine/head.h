/* SPDX-License-Identifier: MIT */
/* The head scanner: one pass over the bytes of a request line and its header fields that finds the end, checks the
 * syntax strictly (RFC 9112; whatever is doubtful is malformed) and computes the signature. */
#ifndef TUX_HEAD_H
#define TUX_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bounds.h"
#include "range.h"
#include "span.h"

enum tux_method {
    TUX_METHOD_OTHER, /* a valid token that is none of these */
    TUX_METHOD_GET,
    TUX_METHOD_HEAD,
    TUX_METHOD_OPTIONS,
    TUX_METHOD_POST,
    TUX_METHOD_PUT,
    TUX_METHOD_DELETE,
    TUX_METHOD_PATCH,
    TUX_METHOD_TRACE,
    TUX_METHOD_CONNECT,
};

/* Fields that the engine or a rule knows by name. The number is the bit in tux_sign_rules.significant. */
enum tux_field_id {
    TUX_FIELD_OTHER,
    TUX_FIELD_HOST,
    TUX_FIELD_CONNECTION,
    TUX_FIELD_RANGE,
    TUX_FIELD_IF_MATCH,
    TUX_FIELD_IF_NONE_MATCH,
    TUX_FIELD_IF_MODIFIED_SINCE,
    TUX_FIELD_IF_UNMODIFIED_SINCE,
    TUX_FIELD_IF_RANGE,
    TUX_FIELD_ACCEPT,
    TUX_FIELD_ACCEPT_ENCODING,
    TUX_FIELD_AUTHORIZATION,
    TUX_FIELD_TRANSFER_ENCODING,
    TUX_FIELD_CONTENT_LENGTH,
    TUX_FIELD_EXPECT,
    TUX_FIELD_UPGRADE,
    TUX_FIELD_COOKIE,
    TUX_FIELD_ORIGIN,
    TUX_FIELD_FORWARDED,
    TUX_FIELD_X_FORWARDED_FOR,
    TUX_FIELD_X_FORWARDED_PROTO,
    TUX_FIELD_X_FORWARDED_HOST,
    TUX_FIELD_REFERER,
    TUX_FIELD_USER_AGENT,
    TUX_FIELD_ACCEPT_LANGUAGE,
    TUX_FIELD_COUNT,
};

/* Bits of the fields that are significant whatever the rules say. Connection is not among them: the engine alone
 * reads it, after the lookup, and picks the keep or the close form of an answer; plans cannot see it. */
#define TUX_SIGNIFICANT_BY_DEFAULT                                                                                     \
    ((1u << TUX_FIELD_HOST) | (1u << TUX_FIELD_RANGE) | (1u << TUX_FIELD_IF_MATCH) | (1u << TUX_FIELD_IF_NONE_MATCH) | \
     (1u << TUX_FIELD_IF_MODIFIED_SINCE) | (1u << TUX_FIELD_IF_UNMODIFIED_SINCE) | (1u << TUX_FIELD_IF_RANGE) |        \
     (1u << TUX_FIELD_ACCEPT) | (1u << TUX_FIELD_ACCEPT_ENCODING) | (1u << TUX_FIELD_AUTHORIZATION))

struct tux_signature {
    uint64_t lo, hi;
};

/* What seeds and shapes a signature. */
struct tux_sign_rules {
    uint64_t key[2];      /* random per start of the server */
    uint32_t significant; /* bits of enum tux_field_id */
};

struct tux_head_limits {
    uint32_t target_bytes; /* request target, over it: 414 */
    uint32_t head_bytes;   /* whole head with its blank line, over it: 431 */
    uint32_t fields;       /* number of field lines (at most TUX_MAX_FIELDS), over it: 431 */
};

struct tux_head_field {
    struct tux_span name;  /* as sent */
    struct tux_span value; /* outer white space trimmed */
    uint8_t id;            /* enum tux_field_id */
};

struct tux_head {
    uint32_t length;              /* bytes of the head, its blank line (and an empty line before it) included */
    uint16_t error_status;        /* when MALFORMED: 400, 414, 431, 501 or 505 */
    const char *error_reason;     /* when MALFORMED: a static text for the log */
    uint8_t method;               /* enum tux_method */
    uint8_t minor;                /* 0 or 1 of HTTP/1.minor */
    bool keep_alive;              /* what the client wishes, from version and Connection */
    bool has_length;              /* Content-Length was sent */
    bool chunked;                 /* Transfer-Encoding: chunked */
    bool expect_continue;         /* Expect: 100-continue (HTTP/1.1 only; in 1.0 it is ignored) */
    bool expect_other;            /* any other expectation: 417 */
    bool upgrade;                 /* Upgrade was sent */
    bool is_signed;               /* general and exact are valid: the answer may be looked up and remembered */
    bool same;                    /* general equals exact: no query, no simple range */
    bool has_query;               /* "?" was there (the query may be empty) */
    uint64_t content_length;
    struct tux_range range;       /* kind TUX_RANGE_NONE unless Range is one plain byte range, see range.h */
    struct tux_span method_name, target;
    struct tux_span path;         /* of the target, as sent ("/" for the empty path of an absolute-form, "*" for OPTIONS *) */
    struct tux_span query;        /* without "?" */
    struct tux_span host;         /* authority of an absolute-form, else Host; port included; may be empty in HTTP/1.0 */
    struct tux_signature general; /* over all that is covered, but the query and the numbers of a plain range */
    struct tux_signature exact;   /* over these too */
    uint32_t seen;                /* bits of the field ids that occur */
    uint32_t n_fields;
    struct tux_head_field fields[TUX_MAX_FIELDS];
};

/* Scan `len` bytes at `buf`. `seen_len` of them were scanned before (MORE was returned then); 0 at the first call.
 * `context` identifies listener, scheme, peer class and generation of the configuration; it seeds the signature.
 * DONE: *head is filled. MORE: only host is. MALFORMED: error_status, error_reason and host are. Then host is empty when it
 * is not known; after MORE it surely is known, if it can be, only when seen_len was 0.
 * Never reads beyond buf+len; never allocates; O(new bytes) while incomplete. */
enum tux_outcome tux_head_scan(const uint8_t *buf, size_t len, size_t seen_len, const struct tux_head_limits *limits,
                               const struct tux_sign_rules *rules, uint64_t context, struct tux_head *head);

/* Is this uri-host [ ":" [ port ] ], port 1 to 65535? Narrower than RFC 3986: no "," (a list of hosts), no userinfo, no
 * IPvFuture, no empty host. "_" is in reg-name. */
bool tux_host_is_valid(const uint8_t *p, const uint8_t *end, bool port_required);

/* The id of a field name of any case, TUX_FIELD_OTHER when unknown. */
uint8_t tux_field_id(const uint8_t *name, size_t len);

#endif
