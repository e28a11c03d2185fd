/* SPDX-License-Identifier: MIT */
/* What the tests of the kernel tier's engine half share: an engine with ordinary memory for its maps, and the
 * supervisor's end of the messages. No eBPF. */
#ifndef TUX_KERNEL_KIT_H
#define TUX_KERNEL_KIT_H

#include "engine_client.h"

#include <sys/mman.h>

#include "kernel.h"

#define SLOTS_BYTES (TUX_KERNEL_SLOTS * sizeof(struct tux_kernel_slot))
#define CELLS_BYTES (TUX_KERNEL_CELLS * sizeof(struct tux_kernel_cell))

struct tier {
    struct tux_kernel_config config;
    struct tux_kernel_slot *slots; /* as the programs see them */
    struct tux_kernel_cell *cells;
    int supervisor;
};

/* A message, taken apart. */
struct published {
    struct tux_kernel_message record;
    size_t size;
    uint8_t head[TUX_KERNEL_MAX_HEAD_BYTES + 1], answer[TUX_KERNEL_MAX_ANSWER_BYTES + 1]; /* with a NUL behind */
};

static const uint32_t tier_listeners[] = {0};

static inline void *tier_map(size_t bytes, int *fd)
{
    MUST((*fd = memfd_create("map", MFD_CLOEXEC)) >= 0 && ftruncate(*fd, (off_t)bytes) == 0);
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    MUST(map != MAP_FAILED);
    return map;
}

/* A head is published at its `hits`-th answer from memory. */
static inline void tier_prepare(struct tier *tier, uint32_t hits)
{
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    tier->supervisor = pair[0];
    tier->config = (struct tux_kernel_config){.message_fd = pair[1],
                                              .secret = {11, 12},
                                              .listeners = tier_listeners,
                                              .n_listeners = 1,
                                              .hits = hits,
                                              .max_answer_bytes = 16384};
    tier->slots = tier_map(SLOTS_BYTES, &tier->config.slots_fd);
    tier->cells = tier_map(CELLS_BYTES, &tier->config.cells_fd);
}

static inline void tier_start(struct tier *tier, struct kit *kit)
{
    kit_create(kit);
    MUST(tux_engine_kernel(kit->engine, &tier->config) == 0);
    MUST(pthread_create(&kit->engine_thread, NULL, kit_run, kit) == 0);
}

static inline void tier_end(struct tier *tier)
{
    MUST(munmap(tier->slots, SLOTS_BYTES) == 0 && munmap(tier->cells, CELLS_BYTES) == 0);
    close(tier->supervisor);
}

/* All of a test, but for what it changes in between. */
static inline void tier_open(struct tier *tier, struct kit *kit, uint32_t hits)
{
    kit_prepare(kit);
    kit->more_flags = TUX_PLAN_PUBLISH;
    tier_prepare(tier, hits);
}

static inline void tier_close(struct tier *tier, struct kit *kit)
{
    kit_end(kit);
    tier_end(tier);
}

static inline uint64_t tier_load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline uint64_t tier_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Wait until the condition holds; gives its truth. */
#define AWAIT(condition)                                                                                               \
    ({                                                                                                                 \
        uint64_t await_end = kit_now_ms() + KIT_LIMIT_MS;                                                              \
        while (!(condition) && kit_now_ms() < await_end)                                                               \
            poll(NULL, 0, 1);                                                                                          \
        (condition);                                                                                                   \
    })

/* The next message; false: none came within the time, which is short when none is expected. */
static inline bool tier_receive(const struct tier *tier, struct published *message, int limit_ms)
{
    static uint8_t
        bytes[sizeof(struct tux_kernel_message) + TUX_KERNEL_MAX_HEAD_BYTES + TUX_KERNEL_MAX_ANSWER_BYTES + 1];
    struct pollfd readable = {.fd = tier->supervisor, .events = POLLIN};
    *message = (struct published){0};
    if (poll(&readable, 1, limit_ms) != 1)
        return false;
    ssize_t n = recv(tier->supervisor, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n <= 0)
        return false;
    struct tux_kernel_message *record = &message->record;
    message->size = (size_t)n;
    MUST(message->size >= sizeof *record);
    memcpy(record, bytes, sizeof *record);
    if (record->kind == TUX_KERNEL_PUBLISH) {
        MUST(message->size == sizeof *record + record->head_length + record->answer_length);
        memcpy(message->head, bytes + sizeof *record, record->head_length);
        memcpy(message->answer, bytes + sizeof *record + record->head_length, record->answer_length);
    }
    return true;
}

static inline bool tier_receive_kind(const struct tier *tier, struct published *message, uint32_t kind)
{
    return tier_receive(tier, message, KIT_LIMIT_MS) && message->record.kind == kind;
}

static inline bool tier_is_silent(const struct tier *tier)
{
    struct published message;
    return !tier_receive(tier, &message, 0);
}

/* The only slot that is taken, or NULL. */
static inline struct tux_kernel_slot *tier_slot(const struct tier *tier)
{
    struct tux_kernel_slot *found = NULL;
    for (uint32_t i = 0; i < TUX_KERNEL_SLOTS; i++)
        if (tier_load(&tier->slots[i].cookie) != 0) {
            MUST(found == NULL);
            found = &tier->slots[i];
        }
    return found;
}

static inline uint64_t tier_marks(const struct tux_kernel_slot *slot)
{
    return tier_load(&slot->marks);
}

#endif
