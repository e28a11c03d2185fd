/* SPDX-License-Identifier: MIT */
/* The access log: formats byte for byte, and the thread that writes: order, a full disk, a reader that stops reading,
 * reopening, closing in bounded time. Also meant for ThreadSanitizer. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "accesslog.h"

#define TEXT(literal) {.ptr = (const uint8_t *)(literal), .len = sizeof(literal) - 1}
#define WORST_CASE_MS 20000 /* a condition that is not met by then is a failure */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct tux_log_record usual(void)
{
    return (struct tux_log_record){
        .peer = TEXT("192.0.2.7"),
        .method = TEXT("GET"),
        .target = TEXT("/a?b=c"),
        .host = TEXT("example.org"),
        .referer = TEXT("https://example.org/"),
        .user_agent = TEXT("Mozilla/5.0"),
        .minor = 1,
        .status = 200,
        .body_bytes = 1234,
        .wall_ms = 1795554000123, /* 2026-11-24T21:00:00.123Z */
        .duration_us = 57,
        .tier = 'm',
    };
}

/* -- formats ---------------------------------------------------------------------------------------------------- */

static void expect(enum tux_log_format format, const struct tux_log_record *record, const char *line)
{
    char out[TUX_LOG_MAX_RECORD_BYTES];
    size_t len = tux_log_format_record(format, record, out, sizeof out);
    if (len != strlen(line) || memcmp(out, line, len) != 0)
        fprintf(stderr, "expected: %sgot:      %.*s", line, (int)len, out);
    CHECK(len == strlen(line) && memcmp(out, line, len) == 0);
}

static void test_usual_lines(void)
{
    struct tux_log_record record = usual();
    expect(TUX_LOG_COMMON, &record, "192.0.2.7 - - [24/Nov/2026:21:00:00 +0000] \"GET /a?b=c HTTP/1.1\" 200 1234\n");
    expect(TUX_LOG_COMBINED, &record,
           "192.0.2.7 - - [24/Nov/2026:21:00:00 +0000] \"GET /a?b=c HTTP/1.1\" 200 1234 "
           "\"https://example.org/\" \"Mozilla/5.0\"\n");
    expect(TUX_LOG_JSON, &record,
           "{\"time\":\"2026-11-24T21:00:00.123+00:00\",\"peer\":\"192.0.2.7\",\"method\":\"GET\",\"target\":\"/a?b=c\","
           "\"version\":\"1.1\",\"status\":200,\"bytes\":1234,\"duration_us\":57,\"host\":\"example.org\","
           "\"referer\":\"https://example.org/\",\"user_agent\":\"Mozilla/5.0\",\"tier\":\"memo\"}\n");
}

static void test_absent_texts(void)
{
    struct tux_log_record record = {.peer = TEXT("unix:"), .method = TEXT("HEAD"), .target = TEXT("/"), .status = 204, .tier = 'p'};
    expect(TUX_LOG_COMBINED, &record, "unix: - - [01/Jan/1970:00:00:00 +0000] \"HEAD / HTTP/1.0\" 204 0 \"-\" \"-\"\n");
    expect(TUX_LOG_JSON, &record,
           "{\"time\":\"1970-01-01T00:00:00.000+00:00\",\"peer\":\"unix:\",\"method\":\"HEAD\",\"target\":\"/\","
           "\"version\":\"1.0\",\"status\":204,\"bytes\":0,\"duration_us\":0,\"tier\":\"planned\"}\n");

    record.minor = 255; /* not understood */
    record.status = 400;
    record.tier = 'e';
    record.body_bytes = UINT64_MAX;
    expect(TUX_LOG_COMMON, &record, "unix: - - [01/Jan/1970:00:00:00 +0000] \"-\" 400 18446744073709551615\n");
    expect(TUX_LOG_JSON, &record,
           "{\"time\":\"1970-01-01T00:00:00.000+00:00\",\"peer\":\"unix:\",\"status\":400,"
           "\"bytes\":18446744073709551615,\"duration_us\":0,\"tier\":\"error\"}\n");
}

