/* SPDX-License-Identifier: MIT */
/* Files that belong to Tux itself (its configuration, its logs), by identity: never sent. The list only grows. Any thread may
 * look while one adds. */
#ifndef TUX_OWN_H
#define TUX_OWN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct tux_own_block;

struct tux_own {
    struct tux_own_block *_Atomic now;
};

bool tux_own_add(struct tux_own *own, uint64_t dev, uint64_t ino); /* false: no memory. One thread at a time */
bool tux_own_has(const struct tux_own *own, uint64_t dev, uint64_t ino);
void tux_own_free(struct tux_own *own); /* when nobody looks any more */

#endif
