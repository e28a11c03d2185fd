/* SPDX-License-Identifier: MIT */
/* The timer wheel: never early, at most one slot late, lazy refresh, callbacks that change the wheel. */
#include "check.h"

#include <stdlib.h>

#include "timer.h"

#define SLOT TUX_TIMER_SLOT_MS

struct recorder {
    struct tux_wheel *wheel;
    uint64_t now_ms;
    unsigned count;
    bool early, still_armed;
    struct tux_timer *last;
    struct tux_timer *to_cancel; /* cancelled by the callback */
    struct tux_timer *to_set;    /* set by the callback */
    uint64_t set_to_ms;
};

static void record(void *arg, struct tux_timer *timer)
{
    struct recorder *r = arg;
    r->count++;
    r->last = timer;
    if (timer->deadline_ms > r->now_ms)
        r->early = true;
    if (timer->next != NULL)
        r->still_armed = true;
    if (r->to_cancel != NULL)
        tux_timer_cancel(r->wheel, r->to_cancel);
    if (r->to_set != NULL)
        tux_timer_set(r->wheel, r->to_set, r->set_to_ms);
}

static void advance(struct recorder *r, uint64_t now_ms)
{
    r->now_ms = now_ms;
    tux_wheel_advance(r->wheel, now_ms, record, r);
}

static void test_due_between_deadline_and_one_slot_later(void)
{
    static struct tux_wheel wheel;
    for (uint64_t start = 1000; start < 1000 + SLOT; start += 7) {
        for (uint64_t delay = 0; delay < 3 * SLOT; delay += 11) {
            struct recorder r = {.wheel = &wheel};
            struct tux_timer timer = {0};
            tux_wheel_init(&wheel, start);
            tux_timer_set(&wheel, &timer, start + delay);
            uint64_t now = start;
            while (r.count == 0 && now < start + 10 * SLOT)
                advance(&r, ++now);
            CHECK(r.count == 1 && !r.early && !r.still_armed);
            CHECK(now >= start + delay && now <= start + delay + SLOT);
            CHECK(wheel.armed == 0);
        }
    }
}

static void test_later_is_lazy_and_earlier_is_at_once(void)
{
    static struct tux_wheel wheel;
    struct recorder r = {.wheel = &wheel};
    struct tux_timer timer = {0};
    tux_wheel_init(&wheel, 0);
    tux_timer_set(&wheel, &timer, 1000);
    struct tux_timer *slot = timer.prev;
    tux_timer_set(&wheel, &timer, 5000);
    CHECK(timer.prev == slot && wheel.armed == 1); /* one store */
    advance(&r, 4900);
    CHECK(r.count == 0 && wheel.armed == 1);
    tux_timer_set(&wheel, &timer, 4950);
    advance(&r, 5000);
    CHECK(r.count == 1 && r.last == &timer && wheel.armed == 0);
}

static void test_beyond_the_wheel_and_long_sleeps(void)
{
    static struct tux_wheel wheel;
    struct recorder r = {.wheel = &wheel};
    struct tux_timer far = {0}, never = {0};
    uint64_t span = (uint64_t)TUX_TIMER_SLOTS * SLOT;
    tux_wheel_init(&wheel, 12345);
    tux_timer_set(&wheel, &far, 12345 + 5 * span);
    tux_timer_set(&wheel, &never, UINT64_MAX);
    for (uint64_t now = 12345; now < 12345 + 5 * span; now += 1000)
        advance(&r, now);
    CHECK(r.count == 0 && wheel.armed == 2);
    advance(&r, 12345 + 5 * span + SLOT);
    CHECK(r.count == 1 && r.last == &far);
    tux_timer_set(&wheel, &far, 12345 + 6 * span);
    advance(&r, 12345 + 1000 * span); /* the process was stopped for long */
    CHECK(r.count == 2 && r.last == &far && wheel.armed == 1);
    advance(&r, 5); /* a clock that goes back changes nothing */
    CHECK(r.count == 2 && wheel.armed == 1);
    tux_timer_cancel(&wheel, &never);
    tux_timer_cancel(&wheel, &never);
    CHECK(wheel.armed == 0);
}