/* Nothing that a client sends can end a line, end a field, or reach a terminal as a control sequence. */
static void test_escapes(void)
{
    struct tux_log_record record = usual();
    record.target = (struct tux_log_text)TEXT("/\r\n\"\\\x1b[2J\t\x7f\xc3\xa4~ '");
    record.user_agent = (struct tux_log_text){.ptr = (const uint8_t *)"a\0b", .len = 3};
    record.referer = (struct tux_log_text)TEXT("");
    expect(TUX_LOG_COMBINED, &record,
           "192.0.2.7 - - [24/Nov/2026:21:00:00 +0000] \"GET /\\x0D\\x0A\\x22\\x5C\\x1B[2J\\x09\\x7F\\xC3\\xA4~ ' HTTP/1.1\" "
           "200 1234 \"\" \"a\\x00b\"\n");
    expect(TUX_LOG_JSON, &record,
           "{\"time\":\"2026-11-24T21:00:00.123+00:00\",\"peer\":\"192.0.2.7\",\"method\":\"GET\","
           "\"target\":\"/\\u000D\\u000A\\\"\\\\\\u001B[2J\\u0009\\u007F\\u00C3\\u00A4~ '\","
           "\"version\":\"1.1\",\"status\":200,\"bytes\":1234,\"duration_us\":57,\"host\":\"example.org\","
           "\"referer\":\"\",\"user_agent\":\"a\\u0000b\",\"tier\":\"memo\"}\n");

    for (int byte = 0; byte < 256; byte++) {
        char out[TUX_LOG_MAX_RECORD_BYTES];
        uint8_t sent[20]; /* longer than the words in which texts are looked at */
        memset(sent, 'x', sizeof sent);
        sent[byte % 20] = (uint8_t)byte;
        record.target = (struct tux_log_text){.ptr = sent, .len = sizeof sent};
        for (int format = TUX_LOG_COMMON; format <= TUX_LOG_JSON; format++) {
            size_t len = tux_log_format_record((enum tux_log_format)format, &record, out, sizeof out);
            bool printable = len > 1 && out[len - 1] == '\n';
            for (size_t i = 0; i + 1 < len; i++)
                printable &= out[i] >= 0x20 && out[i] <= 0x7e;
            CHECK(printable);
            bool escaped = memmem(out, len, sent, sizeof sent) == NULL;
            CHECK(escaped == (byte < 0x20 || byte > 0x7e || byte == '"' || byte == '\\'));
        }
    }
}

static void test_long_texts_and_small_buffers(void)
{
    static uint8_t noise[3 * TUX_LOG_MAX_FIELD_BYTES];
    static char out[TUX_LOG_MAX_RECORD_BYTES + 1];
    struct tux_log_record record = usual();
    memset(noise, 'x', sizeof noise);
    record.target = (struct tux_log_text){.ptr = noise, .len = TUX_LOG_MAX_FIELD_BYTES};
    size_t whole = tux_log_format_record(TUX_LOG_COMMON, &record, out, sizeof out);
    CHECK(memmem(out, whole, "x HTTP/1.1", 10) != NULL);
    record.target.len++;
    size_t cut = tux_log_format_record(TUX_LOG_COMMON, &record, out, sizeof out);
    CHECK(cut == whole + 3 && memmem(out, cut, "x... HTTP/1.1", 13) != NULL);

    /* The longest record there can be fits the stated maximum. */
    memset(noise, 0xff, sizeof noise);
    struct tux_log_text longest = {.ptr = noise, .len = sizeof noise};
    record = (struct tux_log_record){
        .peer = longest, .method = longest, .target = longest, .host = longest, .referer = longest, .user_agent = longest,
        .minor = 254, .status = UINT16_MAX, .body_bytes = UINT64_MAX, .duration_us = UINT64_MAX, .wall_ms = INT64_MAX};
    for (int format = TUX_LOG_COMMON; format <= TUX_LOG_JSON; format++) {
        size_t len = tux_log_format_record((enum tux_log_format)format, &record, out, TUX_LOG_MAX_RECORD_BYTES);
        CHECK(len > 3 * 4 * TUX_LOG_MAX_FIELD_BYTES);
    }
    record.wall_ms = INT64_MIN;
    CHECK(tux_log_format_record(TUX_LOG_JSON, &record, out, TUX_LOG_MAX_RECORD_BYTES) > 0);

    record = usual();
    size_t needed = tux_log_format_record(TUX_LOG_JSON, &record, out, sizeof out);
    for (size_t cap = 0; cap <= needed; cap++) {
        char *tight = malloc(cap + 1); /* the sanitizer watches its end */
        CHECK(tux_log_format_record(TUX_LOG_JSON, &record, tight, cap) == (cap == needed ? needed : 0));
        free(tight);
    }
}

