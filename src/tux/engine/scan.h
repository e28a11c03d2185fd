/* SPDX-License-Identifier: MIT */
/* Byte classes, and searches for the first byte of a class: 16 bytes at a time where SSE2 is there (every x86-64),
 * else one at a time. AVX2 was left out: it needs a dispatch at run time, and names and values are mostly under 32
 * bytes. Each search reads nothing outside [p, end), so a caller needs no padding after its buffer. */
#ifndef TUX_SCAN_H
#define TUX_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SSE2__) && !defined(TUX_NO_SIMD)
#include <emmintrin.h>
#define TUX_SCAN_SIMD 1
#else
#define TUX_SCAN_SIMD 0
#endif

#define TUX_BYTE_TOKEN 1u   /* tchar, RFC 9110 section 5.6.2 */
#define TUX_BYTE_HOST 2u    /* reg-name, RFC 3986 section 3.2.2, without "," and without "%" (which needs two digits) */
#define TUX_BYTE_HEX 4u     /* 0-9 a-f A-F */
#define TUX_BYTE_TEXT 8u    /* may stand in a field value: HTAB, SP, VCHAR, obs-text */
#define TUX_BYTE_TARGET 16u /* may stand in a request target: everything but controls, SP, DEL and "#" */
#define TUX_BYTE_QUOTED 32u /* may stand in a quoted-string unescaped: TEXT without DQUOTE and backslash */

/* The classes of each byte value. */
extern const uint8_t tux_byte_class[256];

static inline bool tux_byte_is(uint8_t byte, unsigned classes)
{
    return (tux_byte_class[byte] & classes) != 0;
}

static inline bool tux_byte_is_space(uint8_t byte) /* OWS, RFC 9110 section 5.6.3 */
{
    return byte == ' ' || byte == '\t';
}

static inline bool tux_byte_is_digit(uint8_t byte)
{
    return (uint8_t)(byte - '0') < 10;
}

/* ASCII only, whatever the locale. */
static inline uint8_t tux_byte_lower(uint8_t byte)
{
    return (uint8_t)(byte - 'A') < 26 ? (uint8_t)(byte | 0x20) : byte;
}

/* The first byte that is not of the classes, or end. The portable form of the searches below. */
static inline const uint8_t *tux_scan_class(const uint8_t *p, const uint8_t *end, unsigned classes)
{
    while (p < end && tux_byte_is(*p, classes))
        p++;
    return p;
}

#if TUX_SCAN_SIMD
/* One bit per byte that may not stand in a field value. */
static inline unsigned tux_scan_text_mask(__m128i bytes)
{
    __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    __m128i tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t'));
    __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, control), del));
}

/* One bit per byte that may not stand in a request target. */
static inline unsigned tux_scan_target_mask(__m128i bytes)
{
    __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x20)), bytes);
    __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
    __m128i fragment = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('#'));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(control, del), fragment));
}

/* One bit per byte that is not a letter, a digit or "-": the tchars that field names really use. */
static inline unsigned tux_scan_name_mask(__m128i bytes)
{
    __m128i lower = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
    __m128i letter =
        _mm_and_si128(_mm_cmpgt_epi8(lower, _mm_set1_epi8('a' - 1)), _mm_cmplt_epi8(lower, _mm_set1_epi8('z' + 1)));
    __m128i digit =
        _mm_and_si128(_mm_cmpgt_epi8(bytes, _mm_set1_epi8('0' - 1)), _mm_cmplt_epi8(bytes, _mm_set1_epi8('9' + 1)));
    __m128i dash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-'));
    return 0xffffu ^ (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(letter, digit), dash));
}
#endif

/* The first byte that may not stand in a field value (a control but HTAB, or DEL), or end. */
static inline const uint8_t *tux_scan_text(const uint8_t *p, const uint8_t *end)
{
#if TUX_SCAN_SIMD
    for (; end - p >= 16; p += 16) {
        unsigned mask = tux_scan_text_mask(_mm_loadu_si128((const __m128i *)(const void *)p));
        if (mask != 0)
            return p + __builtin_ctz(mask);
    }
#endif
    return tux_scan_class(p, end, TUX_BYTE_TEXT);
}

/* The first byte that may not stand in a request target, or end. *query: the first "?" before it, or NULL. */
static inline const uint8_t *tux_scan_target(const uint8_t *p, const uint8_t *end, const uint8_t **query)
{
    *query = NULL;
#if TUX_SCAN_SIMD
    for (; end - p >= 16; p += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        unsigned stop = tux_scan_target_mask(bytes);
        unsigned mark = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('?')));
        mark &= (stop - 1u) & ~stop; /* those below the first stop; all when there is none */
        if (mark != 0 && *query == NULL)
            *query = p + __builtin_ctz(mark);
        if (stop != 0)
            return p + __builtin_ctz(stop);
    }
#endif
    for (; p < end && tux_byte_is(*p, TUX_BYTE_TARGET); p++) {
        if (*p == '?' && *query == NULL)
            *query = p;
    }
    return p;
}

/* The first byte that is not a tchar, or end. */
static inline const uint8_t *tux_scan_name(const uint8_t *p, const uint8_t *end)
{
#if TUX_SCAN_SIMD
    for (; end - p >= 16; p += 16) {
        unsigned mask = tux_scan_name_mask(_mm_loadu_si128((const __m128i *)(const void *)p));
        if (mask != 0) {
            p += __builtin_ctz(mask);
            return *p == ':' ? p : tux_scan_class(p, end, TUX_BYTE_TOKEN);
        }
    }
#endif
    return tux_scan_class(p, end, TUX_BYTE_TOKEN);
}

#endif
