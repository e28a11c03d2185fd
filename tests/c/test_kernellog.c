/* SPDX-License-Identifier: MIT */
/* The log of the kernel tier: every record of the ring becomes one line, whatever happens to the log. The ring is
 * ordinary memory that a test fills as the kernel would; at the end, one of the kernel's own, where this process may
 * make one. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../kernel/bpf/layout.h"
#include "kernellog.h"

#define PAGE 4096u
#define BUSY (UINT32_C(1) << 31)
#define DISCARD (UINT32_C(1) << 30)
#define MUST(condition) must((condition) != 0, __LINE__, #condition)

static void must(int holds, int line, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "the test itself failed in line %d: %s: %s\n", line, what, strerror(errno));
    abort();
}

/* -- the ring, as the kernel writes it -------------------------------------------------------------------------- */

struct ring {
    size_t bytes;
    uint64_t *consumer, *producer;
    uint8_t *data;
    uint8_t *all; /* the whole mapping */
    uint64_t produced;
};

/* The data's pages are mapped twice in a row. */
static void ring_make(struct ring *ring, size_t bytes)
{
    int fd = memfd_create("ring", MFD_CLOEXEC);
    MUST(fd >= 0 && ftruncate(fd, (off_t)(2 * PAGE + bytes)) == 0);
    size_t size = 2 * PAGE + 2 * bytes;
    uint8_t *all = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int both = PROT_READ | PROT_WRITE;
    MUST(all != MAP_FAILED);
    MUST(mmap(all, 2 * PAGE + bytes, both, MAP_SHARED | MAP_FIXED, fd, 0) == all);
    MUST(mmap(all + 2 * PAGE + bytes, bytes, both, MAP_SHARED | MAP_FIXED, fd, 2 * PAGE) == all + 2 * PAGE + bytes);
    close(fd);
    *ring = (struct ring){.bytes = bytes,
                          .consumer = (uint64_t *)(void *)all,
                          .producer = (uint64_t *)(void *)(all + PAGE),
                          .data = all + 2 * PAGE,
                          .all = all};
}

static void ring_free(struct ring *ring)
{
    munmap(ring->all, 2 * PAGE + 2 * ring->bytes);
}

/* Room for a record, marked busy; NULL: the ring is full. */
static uint32_t *ring_reserve(struct ring *ring, uint32_t len)
{
    uint64_t size = (len + 8u + 7u) & ~7u;
    uint64_t consumed = __atomic_load_n(ring->consumer, __ATOMIC_ACQUIRE);
    if (ring->produced + size - consumed > ring->bytes)
        return NULL;
    uint32_t *header = (uint32_t *)(void *)(ring->data + ring->produced % ring->bytes);
    header[0] = len | BUSY;
    header[1] = 0;
    ring->produced += size;
    __atomic_store_n(ring->producer, ring->produced, __ATOMIC_RELEASE);
    return header;
}

static void ring_commit(uint32_t *header, uint32_t flags)
{
    __atomic_store_n(header, (*header & ~BUSY) | flags, __ATOMIC_RELEASE);
}

static struct tux_kernel_record record_of(uint64_t id, uint32_t chunk)
{
    return (struct tux_kernel_record){
        .id = id, .first_chunk = chunk, .remote = {0, 0, htobe32(0xffff), htobe32(0xc0000201)}}; /* 192.0.2.1 */
}

/* A record in `len` bytes, of which the first are it. */
static bool ring_put_in(struct ring *ring, struct tux_kernel_record record, uint32_t len)
{
    uint32_t *header = ring_reserve(ring, len);
    if (header == NULL)
        return false;
    memset(header + 2, 0xee, len);
    memcpy(header + 2, &record, len < sizeof record ? len : sizeof record);
    ring_commit(header, 0);
    return true;
}

static bool ring_put(struct ring *ring, uint64_t id, uint32_t chunk)
{
    return ring_put_in(ring, record_of(id, chunk), sizeof(struct tux_kernel_record));
}

