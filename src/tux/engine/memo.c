/* SPDX-License-Identifier: MIT */
/* Three parts: a hash table of entries (signature -> plan), a hash table of the plans they hold (by content, so that equal
 * answers are held once), and the doorkeeper, which knows the signatures asked once.
 *
 * Eviction is SIEVE (Zhang et al., NSDI 2024): entries stand in a queue in order of insertion and are never moved; a use
 * sets the visited bit; the hand goes from old to new, clears the bits that it meets and evicts the first entry without
 * one. Entries with a descriptor stand in a second such queue too, so that a flood of large files, which meets the bound on
 * descriptors, cannot push out small answers. */
#include "memo.h"

#include <stdlib.h>
#include <string.h>

#define MIN_BUCKETS 64u
#define MAX_BUCKETS (1u << 20)     /* 8 MiB of pointers */
#define BYTES_PER_BUCKET 512u      /* budget over this: about the smallest plan, so chains stay near one entry */
#define LARGEST_PLAN_SHARE 4u      /* a plan over a quarter of the budget would flush the rest for one answer */
#define DOOR_TAGS (1u << 16)       /* of one generation: 256 KiB */
#define DOOR_ASKS (DOOR_TAGS / 2)  /* first asks until the generations turn: half full, few overwrite each other */
#define MAX_SPARED 1024u           /* visited entries that one eviction passes over: under 0.1 ms, whatever the memo holds */
#define MAX_EVICTIONS 1024u        /* of one insertion: about as long; a large plan is refused then, and makes room for its next */
#define ALLOCATION_OVERHEAD_BYTES 16u

enum queue_of { ALL, FILES, QUEUES };

struct entry {
    struct tux_signature signature;
    struct entry *chain;
    struct tux_plan *plan;
    struct {
        struct entry *newer, *older;
    } in[QUEUES];
    bool visited;
};

struct queue {
    struct entry *newest, *oldest;
    struct entry *hand; /* NULL: begins at the oldest */
};

#define ENTRY_BYTES (sizeof(struct entry) + ALLOCATION_OVERHEAD_BYTES)

struct tux_memo {
    struct entry **buckets;
    struct tux_plan **contents;
    uint64_t mask; /* of both tables */
    struct queue queues[QUEUES];
    uint64_t budget;
    uint32_t max_files, files;
    uint32_t door_now, door_asks; /* generation that takes new asks, and how many it took */
    uint32_t *door[2];
    struct tux_memo_stats stats;
};

struct tux_memo *tux_memo_new(uint64_t budget_bytes, uint32_t max_files)
{
    uint64_t buckets = MIN_BUCKETS;
    while (buckets < MAX_BUCKETS && buckets < budget_bytes / BYTES_PER_BUCKET)
        buckets *= 2;
    struct tux_memo *memo = calloc(1, sizeof *memo);
    if (memo == NULL)
        return NULL;
    memo->mask = buckets - 1;
    memo->budget = budget_bytes;
    memo->max_files = max_files;
    memo->buckets = calloc(buckets, sizeof *memo->buckets);
    memo->contents = calloc(buckets, sizeof *memo->contents);
    memo->door[0] = calloc(DOOR_TAGS, sizeof *memo->door[0]);
    memo->door[1] = calloc(DOOR_TAGS, sizeof *memo->door[1]);
    if (memo->buckets == NULL || memo->contents == NULL || memo->door[0] == NULL || memo->door[1] == NULL) {
        tux_memo_free(memo);
        return NULL;
    }
    return memo;
}

void tux_memo_free(struct tux_memo *memo)
{
    if (memo == NULL)
        return;
    tux_memo_clear(memo);
    free(memo->buckets);
    free(memo->contents);
    free(memo->door[0]);
    free(memo->door[1]);
    free(memo);
}

/* -- plans by content ------------------------------------------------------------------------------------------- */

