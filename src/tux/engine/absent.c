/* SPDX-License-Identifier: MIT */
#include "absent.h"

#include "siphash.h"

uint64_t tux_absent_hash(const uint64_t key[2], uint32_t root, const void *path, size_t len)
{
    struct tux_siphash hash;
    tux_siphash_init64(&hash, key);
    tux_siphash_word(&hash, root);
    tux_siphash_message(&hash, path, len);
    uint64_t out = tux_siphash_finish64(&hash);
    return out != 0 ? out : 1; /* 0 is an empty entry */
}