/* -- the log ---------------------------------------------------------------------------------------------------- */

static struct tux_kernellog *log_open(const struct ring *ring, int fd, enum tux_log_format format)
{
    struct tux_kernellog *log;
    struct tux_kernellog_ring mapped = {.consumer = ring->consumer, .producer = ring->producer, .data = ring->data};
    MUST(tux_kernellog_new_mapped(&mapped, ring->bytes, fd, format, &log) == 0);
    return log;
}

static void log_add(struct tux_kernellog *log, uint64_t id, uint32_t chunk, const char *head)
{
    MUST(tux_kernellog_add(log, id, chunk, head, strlen(head), 200, 1000 + id) == 0);
}

static int file_open(const char *name)
{
    int fd = open(name, O_CREAT | O_TRUNC | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
    MUST(fd >= 0);
    return fd;
}

/* All that is in a file so far. */
static const char *text_of(int fd)
{
    static char text[1 << 20];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    MUST(n >= 0);
    text[n] = 0;
    return text;
}

static unsigned count_lines(const char *text)
{
    unsigned lines = 0;
    for (; (text = strchr(text, '\n')) != NULL; text++)
        lines++;
    return lines;
}

#define HEAD "GET /a?b HTTP/1.1\r\nHost: example.org\r\n\r\n"
#define BROWSER "GET /a HTTP/1.0\r\nHost: h\r\nReferer: from\r\nUser-Agent: \"x\"\r\n\r\n"

static void test_formats(void)
{
    static const struct {
        enum tux_log_format format;
        const char *head, *line;
    } rows[] = {
        {TUX_LOG_COMMON, HEAD, "192.0.2.1 - - [24/Nov/2026:21:00:00 +0000] \"GET /a?b HTTP/1.1\" 200 1007\n"},
        {TUX_LOG_COMBINED, HEAD,
         "192.0.2.1 - - [24/Nov/2026:21:00:00 +0000] \"GET /a?b HTTP/1.1\" 200 1007 \"-\" \"-\"\n"},
        {TUX_LOG_COMBINED, BROWSER,
         "192.0.2.1 - - [24/Nov/2026:21:00:00 +0000] \"GET /a HTTP/1.0\" 200 1007 \"from\" \"\\x22x\\x22\"\n"},
        {TUX_LOG_JSON, HEAD,
         "{\"time\":\"2026-11-24T21:00:00.250+00:00\",\"peer\":\"192.0.2.1\",\"method\":\"GET\",\"target\":\"/a?b\","
         "\"version\":\"1.1\",\"status\":200,\"bytes\":1007,\"duration_us\":0,\"host\":\"example.org\","
         "\"tier\":\"kernel\"}\n"},
        {TUX_LOG_COMMON, "no head", "192.0.2.1 - - [24/Nov/2026:21:00:00 +0000] \"-\" 200 1007\n"},
    };
    MUST(setenv("TZ", "UTC", 1) == 0);
    tzset();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ring ring;
        int fd = file_open("log");
        ring_make(&ring, PAGE);
        struct tux_kernellog *log = log_open(&ring, fd, rows[i].format);
        log_add(log, 7, 3, rows[i].head);
        struct tux_kernel_record record = record_of(7, 3);
        record.boot_ns = UINT64_C(3600250000000);
        MUST(ring_put_in(&ring, record, sizeof record));
        CHECK_EQ(tux_kernellog_drain(log, INT64_C(1795550400000000000), 10), 1);
        CHECK_ROW(strcmp(text_of(fd), rows[i].line) == 0, rows[i].line);
        CHECK_EQ(tux_kernellog_count(log).lines, 1);
        tux_kernellog_free(log);
        ring_free(&ring);
        close(fd);
    }
}

