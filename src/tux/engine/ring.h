/* SPDX-License-Identifier: MIT */
/* A ring of records between one writer and one reader, in shared memory (memfd) with an eventfd to wake the reader.
 * Records carry offsets and numbers, never pointers: the other end may be another process, may be hostile, and may die.
 * So the reader copies `size` once, checks it, and treats a nonsensical ring as a dead peer (tux_ring_read returns -1). */
#ifndef TUX_RING_H
#define TUX_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bounds.h"

/* The shared page: writer's and reader's words on cache lines of their own. Positions count bytes and never wrap. */
struct tux_ring_shared {
    _Alignas(64) _Atomic uint64_t written; /* bytes published by the writer */
    _Alignas(64) _Atomic uint64_t read;    /* bytes released by the reader */
    _Alignas(64) _Atomic uint32_t reader_sleeps; /* 1: the writer must write the eventfd after publishing */
    _Alignas(64) _Atomic uint32_t writer_sleeps; /* 1: the reader must write the space eventfd after releasing */
};

struct tux_ring {
    struct tux_ring_shared *shared;
    uint8_t *data;       /* `capacity` bytes, mapped twice in a row so that a record is always contiguous */
    uint32_t capacity;   /* power of two, multiple of the page size */
    int memfd;
    int data_eventfd;    /* writer -> reader: records wait */
    int space_eventfd;   /* reader -> writer: room again */
    uint64_t position;   /* this end's own position (not shared: the peer cannot move it) */
    uint64_t seen;       /* the peer's position when last read and found sound */
    uint64_t released;   /* reader: its position at the last release; the writer may not be over one capacity beyond it */
    uint32_t reserved;   /* writer: payload bytes reserved and not committed */
};

/* Create (both ends live in one process: use two struct tux_ring, the second by tux_ring_attach).
 * Return 0, or -errno. */
int tux_ring_create(struct tux_ring *ring, uint32_t capacity);
/* The same without eventfds (they are -1): the ends wake each other by other means, with the functions at the end. */
int tux_ring_create_bare(struct tux_ring *ring, uint32_t capacity);
int tux_ring_attach(struct tux_ring *ring, int memfd, int data_eventfd, int space_eventfd, uint32_t capacity);
void tux_ring_close(struct tux_ring *ring); /* unmaps; closes the descriptors */

/* A record takes 8 bytes and its payload rounded up to 8; one larger than the ring never fits. */
#define TUX_RING_HEADER_BYTES 8u

/* Writer: room for a record of `size` payload bytes (8-byte aligned, contiguous), or NULL when the ring is full.
 * Reserving again before commit replaces the reservation.
 * commit publishes the record last reserved with its final size (<= reserved); it does not wake.
 * wake writes the eventfd if, and only if, the reader sleeps. */
void *tux_ring_reserve(struct tux_ring *ring, uint32_t size);
void tux_ring_commit(struct tux_ring *ring, uint32_t size);
void tux_ring_wake(struct tux_ring *ring);
/* Writer that may block: declare that it is about to sleep on space_eventfd; false if there is room for `size` now.
 * awake is called on return (it also empties the eventfd); there may still be too little room then. */
bool tux_ring_writer_sleep(struct tux_ring *ring, uint32_t size);
void tux_ring_writer_awake(struct tux_ring *ring);

/* Reader: 1 and the next record's payload; 0 when empty; -1 when the writer wrote nonsense. Between two releases at most
 * one capacity of records is read, whatever the writer does, so a loop over reads ends.
 * The payload stays valid until release, which frees all records read so far and wakes a sleeping writer. */
int tux_ring_read(struct tux_ring *ring, const void **payload, uint32_t *size);
void tux_ring_release(struct tux_ring *ring);
/* Whether another record is there to read: a hint, for a reader that would do its work in batches. */
bool tux_ring_waits(const struct tux_ring *ring);
/* Writer: whether the reader sleeps now: a hint. */
bool tux_ring_reader_sleeps(const struct tux_ring *ring);
/* Declare that the reader is about to sleep on data_eventfd; false if records came in between (do not sleep).
 * awake is called on return (it also empties the eventfd). */
bool tux_ring_reader_sleep(struct tux_ring *ring);
void tux_ring_reader_awake(struct tux_ring *ring);

/* For rings without eventfds. They are shared with a process that may be hostile: what it can make blocking, by the flags of
 * a descriptor that both have, must not be read or written by whoever must not block.
 * Writer: whether the reader sleeps, and has to be woken. Reader: release, and whether the writer sleeps, and has to be. */
bool tux_ring_take_wake(struct tux_ring *ring);
bool tux_ring_release_bare(struct tux_ring *ring);

#endif
