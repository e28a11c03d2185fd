/* SPDX-License-Identifier: MIT */
/* A hashed timer wheel with lazy refresh: pushing a deadline out is one store, and only when its old slot comes due is
 * the timer moved. That is what the common case wants: a deadline that is refreshed by every request and hardly ever met. */
#ifndef TUX_TIMER_H
#define TUX_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#define TUX_TIMER_SLOTS 512u       /* times TUX_TIMER_SLOT_MS: 128 s, over the longest usual time-out */
#define TUX_TIMER_SLOT_MS 250u     /* precision of every time-out */

/* Whose timer it is: what it lies in. */
enum tux_timer_kind { TUX_TIMER_CONN, TUX_TIMER_UPSTREAM, TUX_TIMER_UPSTREAM_QUEUE, TUX_TIMER_APP };

struct tux_timer {
    struct tux_timer *next, *prev; /* in a slot; NULL when not armed */
    uint64_t deadline_ms;          /* may be later than its slot */
    uint8_t kind;                  /* enum tux_timer_kind; the owner's, untouched here */
};

struct tux_wheel {
    struct tux_timer slots[TUX_TIMER_SLOTS]; /* list heads */
    uint64_t now_slot;                       /* the slot last expired, counted from the epoch of the clock */
    uint64_t armed;                          /* number of timers in the wheel */
};

void tux_wheel_init(struct tux_wheel *wheel, uint64_t now_ms);
/* Arm, or move the deadline (earlier moves relink at once, later ones are lazy). */
void tux_timer_set(struct tux_wheel *wheel, struct tux_timer *timer, uint64_t deadline_ms);
void tux_timer_cancel(struct tux_wheel *wheel, struct tux_timer *timer);
/* Call `expired` for each timer due at now_ms, after it was disarmed. The callback may set or cancel any timer.
 * Work is bounded by the timers in the slots that have come due. */
void tux_wheel_advance(struct tux_wheel *wheel, uint64_t now_ms, void (*expired)(void *arg, struct tux_timer *timer), void *arg);
/* Milliseconds until the wheel should be advanced next; UINT32_MAX when nothing is armed. Never later than the first
 * non-empty slot (an early wake-up is harmless). */
uint32_t tux_wheel_wait(const struct tux_wheel *wheel, uint64_t now_ms);

#endif