static void test_time_zones(void)
{
    struct tux_log_record record = usual();
    setlocale(LC_ALL, "");
    setenv("TZ", "XXX-05:30", 1); /* POSIX signs are the other way round: five and a half hours east */
    tzset();
    record.wall_ms += 1000;
    expect(TUX_LOG_COMMON, &record, "192.0.2.7 - - [25/Nov/2026:02:30:01 +0530] \"GET /a?b=c HTTP/1.1\" 200 1234\n");
    setenv("TZ", "YYY03:30", 1);
    tzset();
    record.wall_ms = -1; /* before 1970 */
    record.host.ptr = record.referer.ptr = record.user_agent.ptr = NULL;
    expect(TUX_LOG_JSON, &record,
           "{\"time\":\"1969-12-31T20:29:59.999-03:30\",\"peer\":\"192.0.2.7\",\"method\":\"GET\",\"target\":\"/a?b=c\","
           "\"version\":\"1.1\",\"status\":200,\"bytes\":1234,\"duration_us\":57,\"tier\":\"memo\"}\n");
    setenv("TZ", "UTC", 1);
    tzset();
}

/* -- the thread ------------------------------------------------------------------------------------------------- */

static int temporary_file(void)
{
    char name[] = "/tmp/tux-test-accesslog-XXXXXX";
    int fd = mkostemp(name, O_APPEND | O_CLOEXEC);
    if (fd < 0)
        abort();
    unlink(name);
    return fd;
}

static off_t file_size(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? st.st_size : -1;
}

static bool wait_until_size(int fd, off_t size)
{
    int64_t until = now_ms() + WORST_CASE_MS;
    while (file_size(fd) < size && now_ms() < until)
        sched_yield();
    return file_size(fd) == size;
}

static bool wait_for_error(struct tux_accesslog *log, int error)
{
    int64_t until = now_ms() + WORST_CASE_MS;
    while (tux_accesslog_error(log) != error && now_ms() < until)
        sched_yield();
    return tux_accesslog_error(log) == error;
}

static bool wait_for_lost(struct tux_accesslog *log, uint64_t lost)
{
    int64_t until = now_ms() + WORST_CASE_MS;
    while (tux_accesslog_lost(log) < lost && now_ms() < until)
        sched_yield();
    return tux_accesslog_lost(log) == lost;
}

/* A record that carries its number as its duration; a few have long targets. */
static void write_number(struct tux_accesslog *log, unsigned number)
{
    static uint8_t noise[TUX_LOG_MAX_FIELD_BYTES];
    struct tux_log_record record = usual();
    memset(noise, 'x', sizeof noise);
    if (number % 10 == 0)
        record.target = (struct tux_log_text){.ptr = noise, .len = number % sizeof noise};
    record.duration_us = number;
    tux_accesslog_write(log, &record);
}

/* The whole file; every line must be a whole JSON record, and numbers must ascend. Returns how many there are. */
static unsigned read_numbers(int fd, unsigned *first, unsigned *last)
{
    off_t size = file_size(fd);
    char *text = malloc((size_t)size + 1), *line = text, *end;
    unsigned count = 0, before = 0;
    bool right = pread(fd, text, (size_t)size, 0) == size;
    text[size] = 0;
    while (right && (end = strchr(line, '\n')) != NULL) {
        *end = 0;
        char *field = strstr(line, "\"duration_us\":");
        unsigned number = field == NULL ? 0 : (unsigned)strtoul(field + 14, NULL, 10);
        right &= strncmp(line, "{\"time\":", 8) == 0 && end[-1] == '}' && strchr(line + 1, '{') == NULL;
        right &= number > before;
        if (count++ == 0)
            *first = number;
        *last = before = number;
        line = end + 1;
    }
    CHECK(right && *line == 0);
    free(text);
    return count;
}

static void test_a_record_arrives_without_another(void)
{
    int fd = temporary_file();
    struct tux_accesslog *log = tux_accesslog_new(fd, TUX_LOG_COMMON);
    struct tux_log_record record = usual();
    char line[200];
    size_t len = tux_log_format_record(TUX_LOG_COMMON, &record, line, sizeof line);
    for (off_t i = 1; i <= 3; i++) { /* each finds the thread idle, or about to be */
        int64_t start = now_ms();
        tux_accesslog_write(log, &record);
        CHECK(wait_until_size(fd, i * (off_t)len));
        CHECK(now_ms() - start < 3 * TUX_LOG_FLUSH_MS + 2000); /* the rest is for a loaded machine */
    }
    tux_accesslog_free(log);
    CHECK(file_size(fd) == 3 * (off_t)len);
    close(fd);
}