/* Addresses of both families, one after the other; the text of the last one is kept. */
static void test_peers(void)
{
    static const struct {
        uint32_t words[4];
        const char *text;
    } rows[] = {
        {{0}, ":: "},
        {{0}, ":: "},
        {{0x20010db8, 0, 0, 1}, "2001:db8::1 "},
        {{0, 0, 0xffff, 0x7f000001}, "127.0.0.1 "},
        {{0, 0, 0xffff, 0x7f000001}, "127.0.0.1 "},
        {{0, 0, 0xffff, 0xffffffff}, "255.255.255.255 "},
        {{0, 0, 0, 0x7f000001}, "::127.0.0.1 "},
        {{0xfe800000, 0, 0x12345678, 0x9abcdef0}, "fe80::1234:5678:9abc:def0 "},
    };
    struct ring ring;
    int fd = file_open("log");
    ring_make(&ring, PAGE);
    struct tux_kernellog *log = log_open(&ring, fd, TUX_LOG_COMMON);
    log_add(log, 1, 0, HEAD);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tux_kernel_record record = record_of(1, 0);
        for (int k = 0; k < 4; k++)
            record.remote[k] = htobe32(rows[i].words[k]);
        MUST(ring_put_in(&ring, record, sizeof record));
    }
    CHECK_EQ(tux_kernellog_drain(log, 0, 100), 8);
    const char *at = text_of(fd);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_ROW(strncmp(at, rows[i].text, strlen(rows[i].text)) == 0, rows[i].text);
        at = strchr(at, '\n') + 1;
    }
    tux_kernellog_free(log);
    ring_free(&ring);
    close(fd);
}

/* Records of all lengths, many times round the ring; what is no record of ours, or of an answer not known, has no line
 * but is passed over. */
static void test_round(void)
{
    struct ring ring;
    int fd = file_open("log");
    ring_make(&ring, PAGE);
    struct tux_kernellog *log = log_open(&ring, fd, TUX_LOG_COMMON);
    log_add(log, 1, 0, HEAD);
    unsigned lines = 0, unknown = 0;
    for (unsigned i = 0; i < 5000; i++) {
        struct tux_kernel_record record = record_of(1, 0);
        uint32_t len = sizeof record;
        if (i % 5 == 1)
            len += i % 700;
        if (i % 5 == 2) {
            len = i % 40;
            unknown++;
        } else if (i % 5 == 3) {
            record.first_chunk = i % 2 ? 1 : UINT32_MAX;
            unknown++;
        } else if (i % 5 == 4) {
            record.id = 2;
            unknown++;
        } else {
            lines++;
        }
        MUST(ring_put_in(&ring, record, len));
        CHECK_EQ(tux_kernellog_drain(log, 0, 100), 1);
        CHECK_EQ(*ring.consumer, ring.produced);
    }
    CHECK_EQ(tux_kernellog_count(log).lines, lines);
    CHECK_EQ(tux_kernellog_count(log).unknown, unknown);
    CHECK_EQ(count_lines(text_of(fd)), lines);
    tux_kernellog_free(log);
    ring_free(&ring);
    close(fd);
}

/* A record that is being written is waited for, also by those behind it; one that was given up is skipped; no more are
 * taken than the caller wants. */
static void test_busy(void)
{
    struct ring ring;
    int fd = file_open("log");
    ring_make(&ring, PAGE);
    struct tux_kernellog *log = log_open(&ring, fd, TUX_LOG_COMMON);
    log_add(log, 1, 0, HEAD);
    struct tux_kernel_record record = record_of(1, 0);
    uint32_t *busy = ring_reserve(&ring, sizeof record);
    memcpy(busy + 2, &record, sizeof record);
    uint32_t *discarded = ring_reserve(&ring, 100);
    MUST(ring_put(&ring, 1, 0));
    CHECK_EQ(tux_kernellog_drain(log, 0, 100), 0);
    CHECK_EQ(*ring.consumer, 0);
    ring_commit(discarded, DISCARD);
    CHECK_EQ(tux_kernellog_drain(log, 0, 100), 0);
    ring_commit(busy, 0);
    CHECK_EQ(tux_kernellog_drain(log, 0, 1), 1);
    CHECK_EQ(count_lines(text_of(fd)), 1);
    CHECK_EQ(tux_kernellog_drain(log, 0, 100), 2);
    CHECK_EQ(count_lines(text_of(fd)), 2);
    CHECK_EQ(tux_kernellog_count(log).unknown, 0);
    CHECK_EQ(*ring.consumer, ring.produced);
    tux_kernellog_free(log);
    ring_free(&ring);
    close(fd);
}

