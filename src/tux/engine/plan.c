/* SPDX-License-Identifier: MIT */
#include "plan.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "siphash.h"

#define DATE_PLACEHOLDER "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n" /* what date_s == 0 stands for */
#define ALLOCATION_OVERHEAD_BYTES 16u                               /* malloc's own, about */
#define END_BYTES (TUX_DATE_LINE_BYTES + 2u)                        /* Date and the blank line */

_Static_assert(sizeof DATE_PLACEHOLDER - 1 == TUX_DATE_LINE_BYTES, "length of the Date line");

_Atomic uint64_t tux_plans_alive;

/* A piece of variable length, with its length in front, so that no two sequences of pieces hash the same bytes. */
static void hash_piece(struct tux_siphash *hash, const void *data, uint64_t len)
{
    const uint8_t *bytes = data;
    uint64_t rest = 0;
    uint64_t whole = len & ~UINT64_C(7);
    tux_siphash_word(hash, len);
    for (uint64_t i = 0; i < whole; i += 8)
        tux_siphash_word(hash, tux_siphash_load(bytes + i));
    for (uint64_t i = whole; i < len; i++)
        rest |= (uint64_t)bytes[i] << (8 * (i - whole));
    if (whole < len)
        tux_siphash_word(hash, rest);
}

static void hash_identity(struct tux_siphash *hash, const struct tux_identity *identity)
{
    tux_siphash_word(hash, identity->dev);
    tux_siphash_word(hash, identity->ino);
    tux_siphash_word(hash, identity->size);
    tux_siphash_word(hash, (uint64_t)identity->mtime_ns);
    tux_siphash_word(hash, (uint64_t)identity->ctime_ns);
    tux_siphash_word(hash, identity->mode);
}

/* Over every field that the answer or its validity depends on; field by field, because structs have padding. */
static struct tux_signature plan_content(const struct tux_plan *plan)
{
    struct tux_siphash hash;
    uint64_t out[2];
    tux_siphash_init128(&hash, plan->key);
    tux_siphash_word(&hash, (uint64_t)plan->status << 16 | plan->flags);
    tux_siphash_word(&hash, plan->expires_ms);
    tux_siphash_word(&hash, plan->epoch == NULL ? 0 : (uint64_t)(uintptr_t)plan->epoch);
    tux_siphash_word(&hash, plan->made_in);
    tux_siphash_word(&hash, plan->body_len);
    tux_siphash_word(&hash, plan->body_offset);
    hash_piece(&hash, plan->head, plan->head_len);
    tux_siphash_word(&hash, plan->file != NULL);
    if (plan->file != NULL)
        hash_identity(&hash, &plan->file->identity);
    tux_siphash_word(&hash, plan->body != NULL);
    if (plan->body != NULL)
        hash_piece(&hash, plan->body, plan->body_len);
    tux_siphash_word(&hash, plan->n_checks);
    for (uint32_t i = 0; i < plan->n_checks; i++) {
        const struct tux_check *check = &plan->checks[i];
        tux_siphash_word(&hash, check->root);
        hash_piece(&hash, check->path, check->path_len);
        tux_siphash_word(&hash, (uint64_t)check->expected.kind << 32 | (uint32_t)check->expected.error);
        hash_identity(&hash, &check->expected.identity);
    }
    tux_siphash_last(&hash, 0, 0);
    tux_siphash_finish128(&hash, out);
    return (struct tux_signature){.lo = out[0], .hi = out[1]};
}

static bool parts_sound(const struct tux_plan_parts *parts)
{
    bool in_memory = parts->fd < 0 && (parts->flags & TUX_PLAN_NO_BODY) == 0;
    if (in_memory && parts->body == NULL && parts->body_len > 0)
        return false;
    /* Offsets become off_t, and sums of them must not overflow either. */
    return parts->body_len <= INT64_MAX / 2 && parts->body_offset <= INT64_MAX / 2;
}

/* Everything but the descriptor and what follows from it. */
static struct tux_plan *plan_copy(const struct tux_plan_parts *parts)
{
    if (!parts_sound(parts))
        return NULL;
    bool has_bytes = parts->fd < 0 && (parts->flags & TUX_PLAN_NO_BODY) == 0 && parts->body_len > 0;
    size_t body_bytes = has_bytes ? (size_t)parts->body_len : 0;
    size_t path_bytes = 0;
    for (uint32_t i = 0; i < parts->n_checks; i++) {
        if (parts->checks[i].path_len > TUX_MAX_PATH_BYTES)
            return NULL;
        path_bytes += parts->checks[i].path_len;
    }
    size_t checks_bytes = (size_t)parts->n_checks * sizeof(struct tux_check);
    size_t total = sizeof(struct tux_plan) + checks_bytes + path_bytes + parts->head_len + END_BYTES + body_bytes;

    uint8_t *block = malloc(total);
    if (block == NULL)
        return NULL;
    struct tux_plan *plan = (struct tux_plan *)(void *)block;
    uint8_t *at = block + sizeof *plan;
    *plan = (struct tux_plan){
        .refs = 1,
        .status = parts->status,
        .flags = parts->flags,
        .head_len = parts->head_len,
        .n_checks = parts->n_checks,
        .body_len = parts->body_len,
        .body_offset = parts->body_offset,
        .bytes = total + ALLOCATION_OVERHEAD_BYTES,
        .expires_ms = parts->expires_ms,
    };

    plan->checks = (struct tux_check *)(void *)at;
    at += checks_bytes;
    for (uint32_t i = 0; i < parts->n_checks; i++) {
        plan->checks[i] = parts->checks[i];
        plan->checks[i].path = (const char *)at;
        if (parts->checks[i].path_len > 0)
            memcpy(at, parts->checks[i].path, parts->checks[i].path_len);
        at += parts->checks[i].path_len;
    }

    plan->head = at;
    if (parts->head_len > 0)
        memcpy(at, parts->head, parts->head_len);
    at += parts->head_len;
    memcpy(at, DATE_PLACEHOLDER "\r\n", END_BYTES);
    at += END_BYTES;
    if (body_bytes > 0) {
        plan->body = at;
        memcpy(at, parts->body, body_bytes);
    }
    return plan;
}

struct tux_plan *tux_plan_new(const struct tux_plan_parts *parts, const uint64_t key[2])
{
    struct tux_plan *plan = plan_copy(parts);
    if (parts->fd >= 0) {
        struct tux_file *file = tux_file_new(parts->fd);
        /* One that has become shorter already would later be sent with zeros behind its end, from its mapping's last page. */
        if (plan == NULL || file == NULL || file->identity.size < parts->body_offset + parts->body_len) {
            if (file != NULL)
                tux_file_unref(file);
            free(plan);
            return NULL;
        }
        plan->file = file;
    }
    if (plan == NULL)
        return NULL;
    memcpy(plan->key, key, sizeof plan->key);
    atomic_fetch_add_explicit(&tux_plans_alive, 1, memory_order_relaxed);
    return plan;
}

void tux_plan_seal(struct tux_plan *plan)
{
    if (plan->sealed)
        return;
    plan->content = plan_content(plan);
    plan->sealed = true;
}

struct tux_plan *tux_plan_ref(struct tux_plan *plan)
{
    plan->refs++;
    return plan;
}

void tux_plan_unref(struct tux_plan *plan)
{
    if (--plan->refs > 0)
        return;
    if (plan->file != NULL)
        tux_file_unref(plan->file);
    free(plan);
    atomic_fetch_sub_explicit(&tux_plans_alive, 1, memory_order_relaxed);
}
