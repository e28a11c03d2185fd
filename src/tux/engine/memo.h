/* SPDX-License-Identifier: MIT */
/* The memo: signature -> plan, with a byte budget, admission at the second ask, and eviction by use (SIEVE: one queue, a
 * visited bit, a moving hand), so that a flood of answers asked once or twice cannot flush what is hot.
 * Owned by one thread; no lock. */
#ifndef TUX_MEMO_H
#define TUX_MEMO_H

#include <stdbool.h>
#include <stdint.h>

#include "plan.h"

struct tux_memo;

struct tux_memo_stats {
    uint64_t entries, bytes, plans; /* now */
    uint64_t inserted, evicted, refused; /* since the start; refused: first asks */
};

/* budget: bytes of entries and their plans (shared plans count once). max_files: descriptors it may hold. */
struct tux_memo *tux_memo_new(uint64_t budget_bytes, uint32_t max_files);
void tux_memo_free(struct tux_memo *memo);

/* The plan remembered under this signature, or NULL. Marks the entry used. The caller checks expiry and freshness. */
struct tux_plan *tux_memo_find(struct tux_memo *memo, struct tux_signature signature);

/* True when this signature was asked before (recently): the plan may be inserted. Remembers this ask otherwise. */
bool tux_memo_admit(struct tux_memo *memo, struct tux_signature signature);

/* Remember; takes references of its own. If an equal plan (same content) is held already, that one is shared and
 * returned (a borrowed reference, as from find); else `plan` is. NULL when it is not remembered: it takes over a quarter of
 * the budget, or no memory is left, or room for it would take too many evictions at once. What the
 * signature had before is gone in any case. */
struct tux_plan *tux_memo_insert(struct tux_memo *memo, struct tux_signature signature, struct tux_plan *plan);

void tux_memo_remove(struct tux_memo *memo, struct tux_signature signature);
void tux_memo_clear(struct tux_memo *memo);
struct tux_memo_stats tux_memo_stats(const struct tux_memo *memo);

#endif