/* A ring that makes no sense is not read any more; no byte beyond it is. */
static void test_nonsense(int kind)
{
    struct ring ring;
    int fd = file_open("log");
    ring_make(&ring, PAGE);
    struct tux_kernellog *log = log_open(&ring, fd, TUX_LOG_COMMON);
    log_add(log, 1, 0, HEAD);
    MUST(ring_put(&ring, 1, 0));
    uint32_t *header = ring_reserve(&ring, 40);
    if (kind == 0)
        *header = 41; /* beyond what was produced */
    else if (kind == 1)
        *header = DISCARD - 1;
    else
        *ring.producer = *ring.consumer + PAGE + 1; /* more than there is */
    CHECK_EQ(tux_kernellog_drain(log, 0, 100), -EIO);
    CHECK_EQ(tux_kernellog_count(log).lines, kind < 2);
    CHECK_EQ(count_lines(text_of(fd)), kind < 2);
    CHECK_EQ(tux_kernellog_drain(log, 0, 100), -EIO);
    tux_kernellog_free(log);
    ring_free(&ring);
    close(fd);
}

/* An answer that is removed is understood until its last record is read; its chunk may be another's by then. */
static void test_removed(void)
{
    struct ring ring;
    int fd = file_open("log");
    ring_make(&ring, PAGE);
    struct tux_kernellog *log = log_open(&ring, fd, TUX_LOG_COMMON);
    log_add(log, 1, 9, "GET /old HTTP/1.1\r\nHost: h\r\n\r\n");
    MUST(ring_put(&ring, 1, 9) && ring_put(&ring, 1, 9));
    tux_kernellog_remove(log, 9, 5);
    tux_kernellog_remove(log, 8, 1);
    tux_kernellog_remove(log, UINT32_MAX, 1);
    CHECK_EQ(tux_kernellog_drain(log, 0, 2), 2); /* none of these was it */
    MUST(ring_put(&ring, 1, 9));
    tux_kernellog_remove(log, 9, 1);
    tux_kernellog_remove(log, 9, 1); /* twice is once */
    log_add(log, 2, 9, "GET /new HTTP/1.1\r\nHost: h\r\n\r\n");
    MUST(ring_put(&ring, 2, 9));
    CHECK_EQ(tux_kernellog_drain(log, 0, 10), 2);
    CHECK_EQ(tux_kernellog_count(log).unknown, 0);
    MUST(ring_put(&ring, 1, 9) && ring_put(&ring, 2, 9));
    CHECK_EQ(tux_kernellog_drain(log, 0, 10), 2);
    CHECK_EQ(tux_kernellog_count(log).unknown, 1);
    const char *text = text_of(fd);
    static const char *const wanted[] = {"GET /old", "GET /old", "GET /old", "GET /new", "GET /new"};
    CHECK_EQ(count_lines(text), 5);
    for (int i = 0; i < 5; i++, text = strchr(text, '\n') + 1)
        CHECK_ROW(strstr(text, "GET ") == strstr(text, wanted[i]), wanted[i]);

    char head[TUX_KERNEL_MAX_HEAD_BYTES + 1] = "GET";
    CHECK_EQ(tux_kernellog_add(log, 3, 1, head, sizeof head - 1, 200, 0), 0);
    CHECK_EQ(tux_kernellog_add(log, 4, 1, head, sizeof head, 200, 0), -EINVAL);
    CHECK_EQ(tux_kernellog_add(log, 4, TUX_KERNELLOG_CHUNKS, head, 10, 200, 0), -EINVAL);
    tux_kernellog_free(log);
    ring_free(&ring);
    close(fd);
}