static bool signature_equal(struct tux_signature a, struct tux_signature b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

/* The held plan that equals `plan`, or NULL. */
static struct tux_plan *content_find(const struct tux_memo *memo, const struct tux_plan *plan)
{
    struct tux_plan *held = memo->contents[plan->content.lo & memo->mask];
    while (held != NULL && !signature_equal(held->content, plan->content))
        held = held->same_next;
    return held;
}

/* Hold `plan`, or the equal one that is held already, for one more entry. */
static struct tux_plan *content_hold(struct tux_memo *memo, struct tux_plan *plan)
{
    struct tux_plan *held = content_find(memo, plan);
    if (held == NULL) {
        struct tux_plan **bucket = &memo->contents[plan->content.lo & memo->mask];
        held = tux_plan_ref(plan);
        held->same_next = *bucket;
        *bucket = held;
        memo->stats.plans++;
        memo->stats.bytes += held->bytes;
        memo->files += held->file != NULL;
    } else {
        /* Equal plans have equal checks: what is known of one's freshness holds for the other. */
        if (held->fresh_until_ms < plan->fresh_until_ms)
            held->fresh_until_ms = plan->fresh_until_ms;
        if (held->file != NULL && held->file->resident_until_ms < plan->file->resident_until_ms)
            held->file->resident_until_ms = plan->file->resident_until_ms;
    }
    held->memo_entries++;
    return held;
}

static void content_release(struct tux_memo *memo, struct tux_plan *plan)
{
    if (--plan->memo_entries > 0)
        return;
    struct tux_plan **link = &memo->contents[plan->content.lo & memo->mask];
    while (*link != plan)
        link = &(*link)->same_next;
    *link = plan->same_next;
    plan->same_next = NULL;
    memo->stats.plans--;
    memo->stats.bytes -= plan->bytes;
    memo->files -= plan->file != NULL;
    tux_plan_unref(plan);
}

/* -- entries ---------------------------------------------------------------------------------------------------- */

/* The word that points to the entry, or to the NULL where it would be. */
static struct entry **entry_link(const struct tux_memo *memo, struct tux_signature signature)
{
    struct entry **link = &memo->buckets[signature.lo & memo->mask];
    while (*link != NULL && !signature_equal((*link)->signature, signature))
        link = &(*link)->chain;
    return link;
}

static void queue_add(struct tux_memo *memo, enum queue_of of, struct entry *entry)
{
    struct queue *queue = &memo->queues[of];
    entry->in[of].newer = NULL;
    entry->in[of].older = queue->newest;
    if (queue->newest != NULL)
        queue->newest->in[of].newer = entry;
    else
        queue->oldest = entry;
    queue->newest = entry;
}

static void queue_remove(struct tux_memo *memo, enum queue_of of, struct entry *entry)
{
    struct queue *queue = &memo->queues[of];
    struct entry *newer = entry->in[of].newer, *older = entry->in[of].older;
    if (queue->hand == entry)
        queue->hand = newer;
    if (newer != NULL)
        newer->in[of].older = older;
    else
        queue->newest = older;
    if (older != NULL)
        older->in[of].newer = newer;
    else
        queue->oldest = newer;
}

static void entry_drop(struct tux_memo *memo, struct entry **link)
{
    struct entry *entry = *link;
    *link = entry->chain;
    queue_remove(memo, ALL, entry);
    if (entry->plan->file != NULL)
        queue_remove(memo, FILES, entry);
    memo->stats.entries--;
    memo->stats.bytes -= ENTRY_BYTES;
    content_release(memo, entry->plan);
    free(entry);
}

/* Evict one entry of a queue, but never `keep`. False when there is none. */
static bool evict(struct tux_memo *memo, enum queue_of of, const struct entry *keep)
{
    struct queue *queue = &memo->queues[of];
    struct entry *entry = queue->hand;
    unsigned spared = 0;
    while (true) {
        if (entry == NULL)
            entry = queue->oldest;
        if (entry == NULL || (entry == keep && queue->oldest == queue->newest))
            return false;
        struct entry *next = entry->in[of].newer;
        if (entry != keep && (!entry->visited || spared == MAX_SPARED)) {
            queue->hand = next;
            entry_drop(memo, entry_link(memo, entry->signature));
            memo->stats.evicted++;
            return true;
        }
        if (entry != keep) {
            entry->visited = false;
            spared++;
        }
        entry = next;
    }
}

/* Evict until `bytes` more fit. False when that would take too long, as with thousands of entries that share one plan. */
static bool make_room(struct tux_memo *memo, uint64_t bytes, const struct entry *keep)
{
    for (unsigned evictions = 0;; evictions++) {
        bool too_many_files = memo->files > memo->max_files;
        if (!too_many_files && memo->stats.bytes + bytes <= memo->budget)
            return true;
        if (evictions == MAX_EVICTIONS || !evict(memo, too_many_files ? FILES : ALL, keep))
            return false;
    }
}

struct tux_plan *tux_memo_find(struct tux_memo *memo, struct tux_signature signature)
{
    struct entry *entry = *entry_link(memo, signature);
    if (entry == NULL)
        return NULL;
    if (!entry->visited) /* no store, and so no dirty cache line, for what is hot already */
        entry->visited = true;
    return entry->plan;
}

struct tux_plan *tux_memo_insert(struct tux_memo *memo, struct tux_signature signature, struct tux_plan *plan)
{
    if (plan->bytes + ENTRY_BYTES > memo->budget / LARGEST_PLAN_SHARE || (plan->file != NULL && memo->max_files == 0)) {
        tux_memo_remove(memo, signature); /* what it had before was decided earlier */
        return NULL;
    }
    tux_plan_seal(plan);
    struct entry **link = entry_link(memo, signature);
    struct entry *entry = *link;
    if (entry != NULL) {
        struct tux_plan *before = entry->plan;
        entry->plan = content_hold(memo, plan);
        if (before->file == NULL && entry->plan->file != NULL)
            queue_add(memo, FILES, entry);
        else if (before->file != NULL && entry->plan->file == NULL)
            queue_remove(memo, FILES, entry);
        content_release(memo, before);
        if (!make_room(memo, 0, entry)) {
            tux_memo_remove(memo, signature);
            return NULL;
        }
        memo->stats.inserted++;
        return entry->plan;
    }

    entry = calloc(1, sizeof *entry);
    if (entry == NULL)
        return NULL;
    entry->signature = signature;
    entry->plan = content_hold(memo, plan); /* held first: making room must not drop an equal plan */
    if (!make_room(memo, ENTRY_BYTES, NULL)) {
        content_release(memo, entry->plan);
        free(entry);
        return NULL;
    }
    link = &memo->buckets[signature.lo & memo->mask];
    entry->chain = *link;
    *link = entry;
    queue_add(memo, ALL, entry);
    if (entry->plan->file != NULL)
        queue_add(memo, FILES, entry);
    memo->stats.entries++;
    memo->stats.bytes += ENTRY_BYTES;
    memo->stats.inserted++;
    return entry->plan;
}

void tux_memo_remove(struct tux_memo *memo, struct tux_signature signature)
{
    struct entry **link = entry_link(memo, signature);
    if (*link != NULL)
        entry_drop(memo, link);
}

void tux_memo_clear(struct tux_memo *memo)
{
    struct entry *oldest;
    while ((oldest = memo->queues[ALL].oldest) != NULL)
        entry_drop(memo, entry_link(memo, oldest->signature));
}

struct tux_memo_stats tux_memo_stats(const struct tux_memo *memo)
{
    return memo->stats;
}

/* -- doorkeeper ------------------------------------------------------------------------------------------------- */

/* Two generations of tags, each a direct-mapped table in which a newer ask overwrites an older one. When the present
 * generation has taken its share, the other one is emptied and becomes the present: an ask is remembered for the next
 * DOOR_ASKS to 2 * DOOR_ASKS first asks. */
bool tux_memo_admit(struct tux_memo *memo, struct tux_signature signature)
{
    size_t place = signature.hi & (DOOR_TAGS - 1);
    uint32_t tag = (uint32_t)(signature.hi >> 32) | 1u; /* 0 is an empty place */
    if (memo->door[0][place] == tag || memo->door[1][place] == tag)
        return true;
    if (memo->door_asks == DOOR_ASKS) {
        memo->door_now ^= 1u;
        memo->door_asks = 0;
        memset(memo->door[memo->door_now], 0, DOOR_TAGS * sizeof *memo->door[0]);
    }
    memo->door[memo->door_now][place] = tag;
    memo->door_asks++;
    memo->stats.refused++;
    return false;
}
