/* SPDX-License-Identifier: MIT */
#include "chunked.h"

#include <stdbool.h>

#include "scan.h"

#define MAX_SIZE_DIGITS 15 /* of a chunk-size, leading zeros included: below 2^60, so that no sum overflows */

/* What the next byte must be. */
enum state {
    SIZE_FIRST,   /* first digit of a chunk-size; 0, so that a zeroed decoder starts here */
    SIZE,         /* more digits, or the end of the size */
    BEFORE_NAME,  /* after ";": white space, then an extension's name */
    NAME,         /* in an extension's name */
    AFTER_NAME,   /* white space after a name: "=" or ";" must follow */
    BEFORE_VALUE, /* after "=": white space, then a token or a quoted-string */
    VALUE,        /* in a token */
    QUOTED,       /* in a quoted-string */
    ESCAPED,      /* after a backslash in it */
    AFTER_QUOTED, /* just after it */
    BEFORE_MORE,  /* white space after a size or a value: only ";" may follow */
    SIZE_LF,      /* LF of the chunk line */
    DATA,         /* in chunk-data */
    DATA_CR,      /* CR after chunk-data */
    DATA_LF,      /* LF after it */
    LINE_FIRST,   /* first byte of a trailer line, or CR of the blank line */
    FIELD_NAME,   /* in a trailer field's name */
    FIELD_VALUE,  /* after its ":" */
    FIELD_LF,     /* LF of its line */
    LAST_LF,      /* LF of the blank line */
    COMPLETE,
    BROKEN,
};

static unsigned hex_value(uint8_t digit)
{
    return digit <= '9' ? digit - (unsigned)'0' : (digit | 0x20u) - 'a' + 10u;
}

/* The state after a byte that ends a chunk-size or an extension's value. */
static enum state end_of_item(uint8_t byte)
{
    if (byte == ';')
        return BEFORE_NAME;
    if (byte == '\r')
        return SIZE_LF;
    return tux_byte_is_space(byte) ? BEFORE_MORE : BROKEN;
}

/* One byte of a chunk line: chunk-size [ chunk-ext ] CRLF. White space around ";" and "=" is what RFC 9112
 * section 7.1.1 calls BWS, which a recipient must accept; white space before the CRLF is in no rule of it. */
static enum state line_step(struct tux_chunked *decoder, uint8_t byte)
{
    switch ((enum state)decoder->state) {
    case SIZE_FIRST:
        decoder->digits = 0;
        decoder->left = 0;
        if (!tux_byte_is(byte, TUX_BYTE_HEX))
            return BROKEN;
        /* fall through */
    case SIZE:
        if (!tux_byte_is(byte, TUX_BYTE_HEX))
            return end_of_item(byte);
        if (decoder->digits == MAX_SIZE_DIGITS)
            return BROKEN;
        decoder->digits++;
        decoder->left = decoder->left << 4 | hex_value(byte);
        return SIZE;
    case BEFORE_NAME:
        if (tux_byte_is_space(byte))
            return BEFORE_NAME;
        return tux_byte_is(byte, TUX_BYTE_TOKEN) ? NAME : BROKEN;
    case NAME:
        if (tux_byte_is(byte, TUX_BYTE_TOKEN))
            return NAME;
        if (byte == '=')
            return BEFORE_VALUE;
        return tux_byte_is_space(byte) ? AFTER_NAME : end_of_item(byte);
    case AFTER_NAME:
        if (byte == '=')
            return BEFORE_VALUE;
        if (byte == ';')
            return BEFORE_NAME;
        return tux_byte_is_space(byte) ? AFTER_NAME : BROKEN;
    case BEFORE_VALUE:
        if (byte == '"')
            return QUOTED;
        if (tux_byte_is_space(byte))
            return BEFORE_VALUE;
        return tux_byte_is(byte, TUX_BYTE_TOKEN) ? VALUE : BROKEN;
    case VALUE:
        return tux_byte_is(byte, TUX_BYTE_TOKEN) ? VALUE : end_of_item(byte);
    case QUOTED:
        if (byte == '"')
            return AFTER_QUOTED;
        if (byte == '\\')
            return ESCAPED;
        return tux_byte_is(byte, TUX_BYTE_QUOTED) ? QUOTED : BROKEN;
    case ESCAPED:
        return tux_byte_is(byte, TUX_BYTE_TEXT) ? QUOTED : BROKEN;
    case AFTER_QUOTED:
        return end_of_item(byte);
    case BEFORE_MORE:
        if (byte == ';')
            return BEFORE_NAME;
        return tux_byte_is_space(byte) ? BEFORE_MORE : BROKEN;
    case SIZE_LF:
        if (byte != '\n')
            return BROKEN;
        decoder->line = 0;
        return decoder->left > 0 ? DATA : LINE_FIRST;
    default:
        return BROKEN;
    }
}