/* -- a log that cannot be written ------------------------------------------------------------------------------- */

/* A pipe that nobody reads: then the ring stays as it is, and nothing waits. Read again: every line comes, whole, in
 * order. */
static void test_full_pipe(void)
{
    enum { LINES = 20000 };
    struct ring ring;
    int pipe_fds[2];
    MUST(pipe2(pipe_fds, O_CLOEXEC) == 0);
    ring_make(&ring, 16 * PAGE);
    struct tux_kernellog *log = log_open(&ring, pipe_fds[1], TUX_LOG_COMMON);
    char head[2][64];
    for (unsigned i = 0; i < 2; i++) {
        snprintf(head[i], sizeof head[i], "GET /%u HTTP/1.1\r\nHost: h\r\n\r\n", i);
        log_add(log, i, i, head[i]);
    }
    unsigned put = 0, got = 0, refused = 0;
    size_t line_len = 0;
    static char text[1 << 17];
    size_t len = 0;
    while (got < LINES) {
        while (put < LINES && ring_put(&ring, put % 2, put % 2))
            put++;
        int taken = tux_kernellog_drain(log, 0, UINT32_MAX);
        if (taken == -EAGAIN && refused++ % 3 < 2) /* not read at once: again, and again for nothing */
            continue;
        MUST(taken >= 0 || taken == -EAGAIN);
        struct pollfd readable = {.fd = pipe_fds[0], .events = POLLIN};
        while (poll(&readable, 1, 0) == 1) {
            ssize_t n = read(pipe_fds[0], text + len, 5000);
            MUST(n > 0);
            len += (size_t)n;
            char *line = text, *end;
            while ((end = memchr(line, '\n', len - (size_t)(line - text))) != NULL) {
                if (line_len == 0)
                    line_len = (size_t)(end - line);
                char *number = memchr(line, '/', (size_t)(end - line)); /* of the date */
                number = memmem(line, (size_t)(end - line), "GET /", 5);
                MUST(number != NULL && (size_t)(end - line) == line_len && (unsigned)(number[5] - '0') == got % 2);
                got++;
                line = end + 1;
            }
            len -= (size_t)(line - text);
            memmove(text, line, len);
        }
    }
    CHECK(refused > 0);
    CHECK_EQ(got, LINES);
    CHECK_EQ(tux_kernellog_count(log).lines, LINES);
    tux_kernellog_free(log);
    ring_free(&ring);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* No space: the ring fills up. In a file with space, every line is there. */
static void test_full_disk(void)
{
    struct ring ring;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), fd = file_open("log");
    MUST(full >= 0);
    ring_make(&ring, PAGE);
    struct tux_kernellog *log = log_open(&ring, full, TUX_LOG_COMMON);
    log_add(log, 1, 0, HEAD);
    unsigned put = 0;
    for (unsigned i = 0; i < 300; i++) {
        put += ring_put(&ring, 1, 0);
        CHECK_EQ(tux_kernellog_drain(log, 0, 100), -ENOSPC);
    }
    CHECK(put < 300); /* the ring is full now: the programs would answer nothing more */
    CHECK(tux_kernellog_reopen(log, -1) == -EBADF);
    CHECK_EQ(tux_kernellog_drain(log, 0, 100), -ENOSPC);
    CHECK_EQ(tux_kernellog_reopen(log, fd), 0);
    CHECK(tux_kernellog_drain(log, 0, 1000) > 0);
    CHECK_EQ(count_lines(text_of(fd)), put);
    CHECK_EQ(tux_kernellog_count(log).lines, put);
    tux_kernellog_free(log);
    ring_free(&ring);
    close(full);
    close(fd);
}

