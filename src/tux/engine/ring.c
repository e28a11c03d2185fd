/* SPDX-License-Identifier: MIT */
/* Layout: one page with struct tux_ring_shared, then the data. A record is a 4-byte size, 4 bytes unused, the payload, and
 * padding up to 8 bytes; positions are therefore multiples of 8.
 *
 * Sleeping. A lost wake-up would need the writer to miss reader_sleeps == 1 and the reader to miss the last record. So
 * nobody ever stores the flag: both ends *exchange* it (a read-modify-write with acquire and release). All exchanges of
 * one word happen one after the other, and each sees what was done before the one in front of it:
 *     writer: store written; exchange(reader_sleeps, 0), write the eventfd if it was 1
 *     reader: exchange(reader_sleeps, 1); load written, sleep if nothing is there
 * If the writer's exchange comes later, it finds the 1 and writes the eventfd. If it comes earlier, the reader's exchange
 * comes behind it in that chain, and so the reader sees the record. The other direction is the same with read and
 * writer_sleeps. A wake-up too many is possible and harmless. (A plain store of 0 on waking would cut the chain: correct
 * on x86, not on ARM.)
 *
 * Trust. Everything in the mapping may be written by the peer at any time. This end uses its private position, and a
 * word of the peer only after it was copied and found between that position and one capacity away from it. The memfd is
 * sealed against shrinking, so that touching it cannot raise SIGBUS. */
#include "ring.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RING_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)
#define MAX_RING_BYTES (1u << 30) /* a record's size and twice the mapping stay far from overflow */

struct record_header {
    _Atomic uint32_t size; /* atomic, because a hostile writer may change it while it is read */
    uint32_t unused;
};

static_assert(sizeof(struct record_header) == TUX_RING_HEADER_BYTES, "a record's header");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "words shared by processes must be lock-free");

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static bool capacity_valid(uint32_t capacity)
{
    return capacity <= MAX_RING_BYTES && (capacity & (capacity - 1)) == 0 && capacity >= page_bytes();
}

/* Bytes that a record takes; 64 bits, because `size` may be anything. */
static uint64_t record_bytes(uint32_t size)
{
    return TUX_RING_HEADER_BYTES + (((uint64_t)size + 7) & ~UINT64_C(7));
}

static int ring_map(struct tux_ring *ring, int memfd, uint32_t capacity)
{
    size_t page = page_bytes();
    size_t whole = page + 2 * (size_t)capacity;
    uint8_t *base = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return -errno;
    int protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_FIXED;
    if (mmap(base, page + capacity, protection, flags, memfd, 0) == MAP_FAILED ||
        mmap(base + page + capacity, capacity, protection, flags, memfd, (off_t)page) == MAP_FAILED) {
        int error = errno;
        munmap(base, whole);
        return -error;
    }
    ring->shared = (struct tux_ring_shared *)(void *)base;
    ring->data = base + page;
    ring->capacity = capacity;
    ring->position = 0;
    ring->seen = 0;
    ring->released = 0;
    ring->reserved = 0;
    return 0;
}

int tux_ring_create_bare(struct tux_ring *ring, uint32_t capacity)
{
    *ring = (struct tux_ring){.memfd = -1, .data_eventfd = -1, .space_eventfd = -1};
    if (!capacity_valid(capacity))
        return -EINVAL;
    int result;
    ring->memfd = memfd_create("tux-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (ring->memfd < 0 || ftruncate(ring->memfd, (off_t)(page_bytes() + capacity)) < 0 ||
        fcntl(ring->memfd, F_ADD_SEALS, RING_SEALS | F_SEAL_SEAL) < 0)
        result = -errno;
    else
        result = ring_map(ring, ring->memfd, capacity);
    if (result < 0)
        tux_ring_close(ring);
    return result;
}

