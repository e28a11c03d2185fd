/* SPDX-License-Identifier: MIT */
/* Validators of files, as tux.http and the planner write them: entity tags, and dates (IMF-fixdate). */
#ifndef TUX_VALIDATOR_H
#define TUX_VALIDATOR_H

#include <stddef.h>
#include <stdint.h>

#define TUX_HTTP_DATE_BYTES 29u    /* "Sun, 06 Nov 1994 08:49:37 GMT" */
#define TUX_CONTENT_TAG_BYTES 16u  /* a hash of 64 bits in hexadecimal digits */
#define TUX_MAX_STATE_TAG_BYTES 34u /* two numbers of 16 digits, a minus before each, and one between them */

/* A date from 1970 to 9999; what lies outside is moved to that bound. No NUL is written, here and below. */
void tux_http_date(int64_t seconds, char out[TUX_HTTP_DATE_BYTES]);
/* The opaque part of the entity tag, without quotes, of a representation in memory ... */
void tux_content_tag(const void *body, size_t len, char out[TUX_CONTENT_TAG_BYTES]);
/* ... and of one on the disk, by size and time of change. Returns its length. */
size_t tux_state_tag(uint64_t size, int64_t mtime_ns, char out[TUX_MAX_STATE_TAG_BYTES]);

#endif
