/* SPDX-License-Identifier: MIT */
/* BLAKE2b (RFC 7693), without a key: what entity tags of files in memory are made of. Python's hashlib computes the same. */
#ifndef TUX_BLAKE2B_H
#define TUX_BLAKE2B_H

#include <stddef.h>
#include <stdint.h>

#define TUX_BLAKE2B_MAX_BYTES 64u /* of a digest */

/* Hash data[0..len) into digest[0..digest_len), 1 to TUX_BLAKE2B_MAX_BYTES of them. */
void tux_blake2b(const void *data, size_t len, uint8_t *digest, size_t digest_len);

#endif