static void test_many_records(void)
{
    enum { RECORDS = 200000 };
    unsigned first = 0, last = 0;
    int fd = temporary_file();
    struct tux_accesslog *log = tux_accesslog_new(fd, TUX_LOG_JSON);
    int64_t start = now_ms();
    for (unsigned i = 1; i <= RECORDS; i++)
        write_number(log, i);
    int64_t spent = now_ms() - start;
    uint64_t lost = tux_accesslog_lost(log);
    tux_accesslog_free(log);
    unsigned count = read_numbers(fd, &first, &last);
    printf("%d ns for each of %d records, %lu lost\n", (int)(spent * 1000000 / RECORDS), RECORDS, (unsigned long)lost);
    CHECK(count + lost == RECORDS && count > 0 && first == 1);
    close(fd);

    log = tux_accesslog_new(fd = temporary_file(), TUX_LOG_JSON); /* slowly enough for the disk: nothing is lost */
    for (unsigned i = 1; i <= 20000; i++) {
        write_number(log, i);
        if (i % 500 == 0) { /* two such steps fit into the ring several times */
            off_t before = file_size(fd);
            int64_t until = now_ms() + WORST_CASE_MS;
            while (file_size(fd) == before && now_ms() < until)
                sched_yield();
        }
    }
    CHECK(tux_accesslog_lost(log) == 0);
    tux_accesslog_free(log);
    CHECK(read_numbers(fd, &first, &last) == 20000 && last == 20000);
    close(fd);
}

static void test_full_disk(void)
{
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    struct tux_accesslog *log = tux_accesslog_new(full, TUX_LOG_JSON);
    close(full); /* the log has its own */
    for (unsigned i = 1; i <= 10; i++)
        write_number(log, i);
    CHECK(wait_for_error(log, ENOSPC));
    int fd = temporary_file();
    CHECK(tux_accesslog_reopen(log, fd) == 0); /* the operator helps */
    unsigned first = 0, last = 0;
    write_number(log, 11);
    CHECK(wait_for_error(log, 0));
    CHECK(tux_accesslog_lost(log) == 10);
    tux_accesslog_free(log);
    CHECK(read_numbers(fd, &first, &last) == 1 && first == 11);
    close(fd);
}

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        abort();
}

/* The disk fills in the middle of a record, then has room again: no line is torn, and every record is there or counted. */
static void test_disk_full_in_the_middle_of_a_record(void)
{
    unsigned first = 0, last = 0;
    int fd = temporary_file();
    struct tux_accesslog *log = tux_accesslog_new(fd, TUX_LOG_JSON);
    char line[500];
    struct tux_log_record record = usual();
    off_t record_bytes = (off_t)tux_log_format_record(TUX_LOG_JSON, &record, line, sizeof line) - 1; /* one digit less */
    limit_file_size(1000);
    CHECK(record_bytes > 200 && record_bytes < 250 && 1000 % record_bytes != 0); /* four are whole, the fifth is cut off */
    for (unsigned i = 1; i <= 9; i++)
        write_number(log, i);
    CHECK(wait_for_lost(log, 4)); /* the fifth waits */
    CHECK(tux_accesslog_error(log) == EFBIG && file_size(fd) == 1000); /* SIGXFSZ does not reach anybody */
    write_number(log, 11);
    CHECK(wait_for_lost(log, 5));
    limit_file_size(RLIM_INFINITY);
    write_number(log, 12);
    CHECK(wait_for_error(log, 0));
    CHECK(tux_accesslog_lost(log) == 5);
    tux_accesslog_free(log);
    CHECK(read_numbers(fd, &first, &last) == 6);
    CHECK(first == 1 && last == 12);
    close(fd);
}

