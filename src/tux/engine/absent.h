/* SPDX-License-Identifier: MIT */
/* Paths below roots that are known to be absent, for a moment: what an application or a forwarded server answers is not
 * looked for on the disk at every request. A fixed table; what falls out costs one more look. */
#ifndef TUX_ABSENT_H
#define TUX_ABSENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TUX_ABSENT_MS 700u       /* with a turn of the loop under the second that is promised for files that appear */
#define TUX_ABSENT_ENTRIES 4096u /* power of two; 64 KiB */

struct tux_absent {
    struct {
        uint64_t hash; /* keyed, of root and path: nobody can make two paths meet */
        uint64_t until_ms;
    } entries[TUX_ABSENT_ENTRIES];
};

uint64_t tux_absent_hash(const uint64_t key[2], uint32_t root, const void *path, size_t len);
static inline bool tux_absent_known(const struct tux_absent *absent, uint64_t hash, uint64_t now_ms)
{
    uint64_t at = hash & (TUX_ABSENT_ENTRIES - 1);
    return absent->entries[at].hash == hash && now_ms < absent->entries[at].until_ms;
}
static inline void tux_absent_note(struct tux_absent *absent, uint64_t hash, uint64_t now_ms)
{
    uint64_t at = hash & (TUX_ABSENT_ENTRIES - 1);
    absent->entries[at].hash = hash;
    absent->entries[at].until_ms = now_ms + TUX_ABSENT_MS;
}

#endif
