/* SPDX-License-Identifier: MIT */
/* What becomes of a packet from a client: decided, and noted, under the lock of its connection. */
#ifndef TUX_KERNEL_DECIDE_H
#define TUX_KERNEL_DECIDE_H

#include "find.h"
#include "translate.h"
#include "window.h"

/* Is this, at the least, the beginning of the request whose answer the client has not acknowledged? */
INLINE int is_asked_again(const struct tux_kernel_conn *conn, const struct packet *p)
{
    return conn->state & TUX_KERNEL_PENDING && p->payload_len > 0 && p->seq == conn->request_seq;
}

INLINE __u32 next_timestamp(struct tux_kernel_conn *conn, __u64 now)
{
    __u32 ts = conn->ts_base + (__u32)((now - conn->opened_ns) / 1000000ull);
    if (seq_before(ts, conn->ts_last))
        ts = conn->ts_last;
    conn->ts_last = ts;
    return ts;
}

/* Under the lock: the answer is committed before the packet is touched, so a build that fails is an answer lost. */
INLINE void commit_answer(struct tux_kernel_conn *conn, const struct packet *p, const struct candidate *c,
                          struct outcome *out)
{
    out->verdict = VERDICT_ANSWER;
    out->seq = p->seq - conn->d_in;
    out->ack = p->ack - conn->d_out;
    out->tell_stack = seq_after(out->ack, conn->una);
    if (out->tell_stack)
        conn->una = out->ack;
    conn->state |= TUX_KERNEL_PENDING | TUX_KERNEL_ANSWERED;
    conn->request_seq = p->seq;
    conn->request_len = p->payload_len;
    conn->answer_seq = conn->out_next;
    conn->answer_len = c->answer->length;
    conn->answer_pos = conn->out_next - conn->d_out;
    conn->answer_chunk = c->first_chunk;
    conn->answer_id = c->id;
    conn->answer_second = c->second;
    conn->in_next += p->payload_len;
    conn->d_in += p->payload_len;
    conn->out_next += c->answer->length;
    conn->d_out += c->answer->length;
}

/* What is so far ahead of all that came before is nonsense, or will come again in order: it is not counted. */
#define AHEAD_BYTES (1u << 20)

/* Under the lock: the packet goes to the stack. Notes what it will know, and translates its numbers. An entry that
 * renumbers is never deleted here, because the stack may see this packet otherwise, or not at all: the sweep looks
 * at the socket. */
INLINE void commit_pass(struct tux_kernel_conn *conn, const struct packet *p, const struct tux_kernel_slot *slot,
                        __u64 now, struct outcome *out)
{
    __u32 end = p->seq + p->payload_len + (p->flags & TCP_FIN ? 1 : 0);
    int in_order = !seq_after(p->seq, conn->in_next);
    out->window = window_to_stack(conn, p, slot);
    if (p->flags & TCP_RST && p->seq == conn->in_next)
        conn->state |= TUX_KERNEL_RESET;
    if (p->flags & TCP_FIN && in_order)
        conn->state |= TUX_KERNEL_CLIENT_FIN;
    if (seq_after(end, conn->in_next) && !seq_after(p->seq, conn->in_next + AHEAD_BYTES))
        conn->in_next = end;
    if (p->payload_len > 0)
        conn->passed_ns = now;
    out->seq = p->seq - conn->d_in;
    out->ack = p->ack;
    if (p->flags & TCP_ACK) {
        out->ack = ack_to_stack(&out->acks, p->ack);
        if (!seq_after(p->ack, conn->out_next) && seq_after(out->ack, conn->una))
            conn->una = out->ack;
    }
    __u32 fins = TUX_KERNEL_CLIENT_FIN | TUX_KERNEL_SERVER_FIN;
    int ended = (conn->state & fins) == fins && p->ack == conn->out_next;
    if ((ended || conn->state & TUX_KERNEL_RESET) && !(conn->state & TUX_KERNEL_ANSWERED)) {
        conn->state |= TUX_KERNEL_DEAD;
        out->closed = 1;
    }
}

/* What this packet says about what was sent before. */
INLINE void note_arrival(struct tux_kernel_conn *conn, const struct packet *p, __u64 now)
{
    conn->last_ns = now;
    if (conn->state & TUX_KERNEL_PENDING && acknowledges(conn, p, conn->answer_seq + conn->answer_len))
        conn->state &= ~(__u32)TUX_KERNEL_PENDING;
    if (conn->probe_len && acknowledges(conn, p, conn->probe_end)) {
        conn->proven = conn->probe_len;
        conn->probe_len = 0;
    }
}

/* What the header of an answer takes from the connection. */
INLINE void describe_reply(const struct tux_kernel_conn *conn, struct reply *r)
{
    r->timestamps = (conn->state & TUX_KERNEL_TIMESTAMPS) != 0;
    r->window = conn->window;
    r->flow = conn->flow;
    r->ttl = conn->ttl;
    r->tos = conn->tos;
}

/* ... and from the last answer, which is sent for the first time, or again. */
INLINE void describe_answer(struct tux_kernel_conn *conn, struct reply *r, struct outcome *out, __u64 now)
{
    r->seq = conn->answer_seq;
    r->ack = conn->request_seq + conn->request_len;
    if (seq_after(conn->stack_ack, r->ack)) /* this fills the hole, so all behind it can be acknowledged */
        r->ack = conn->stack_ack;
    r->payload_len = conn->answer_len;
    r->tsval = next_timestamp(conn, now);
    out->answer_chunk = conn->answer_chunk;
    out->answer_id = conn->answer_id;
    out->answer_second = conn->answer_second;
    out->stack_next = conn->in_next - conn->d_in;
}

/* Under the lock: what becomes of this packet. `candidate`: what would answer it, or 0; `slot`: of a pure
 * acknowledgement, else 0. */
INLINE void decide(struct tux_kernel_conn *conn, const struct packet *p, const struct candidate *candidate,
                   const struct tux_kernel_slot *slot, __u64 now, struct reply *r, struct outcome *out)
{
    note_arrival(conn, p, now);
    out->acks = ack_map_of(conn);
    describe_reply(conn, r);
    if (is_asked_again(conn, p)) {
        /* The answer is lost. Whatever else is in this packet will come again. */
        out->verdict = VERDICT_RESEND;
        out->ack = ack_to_stack(&out->acks, p->ack);
        r->identification = p->v6 ? 0 : (__u16)(now >> 10 | 1); /* the path may take less now than it did */
    } else if (candidate && is_in_order(conn, p) && is_quiescent(conn, candidate->slot)) {
        commit_answer(conn, p, candidate, out);
    } else {
        commit_pass(conn, p, slot, now, out);
    }
    if (out->verdict != VERDICT_PASS)
        describe_answer(conn, r, out, now);
}

#endif
