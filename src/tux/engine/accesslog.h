/* SPDX-License-Identifier: MIT */
/* The access log: records are formatted by the engine's thread into a ring of bytes and written to the file by a thread of
 * its own in large pieces, so that a slow or full disk never stalls serving. A record that finds no room is counted, and
 * the count is reported: nothing is lost silently. */
#ifndef TUX_ACCESSLOG_H
#define TUX_ACCESSLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TUX_LOG_RING_BYTES (1024u * 1024u) /* about 5,000 records: 50 ms of a very busy worker, a second of a usual one */
#define TUX_LOG_FLUSH_MS 100u              /* a record is in the file at most this much later (3x is tested) */
#define TUX_LOG_MAX_FIELD_BYTES 2048u      /* each text of a record: cut there, marked with "..." */
#define TUX_LOG_MAX_RECORD_BYTES (6u * (6u * TUX_LOG_MAX_FIELD_BYTES + 3u) + 512u) /* 6 texts, every byte as \u00HH */
#define TUX_LOG_CLOSE_MS 2000u             /* tux_accesslog_free waits this long for what is left to be written */

enum tux_log_format { TUX_LOG_COMMON, TUX_LOG_COMBINED, TUX_LOG_JSON };

struct tux_log_text {
    const uint8_t *ptr; /* NULL: "-" (common, combined) or absent (json) */
    size_t len;
};

struct tux_log_record {
    struct tux_log_text peer;    /* textual address, "unix:" for unix sockets */
    struct tux_log_text method, target, host, referer, user_agent;
    uint8_t minor;               /* HTTP/1.minor; 255: the head was not understood (request line logged as "-") */
    uint16_t status;
    uint64_t body_bytes;         /* of the body, as nginx's $body_bytes_sent */
    int64_t wall_ms;             /* when the request's head was complete, ms since 1970 */
    uint64_t duration_us;        /* until the last byte was handed to the kernel */
    uint8_t tier;                /* 'm' memo, 'r' made by a recipe, 'p' planned now, 'e' error of the engine, 'k' kernel (later) */
};

struct tux_accesslog;

/* fd stays the caller's, who may close it at once (the log uses a duplicate). For several workers to share a file it must
 * be open with O_APPEND. NULL: no memory, descriptor or thread. */
struct tux_accesslog *tux_accesslog_new(int fd, enum tux_log_format format);
void tux_accesslog_write(struct tux_accesslog *log, const struct tux_log_record *record); /* engine's thread only */
/* Any thread: later records go to fd (duplicated, too). Returns 0; or -errno, and the log goes on with what it has. */
int tux_accesslog_reopen(struct tux_accesslog *log, int fd);
/* Writes what is left and joins the thread. After TUX_LOG_CLOSE_MS it gives up; a thread that the kernel still holds in
 * a write is left behind with its memory. */
/* Write what is left (bounded: TUX_LOG_CLOSE_MS), join the thread, free the log; what was lost in all. */
struct tux_log_end {
    uint64_t lost;
    int error; /* errno of the last failed write, 0 when writing worked */
};
struct tux_log_end tux_accesslog_end(struct tux_accesslog *log);
void tux_accesslog_free(struct tux_accesslog *log); /* the same, for who does not want to know; NULL is nothing */
uint64_t tux_accesslog_lost(const struct tux_accesslog *log); /* records lost so far: no room, or a failed write */
int tux_accesslog_error(const struct tux_accesslog *log);     /* errno of the last failed write, 0 when writing works */

/* Formats one record into buffer[0..cap): its length, or 0 when it does not fit. Pure; used by write and by tests.
 * Control characters, quotes, backslashes and bytes over 0x7e are escaped (\xHH; JSON: \u00HH for Latin-1 bytes).
 * Times are local, with their offset; month names are English in every locale. */
size_t tux_log_format_record(enum tux_log_format format, const struct tux_log_record *record, char *buffer, size_t cap);

#endif