/* A write that ends within a line: the rest follows; after a rotation, the line is whole in the new file. */
static void test_cut_line(bool rotated)
{
    struct rlimit limit, before;
    struct ring ring;
    int fd = file_open("log"), next = file_open("next");
    signal(SIGXFSZ, SIG_IGN);
    MUST(getrlimit(RLIMIT_FSIZE, &before) == 0);
    ring_make(&ring, PAGE);
    struct tux_kernellog *log = log_open(&ring, fd, TUX_LOG_COMMON);
    log_add(log, 1, 0, HEAD);
    MUST(ring_put(&ring, 1, 0) && ring_put(&ring, 1, 0) && ring_put(&ring, 1, 0));
    limit = before;
    limit.rlim_cur = 100; /* bytes of a file: more than one line, less than two */
    MUST(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_EQ(tux_kernellog_drain(log, 0, 100), -EFBIG);
    CHECK_EQ(tux_kernellog_drain(log, 0, 100), -EFBIG);
    MUST(setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK_EQ(strlen(text_of(fd)), 100);
    if (rotated)
        CHECK_EQ(tux_kernellog_reopen(log, next), 0);
    CHECK_EQ(tux_kernellog_drain(log, 0, 100), 0);
    CHECK_EQ(count_lines(text_of(fd)), rotated ? 1 : 3);
    const char *text = text_of(rotated ? next : fd);
    CHECK_EQ(count_lines(text), rotated ? 2 : 3);
    for (; *text != 0; text = strchr(text, '\n') + 1)
        CHECK(strncmp(text, "192.0.2.1 - - [", 15) == 0);
    tux_kernellog_free(log);
    ring_free(&ring);
    close(fd);
    close(next);
}

static void test_refused(void)
{
    struct tux_kernellog *log = (struct tux_kernellog *)&log;
    struct tux_kernellog_ring mapped = {0};
    int fd = file_open("log");
    static const size_t sizes[] = {0, PAGE + 1, 3 * PAGE, (size_t)UINT32_MAX + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        CHECK_EQ(tux_kernellog_new(fd, sizes[i], fd, TUX_LOG_COMMON, &log), -EINVAL);
    CHECK(log == NULL);
    CHECK_EQ(tux_kernellog_new(-1, PAGE, fd, TUX_LOG_COMMON, &log), -EBADF);
    uint64_t positions[2] = {0};
    mapped.consumer = &positions[0];
    mapped.producer = &positions[1];
    CHECK_EQ(tux_kernellog_new_mapped(&mapped, PAGE, -1, TUX_LOG_COMMON, &log), -EBADF);
    tux_kernellog_free(NULL);
    close(fd);
}

/* -- with a writer at the same time ----------------------------------------------------------------------------- */

#define TOGETHER 200000u

/* Records as long as divides the ring: so it needs no second mapping, and a data race would be seen. */
static void *write_records(void *arg)
{
    struct ring *ring = arg;
    for (unsigned i = 0; i < TOGETHER; i++) {
        struct tux_kernel_record record = record_of(1 + i % 3, i % 3);
        uint32_t *header;
        while ((header = ring_reserve(ring, 56)) == NULL)
            sched_yield();
        memcpy(header + 2, &record, sizeof record);
        ring_commit(header, i % 17 == 0 ? DISCARD : 0);
    }
    return NULL;
}

static void test_together(void)
{
    static uint64_t positions[2][8];
    struct ring ring = {.bytes = PAGE, .consumer = positions[0], .producer = positions[1]};
    pthread_t thread;
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    ring.data = calloc(1, PAGE);
    struct tux_kernellog *log = log_open(&ring, fd, TUX_LOG_JSON);
    for (unsigned i = 0; i < 3; i++)
        log_add(log, 1 + i, i, BROWSER);
    MUST(pthread_create(&thread, NULL, write_records, &ring) == 0);
    unsigned taken = 0;
    while (taken < TOGETHER) {
        int n = tux_kernellog_drain(log, 0, 1000);
        MUST(n >= 0);
        taken += (unsigned)n;
        if (n == 0)
            sched_yield();
    }
    MUST(pthread_join(thread, NULL) == 0);
    CHECK_EQ(taken, TOGETHER);
    CHECK_EQ(tux_kernellog_count(log).lines, TOGETHER - (TOGETHER + 16) / 17);
    CHECK_EQ(tux_kernellog_count(log).unknown, 0);
    tux_kernellog_free(log);
    free(ring.data);
    close(fd);
}

/* -- a ring of the kernel's own --------------------------------------------------------------------------------- */

static int bpf(int command, union bpf_attr *attr)
{
    return (int)syscall(SYS_bpf, command, attr, sizeof *attr);
}

#define INSTRUCTION(c, d, s, o, i)                                                                                     \
    ((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)})

/* A program that puts the record {id 7, chunk 3} into the ring. */
static int load_writer(int ring_fd)
{
    const struct bpf_insn program[] = {
        INSTRUCTION(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, -40, 7),
        INSTRUCTION(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, -32, 0),
        INSTRUCTION(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, -24, 0),
        INSTRUCTION(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, -16, 0),
        INSTRUCTION(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, -8, 0),
        INSTRUCTION(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, -8, 3),
        INSTRUCTION(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, ring_fd),
        INSTRUCTION(0, 0, 0, 0, 0),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0),
        INSTRUCTION(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -40),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, sizeof(struct tux_kernel_record)),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_4, 0, 0, BPF_RB_NO_WAKEUP),
        INSTRUCTION(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_ringbuf_output),
        INSTRUCTION(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    };
    union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_SCHED_CLS,
                           .insn_cnt = sizeof program / sizeof *program,
                           .insns = (uintptr_t)program,
                           .license = (uintptr_t) "Dual MIT/GPL"};
    return bpf(BPF_PROG_LOAD, &attr);
}

