/* SPDX-License-Identifier: MIT */
/* How a record of the access log is written: tux_log_format_record of accesslog.h. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "accesslog.h"

#define MAX_TIME_BYTES 64u

/* Where the record is written. When `full` is set, nothing more is added and the record is void. */
struct out {
    char *at, *end;
    bool full;
};

static void add(struct out *out, const char *bytes, size_t len)
{
    if ((size_t)(out->end - out->at) < len) {
        out->full = true;
        return;
    }
    memcpy(out->at, bytes, len);
    out->at += len;
}

#define ADD(out, literal) add(out, literal, sizeof literal - 1)

static void add_number(struct out *out, uint64_t number)
{
    char digits[20]; /* of UINT64_MAX */
    char *at = digits + sizeof digits;
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    add(out, at, (size_t)(digits + sizeof digits - at));
}

static bool is_plain(uint8_t byte)
{
    return byte >= 0x20 && byte <= 0x7e && byte != '"' && byte != '\\';
}

/* Whether 8 bytes at once are plain. A carry from one byte to the next needs a byte that is not. */
static bool are_plain(const uint8_t bytes[8])
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    uint64_t quotes = word ^ ones * '"', slashes = word ^ ones * '\\';
    uint64_t control = (word - ones * 0x20) & ~word;
    return ((word | (word + ones) | control | ((quotes - ones) & ~quotes) | ((slashes - ones) & ~slashes)) & high) == 0;
}

static void add_escaped_byte(struct out *out, uint8_t byte, bool json)
{
    static const char hex[] = "0123456789ABCDEF";
    char digits[2] = {hex[byte >> 4], hex[byte & 15]};
    if (json && (byte == '"' || byte == '\\')) {
        ADD(out, "\\");
        add(out, (const char *)&byte, 1);
        return;
    }
    if (json)
        ADD(out, "\\u00");
    else
        ADD(out, "\\x");
    add(out, digits, 2);
}

static void add_text(struct out *out, struct tux_log_text text, bool json)
{
    size_t len = text.len < TUX_LOG_MAX_FIELD_BYTES ? text.len : TUX_LOG_MAX_FIELD_BYTES;
    size_t done = 0;
    while (done < len && !out->full) {
        size_t plain = done;
        while (len - plain >= 8 && are_plain(text.ptr + plain))
            plain += 8;
        while (plain < len && is_plain(text.ptr[plain]))
            plain++;
        add(out, (const char *)text.ptr + done, plain - done);
        done = plain;
        if (done < len)
            add_escaped_byte(out, text.ptr[done++], json);
    }
    if (len < text.len)
        ADD(out, "...");
}

/* -- times ------------------------------------------------------------------------------------------------------ */

/* The texts of one second, kept because localtime_r costs more than the rest of a record. */
struct second {
    int64_t unix_s;
    bool valid;
    size_t clf_len, iso_len, zone_len;
    char clf[MAX_TIME_BYTES];  /* 24/Nov/2026:21:00:00 +0000 */
    char iso[MAX_TIME_BYTES];  /* 2026-11-24T21:00:00 */
    char zone[MAX_TIME_BYTES]; /* +00:00 */
};

