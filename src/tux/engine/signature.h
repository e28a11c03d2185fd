/* SPDX-License-Identifier: MIT */
/* The signature of a head: what is covered, and in which form it enters the hash. Internal to the head scanner.
 *
 * The message that is hashed is a sequence of 64-bit words that can be read back in one way only:
 *
 *   general  info word; context; path; host, or (absolute-form) everything before the path as sent;
 *            each significant field line, ordered by field id, lines of one id in order of appearance
 *   exact    info word; the two words of general; query, if there is one; Range value, if it is one plain range
 *
 * A piece of text is one word with its tag and its length, then its bytes, padded with zeros to whole words. The host
 * is folded to lower case, field values are as sent without outer white space, all else is as sent. */
#ifndef TUX_SIGNATURE_H
#define TUX_SIGNATURE_H

#include "head.h"

enum tux_target_form {
    TUX_TARGET_ORIGIN,         /* /path */
    TUX_TARGET_ABSOLUTE,       /* http://authority/path */
    TUX_TARGET_ABSOLUTE_EMPTY, /* http://authority, the path is "/" by RFC 9110 section 4.2.3 */
    TUX_TARGET_ASTERISK,       /* * */
    TUX_TARGET_AUTHORITY,      /* host:port, CONNECT only; never signed */
};

/* What the scanner noted for the signature on its way. */
struct tux_signing {
    uint32_t significant;           /* bits of the field ids that are covered */
    uint32_t repeated;              /* bits of the field ids that occur more than once */
    uint32_t covered_bytes;         /* of significant values, and names where they are covered */
    uint32_t authority_end;         /* of an absolute-form: where scheme and authority end, as an offset */
    uint8_t form;                   /* enum tux_target_form */
    uint8_t first[TUX_FIELD_COUNT]; /* index of the first line of an id; valid where head->seen has the bit */
};

/* Decide whether the head may be signed, and set is_signed, same, general and exact. All else in *head is complete.
 * buf[0..len) holds the head. */
void tux_signature_compute(const uint8_t *buf, size_t len, const struct tux_signing *signing, const uint64_t key[2],
                           uint64_t context, struct tux_head *head);

#endif
