/* SPDX-License-Identifier: MIT */
/* Who answers a request that the memo does not know: the steps of its route's chain, one after the other. */
#ifndef TUX_ORIGIN_H
#define TUX_ORIGIN_H

#include "core.h"

/* Choose the chain of a new exchange, and its first step: engine->head is its scan. `declined`: a remembered plan says that
 * the planner has nothing for this request. */
void tux_origin_choose(struct tux_engine *engine, struct tux_exchange *exchange, bool declined);
/* Whether the step that is due is the planner's. */
static inline bool tux_origin_is_planner(const struct tux_exchange *exchange)
{
    return exchange->chain == NULL || exchange->chain->steps[exchange->step].origin == TUX_ORIGIN_PLANNER;
}
/* Whether another step follows. */
static inline bool tux_origin_has_next(const struct tux_exchange *exchange)
{
    return exchange->chain != NULL && exchange->step + 1u < exchange->chain->n_steps;
}
/* Pass over the steps between this one and one of that origin; false: none follows, and nothing happened. */
bool tux_origin_skip(struct tux_exchange *exchange, enum tux_origin origin);
/* Take the step that is due, whose request's body has not been touched: ask the planner, or hand the request to a
 * backend. */
enum tux_step tux_origin_begin(struct tux_engine *engine, struct tux_conn *conn);
/* On to the next step; false: there is none. */
bool tux_origin_next(struct tux_exchange *exchange);
/* Which answers to errors the exchange has: those of its route, as far as that can be told, else of its site. */
uint32_t tux_origin_pages(struct tux_engine *engine, struct tux_conn *conn);
/* A plan for the exchange is there: answer with it, or go on to the next step when it declines. */
enum tux_step tux_origin_answer(struct tux_engine *engine, struct tux_conn *conn, struct tux_plan *plan);

#endif
