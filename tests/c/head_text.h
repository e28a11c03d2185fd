/* SPDX-License-Identifier: MIT */
/* Scanning a text as a network would deliver it: what the tests and the fuzz target of the head scanner share. */
#ifndef TUX_HEAD_TEXT_H
#define TUX_HEAD_TEXT_H

#include <stdlib.h>
#include <string.h>

#include "head.h"

static const struct tux_head_limits default_limits = {TUX_MAX_TARGET_BYTES, TUX_MAX_HEAD_BYTES, TUX_MAX_FIELDS};
static const struct tux_sign_rules default_rules = {{0x0706050403020100u, 0x0f0e0d0c0b0a0908u},
                                                    TUX_SIGNIFICANT_BY_DEFAULT};

/* Scan from memory of exactly that size, so that a sanitizer sees any read past it. */
static inline enum tux_outcome scan_copy(const void *text, size_t len, size_t seen_len,
                                         const struct tux_head_limits *limits, const struct tux_sign_rules *rules,
                                         struct tux_head *head)
{
    uint8_t *copy = calloc(1, len == 0 ? 1 : len);
    if (copy == NULL)
        abort();
    if (len > 0)
        memcpy(copy, text, len);
    memset(head, 0xa5, sizeof(*head)); /* so that a member that is not set is seen */
    enum tux_outcome outcome = tux_head_scan(copy, len, seen_len, limits, rules, 7, head);
    free(copy);
    return outcome;
}

/* The text arrives in pieces of `step` bytes, and is scanned after each, up to the first outcome that is not MORE. */
static inline enum tux_outcome scan_in_steps(const void *text, size_t len, size_t step,
                                             const struct tux_head_limits *limits, const struct tux_sign_rules *rules,
                                             struct tux_head *head)
{
    enum tux_outcome outcome = TUX_MORE;
    for (size_t at = 0; at < len && outcome == TUX_MORE; at += step)
        outcome = scan_copy(text, len - at < step ? len : at + step, at, limits, rules, head);
    return outcome;
}

static inline bool same_span(struct tux_span a, struct tux_span b)
{
    return a.off == b.off && a.len == b.len;
}

static inline bool same_signature(struct tux_signature a, struct tux_signature b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

/* Everything that a head which is DONE says. */
static inline bool same_head(const struct tux_head *a, const struct tux_head *b)
{
    bool same =
        a->length == b->length && a->method == b->method && a->minor == b->minor && a->keep_alive == b->keep_alive &&
        a->has_length == b->has_length && a->chunked == b->chunked && a->expect_continue == b->expect_continue &&
        a->expect_other == b->expect_other && a->upgrade == b->upgrade && a->is_signed == b->is_signed &&
        a->same == b->same && a->has_query == b->has_query && a->content_length == b->content_length &&
        a->range.kind == b->range.kind && a->range.first == b->range.first && a->range.last == b->range.last &&
        same_span(a->method_name, b->method_name) && same_span(a->target, b->target) && same_span(a->path, b->path) &&
        same_span(a->query, b->query) && same_span(a->host, b->host) && same_signature(a->general, b->general) &&
        same_signature(a->exact, b->exact) && a->seen == b->seen && a->n_fields == b->n_fields;
    for (uint32_t i = 0; same && i < a->n_fields; i++)
        same = same_span(a->fields[i].name, b->fields[i].name) && same_span(a->fields[i].value, b->fields[i].value) &&
               a->fields[i].id == b->fields[i].id;
    return same;
}

static inline bool span_inside(struct tux_span span, size_t len)
{
    return span.off <= len && span.len <= len - span.off;
}

/* Every span of a head that is DONE lies inside it. */
static inline bool spans_inside(const struct tux_head *head)
{
    bool inside = span_inside(head->method_name, head->length) && span_inside(head->target, head->length) &&
                  span_inside(head->path, head->length) && span_inside(head->query, head->length) &&
                  span_inside(head->host, head->length) && head->n_fields <= TUX_MAX_FIELDS;
    for (uint32_t i = 0; inside && i < head->n_fields; i++)
        inside = span_inside(head->fields[i].name, head->length) && span_inside(head->fields[i].value, head->length);
    return inside;
}

#endif
