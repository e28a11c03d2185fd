/* SPDX-License-Identifier: MIT */
#include "own.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_ENTRIES 16u /* a configuration, a log, and what a few rotations of it leave */

struct entry {
    uint64_t dev, ino;
};

struct tux_own_block {
    struct tux_own_block *before; /* kept: somebody may still look at it. All of them together are smaller than this one */
    uint32_t capacity;
    _Atomic uint32_t count; /* entries that are complete */
    struct entry entries[];
};

bool tux_own_add(struct tux_own *own, uint64_t dev, uint64_t ino)
{
    struct tux_own_block *block = atomic_load_explicit(&own->now, memory_order_relaxed);
    uint32_t count = block == NULL ? 0 : atomic_load_explicit(&block->count, memory_order_relaxed);
    if (tux_own_has(own, dev, ino))
        return true;
    if (block == NULL || count == block->capacity) {
        uint32_t capacity = block == NULL ? FIRST_ENTRIES : 2 * block->capacity;
        struct tux_own_block *grown = malloc(sizeof *grown + capacity * sizeof grown->entries[0]);
        if (grown == NULL)
            return false;
        grown->before = block;
        grown->capacity = capacity;
        atomic_init(&grown->count, count);
        if (count > 0)
            memcpy(grown->entries, block->entries, count * sizeof grown->entries[0]);
        grown->entries[count] = (struct entry){dev, ino};
        atomic_store_explicit(&grown->count, count + 1, memory_order_relaxed);
        atomic_store_explicit(&own->now, grown, memory_order_release);
        return true;
    }
    block->entries[count] = (struct entry){dev, ino};
    atomic_store_explicit(&block->count, count + 1, memory_order_release);
    return true;
}

bool tux_own_has(const struct tux_own *own, uint64_t dev, uint64_t ino)
{
    struct tux_own_block *block = atomic_load_explicit(&own->now, memory_order_acquire);
    uint32_t count = block == NULL ? 0 : atomic_load_explicit(&block->count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++)
        if (block->entries[i].ino == ino && block->entries[i].dev == dev)
            return true;
    return false;
}

void tux_own_free(struct tux_own *own)
{
    struct tux_own_block *block = atomic_load_explicit(&own->now, memory_order_relaxed);
    while (block != NULL) {
        struct tux_own_block *before = block->before;
        free(block);
        block = before;
    }
    atomic_store_explicit(&own->now, NULL, memory_order_relaxed);
}
