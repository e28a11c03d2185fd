/* SPDX-License-Identifier: MIT */
/* The field names that the engine knows: a perfect hash over length, first and last byte, then one comparison. */
#ifndef TUX_FIELD_H
#define TUX_FIELD_H

#include <stdint.h>
#include <string.h>

#include "head.h"

#define TUX_FIELD_SLOTS 64u          /* a power of two in which no two names collide; the compiler would complain */
#define TUX_FIELD_NAME_MIN_BYTES 4u  /* host */
#define TUX_FIELD_NAME_MAX_BYTES 19u /* if-unmodified-since */

struct tux_field_slot {
    uint8_t id;
    uint8_t len;   /* 0: an empty slot */
    char name[20]; /* lower case */
};

extern const struct tux_field_slot tux_field_slots[TUX_FIELD_SLOTS];

#define TUX_FIELD_SLOT(first, last, len)                                                                               \
    (((unsigned)(len) + 4u * (unsigned)(first) + (unsigned)(last)) % TUX_FIELD_SLOTS)

static inline uint64_t tux_field_load(const void *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    return word | 0x2020202020202020u;
}

/* The id of a name whose bytes are known to be tchars. That makes "| 0x20" a safe way to fold case: it maps no tchar
 * but letters to a letter, and none but "-" to "-". Reads name[0..len) only. */
static inline uint8_t tux_field_id_of_token(const uint8_t *name, size_t len)
{
    if (len - TUX_FIELD_NAME_MIN_BYTES > TUX_FIELD_NAME_MAX_BYTES - TUX_FIELD_NAME_MIN_BYTES)
        return TUX_FIELD_OTHER; /* also when it is shorter than the shortest: the difference wraps */
    const struct tux_field_slot *slot = &tux_field_slots[TUX_FIELD_SLOT(name[0] | 0x20u, name[len - 1] | 0x20u, len)];
    if (slot->len != len)
        return TUX_FIELD_OTHER;
    uint64_t difference;
    if (len >= 8) { /* two or three words that overlap */
        difference = tux_field_load(name) ^ tux_field_load(slot->name);
        difference |= tux_field_load(name + len - 8) ^ tux_field_load(slot->name + len - 8);
        if (len > 16)
            difference |= tux_field_load(name + 8) ^ tux_field_load(slot->name + 8);
    } else {
        uint32_t word[4];
        memcpy(&word[0], name, 4);
        memcpy(&word[1], name + len - 4, 4);
        memcpy(&word[2], slot->name, 4);
        memcpy(&word[3], slot->name + len - 4, 4);
        difference = ((word[0] ^ word[2]) | (word[1] ^ word[3])) & ~0x20202020u;
    }
    return difference == 0 ? slot->id : TUX_FIELD_OTHER;
}

#endif