static void test_callback_may_cancel_and_set(void)
{
    static struct tux_wheel wheel;
    struct tux_timer first = {0}, second = {0}, third = {0};
    struct recorder r = {.wheel = &wheel, .to_cancel = &second, .to_set = &third, .set_to_ms = 9000};
    tux_wheel_init(&wheel, 0);
    tux_timer_set(&wheel, &first, 500);
    tux_timer_set(&wheel, &second, 500);
    tux_timer_set(&wheel, &third, 500);
    advance(&r, 600);
    CHECK(r.count == 1 && r.last == &first); /* second was cancelled, third was put off, both while due */
    CHECK(second.next == NULL && third.next != NULL && wheel.armed == 1);
    r.to_set = NULL;
    advance(&r, 9250);
    CHECK(r.count == 2 && r.last == &third && wheel.armed == 0);

    /* A callback that arms its own timer in the past is called once per advance, not for ever. */
    struct recorder again = {.wheel = &wheel, .to_set = &first, .set_to_ms = 1};
    tux_timer_set(&wheel, &first, 9300);
    advance(&again, 10000);
    CHECK(again.count == 1 && wheel.armed == 1);
    advance(&again, 10000);
    CHECK(again.count == 1);
    advance(&again, 10250);
    CHECK(again.count == 2);
}

static void test_wait(void)
{
    static struct tux_wheel wheel;
    struct tux_timer timer = {0};
    tux_wheel_init(&wheel, 100);
    CHECK(tux_wheel_wait(&wheel, 100) == UINT32_MAX);
    tux_timer_set(&wheel, &timer, 1001);
    CHECK(tux_wheel_wait(&wheel, 100) == 1250 - 100);
    CHECK(tux_wheel_wait(&wheel, 1250) == 0);
    CHECK(tux_wheel_wait(&wheel, 99999) == 0);

    /* Whoever sleeps as told meets every deadline in time, in few wake-ups. */
    for (uint64_t delay = 1; delay < 130000; delay += 997) {
        uint64_t now = 1000000;
        struct recorder sleeper = {.wheel = &wheel};
        tux_wheel_init(&wheel, now);
        timer = (struct tux_timer){0};
        tux_timer_set(&wheel, &timer, now + delay);
        unsigned turns = 0;
        while (sleeper.count == 0 && turns < 100) {
            now += tux_wheel_wait(&wheel, now);
            advance(&sleeper, now);
            turns++;
        }
        CHECK(sleeper.count == 1 && !sleeper.early && turns < 20);
        CHECK(now >= 1000000 + delay && now <= 1000000 + delay + SLOT);
    }
}

/* Random sets, cancels and steps of time against an array of deadlines. */
static void test_against_a_model(void)
{
    enum { TIMERS = 64 };
    static struct tux_wheel wheel;
    static struct tux_timer timers[TIMERS];
    uint64_t deadlines[TIMERS] = {0}; /* 0: not armed */
    uint64_t now = 777;
    struct recorder r = {.wheel = &wheel};
    bool wrong = false;
    tux_wheel_init(&wheel, now);
    srand(1);
    for (int step = 0; step < 200000; step++) {
        int i = rand() % TIMERS;
        switch (rand() % 4) {
        case 0:
        case 1:
            deadlines[i] = now + 1 + (uint64_t)(rand() % (rand() % 2 ? 2000 : 300000));
            tux_timer_set(&wheel, &timers[i], deadlines[i]);
            break;
        case 2:
            deadlines[i] = 0;
            tux_timer_cancel(&wheel, &timers[i]);
            break;
        default:
            now += (uint64_t)(rand() % (rand() % 50 ? 300 : 200000));
            advance(&r, now);
            for (int j = 0; j < TIMERS; j++) {
                if (deadlines[j] != 0 && timers[j].next == NULL) {
                    wrong |= deadlines[j] > now; /* early */
                    deadlines[j] = 0;
                } else if (deadlines[j] != 0) {
                    wrong |= deadlines[j] + SLOT <= now; /* late */
                    wrong |= timers[j].deadline_ms != deadlines[j];
                }
            }
        }
    }
    uint64_t armed = 0;
    for (int j = 0; j < TIMERS; j++)
        armed += deadlines[j] != 0;
    CHECK(!wrong && !r.early && !r.still_armed);
    CHECK(r.count > 1000);
    CHECK(wheel.armed == armed);
}

int main(void)
{
    test_due_between_deadline_and_one_slot_later();
    test_later_is_lazy_and_earlier_is_at_once();
    test_beyond_the_wheel_and_long_sleeps();
    test_callback_may_cancel_and_set();
    test_wait();
    test_against_a_model();
    return check_report();
}
