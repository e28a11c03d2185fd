/* SPDX-License-Identifier: MIT */
/* Publishing: which heads are hot, what is published under them, and for how long it holds.
 *
 * Every published head has a cell in memory shared with the programs. They read fresh_until_ns first, then version. So
 * a cell that is used again is written in the order: not fresh, new version, fresh; an answer of the old version never
 * meets the freshness of the new one. */
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../kernel/bpf/head_key.h"

#define BUCKETS (TUX_KERNEL_CELLS * 2u) /* power of two */
#define SLOTS_BYTES (TUX_KERNEL_SLOTS * sizeof(struct tux_kernel_slot))
#define CELLS_BYTES (TUX_KERNEL_CELLS * sizeof(struct tux_kernel_cell))
#define DATE_NAME_BYTES 6u /* "Date: " */
#define SAMPLES 4u         /* of one head until it is published: fewer would make it a matter of chance */

_Static_assert((TUX_KERNEL_SLOTS & (TUX_KERNEL_SLOTS - 1)) == 0, "cookies are masked");
_Static_assert(sizeof(struct tux_kernel_slot) == 16 && sizeof(struct tux_kernel_cell) == 32, "elements of the maps");
_Static_assert(SLOTS_BYTES % 4096 == 0 && CELLS_BYTES % 4096 == 0, "whole pages");
_Static_assert(DATE_NAME_BYTES + TUX_KERNEL_DATE_BYTES + 2 == TUX_DATE_LINE_BYTES, "the Date's line");

enum state {
    FREE,
    LIVE,
    RETIRING, /* not answered any more; the supervisor is still to be told */
};

/* A published head; its index is its cell's. References to others are indices, plus one. */
struct published {
    struct tux_kernel_key key;
    struct tux_plan *plan; /* a reference, while LIVE */
    uint64_t version, since_ns;
    uint32_t chain;     /* in its bucket */
    uint32_t next_head; /* of the same plan */
    uint8_t state;
};

struct message {
    struct tux_kernel_message record;
    uint8_t bytes[TUX_KERNEL_MAX_HEAD_BYTES + TUX_KERNEL_MAX_ANSWER_BYTES];
};