static void test_kernel_ring(void)
{
    _Static_assert(sizeof(struct tux_kernel_record) == 40, "what the program above writes");
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_RINGBUF, .max_entries = PAGE};
    int ring_fd = bpf(BPF_MAP_CREATE, &attr);
    int program_fd = ring_fd < 0 ? -1 : load_writer(ring_fd);
    if (program_fd < 0) {
        fprintf(stderr, "no ring of the kernel's own: %s\n", strerror(errno));
        MUST(errno == EPERM || errno == ENOSYS);
        return;
    }
    int fd = file_open("log");
    struct tux_kernellog *log;
    MUST(tux_kernellog_new(ring_fd, PAGE, fd, TUX_LOG_COMMON, &log) == 0);
    close(ring_fd);
    log_add(log, 7, 3, HEAD);
    static uint8_t packet[64];
    attr = (union bpf_attr){.test = {.prog_fd = (uint32_t)program_fd,
                                     .data_in = (uintptr_t)packet,
                                     .data_size_in = sizeof packet,
                                     .repeat = 10}};
    for (int i = 0; i < 50; i++) { /* six times round */
        MUST(bpf(BPF_PROG_TEST_RUN, &attr) == 0);
        CHECK_EQ(attr.test.retval, 0);
        CHECK_EQ(tux_kernellog_drain(log, 0, 100), 10);
    }
    attr.test.repeat = 1;
    unsigned put = 0;
    do
        MUST(bpf(BPF_PROG_TEST_RUN, &attr) == 0);
    while (attr.test.retval == 0 && put++ < 1000); /* until it is full */
    CHECK_EQ(put, PAGE / 48);
    CHECK_EQ(tux_kernellog_drain(log, 0, 1000), put);
    CHECK_EQ(tux_kernellog_count(log).lines, 500 + put);
    CHECK_EQ(tux_kernellog_count(log).unknown, 0);
    CHECK_EQ(count_lines(text_of(fd)), 500 + put);
    tux_kernellog_free(log);
    close(program_fd);
    close(fd);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    test_formats();
    test_peers();
    test_round();
    test_busy();
    for (int kind = 0; kind < 3; kind++)
        test_nonsense(kind);
    test_removed();
    test_full_pipe();
    test_full_disk();
    test_cut_line(false);
    test_cut_line(true);
    test_refused();
    test_together();
    test_kernel_ring();
    return check_report();
}