static const struct second *second_of(int64_t unix_s)
{
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    static _Thread_local struct second second;
    if (second.valid && second.unix_s == unix_s)
        return &second;
    time_t t = (time_t)unix_s;
    struct tm tm;
    if (localtime_r(&t, &tm) == NULL) { /* a year over INT_MAX */
        t = 0;
        gmtime_r(&t, &tm);
    }
    long offset = tm.tm_gmtoff;
    char sign = offset < 0 ? '-' : '+';
    unsigned minutes = (unsigned)(offset < 0 ? -offset : offset) / 60;
    int year = tm.tm_year + 1900;
    second.clf_len =
        (size_t)snprintf(second.clf, sizeof second.clf, "%02d/%s/%d:%02d:%02d:%02d %c%02u%02u", tm.tm_mday,
                         months[tm.tm_mon], year, tm.tm_hour, tm.tm_min, tm.tm_sec, sign, minutes / 60, minutes % 60);
    second.iso_len = (size_t)snprintf(second.iso, sizeof second.iso, "%04d-%02d-%02dT%02d:%02d:%02d", year,
                                      tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    second.zone_len =
        (size_t)snprintf(second.zone, sizeof second.zone, "%c%02u:%02u", sign, minutes / 60, minutes % 60);
    second.unix_s = unix_s;
    second.valid = true;
    return &second;
}

/* -- formats ---------------------------------------------------------------------------------------------------- */

static void add_text_or_dash(struct out *out, struct tux_log_text text)
{
    if (text.ptr == NULL)
        ADD(out, "-");
    else
        add_text(out, text, false);
}

static void add_version(struct out *out, uint8_t minor)
{
    ADD(out, "1.");
    add_number(out, minor);
}

static void format_common(struct out *out, const struct tux_log_record *record, const struct second *second)
{
    add_text_or_dash(out, record->peer);
    ADD(out, " - - [");
    add(out, second->clf, second->clf_len);
    ADD(out, "] \"");
    if (record->minor == UINT8_MAX) {
        ADD(out, "-");
    } else {
        add_text_or_dash(out, record->method);
        ADD(out, " ");
        add_text_or_dash(out, record->target);
        ADD(out, " HTTP/");
        add_version(out, record->minor);
    }
    ADD(out, "\" ");
    add_number(out, record->status);
    ADD(out, " ");
    add_number(out, record->body_bytes);
}

static void format_combined(struct out *out, const struct tux_log_record *record, const struct second *second)
{
    format_common(out, record, second);
    ADD(out, " \"");
    add_text_or_dash(out, record->referer);
    ADD(out, "\" \"");
    add_text_or_dash(out, record->user_agent);
    ADD(out, "\"");
}

/* `opening` is all from the comma to the quote in front of the text. */
static void add_json_text(struct out *out, const char *opening, struct tux_log_text text)
{
    if (text.ptr == NULL)
        return;
    add(out, opening, strlen(opening));
    add_text(out, text, true);
    ADD(out, "\"");
}

static const char *tier_name(uint8_t tier)
{
    switch (tier) {
    case 'm':
        return "memo";
    case 'r':
        return "recipe";
    case 'p':
        return "planned";
    case 'e':
        return "error";
    case 'k':
        return "kernel";
    case 'f':
        return "forward";
    case 'a':
        return "app";
    default:
        return "unknown";
    }
}

static void format_json(struct out *out, const struct tux_log_record *record, const struct second *second,
                        unsigned milliseconds)
{
    char fraction[4] = {'.', (char)('0' + milliseconds / 100), (char)('0' + milliseconds / 10 % 10),
                        (char)('0' + milliseconds % 10)};
    const char *tier = tier_name(record->tier);
    ADD(out, "{\"time\":\"");
    add(out, second->iso, second->iso_len);
    add(out, fraction, sizeof fraction);
    add(out, second->zone, second->zone_len);
    ADD(out, "\"");
    add_json_text(out, ",\"peer\":\"", record->peer);
    if (record->minor != UINT8_MAX) {
        add_json_text(out, ",\"method\":\"", record->method);
        add_json_text(out, ",\"target\":\"", record->target);
        ADD(out, ",\"version\":\"");
        add_version(out, record->minor);
        ADD(out, "\"");
    }
    ADD(out, ",\"status\":");
    add_number(out, record->status);
    ADD(out, ",\"bytes\":");
    add_number(out, record->body_bytes);
    ADD(out, ",\"duration_us\":");
    add_number(out, record->duration_us);
    add_json_text(out, ",\"host\":\"", record->host);
    add_json_text(out, ",\"referer\":\"", record->referer);
    add_json_text(out, ",\"user_agent\":\"", record->user_agent);
    ADD(out, ",\"tier\":\"");
    add(out, tier, strlen(tier));
    ADD(out, "\"}");
}

size_t tux_log_format_record(enum tux_log_format format, const struct tux_log_record *record, char *buffer, size_t cap)
{
    struct out out = {.at = buffer, .end = buffer + cap};
    int64_t unix_s = record->wall_ms / 1000 - (record->wall_ms % 1000 < 0);
    const struct second *second = second_of(unix_s);
    switch (format) {
    case TUX_LOG_COMMON:
        format_common(&out, record, second);
        break;
    case TUX_LOG_COMBINED:
        format_combined(&out, record, second);
        break;
    case TUX_LOG_JSON:
        format_json(&out, record, second, (unsigned)(record->wall_ms - unix_s * 1000));
        break;
    }
    ADD(&out, "\n");
    return out.full ? 0 : (size_t)(out.at - buffer);
}
