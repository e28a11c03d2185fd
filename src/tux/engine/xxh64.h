/* SPDX-License-Identifier: MIT */
/* XXH64 with seed 0, as doc/xxhash_spec.md of the xxHash project describes it: what entity tags of files in memory are made of
 * (docs/decisions/023). It finds changes that happen; it is no defence against somebody who makes two contents to be equal. */
#ifndef TUX_XXH64_H
#define TUX_XXH64_H

#include <stddef.h>
#include <stdint.h>

uint64_t tux_xxh64(const void *data, size_t len);

#endif
