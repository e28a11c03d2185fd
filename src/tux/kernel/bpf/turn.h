/* SPDX-License-Identifier: MIT */
/* Whose turn it is: ours only when stack and engine have nothing of a connection in hand. */
#ifndef TUX_KERNEL_TURN_H
#define TUX_KERNEL_TURN_H

#include "maps.h"

INLINE struct tux_kernel_slot *slot_of(const struct tux_kernel_conn *conn)
{
    __u32 worker = conn->worker;
    void *inner = bpf_map_lookup_elem(&slots, &worker);
    if (!inner)
        return 0;
    __u32 index = (__u32)conn->cookie & (TUX_KERNEL_SLOTS - 1u);
    return bpf_map_lookup_elem(inner, &index);
}

/* Have stack and engine nothing of this connection in hand? What passed to the stack and what came from it is
 * counted here, under the lock; the engine says how much of it had arrived, and what it had sent, when its last
 * answer was complete. If both are equal, then all that came was read and answered, and all that was sent has
 * passed: the engine acts next only when something more is passed to it. */
INLINE int is_quiescent(const struct tux_kernel_conn *conn, const struct tux_kernel_slot *slot)
{
    __u32 received = conn->in_next - conn->irs - conn->d_in, sent = conn->out_next - conn->iss - conn->d_out;
    __u64 cookie = LOAD(slot->cookie); /* the worker takes back the last owner's marks before it writes this */
    __u64 marks = LOAD_AFTER(cookie, slot->marks);
    return cookie == conn->cookie && marks == (received | (__u64)sent << 32);
}

/* Has the client got all before `end`? */
INLINE int acknowledges(const struct tux_kernel_conn *conn, const struct packet *p, __u32 end)
{
    return p->flags & TCP_ACK && !seq_before(p->ack, end) && !seq_after(p->ack, conn->out_next);
}

INLINE int is_in_order(const struct tux_kernel_conn *conn, const struct packet *p)
{
    __u32 never = TUX_KERNEL_CLIENT_FIN | TUX_KERNEL_SERVER_FIN | TUX_KERNEL_RESET | TUX_KERNEL_DEAD |
                  TUX_KERNEL_PENDING;
    __u32 state = conn->state;
    if (state & TUX_KERNEL_PENDING && !seq_before(p->ack, conn->out_next)) /* this packet acknowledges the answer */
        state &= ~(__u32)TUX_KERNEL_PENDING;
    return !(state & never) && p->seq == conn->in_next && p->ack == conn->out_next;
}

#endif