static void test_reopen(void)
{
    unsigned first = 0, last = 0, number = 0;
    int files[5];
    struct tux_accesslog *log = tux_accesslog_new(files[0] = temporary_file(), TUX_LOG_JSON);
    unsigned last_of[5] = {0};
    for (int f = 0; f < 5; f++) {
        if (f > 0) {
            files[f] = temporary_file();
            CHECK(tux_accesslog_reopen(log, files[f]) == 0);
        }
        for (int i = 0; i < 50; i++)
            write_number(log, ++number);
        last_of[f] = number;
    }
    CHECK(tux_accesslog_reopen(log, -1) == -EBADF);
    CHECK(tux_accesslog_lost(log) == 0);
    tux_accesslog_free(log);
    unsigned total = 0;
    for (int f = 0; f < 5; f++) {
        last = 0;
        total += read_numbers(files[f], &first, &last);
        CHECK(last <= last_of[f]); /* later records are not in the older file */
        close(files[f]);
    }
    CHECK(total == 250 && last == 250);

    /* A log that is idle lets go of a file that was moved away. */
    int pipe_ends[2];
    if (pipe2(pipe_ends, O_CLOEXEC) != 0)
        abort();
    log = tux_accesslog_new(pipe_ends[1], TUX_LOG_JSON);
    close(pipe_ends[1]);
    int fd = temporary_file();
    CHECK(tux_accesslog_reopen(log, fd) == 0);
    struct pollfd hung_up = {.fd = pipe_ends[0], .events = POLLIN};
    CHECK(poll(&hung_up, 1, WORST_CASE_MS) == 1 && (hung_up.revents & POLLHUP) != 0);
    tux_accesslog_free(log);
    close(pipe_ends[0]);
    close(fd);
}

/* A pipe that nobody reads: the engine's thread never waits, what finds no room is counted, closing is bounded. */
static void test_reader_that_stops(void)
{
    int ends[2], copy = temporary_file();
    unsigned first = 0, last = 0;
    if (pipe2(ends, O_CLOEXEC) != 0)
        abort();
    struct tux_accesslog *log = tux_accesslog_new(ends[1], TUX_LOG_JSON);
    unsigned written = 0;
    int64_t until = now_ms() + WORST_CASE_MS;
    while (tux_accesslog_lost(log) < 1000 && now_ms() < until)
        write_number(log, ++written);
    CHECK(tux_accesslog_lost(log) >= 1000);

    /* It reads again, for a while: the log goes on, nothing is torn. */
    char buffer[4096];
    for (int i = 0; i < 100; i++) {
        ssize_t got = read(ends[0], buffer, sizeof buffer);
        CHECK(got > 0 && write(copy, buffer, (size_t)got) == got);
    }
    uint64_t lost = tux_accesslog_lost(log);
    int64_t start = now_ms();
    tux_accesslog_free(log);
    CHECK(now_ms() - start < TUX_LOG_CLOSE_MS + 3000); /* 2 s, and time for a loaded machine */
    close(ends[1]);
    ssize_t got;
    while ((got = read(ends[0], buffer, sizeof buffer)) > 0)
        CHECK(write(copy, buffer, (size_t)got) == got);
    CHECK(got == 0); /* the thread has let go of its end */
    close(ends[0]);

    off_t size = file_size(copy); /* the last line may be cut: the reader's pipe was full */
    char *text = malloc((size_t)size);
    CHECK(pread(copy, text, (size_t)size, 0) == size);
    const char *end = memrchr(text, '\n', (size_t)size);
    CHECK(end != NULL && ftruncate(copy, end - text + 1) == 0);
    free(text);
    unsigned count = read_numbers(copy, &first, &last);
    CHECK(first == 1 && count > 100 && count + lost <= written);
    close(copy);
}

static void test_reader_that_goes(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        abort();
    struct tux_accesslog *log = tux_accesslog_new(ends[1], TUX_LOG_COMMON);
    close(ends[0]);
    write_number(log, 1);
    CHECK(wait_for_error(log, EPIPE)); /* and SIGPIPE does not reach anybody */
    CHECK(wait_for_lost(log, 1));
    tux_accesslog_free(log);
    close(ends[1]);
}

static void test_life(void)
{
    CHECK(tux_accesslog_new(-1, TUX_LOG_COMMON) == NULL);
    tux_accesslog_free(NULL);
    int fd = temporary_file();
    for (int i = 0; i < 50; i++) {
        struct tux_accesslog *log = tux_accesslog_new(fd, TUX_LOG_COMMON);
        if (i % 2)
            write_number(log, 1);
        tux_accesslog_free(log); /* at once: the record is written all the same */
    }
    CHECK(file_size(fd) > 0 && file_size(fd) % 25 == 0);
    close(fd);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    int before = dup(0);
    close(before);
    test_usual_lines();
    test_absent_texts();
    test_escapes();
    test_long_texts_and_small_buffers();
    test_time_zones();
    test_a_record_arrives_without_another();
    test_many_records();
    test_full_disk();
    test_disk_full_in_the_middle_of_a_record();
    test_reopen();
    test_reader_that_stops();
    test_reader_that_goes();
    test_life();
    int after = dup(0);
    CHECK(before == after); /* no descriptor is left open */
    return check_report();
}