struct tux_kernel {
    struct tux_kernel_slot *slots; /* shared */
    struct tux_kernel_cell *cells; /* shared */
    int message_fd;
    uint64_t secret[2];
    uint64_t unused_ns;
    uint32_t max_answer_bytes;
    uint32_t every, samples; /* one of `every` hits is a sample, on average; that many publish a head */
    uint32_t countdown;      /* hits until the next sample */
    uint32_t random;
    uint64_t version;  /* the last one given */
    uint64_t round_ms; /* when the next round of checks begins */
    bool in_round;
    uint32_t cursor; /* of the round under way */
    uint32_t end;    /* no cell from here on was ever used */
    uint32_t n_free;
    uint32_t free_cells[TUX_KERNEL_CELLS];
    uint32_t buckets[BUCKETS];
    struct published published[TUX_KERNEL_CELLS];
    struct tux_kernel_candidate candidates[TUX_KERNEL_CANDIDATES];
    struct message message;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* -- life ------------------------------------------------------------------------------------------------------- */

static bool accelerate(struct tux_engine *engine, const struct tux_kernel_config *config)
{
    for (uint32_t i = 0; i < config->n_listeners; i++) {
        bool found = false;
        for (uint32_t k = 0; k < engine->n_listeners; k++) {
            struct tux_listener *listener = &engine->listeners[k];
            if (listener->index == config->listeners[i] && !listener->is_unix)
                found = listener->accelerated = true;
        }
        if (!found)
            return false;
    }
    return true;
}

static void *map_shared(int fd, size_t bytes)
{
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return NULL;
    memset(map, 0, bytes); /* what a worker before this one left there says nothing about this one's connections */
    return map;
}

static int start(struct tux_engine *engine, const struct tux_kernel_config *config)
{
    if (engine->kernel != NULL || config->hits == 0)
        return -EINVAL;
    struct tux_kernel *kernel = engine->kernel = calloc(1, sizeof *kernel);
    if (kernel == NULL)
        return -ENOMEM;
    kernel->message_fd = config->message_fd;
    if ((kernel->slots = map_shared(config->slots_fd, SLOTS_BYTES)) == NULL ||
        (kernel->cells = map_shared(config->cells_fd, CELLS_BYTES)) == NULL)
        return -errno;
    memcpy(kernel->secret, config->secret, sizeof kernel->secret);
    kernel->unused_ns = (config->unused_ms > 0 ? config->unused_ms : TUX_KERNEL_UNUSED_MS) * UINT64_C(1000000);
    kernel->max_answer_bytes =
        config->max_answer_bytes < TUX_KERNEL_MAX_ANSWER_BYTES ? config->max_answer_bytes : TUX_KERNEL_MAX_ANSWER_BYTES;
    kernel->every = config->hits < 2 * SAMPLES ? 1 : config->hits / SAMPLES;
    kernel->samples = config->hits / kernel->every;
    kernel->countdown = 1;
    kernel->random = 1;
    kernel->version = clock_ns(CLOCK_BOOTTIME); /* not one of a worker before this one, either */
    for (uint32_t i = 0; i < TUX_KERNEL_CELLS; i++)
        kernel->free_cells[i] = TUX_KERNEL_CELLS - 1 - i; /* the first ones first: rounds stay short */
    kernel->n_free = TUX_KERNEL_CELLS;
    return accelerate(engine, config) ? 0 : -ENOENT;
}

int tux_engine_kernel(struct tux_engine *engine, const struct tux_kernel_config *config)
{
    bool first = engine->kernel == NULL;
    int error = start(engine, config);
    close(config->slots_fd);
    close(config->cells_fd);
    if (error != 0 && first && engine->kernel != NULL)
        tux_kernel_free(engine);
    else if (error != 0)
        close(config->message_fd);
    return error;
}

void tux_kernel_free(struct tux_engine *engine)
{
    struct tux_kernel *kernel = engine->kernel;
    if (kernel == NULL)
        return;
    for (uint32_t i = 0; i < kernel->end; i++) {
        __atomic_store_n(&kernel->cells[i].fresh_until_ns, 0, __ATOMIC_RELEASE);
        if (kernel->published[i].state == LIVE)
            tux_plan_unref(kernel->published[i].plan);
    }
    if (kernel->slots != NULL)
        munmap(kernel->slots, SLOTS_BYTES);
    if (kernel->cells != NULL)
        munmap(kernel->cells, CELLS_BYTES);
    close(kernel->message_fd);
    for (uint32_t i = 0; i < engine->n_listeners; i++)
        engine->listeners[i].accelerated = false;
    free(kernel);
    engine->kernel = NULL;
}

/* -- slots ------------------------------------------------------------------------------------------------------ */

void tux_kernel_claim(struct tux_engine *engine, struct tux_conn *conn)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof cookie;
    conn->slotless = true;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0 || cookie == 0)
        return;
    struct tux_kernel_slot *slot = &engine->kernel->slots[cookie & (TUX_KERNEL_SLOTS - 1)];
    if (slot->cookie != 0)
        return; /* another's: for the program, this connection is never at rest */
    conn->kernel_slot = slot;
    conn->slotless = false;
    tux_kernel_mark(conn, TUX_KERNEL_NO_MARKS); /* those of its last owner must not be read as this one's */
    __atomic_store_n(&slot->cookie, cookie, __ATOMIC_RELEASE);
}

void tux_kernel_release(struct tux_conn *conn)
{
    if (conn->kernel_slot == NULL)
        return;
    __atomic_store_n(&conn->kernel_slot->cookie, 0, __ATOMIC_RELEASE);
    conn->kernel_slot = NULL;
}

/* -- keys ------------------------------------------------------------------------------------------------------- */

