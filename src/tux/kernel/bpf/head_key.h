/* SPDX-License-Identifier: MIT */
/* The key under which the kernel tier finds an answer: a keyed 128-bit hash over the exact bytes of a head, and their
 * number. One definition for the engine and the eBPF program. */
#ifndef TUX_KERNEL_HEAD_KEY_H
#define TUX_KERNEL_HEAD_KEY_H

#include "../../engine/siphash.h"
#include "layout.h"

#define TUX_KERNEL_MAX_HEAD_WORDS (TUX_KERNEL_MAX_HEAD_BYTES / 8u)

/* The hash is SipHash-1-3-128 of the head padded with zeros to whole words; the length is part of the key. `words`
 * holds at least (length + 7) / 8 of them, the rest of the last one zero. False: the head is empty or too long. */
TUX_SIPHASH_INLINE int tux_kernel_key_of(const uint64_t secret[2], const uint64_t *words, uint32_t length,
                                         uint32_t listener, struct tux_kernel_key *key)
{
    struct tux_siphash hash;
    uint64_t out[2];
    if (length == 0 || length > TUX_KERNEL_MAX_HEAD_BYTES)
        return 0;
    uint32_t n = (length + 7u) / 8u;
    tux_siphash_init128(&hash, secret);
    for (uint32_t i = 0; i < TUX_KERNEL_MAX_HEAD_WORDS; i++) {
        if (i >= n)
            break;
        tux_siphash_word(&hash, words[i]);
    }
    tux_siphash_last(&hash, 0, 0);
    tux_siphash_finish128(&hash, out);
    key->lo = out[0];
    key->hi = out[1];
    key->length = length;
    key->listener = listener;
    return 1;
}

#endif
