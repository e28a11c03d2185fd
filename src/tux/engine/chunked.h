/* SPDX-License-Identifier: MIT */
/* Strict decoder of the chunked transfer coding (RFC 9112 section 7.1): CRLF only, 1 to 15 hex digits, extensions with
 * checked syntax and bounded length, trailer fields with the syntax of header fields. */
#ifndef TUX_CHUNKED_H
#define TUX_CHUNKED_H

#include <stddef.h>
#include <stdint.h>

#include "bounds.h"
#include "span.h"

/* The decoder's place in the grammar; zero-initialise before the first byte. Fields are private to chunked.c. */
struct tux_chunked {
    uint8_t state;
    uint8_t digits;
    uint16_t line;      /* bytes of the present chunk line */
    uint32_t trailer;   /* bytes of the trailer section */
    uint64_t left;      /* bytes left of the present chunk */
};

/* How many bytes of the trailer section have been consumed, its blank line included. They are always the last of those that
 * a call consumes, so the difference over a call says where they lie. */
static inline uint32_t tux_chunked_trailer_bytes(const struct tux_chunked *decoder)
{
    return decoder->trailer;
}

/* Decode from buf[0..len). Each call consumes at most one run of data:
 * *consumed bytes were eaten, and data (possibly empty) is the run of body bytes among them.
 * DONE: the last chunk and the trailer section are complete; bytes after *consumed are the next request's.
 * MORE: call again with what follows (if *consumed < len: at once). MALFORMED: answer 400 and close. */
enum tux_outcome tux_chunked_decode(struct tux_chunked *decoder, const uint8_t *buf, size_t len, size_t *consumed,
                                    struct tux_span *data);

#endif