bool tux_kernel_key_of_head(const uint64_t secret[2], const void *head, size_t len, uint32_t listener,
                            struct tux_kernel_key *key)
{
    uint64_t words[TUX_KERNEL_MAX_HEAD_WORDS];
    if (len == 0 || len > TUX_KERNEL_MAX_HEAD_BYTES)
        return false;
    words[(len - 1) / 8] = 0; /* the last one may be filled in part only */
    memcpy(words, head, len);
    return tux_kernel_key_of(secret, words, (uint32_t)len, listener, key);
}

static bool key_equal(const struct tux_kernel_key *a, const struct tux_kernel_key *b)
{
    return a->lo == b->lo && a->hi == b->hi && a->length == b->length && a->listener == b->listener;
}

/* The index of a published head, plus one; 0: it is not published. */
static uint32_t find(const struct tux_kernel *kernel, const struct tux_kernel_key *key)
{
    uint32_t at = kernel->buckets[key->lo % BUCKETS];
    while (at != 0 && !key_equal(&kernel->published[at - 1].key, key)) /* ends: no more than TUX_KERNEL_CELLS */
        at = kernel->published[at - 1].chain;
    return at;
}

struct tux_kernel_candidate *tux_kernel_candidate(struct tux_kernel_candidate *table, const struct tux_kernel_key *key,
                                                  uint64_t now_ms)
{
    uint32_t sets = TUX_KERNEL_CANDIDATES / TUX_KERNEL_CANDIDATE_WAYS;
    struct tux_kernel_candidate *set = table + key->lo % sets * TUX_KERNEL_CANDIDATE_WAYS;
    struct tux_kernel_candidate *oldest = set;
    for (uint32_t i = 0; i < TUX_KERNEL_CANDIDATE_WAYS; i++) {
        if (set[i].samples > 0 && key_equal(&set[i].key, key)) {
            if (now_ms - set[i].seen_ms > TUX_KERNEL_CANDIDATE_MS)
                set[i].samples = 0;
            set[i].samples++;
            set[i].seen_ms = now_ms;
            return &set[i];
        }
        if (set[i].samples == 0 || (oldest->samples > 0 && set[i].seen_ms < oldest->seen_ms))
            oldest = &set[i];
    }
    *oldest = (struct tux_kernel_candidate){.key = *key, .samples = 1, .seen_ms = now_ms};
    return oldest;
}

uint32_t tux_kernel_sum(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    uint64_t sum = 0;
    uint32_t word;
    for (; len >= sizeof word; at += sizeof word, len -= sizeof word) {
        memcpy(&word, at, sizeof word);
        sum += word;
    }
    word = 0;
    memcpy(&word, at, len);
    sum += word;
    while (sum >> 16 != 0) /* at most four times */
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint32_t)sum;
}

/* -- publishing ------------------------------------------------------------------------------------------------- */

/* Beyond what every hit has: it has no body, which would leave it without a signature, and the connection stays open.
 */
static bool is_publishable(const struct tux_head *head, const struct tux_plan *plan)
{
    /* What expires by the clock alone does so soon, but for what applications have declared. */
    if ((plan->flags & TUX_PLAN_PUBLISH) == 0 || plan->file != NULL || (plan->expires_ms != UINT64_MAX && plan->epoch == NULL))
        return false;
    if (head->method != TUX_METHOD_GET && head->method != TUX_METHOD_HEAD)
        return false;
    switch (plan->status) {
    case 200:
    case 204:
    case 301:
    case 304:
    case 404:
        return true;
    default:
        return false;
    }
}

/* One of `every` hits, at random: a fixed stride could pass over a head for ever. */
static bool is_sample(struct tux_kernel *kernel)
{
    if (--kernel->countdown > 0)
        return false;
    kernel->random ^= kernel->random << 13; /* xorshift32 (Marsaglia, 2003) */
    kernel->random ^= kernel->random >> 17;
    kernel->random ^= kernel->random << 5;
    kernel->countdown = 1 + kernel->random % (2 * kernel->every - 1);
    return true;
}

