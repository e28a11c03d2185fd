/* SPDX-License-Identifier: MIT */
/* The client's window, as the stack is told of it. */
#ifndef TUX_KERNEL_WINDOW_H
#define TUX_KERNEL_WINDOW_H

#include "turn.h"

/* RFC 9293 lets a window of the same sequence and acknowledgement numbers only grow. In the stack's numbers requests
 * and answers of ours do not exist, so a client's window that has become smaller meanwhile would be ignored, and the
 * stack would send beyond it. Therefore when the stack hears of an acknowledgement while it has nothing under way, it
 * hears of the smallest window: the next request that is passed to it opens it again. 1 and not 0: a FIN has room. */
#define RESTING_WINDOW 1u

/* Has the client, as this packet says, all that the stack has sent? An answer of ours may be on its way. */
INLINE int has_all_of_stack(const struct tux_kernel_conn *conn, const struct packet *p)
{
    __u32 sent = conn->out_next;
    if (conn->state & TUX_KERNEL_PENDING && sent == conn->answer_seq + conn->answer_len)
        sent = conn->answer_seq;
    return acknowledges(conn, p, sent);
}

/* The window that the stack is told of, scaled as it came. `slot`: of a pure acknowledgement, else 0. */
INLINE __u16 window_to_stack(const struct tux_kernel_conn *conn, const struct packet *p,
                             const struct tux_kernel_slot *slot)
{
    __u32 ending = TUX_KERNEL_CLIENT_FIN | TUX_KERNEL_SERVER_FIN | TUX_KERNEL_RESET;
    if (slot && conn->out_next != conn->iss && p->window > RESTING_WINDOW && !(conn->state & ending) &&
        !seq_after(p->seq, conn->in_next) && has_all_of_stack(conn, p) && is_quiescent(conn, slot))
        return RESTING_WINDOW;
    __u32 answer_end = conn->answer_seq + conn->answer_len;
    if (!(conn->state & TUX_KERNEL_PENDING) || !(p->flags & TCP_ACK) || !seq_before(p->ack, answer_end))
        return p->window;
    /* Room for an answer of ours that is on its way is not room for what the stack sends behind it. */
    __u32 way = answer_end - (seq_before(p->ack, conn->answer_seq) ? conn->answer_seq : p->ack);
    __u64 room = (__u64)p->window << (conn->wscale & 15u);
    return room > way ? (__u16)((room - way) >> (conn->wscale & 15u)) : 0;
}

#endif
