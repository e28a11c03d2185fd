/* SPDX-License-Identifier: MIT */
/* The key of a head as the engine computes it: head_key.h compiled for this machine, for Python to call. */
#include "head_key.h"

#include <string.h>

int tux_test_key(const uint64_t secret[2], const uint8_t *head, uint32_t length, uint32_t listener,
                 struct tux_kernel_key *key)
{
    uint64_t words[TUX_KERNEL_MAX_HEAD_WORDS] = {0};
    if (length <= sizeof words)
        memcpy(words, head, length);
    return tux_kernel_key_of(secret, words, length, listener, key);
}