/* One byte of the trailer section: *( field-line CRLF ) CRLF. Its fields are checked and dropped, never merged into
 * those of the head (RFC 9110 section 6.5.1). */
static enum state trailer_step(struct tux_chunked *decoder, uint8_t byte)
{
    switch ((enum state)decoder->state) {
    case LINE_FIRST:
        if (byte == '\r')
            return LAST_LF;
        return tux_byte_is(byte, TUX_BYTE_TOKEN) ? FIELD_NAME : BROKEN;
    case FIELD_NAME:
        if (byte == ':')
            return FIELD_VALUE;
        return tux_byte_is(byte, TUX_BYTE_TOKEN) ? FIELD_NAME : BROKEN;
    case FIELD_VALUE:
        if (byte == '\r')
            return FIELD_LF;
        return tux_byte_is(byte, TUX_BYTE_TEXT) ? FIELD_VALUE : BROKEN;
    case FIELD_LF:
        return byte == '\n' ? LINE_FIRST : BROKEN;
    case LAST_LF:
        return byte == '\n' ? COMPLETE : BROKEN;
    default:
        return BROKEN;
    }
}

/* One byte that is not chunk-data. */
static enum state step(struct tux_chunked *decoder, uint8_t byte)
{
    if (decoder->state <= SIZE_LF) {
        if (decoder->line == TUX_MAX_CHUNK_LINE_BYTES)
            return BROKEN;
        decoder->line++;
        return line_step(decoder, byte);
    }
    if (decoder->state == DATA_CR)
        return byte == '\r' ? DATA_LF : BROKEN;
    if (decoder->state == DATA_LF)
        return byte == '\n' ? SIZE_FIRST : BROKEN;
    if (decoder->trailer == TUX_MAX_TRAILER_BYTES)
        return BROKEN;
    decoder->trailer++;
    return trailer_step(decoder, byte);
}

enum tux_outcome tux_chunked_decode(struct tux_chunked *decoder, const uint8_t *buf, size_t len, size_t *consumed,
                                    struct tux_span *data)
{
    size_t i = 0;

    *data = (struct tux_span){0, 0};
    *consumed = 0;
    if (len > UINT32_MAX)
        len = UINT32_MAX; /* spans have 32 bits; the caller calls again with the rest */
    while (i < len && decoder->state != COMPLETE && decoder->state != BROKEN) {
        if (decoder->state == DATA) {
            size_t run = len - i;
            if (run > decoder->left)
                run = (size_t)decoder->left;
            *data = (struct tux_span){(uint32_t)i, (uint32_t)run};
            decoder->left -= run;
            if (decoder->left == 0)
                decoder->state = DATA_CR;
            *consumed = i + run;
            return TUX_MORE;
        }
        decoder->state = (uint8_t)step(decoder, buf[i]);
        i++;
    }
    *consumed = i;
    if (decoder->state == BROKEN)
        return TUX_MALFORMED;
    return decoder->state == COMPLETE ? TUX_DONE : TUX_MORE;
}