int tux_ring_create(struct tux_ring *ring, uint32_t capacity)
{
    int result = tux_ring_create_bare(ring, capacity);
    if (result < 0)
        return result;
    if ((ring->data_eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0 ||
        (ring->space_eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0) {
        result = -errno;
        tux_ring_close(ring);
    }
    return result;
}

int tux_ring_attach(struct tux_ring *ring, int memfd, int data_eventfd, int space_eventfd, uint32_t capacity)
{
    *ring = (struct tux_ring){.memfd = -1, .data_eventfd = -1, .space_eventfd = -1};
    struct stat st;
    if (!capacity_valid(capacity))
        return -EINVAL;
    if (fstat(memfd, &st) < 0)
        return -errno;
    if ((uint64_t)st.st_size != page_bytes() + capacity)
        return -EINVAL;
    int seals = fcntl(memfd, F_GET_SEALS);
    if (seals < 0)
        return -errno;
    if ((seals & RING_SEALS) != RING_SEALS)
        return -EPERM; /* its creator could cut it off under us */
    int result = ring_map(ring, memfd, capacity);
    if (result < 0)
        return result;
    ring->memfd = memfd;
    ring->data_eventfd = data_eventfd;
    ring->space_eventfd = space_eventfd;
    return 0;
}

void tux_ring_close(struct tux_ring *ring)
{
    if (ring->shared != NULL)
        munmap(ring->shared, page_bytes() + 2 * (size_t)ring->capacity);
    if (ring->memfd >= 0)
        close(ring->memfd);
    if (ring->data_eventfd >= 0)
        close(ring->data_eventfd);
    if (ring->space_eventfd >= 0)
        close(ring->space_eventfd);
    *ring = (struct tux_ring){.memfd = -1, .data_eventfd = -1, .space_eventfd = -1};
}

static uint32_t flag_exchange(_Atomic uint32_t *flag, uint32_t value)
{
    return atomic_exchange_explicit(flag, value, memory_order_acq_rel);
}

static void eventfd_raise(int fd)
{
    uint64_t one = 1;
    ssize_t ignored = write(fd, &one, sizeof one); /* EAGAIN: the counter is full, so the peer is awake */
    (void)ignored;
}

static void eventfd_empty(int fd)
{
    uint64_t count;
    if (fd < 0)
        return;
    ssize_t ignored = read(fd, &count, sizeof count); /* EAGAIN: it was empty */
    (void)ignored;
}

/* -- writer ----------------------------------------------------------------------------------------------------- */

/* Whether `need` bytes are free. The peer's word is read only when what is known of it does not do. */
static bool writer_has_room(struct tux_ring *ring, uint64_t need)
{
    if (need > ring->capacity)
        return false;
    if (ring->capacity - (ring->position - ring->seen) >= need)
        return true;
    uint64_t read = atomic_load_explicit(&ring->shared->read, memory_order_acquire);
    if (read - ring->seen > ring->position - ring->seen)
        return false; /* backwards, or beyond what was written: a broken reader, for which the ring stays full */
    ring->seen = read;
    return ring->capacity - (ring->position - ring->seen) >= need;
}

static struct record_header *record_at(const struct tux_ring *ring, uint64_t position)
{
    return (struct record_header *)(void *)(ring->data + (position & (ring->capacity - 1)));
}

void *tux_ring_reserve(struct tux_ring *ring, uint32_t size)
{
    if (!writer_has_room(ring, record_bytes(size)))
        return NULL;
    ring->reserved = size;
    return record_at(ring, ring->position) + 1;
}

void tux_ring_commit(struct tux_ring *ring, uint32_t size)
{
    assert(size <= ring->reserved);
    atomic_store_explicit(&record_at(ring, ring->position)->size, size, memory_order_relaxed);
    ring->position += record_bytes(size);
    ring->reserved = 0;
    atomic_store_explicit(&ring->shared->written, ring->position, memory_order_release);
}

bool tux_ring_take_wake(struct tux_ring *ring)
{
    return flag_exchange(&ring->shared->reader_sleeps, 0) != 0;
}

void tux_ring_wake(struct tux_ring *ring)
{
    if (tux_ring_take_wake(ring))
        eventfd_raise(ring->data_eventfd);
}

bool tux_ring_writer_sleep(struct tux_ring *ring, uint32_t size)
{
    flag_exchange(&ring->shared->writer_sleeps, 1);
    if (!writer_has_room(ring, record_bytes(size)))
        return true;
    flag_exchange(&ring->shared->writer_sleeps, 0);
    return false;
}

void tux_ring_writer_awake(struct tux_ring *ring)
{
    flag_exchange(&ring->shared->writer_sleeps, 0);
    eventfd_empty(ring->space_eventfd);
}

/* -- reader ----------------------------------------------------------------------------------------------------- */

/* Bytes that wait, or -1 when the writer's word is nonsense. */
static int64_t reader_waiting(struct tux_ring *ring)
{
    if (ring->position != ring->seen)
        return (int64_t)(ring->seen - ring->position);
    uint64_t written = atomic_load_explicit(&ring->shared->written, memory_order_acquire);
    uint64_t waiting = written - ring->position;
    if (waiting > ring->capacity || written - ring->released > ring->capacity || waiting % 8 != 0)
        return -1;
    ring->seen = written;
    return (int64_t)waiting;
}

bool tux_ring_waits(const struct tux_ring *ring)
{
    return atomic_load_explicit(&ring->shared->written, memory_order_relaxed) != ring->position;
}

int tux_ring_read(struct tux_ring *ring, const void **payload, uint32_t *size)
{
    int64_t waiting = reader_waiting(ring);
    if (waiting <= 0)
        return (int)waiting;
    struct record_header *header = record_at(ring, ring->position);
    uint32_t copied = atomic_load_explicit(&header->size, memory_order_relaxed);
    if (record_bytes(copied) > (uint64_t)waiting)
        return -1;
    ring->position += record_bytes(copied);
    *payload = header + 1;
    *size = copied;
    return 1;
}

bool tux_ring_release_bare(struct tux_ring *ring)
{
    ring->released = ring->position;
    atomic_store_explicit(&ring->shared->read, ring->position, memory_order_release);
    return flag_exchange(&ring->shared->writer_sleeps, 0) != 0;
}

void tux_ring_release(struct tux_ring *ring)
{
    if (tux_ring_release_bare(ring))
        eventfd_raise(ring->space_eventfd);
}

bool tux_ring_reader_sleeps(const struct tux_ring *ring)
{
    return atomic_load_explicit(&ring->shared->reader_sleeps, memory_order_relaxed) != 0;
}

bool tux_ring_reader_sleep(struct tux_ring *ring)
{
    flag_exchange(&ring->shared->reader_sleeps, 1);
    if (reader_waiting(ring) == 0)
        return true;
    flag_exchange(&ring->shared->reader_sleeps, 0);
    return false;
}

void tux_ring_reader_awake(struct tux_ring *ring)
{
    flag_exchange(&ring->shared->reader_sleeps, 0);
    eventfd_empty(ring->data_eventfd);
}
