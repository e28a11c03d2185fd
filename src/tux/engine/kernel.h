/* SPDX-License-Identifier: MIT */
/* The engine's half of the kernel tier: it says in shared memory which connections are at rest and which published
 * answers still hold, and tells the supervisor what to publish and what to retire. It knows nothing of eBPF. */
#ifndef TUX_KERNEL_H
#define TUX_KERNEL_H

#include "../kernel/bpf/layout.h"
#include "core.h"

#define TUX_KERNEL_CANDIDATE_WAYS 2u

/* A head on its way to being published. */
struct tux_kernel_candidate {
    struct tux_kernel_key key;
    uint32_t samples; /* 0: nothing is here */
    uint64_t seen_ms;
};

/* The key of a head's exact bytes; false: it is empty or longer than the programs look at. */
bool tux_kernel_key_of_head(const uint64_t secret[2], const void *head, size_t len, uint32_t listener,
                            struct tux_kernel_key *key);
/* RFC 1071 sum of words of this machine's byte order, an odd last byte padded with a zero: folded, not complemented. */
uint32_t tux_kernel_sum(const void *bytes, size_t len);
/* The candidate of this key in a table of TUX_KERNEL_CANDIDATES, seen now: it takes the place of the one that was not
 * seen for longest if it is not there. One that was not seen for TUX_KERNEL_CANDIDATE_MS begins again. */
struct tux_kernel_candidate *tux_kernel_candidate(struct tux_kernel_candidate *table, const struct tux_kernel_key *key,
                                                  uint64_t now_ms);

/* -- slots ------------------------------------------------------------------------------------------------------ */

static inline void tux_kernel_mark(struct tux_conn *conn, uint64_t marks)
{
    __atomic_store_n(&conn->kernel_slot->marks, marks, __ATOMIC_RELEASE);
}

/* The first time that a connection of an accelerated listener comes to rest after an answer: one that is closed with its
 * first answer has no use for a slot. Sets kernel_slot, whose marks say that it is busy, or slotless. */
void tux_kernel_claim(struct tux_engine *engine, struct tux_conn *conn);
/* After its descriptor was closed. */
void tux_kernel_release(struct tux_conn *conn);

/* All that was received is answered once `sending` more bytes have been sent: nothing of it is held, and nothing else
 * is to be sent. Written before they are sent, because the client's next request may be faster than the return from
 * send(2); until all of them have left the counts differ.
 *
 * Why equal marks suffice. The program counts, under its lock, the bytes that it let pass to the stack and from it. If
 * it has let pass to the stack just as many as were received here when the marks were written, then there is nothing
 * that the engine could work on or the stack could hold for it; and if as many came out of the stack as were sent, then
 * every answer has left. Neither count ever goes back, so equality with old marks means that nothing happened since.
 * What the engine sends without being asked would change that: then the marks are taken back first (tux_kernel_busy).
 */
static inline void tux_kernel_rest(struct tux_engine *engine, struct tux_conn *conn, uint32_t sending)
{
    if (conn->slotless || !conn->heard || engine->draining)
        return;
    if (conn->kernel_slot == NULL) {
        tux_kernel_claim(engine, conn);
        if (conn->slotless)
            return;
    }
    uint64_t marks = conn->received | (uint64_t)(conn->sent + sending) << 32;
    if (conn->kernel_slot->marks != marks) /* written by this thread alone */
        tux_kernel_mark(conn, marks);
}

/* Before the engine sends, half-closes or closes without having been asked. */
static inline void tux_kernel_busy(struct tux_conn *conn)
{
    if (conn->kernel_slot != NULL)
        tux_kernel_mark(conn, TUX_KERNEL_NO_MARKS);
}

/* -- publishing ------------------------------------------------------------------------------------------------- */

/* A request whose head is engine->head and begins at `bytes` was answered from memory: by what lies in the batch from
 * iovec `first` on, with `body_bytes` of body. The connection is not slotless, and stays open. */
void tux_kernel_hit(struct tux_engine *engine, const struct tux_conn *conn, const uint8_t *bytes, struct tux_plan *plan,
                    uint32_t first, uint64_t body_bytes);
/* The helper thread's word about a published plan. begun_boot_ns: CLOCK_BOOTTIME before its first look. */
void tux_kernel_checked(struct tux_engine *engine, struct tux_plan *plan, bool same, uint64_t begun_boot_ns);
/* The plan no longer holds. */
void tux_kernel_retire(struct tux_engine *engine, struct tux_plan *plan);

/* Once a turn: repeats checks when it is time. */
void tux_kernel_turn(struct tux_engine *engine);
uint64_t tux_kernel_wait_ms(const struct tux_engine *engine); /* until then; UINT64_MAX: nothing to do */
/* A drain begins: nothing is answered in the name of this worker any more. */
void tux_kernel_drain(struct tux_engine *engine);
void tux_kernel_free(struct tux_engine *engine);

#endif
