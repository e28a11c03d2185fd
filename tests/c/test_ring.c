/* SPDX-License-Identifier: MIT */
/* The ring: order, wrap-around, a full ring, sleeping and waking in both directions, a hostile peer.
 * The threaded test is meant for ThreadSanitizer as well. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ring.h"

#define CAPACITY 65536u
#define WORST_CASE_MS 20000 /* nothing waits this long unless a wake-up was lost */

static void open_pair(struct tux_ring *writer, struct tux_ring *reader, uint32_t capacity)
{
    if (tux_ring_create(writer, capacity) != 0 ||
        tux_ring_attach(reader, dup(writer->memfd), dup(writer->data_eventfd), dup(writer->space_eventfd), capacity) != 0)
        abort();
}

static bool put(struct tux_ring *ring, const void *bytes, uint32_t size)
{
    void *room = tux_ring_reserve(ring, size);
    if (room == NULL)
        return false;
    memcpy(room, bytes, size);
    tux_ring_commit(ring, size);
    return true;
}

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void test_creation(void)
{
    struct tux_ring ring, other;
    CHECK(tux_ring_create(&ring, 0) == -EINVAL);
    CHECK(tux_ring_create(&ring, 1000) == -EINVAL);
    CHECK(tux_ring_create(&ring, 16) == -EINVAL); /* under a page */
    CHECK(tux_ring_create(&ring, CAPACITY) == 0);
    CHECK(ftruncate(ring.memfd, 0) == -1 && errno == EPERM); /* so a peer cannot raise SIGBUS here */
    CHECK(ftruncate(ring.memfd, CAPACITY * 4) == -1 && errno == EPERM);
    CHECK((fcntl(ring.memfd, F_GETFD) & FD_CLOEXEC) != 0 && (fcntl(ring.data_eventfd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(tux_ring_attach(&other, ring.memfd, 0, 0, CAPACITY * 2) == -EINVAL);
    CHECK(tux_ring_attach(&other, ring.memfd, 0, 0, 3) == -EINVAL);
    CHECK(tux_ring_attach(&other, -1, 0, 0, CAPACITY) == -EBADF);
    int unsealed = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(ftruncate(unsealed, (off_t)sysconf(_SC_PAGESIZE) + CAPACITY) == 0);
    CHECK(tux_ring_attach(&other, unsealed, 0, 0, CAPACITY) == -EPERM);
    close(unsealed);
    tux_ring_close(&ring);
    tux_ring_close(&ring);
    CHECK(ring.shared == NULL && ring.memfd == -1);
}

static void test_order_sizes_and_release(void)
{
    struct tux_ring writer, reader;
    const void *payload;
    uint32_t size;
    open_pair(&writer, &reader, CAPACITY);
    CHECK(tux_ring_read(&reader, &payload, &size) == 0);
    CHECK(put(&writer, "one", 3) && put(&writer, "", 0) && put(&writer, "nine bytes", 9));
    CHECK(tux_ring_read(&reader, &payload, &size) == 1 && size == 3 && memcmp(payload, "one", 3) == 0);
    CHECK((uintptr_t)payload % 8 == 0);
    CHECK(tux_ring_read(&reader, &payload, &size) == 1 && size == 0);
    CHECK(tux_ring_read(&reader, &payload, &size) == 1 && size == 9 && memcmp(payload, "nine byte", 9) == 0);
    CHECK(tux_ring_read(&reader, &payload, &size) == 0);

    /* A record that became shorter than reserved; a reservation given up. */
    CHECK(tux_ring_reserve(&writer, 4000) != NULL);
    char *room = tux_ring_reserve(&writer, 500);
    CHECK(room != NULL);
    memcpy(room, "short", 5);
    tux_ring_commit(&writer, 5);
    CHECK(tux_ring_read(&reader, &payload, &size) == 1 && size == 5 && memcmp(payload, "short", 5) == 0);
    CHECK(tux_ring_read(&reader, &payload, &size) == 0);

    /* What was read is not overwritten before it is released. */
    tux_ring_release(&reader);
    CHECK(put(&writer, "held", 4) && tux_ring_read(&reader, &payload, &size) == 1);
    while (put(&writer, "filler..", 8)) {
    }
    CHECK(size == 4 && memcmp(payload, "held", 4) == 0);
    CHECK(tux_ring_reserve(&writer, 0) == NULL);
    tux_ring_release(&reader);
    CHECK(tux_ring_reserve(&writer, 0) != NULL);
    tux_ring_close(&writer);
    tux_ring_close(&reader);
}

static void test_largest_record_at_every_place(void)
{
    struct tux_ring writer, reader;
    const void *payload;
    uint32_t size;
    static uint8_t bytes[4096];
    open_pair(&writer, &reader, 4096);
    CHECK(tux_ring_reserve(&writer, 4096 - TUX_RING_HEADER_BYTES + 1) == NULL);
    CHECK(tux_ring_reserve(&writer, UINT32_MAX) == NULL);
    bool right = true;
    for (int i = 0; i < 1024; i++) { /* each round ends 8 bytes later in the ring */
        uint32_t large = 4096 - TUX_RING_HEADER_BYTES;
        memset(bytes, i, large);
        right &= put(&writer, bytes, large) && tux_ring_reserve(&writer, 0) == NULL;
        right &= tux_ring_read(&reader, &payload, &size) == 1 && size == large && memcmp(payload, bytes, large) == 0;
        tux_ring_release(&reader);
        right &= put(&writer, "", 0) && tux_ring_read(&reader, &payload, &size) == 1 && size == 0;
        tux_ring_release(&reader);
    }
    CHECK(right);
    tux_ring_close(&writer);
    tux_ring_close(&reader);
}

static void test_wakes_only_who_sleeps(void)
{
    struct tux_ring writer, reader;
    const void *payload;
    uint32_t size;
    open_pair(&writer, &reader, 4096);
    put(&writer, "a", 1);
    tux_ring_wake(&writer);
    CHECK(!readable(reader.data_eventfd));
    CHECK(!tux_ring_reader_sleep(&reader)); /* a record waits */
    CHECK(tux_ring_read(&reader, &payload, &size) == 1);
    CHECK(tux_ring_reader_sleep(&reader));
    put(&writer, "b", 1);
    CHECK(!readable(reader.data_eventfd));
    tux_ring_wake(&writer);
    CHECK(readable(reader.data_eventfd));
    tux_ring_reader_awake(&reader);
    CHECK(!readable(reader.data_eventfd));
    tux_ring_wake(&writer);
    CHECK(!readable(reader.data_eventfd));

    while (put(&writer, "12345678", 8)) {
    }
    CHECK(tux_ring_writer_sleep(&writer, 8));
    CHECK(!readable(writer.space_eventfd));
    while (tux_ring_read(&reader, &payload, &size) == 1) {
    }
    tux_ring_release(&reader);
    CHECK(readable(writer.space_eventfd));
    tux_ring_writer_awake(&writer);
    CHECK(!readable(writer.space_eventfd));
    CHECK(!tux_ring_writer_sleep(&writer, 8)); /* there is room */
    tux_ring_release(&reader);
    CHECK(!readable(writer.space_eventfd));
    tux_ring_close(&writer);
    tux_ring_close(&reader);
}

/* Each nonsensical word is refused before it is used; the address sanitizer and the mapping's end watch the rest. */
static void test_hostile_writer(void)
{
    static const uint64_t positions[] = {1, 4, 24 + 4096, 4096 + 8, UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 63};
    static const uint32_t sizes[] = {17, 24, 4096, 4097, 0x7fffffff, UINT32_MAX - 7, UINT32_MAX};
    const void *payload;
    uint32_t size;
    for (size_t i = 0; i < sizeof positions / sizeof positions[0]; i++) {
        struct tux_ring writer, reader;
        open_pair(&writer, &reader, 4096);
        atomic_store(&writer.shared->written, positions[i]);
        CHECK(tux_ring_read(&reader, &payload, &size) == -1);
        CHECK(!tux_ring_reader_sleep(&reader)); /* so that the next read finds out, instead of sleeping for ever */
        CHECK(tux_ring_read(&reader, &payload, &size) == -1);
        tux_ring_close(&writer);
        tux_ring_close(&reader);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct tux_ring writer, reader;
        open_pair(&writer, &reader, 4096);
        put(&writer, "0123456789abcdef", 16);
        memcpy(writer.data, &sizes[i], 4);
        CHECK(tux_ring_read(&reader, &payload, &size) == -1);
        tux_ring_close(&writer);
        tux_ring_close(&reader);
    }
    struct tux_ring writer, reader; /* over what was read and not released: a loop over reads would never end */
    open_pair(&writer, &reader, 4096);
    for (int i = 0; i < 256; i++)
        put(&writer, "12345678", 8);
    for (int i = 0; i < 256; i++)
        CHECK(tux_ring_read(&reader, &payload, &size) == 1);
    atomic_store(&writer.shared->written, 4096 + 16);
    CHECK(tux_ring_read(&reader, &payload, &size) == -1);
    tux_ring_release(&reader);
    CHECK(tux_ring_read(&reader, &payload, &size) == 1);
    tux_ring_close(&writer);
    tux_ring_close(&reader);

    /* backwards, after a record was read */
    open_pair(&writer, &reader, 4096);
    put(&writer, "0123456789abcdef", 16);
    CHECK(tux_ring_read(&reader, &payload, &size) == 1);
    atomic_store(&writer.shared->written, 8);
    CHECK(tux_ring_read(&reader, &payload, &size) == -1);
    tux_ring_close(&writer);
    tux_ring_close(&reader);
}

static void test_hostile_reader(void)
{
    static const uint64_t positions[] = {4096 + 8, UINT64_MAX, UINT64_C(1) << 63};
    for (size_t i = 0; i < sizeof positions / sizeof positions[0]; i++) {
        struct tux_ring writer, reader;
        open_pair(&writer, &reader, 4096);
        while (put(&writer, "12345678", 8)) {
        }
        atomic_store(&reader.shared->read, positions[i]);
        CHECK(tux_ring_reserve(&writer, 8) == NULL); /* as if full: never more than the capacity is in flight */
        CHECK(writer.position == 4096);
        tux_ring_close(&writer);
        tux_ring_close(&reader);
    }
}

/* -- two threads ------------------------------------------------------------------------------------------------ */

struct side {
    struct tux_ring ring;
    uint32_t records;
    unsigned seed, sleeps;
    bool wrong;
};

static uint32_t record_size(uint32_t i)
{
    return i % 97 == 0 ? 3000 + i % 1000 : 8 + i * 7 % 64;
}

static bool sleep_on(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, WORST_CASE_MS) == 1;
}

/* A few spins, so that the two ends meet in ever new orders. */
static void dawdle(struct side *side)
{
    volatile unsigned spin = (unsigned)rand_r(&side->seed) % 64;
    if (spin == 0)
        sched_yield();
    while (spin > 0)
        spin--;
}

static void *write_all(void *arg)
{
    struct side *side = arg;
    while (atomic_load(&side->ring.shared->reader_sleeps) == 0) /* once at least the reader sleeps, on any machine */
        sched_yield();
    for (uint32_t i = 0; i < side->records && !side->wrong; i++) {
        uint32_t size = record_size(i);
        uint8_t *room;
        while ((room = tux_ring_reserve(&side->ring, size)) == NULL) {
            tux_ring_wake(&side->ring); /* before sleeping: the reader must empty the ring */
            if (tux_ring_writer_sleep(&side->ring, size)) {
                side->sleeps++;
                side->wrong |= !sleep_on(side->ring.space_eventfd);
                tux_ring_writer_awake(&side->ring);
            }
            if (side->wrong)
                return NULL;
        }
        memset(room, (int)(i & 0xff), size);
        memcpy(room, &i, sizeof i);
        tux_ring_commit(&side->ring, size);
        if (rand_r(&side->seed) % 4 != 0 || i + 1 == side->records)
            tux_ring_wake(&side->ring);
        if (i % 8 == 0)
            dawdle(side);
    }
    return NULL;
}

static void *read_all(void *arg)
{
    struct side *side = arg;
    for (uint32_t i = 0; i < side->records;) {
        const void *payload;
        uint32_t size, number;
        int got = tux_ring_read(&side->ring, &payload, &size);
        if (got < 0) {
            side->wrong = true;
            return NULL;
        }
        if (got == 0) {
            tux_ring_release(&side->ring);
            if (tux_ring_reader_sleep(&side->ring)) {
                side->sleeps++;
                side->wrong |= !sleep_on(side->ring.data_eventfd);
                tux_ring_reader_awake(&side->ring);
            }
            if (side->wrong)
                return NULL;
            continue;
        }
        if (i == side->records / 2) { /* ... and once the writer */
            while (atomic_load(&side->ring.shared->writer_sleeps) == 0)
                sched_yield();
        }
        memcpy(&number, payload, sizeof number);
        const uint8_t *bytes = payload;
        side->wrong |= number != i || size != record_size(i) || bytes[size - 1] != (i & 0xff);
        i++;
        if (rand_r(&side->seed) % 3 == 0)
            tux_ring_release(&side->ring);
        if (rand_r(&side->seed) % 8 == 0)
            dawdle(side);
    }
    tux_ring_release(&side->ring);
    return NULL;
}

static void test_two_threads(uint32_t capacity, uint32_t records)
{
    struct side writer = {.records = records, .seed = 1}, reader = {.records = records, .seed = 2};
    if (tux_ring_create(&writer.ring, capacity) != 0)
        abort();
    reader.ring = writer.ring; /* the same mapping, so that ThreadSanitizer sees both ends at the same addresses */
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, write_all, &writer);
    pthread_create(&threads[1], NULL, read_all, &reader);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    CHECK(!writer.wrong && !reader.wrong);
    CHECK(writer.ring.position == reader.ring.position);
    CHECK(writer.sleeps > 0 && reader.sleeps > 0);
    printf("ring of %u: %u records, the writer slept %u times, the reader %u times\n", capacity, records, writer.sleeps,
           reader.sleeps);
    tux_ring_close(&writer.ring);
}

int main(void)
{
    test_creation();
    test_order_sizes_and_release();
    test_largest_record_at_every_place();
    test_wakes_only_who_sleeps();
    test_hostile_writer();
    test_hostile_reader();
    test_two_threads(4096, 300000);
    test_two_threads(65536, 300000);
    return check_report();
}
