/* SPDX-License-Identifier: MIT */
#include "signature.h"

#include "scan.h"
#include "siphash.h"

#define BIT(field) (1u << (field))

/* Requests that can carry a body, or that ask for more than a representation, are decided anew each time. */
#define NEVER_SIGNED (BIT(TUX_FIELD_TRANSFER_ENCODING) | BIT(TUX_FIELD_EXPECT) | BIT(TUX_FIELD_UPGRADE))

/* Fields that must not be repeated. Who takes the first line and who takes the last would disagree, so it is left to
 * Python each time. (A repeated Host, Content-Length or Transfer-Encoding never gets here.) */
#define MUST_BE_SINGLE                                                                                                 \
    (BIT(TUX_FIELD_RANGE) | BIT(TUX_FIELD_IF_MODIFIED_SINCE) | BIT(TUX_FIELD_IF_UNMODIFIED_SINCE) |                    \
     BIT(TUX_FIELD_IF_RANGE) | BIT(TUX_FIELD_AUTHORIZATION) | BIT(TUX_FIELD_ORIGIN))

/* Tags of the pieces that are no field values; those have their field id. */
enum tag {
    TAG_PATH = TUX_FIELD_COUNT,
    TAG_AUTHORITY,
    TAG_NAME,
    TAG_QUERY,
    TAG_RANGE,
};

/* First byte of the info word: the two messages can never be equal. */
enum domain {
    DOMAIN_GENERAL = 1,
    DOMAIN_EXACT,
};

struct text {
    const uint8_t *buf;
    size_t len;
};

/* Fold the ASCII letters among 8 bytes to lower case. */
static inline uint64_t lower_word(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t low = word & 0x7f * ones;
    uint64_t from_a = low + (0x80 - 'A') * ones;
    uint64_t after_z = low + (0x7f - 'Z') * ones;
    uint64_t upper = (from_a ^ after_z) & ~word & 0x80 * ones;
    return word | upper >> 2;
}

/* Add one piece. Its last word is loaded with bytes from outside the piece, which are then cut off: from after it, or
 * at the very end of the buffer, from before it (no head is shorter than 16 bytes). */
static inline void add_piece(struct tux_siphash *hash, unsigned tag, struct text text, struct tux_span span, bool fold)
{
    const uint8_t *bytes = text.buf + span.off;
    uint32_t left = span.len;

    tux_siphash_word(hash, (uint64_t)tag << 56 | span.len);
    for (; left >= 8; left -= 8, bytes += 8) {
        uint64_t word = tux_siphash_load(bytes);
        tux_siphash_word(hash, fold ? lower_word(word) : word);
    }
    if (left > 0) {
        uint64_t word;
        if ((size_t)(bytes - text.buf) + 8 <= text.len)
            word = tux_siphash_load(bytes) & UINT64_MAX >> (64 - 8 * left);
        else
            word = tux_siphash_load(bytes + left - 8) >> (64 - 8 * left);
        tux_siphash_word(hash, fold ? lower_word(word) : word);
    }
}

static struct tux_signature finish(struct tux_siphash *hash)
{
    uint64_t out[2];
    tux_siphash_last(hash, 0, 0);
    tux_siphash_finish128(hash, out);
    return (struct tux_signature){out[0], out[1]};
}

/* All lines of one id. Fields without an id are told apart by their names. */
static void add_lines(struct tux_siphash *hash, struct text text, const struct tux_head *head, uint32_t first,
                      uint8_t id)
{
    for (uint32_t i = first; i < head->n_fields; i++) {
        const struct tux_head_field *field = &head->fields[i];
        if (field->id != id)
            continue;
        if (id == TUX_FIELD_OTHER)
            add_piece(hash, TAG_NAME, text, field->name, true);
        add_piece(hash, id, text, field->value, false);
    }
}

static bool may_be_signed(const struct tux_signing *signing, const struct tux_head *head)
{
    uint64_t covered = (uint64_t)signing->covered_bytes + head->target.len + head->host.len;
    if (head->method != TUX_METHOD_GET && head->method != TUX_METHOD_HEAD && head->method != TUX_METHOD_OPTIONS)
        return false;
    if ((head->seen & NEVER_SIGNED) != 0 || head->content_length != 0 || (signing->repeated & MUST_BE_SINGLE) != 0)
        return false;
    return covered <= TUX_MAX_SIGNED_BYTES;
}

void tux_signature_compute(const uint8_t *buf, size_t len, const struct tux_signing *signing, const uint64_t key[2],
                           uint64_t context, struct tux_head *head)
{
    struct text text = {buf, len};
    struct tux_siphash hash;
    bool plain_range = head->range.kind != TUX_RANGE_NONE;

    head->is_signed = may_be_signed(signing, head);
    head->same = !plain_range && !head->has_query;
    if (!head->is_signed) {
        head->general = head->exact = (struct tux_signature){0, 0};
        return;
    }

    tux_siphash_init128(&hash, key);
    tux_siphash_word(&hash, DOMAIN_GENERAL | (uint64_t)head->method << 8 | (uint64_t)head->minor << 16 |
                                (uint64_t)signing->form << 24 | (uint64_t)plain_range << 32);
    tux_siphash_word(&hash, context);
    add_piece(&hash, TAG_PATH, text, head->path, false);

    uint32_t lines = head->seen & signing->significant;
    if (signing->form == TUX_TARGET_ORIGIN || signing->form == TUX_TARGET_ASTERISK) {
        add_piece(&hash, TUX_FIELD_HOST, text, head->host, true);
        lines &= ~BIT(TUX_FIELD_HOST);
    } else { /* the Host line stays among the lines: it is overruled, but a plan could still have looked at it */
        struct tux_span before = {head->target.off, signing->authority_end - head->target.off};
        add_piece(&hash, TAG_AUTHORITY, text, before, false);
    }
    if (plain_range)
        lines &= ~BIT(TUX_FIELD_RANGE);
    for (; lines != 0; lines &= lines - 1) {
        uint8_t id = (uint8_t)__builtin_ctz(lines);
        uint32_t first = signing->first[id];
        if (id == TUX_FIELD_OTHER || (signing->repeated & BIT(id)) != 0)
            add_lines(&hash, text, head, first, id);
        else
            add_piece(&hash, id, text, head->fields[first].value, false);
    }
    head->general = finish(&hash);
    if (head->same) {
        head->exact = head->general;
        return;
    }

    tux_siphash_init128(&hash, key);
    tux_siphash_word(&hash, DOMAIN_EXACT);
    tux_siphash_word(&hash, head->general.lo);
    tux_siphash_word(&hash, head->general.hi);
    if (head->has_query)
        add_piece(&hash, TAG_QUERY, text, head->query, false);
    if (plain_range)
        add_piece(&hash, TAG_RANGE, text, head->fields[signing->first[TUX_FIELD_RANGE]].value, false);
    head->exact = finish(&hash);
}
