/* SPDX-License-Identifier: MIT */
#include "path.h"

#include <string.h>

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum slash { SLASH_REFUSED, SLASH_KEPT, SLASH_DECODED }; /* what becomes of "%2F" */

/* Percent-decoding, once. Returns 0 or a status. *seen: there was a "%2F". */
static uint16_t unescape(const uint8_t *path, size_t len, uint8_t *out, size_t *out_len, enum slash slash, bool *seen)
{
    size_t n = 0;
    uint16_t status = 0;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = path[i];
        if (c == '%') {
            int high = i + 2 < len ? hex_value(path[i + 1]) : -1;
            int low = i + 2 < len ? hex_value(path[i + 2]) : -1;
            if (high < 0 || low < 0)
                return status != 0 ? status : 400;
            c = (uint8_t)(high << 4 | low);
            i += 2;
            *seen = *seen || c == '/';
            if (c == '/' && slash == SLASH_KEPT) {
                out[n++] = '%';
                out[n++] = path[i - 1];
                c = path[i];
            } else if (c == '/' && slash == SLASH_REFUSED && status == 0) {
                status = 404; /* what comes first is what is said */
            }
        }
        out[n++] = c;
    }
    *out_len = n;
    return status;
}

/* Empty and dot segments go, in place: what is written never overtakes what is read. */
static bool normalise(uint8_t *path, size_t *len)
{
    size_t end = *len, kept = 0, at = 0;
    bool folder = false;
    while (at < end) { /* each round takes a slash and the segment behind it */
        const uint8_t *slash = memchr(path + at + 1, '/', end - at - 1);
        size_t next = slash == NULL ? end : (size_t)(slash - path);
        const uint8_t *segment = path + at + 1;
        size_t segment_len = next - at - 1;
        folder = true;
        if (segment_len == 2 && segment[0] == '.' && segment[1] == '.') {
            if (kept == 0)
                return false;
            while (path[--kept] != '/') { /* ends: what is kept begins with a slash */
            }
        } else if (segment_len > 0 && !(segment_len == 1 && segment[0] == '.')) {
            folder = false;
            memmove(path + kept + 1, segment, segment_len);
            path[kept] = '/';
            kept += segment_len + 1;
        }
        at = next;
    }
    if (folder || kept == 0)
        path[kept++] = '/';
    *len = kept;
    return true;
}

static uint16_t decode(const uint8_t *path, size_t len, uint8_t *out, size_t *out_len, enum slash slash, bool *seen)
{
    *seen = false;
    if (len == 0 || path[0] != '/')
        return 400;
    uint16_t status = unescape(path, len, out, out_len, slash, seen);
    if (status != 0)
        return status;
    if (memchr(out, 0, *out_len) != NULL)
        return 400;
    bool plain = true;
    for (size_t i = 0; plain && i + 1 < *out_len; i++)
        plain = out[i] != '/' || (out[i + 1] != '/' && out[i + 1] != '.');
    return plain || normalise(out, out_len) ? 0 : 400;
}

uint16_t tux_path_decode(const uint8_t *path, size_t len, uint8_t *out, size_t *out_len, bool *kept_slash)
{
    bool seen;
    uint16_t status = decode(path, len, out, out_len, kept_slash != NULL ? SLASH_KEPT : SLASH_REFUSED, &seen);
    if (kept_slash != NULL)
        *kept_slash = seen;
    return status;
}

uint16_t tux_path_decode_slashes(const uint8_t *path, size_t len, uint8_t *out, size_t *out_len)
{
    bool seen;
    return decode(path, len, out, out_len, SLASH_DECODED, &seen);
}
