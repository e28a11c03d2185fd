/* SPDX-License-Identifier: MIT */
/* The path of a request target, decoded and normalised (RFC 3986 sections 2.1 and 5.2.4): the same as
 * tux.http.target.decode_path, which has the reasons. A test compares the two. */
#ifndef TUX_PATH_H
#define TUX_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decode path[0..len) into `out`, which has room for `len` bytes (at least 1). The result begins with "/", has no empty
 * and no dot segments, and ends with "/" if a folder is meant. Returns 0 and *out_len, or the status to answer with: 400
 * (not absolute, a broken "%", NUL, ".." above the root) or 404 ("%2F"). kept_slash not NULL: "%2F" is no error, but stays as
 * it is, and *kept_slash says so: for routes to others, who may give it a meaning. */
uint16_t tux_path_decode(const uint8_t *path, size_t len, uint8_t *out, size_t *out_len, bool *kept_slash);

/* The same as a server reads it to which "%2F" is a slash like any other. */
uint16_t tux_path_decode_slashes(const uint8_t *path, size_t len, uint8_t *out, size_t *out_len);

#endif