/* Copy the answer out of the batch and blank its Date. Its length; 0: it does not fit. */
static uint32_t compose(const struct tux_batch *batch, uint32_t first, uint32_t date_offset, uint8_t *out, size_t room)
{
    size_t len = 0;
    for (uint32_t i = first; i < batch->n_iov; i++) {
        if (batch->iov[i].iov_len > room - len)
            return 0;
        memcpy(out + len, batch->iov[i].iov_base, batch->iov[i].iov_len);
        len += batch->iov[i].iov_len;
    }
    if (date_offset + TUX_KERNEL_DATE_BYTES > len)
        return 0;
    memset(out + date_offset, 0, TUX_KERNEL_DATE_BYTES);
    return (uint32_t)len;
}

static bool tell(const struct tux_kernel *kernel, size_t more)
{
    const struct message *message = &kernel->message;
    size_t len = sizeof message->record + more;
    return send(kernel->message_fd, message, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len;
}

/* A time of the engine's clock by that of the programs; 0: it has passed. */
static uint64_t boot_time(uint64_t ms)
{
    uint64_t boot_ns = clock_ns(CLOCK_BOOTTIME);
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t until_ns = ms * UINT64_C(1000000);
    return until_ns > now_ns ? boot_ns + (until_ns - now_ns) : 0;
}

/* How long the plan's last check holds. */
static uint64_t fresh_until(const struct tux_plan *plan)
{
    return boot_time(plan->fresh_until_ms < plan->expires_ms ? plan->fresh_until_ms : plan->expires_ms);
}

static void enter(struct tux_engine *engine, uint32_t cell, const struct tux_kernel_key *key, struct tux_plan *plan)
{
    struct tux_kernel *kernel = engine->kernel;
    struct published *entry = &kernel->published[cell];
    uint32_t *bucket = &kernel->buckets[key->lo % BUCKETS];
    *entry = (struct published){.key = *key,
                                .plan = tux_plan_ref(plan),
                                .version = kernel->version,
                                .since_ns = clock_ns(CLOCK_BOOTTIME),
                                .chain = *bucket,
                                .state = LIVE};
    *bucket = cell + 1;
    if (plan->published == 0) {
        plan->published = cell + 1;
    } else { /* behind the first, which stands for the plan in the round under way */
        struct published *leader = &kernel->published[plan->published - 1];
        entry->next_head = leader->next_head;
        leader->next_head = cell + 1;
    }
    if (kernel->n_free == TUX_KERNEL_CELLS) /* the first one: nothing was going round */
        kernel->round_ms = engine->now_ms + TUX_KERNEL_RECHECK_MS;
    kernel->n_free--;
    if (kernel->end <= cell)
        kernel->end = cell + 1;
    tux_count(&engine->stats.published, 1);
    tux_count(&engine->stats.publishes, 1);
}

static bool publish(struct tux_engine *engine, const struct tux_kernel_key *key, const uint8_t *head,
                    struct tux_plan *plan, uint32_t first, uint64_t body_bytes)
{
    struct tux_kernel *kernel = engine->kernel;
    struct message *message = &kernel->message;
    uint32_t date_offset = plan->head_len + DATE_NAME_BYTES;
    uint8_t *answer = message->bytes + key->length;
    uint32_t length = compose(&engine->batch, first, date_offset, answer, kernel->max_answer_bytes);
    if (length == 0 || kernel->n_free == 0)
        return false;
    uint32_t cell = kernel->free_cells[kernel->n_free - 1];
    memcpy(message->bytes, head, key->length);
    message->record = (struct tux_kernel_message){.kind = TUX_KERNEL_PUBLISH,
                                                  .cell = cell,
                                                  .version = ++kernel->version,
                                                  .key = *key,
                                                  .head_length = key->length,
                                                  .answer_length = length,
                                                  .body_length = (uint32_t)body_bytes,
                                                  .date_offset = date_offset,
                                                  .sum = tux_kernel_sum(answer, length),
                                                  .status = plan->status};
    struct tux_kernel_cell *shared = &kernel->cells[cell];
    __atomic_store_n(&shared->fresh_until_ns, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&shared->version, kernel->version, __ATOMIC_RELEASE);
    if (!tell(kernel, key->length + length))
        return false; /* its queue is full: at a later hit */
    enter(engine, cell, key, plan);
    __atomic_store_n(&shared->fresh_until_ns, fresh_until(plan), __ATOMIC_RELEASE);
    return true;
}

void tux_kernel_hit(struct tux_engine *engine, const struct tux_conn *conn, const uint8_t *bytes, struct tux_plan *plan,
                    uint32_t first, uint64_t body_bytes)
{
    struct tux_kernel *kernel = engine->kernel;
    const struct tux_head *head = &engine->head;
    struct tux_kernel_key key;
    if (!is_publishable(head, plan) || !is_sample(kernel) ||
        !tux_kernel_key_of_head(kernel->secret, bytes, head->length, conn->listener->index, &key) ||
        find(kernel, &key) != 0)
        return;
    struct tux_kernel_candidate *candidate = tux_kernel_candidate(kernel->candidates, &key, engine->now_ms);
    if (candidate->samples >= kernel->samples && publish(engine, &key, bytes, plan, first, body_bytes))
        candidate->samples = 0;
}

/* -- retiring --------------------------------------------------------------------------------------------------- */

/* Tell the supervisor, and only then let go of the head and the cell. */
static void report(struct tux_engine *engine, uint32_t cell)
{
    struct tux_kernel *kernel = engine->kernel;
    struct published *entry = &kernel->published[cell];
    kernel->message.record = (struct tux_kernel_message){
        .kind = TUX_KERNEL_RETIRE, .cell = cell, .version = entry->version, .key = entry->key};
    if (!tell(kernel, 0))
        return; /* again in the next round */
    uint32_t *link = &kernel->buckets[entry->key.lo % BUCKETS];
    while (*link != cell + 1) /* ends: it is there */
        link = &kernel->published[*link - 1].chain;
    *link = entry->chain;
    entry->state = FREE;
    kernel->free_cells[kernel->n_free++] = cell;
    tux_count(&engine->stats.retires, 1);
}

static void retire(struct tux_engine *engine, uint32_t cell)
{
    struct tux_kernel *kernel = engine->kernel;
    struct published *entry = &kernel->published[cell];
    struct tux_plan *plan = entry->plan;
    __atomic_store_n(&kernel->cells[cell].fresh_until_ns, 0, __ATOMIC_RELEASE);
    uint32_t *link = &plan->published;
    while (*link != cell + 1) /* ends: it is there */
        link = &kernel->published[*link - 1].next_head;
    *link = entry->next_head;
    entry->plan = NULL;
    entry->state = RETIRING;
    tux_plan_unref(plan);
    tux_uncount(&engine->stats.published, 1);
    report(engine, cell);
}

void tux_kernel_retire(struct tux_engine *engine, struct tux_plan *plan)
{
    tux_plan_ref(plan);       /* its heads may hold the last ones */
    plan->fresh_until_ms = 0; /* nor is it replayed from the memo without a look */
    while (plan->published != 0)
        retire(engine, plan->published - 1);
    tux_plan_unref(plan);
}

/* -- checks ----------------------------------------------------------------------------------------------------- */

static void confirm(struct tux_kernel *kernel, const struct tux_plan *plan, uint64_t checked_ns)
{
    uint64_t until_ns = checked_ns + TUX_RECHECK_MS * UINT64_C(1000000);
    if (plan->expires_ms != UINT64_MAX) {
        uint64_t expires_ns = boot_time(plan->expires_ms);
        until_ns = until_ns < expires_ns ? until_ns : expires_ns;
    }
    for (uint32_t at = plan->published; at != 0; at = kernel->published[at - 1].next_head)
        __atomic_store_n(&kernel->cells[at - 1].fresh_until_ns, until_ns, __ATOMIC_RELEASE);
}

void tux_kernel_checked(struct tux_engine *engine, struct tux_plan *plan, bool same, uint64_t begun_boot_ns)
{
    if (plan->published == 0)
        return;
    if (same)
        confirm(engine->kernel, plan, begun_boot_ns);
    else
        tux_kernel_retire(engine, plan);
}

static void recheck(struct tux_engine *engine, struct tux_plan *plan)
{
    if (plan->checking)
        return; /* its answers are not fresh for longer than they were before that */
    if (tux_plan_is_over(plan, engine->now_ms)) {
        tux_kernel_retire(engine, plan);
        return;
    }
    uint64_t now_ns = clock_ns(CLOCK_BOOTTIME);
    tux_count(&engine->stats.rechecks, 1);
    switch (tux_checks_repeat(plan, engine->roots, engine->now_ms, true)) {
    case 1:
        plan->fresh_until_ms = engine->now_ms + TUX_RECHECK_MS;
        confirm(engine->kernel, plan, now_ns);
        break;
    case 0:
        tux_count(&engine->stats.changed, 1);
        tux_kernel_retire(engine, plan);
        break;
    default:
        (void)tux_ask_check(engine, plan); /* without memory it is tried again in the next round */
    }
}

/* Nobody has asked for it for a while, and it was not published just now. */
static bool is_unused(const struct tux_kernel *kernel, uint32_t cell, uint64_t now_ns)
{
    uint64_t used_ns = __atomic_load_n(&kernel->cells[cell].used_ns, __ATOMIC_RELAXED);
    uint64_t since_ns = kernel->published[cell].since_ns;
    uint64_t last_ns = used_ns > since_ns ? used_ns : since_ns;
    return now_ns > last_ns && now_ns - last_ns > kernel->unused_ns;
}

/* The number of looks at paths that it took, about. */
static uint32_t visit(struct tux_engine *engine, uint32_t cell)
{
    struct tux_kernel *kernel = engine->kernel;
    struct published *entry = &kernel->published[cell];
    if (entry->state == RETIRING) {
        report(engine, cell);
        return 1;
    }
    if (entry->state == FREE)
        return 0;
    if (is_unused(kernel, cell, clock_ns(CLOCK_BOOTTIME))) {
        retire(engine, cell);
        return 1;
    }
    if (entry->plan->published != cell + 1)
        return 0; /* its plan is checked once for all of its heads */
    uint32_t looks = 1 + entry->plan->n_checks;
    recheck(engine, entry->plan);
    return looks;
}

void tux_kernel_turn(struct tux_engine *engine)
{
    struct tux_kernel *kernel = engine->kernel;
    if (kernel->n_free == TUX_KERNEL_CELLS)
        return;
    if (!kernel->in_round) {
        if (engine->now_ms < kernel->round_ms)
            return;
        kernel->in_round = true;
        kernel->cursor = 0;
        kernel->round_ms = engine->now_ms + TUX_KERNEL_RECHECK_MS;
    }
    for (uint32_t looks = 0; kernel->cursor < kernel->end && looks < TUX_KERNEL_LOOKS_PER_TURN;)
        looks += visit(engine, kernel->cursor++);
    kernel->in_round = kernel->cursor < kernel->end;
}

uint64_t tux_kernel_wait_ms(const struct tux_engine *engine)
{
    const struct tux_kernel *kernel = engine->kernel;
    if (kernel->n_free == TUX_KERNEL_CELLS)
        return UINT64_MAX;
    if (kernel->in_round || kernel->round_ms <= engine->now_ms)
        return 0;
    return kernel->round_ms - engine->now_ms;
}

void tux_kernel_drain(struct tux_engine *engine)
{
    struct tux_kernel *kernel = engine->kernel;
    for (uint32_t i = 0; i < kernel->end; i++)
        if (kernel->published[i].state == LIVE)
            retire(engine, i);
    for (uint32_t i = 0; i < engine->n_slots; i++)
        if (engine->conns[i] != NULL)
            tux_kernel_busy(engine->conns[i]);
}
