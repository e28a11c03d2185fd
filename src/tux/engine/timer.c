/* SPDX-License-Identifier: MIT */
/* The slot of a deadline is rounded up, so a timer may be late by one slot but is never early. A timer's slot is never
 * later than its deadline's: when the slot comes due first, the timer is linked again where its deadline now is. */
#include "timer.h"

#include <stddef.h>

#define LOOK_AHEAD_SLOTS 32u /* tux_wheel_wait looks 8 s ahead; an idle loop then wakes every 8 s, which costs nothing */

static void list_init(struct tux_timer *head)
{
    head->next = head;
    head->prev = head;
}

static void list_append(struct tux_timer *head, struct tux_timer *timer)
{
    timer->next = head;
    timer->prev = head->prev;
    head->prev->next = timer;
    head->prev = timer;
}

static void list_unlink(struct tux_timer *timer)
{
    timer->prev->next = timer->next;
    timer->next->prev = timer->prev;
    timer->next = NULL;
    timer->prev = NULL;
}

static void list_splice(struct tux_timer *to, struct tux_timer *from)
{
    if (from->next == from)
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

static void wheel_link(struct tux_wheel *wheel, struct tux_timer *timer)
{
    uint64_t slot = timer->deadline_ms / TUX_TIMER_SLOT_MS + (timer->deadline_ms % TUX_TIMER_SLOT_MS != 0);
    uint64_t first = wheel->now_slot + 1;
    uint64_t last = wheel->now_slot + TUX_TIMER_SLOTS - 1;
    if (slot < first)
        slot = first;
    if (slot > last)
        slot = last; /* beyond the wheel: linked again when this slot comes due */
    list_append(&wheel->slots[slot % TUX_TIMER_SLOTS], timer);
}

void tux_wheel_init(struct tux_wheel *wheel, uint64_t now_ms)
{
    for (size_t i = 0; i < TUX_TIMER_SLOTS; i++) {
        list_init(&wheel->slots[i]);
        wheel->slots[i].deadline_ms = 0;
    }
    wheel->now_slot = now_ms / TUX_TIMER_SLOT_MS;
    wheel->armed = 0;
}

void tux_timer_set(struct tux_wheel *wheel, struct tux_timer *timer, uint64_t deadline_ms)
{
    if (timer->next != NULL) {
        if (deadline_ms >= timer->deadline_ms) {
            timer->deadline_ms = deadline_ms;
            return;
        }
        list_unlink(timer);
    } else {
        wheel->armed++;
    }
    timer->deadline_ms = deadline_ms;
    wheel_link(wheel, timer);
}

void tux_timer_cancel(struct tux_wheel *wheel, struct tux_timer *timer)
{
    if (timer->next == NULL)
        return;
    list_unlink(timer);
    wheel->armed--;
}

void tux_wheel_advance(struct tux_wheel *wheel, uint64_t now_ms, void (*expired)(void *arg, struct tux_timer *timer),
                       void *arg)
{
    uint64_t target = now_ms / TUX_TIMER_SLOT_MS;
    if (target <= wheel->now_slot)
        return;
    uint64_t due_slots = target - wheel->now_slot;
    if (due_slots > TUX_TIMER_SLOTS)
        due_slots = TUX_TIMER_SLOTS;

    /* All that is due moves to a list of its own first: what the callback arms goes into the wheel and cannot come round
     * again in this call, and what it cancels is unlinked from wherever it is. */
    struct tux_timer due;
    list_init(&due);
    if (wheel->armed > 0) {
        for (uint64_t i = 1; i <= due_slots; i++)
            list_splice(&due, &wheel->slots[(wheel->now_slot + i) % TUX_TIMER_SLOTS]);
    }
    wheel->now_slot = target;

    while (due.next != &due) {
        struct tux_timer *timer = due.next;
        list_unlink(timer);
        if (timer->deadline_ms > now_ms) {
            wheel_link(wheel, timer);
            continue;
        }
        wheel->armed--;
        expired(arg, timer);
    }
}

uint32_t tux_wheel_wait(const struct tux_wheel *wheel, uint64_t now_ms)
{
    if (wheel->armed == 0)
        return UINT32_MAX;
    uint64_t ahead = 1;
    while (ahead < LOOK_AHEAD_SLOTS) {
        const struct tux_timer *head = &wheel->slots[(wheel->now_slot + ahead) % TUX_TIMER_SLOTS];
        if (head->next != head)
            break;
        ahead++;
    }
    uint64_t due_ms = (wheel->now_slot + ahead) * TUX_TIMER_SLOT_MS;
    if (due_ms <= now_ms)
        return 0;
    uint64_t wait_ms = due_ms - now_ms; /* more than the look-ahead only if the caller's clock went back */
    return wait_ms > LOOK_AHEAD_SLOTS * TUX_TIMER_SLOT_MS ? LOOK_AHEAD_SLOTS * TUX_TIMER_SLOT_MS : (uint32_t)wait_ms;
}
