/* SPDX-License-Identifier: MIT */
/* Packets to clients: what the stack sends, in the client's numbers. */
#ifndef TUX_KERNEL_EGRESS_H
#define TUX_KERNEL_EGRESS_H

#include "open.h"
#include "translate.h"

/* Numbers are compared modulo 2^32, so one that is remembered must not fall half of that behind. No window is so
 * large that something as old as FAR_BYTES could still be on its way. */
#define FAR_BYTES (1u << 30)

INLINE void forget_answer(struct tux_kernel_conn *conn)
{
    conn->answer_seq = conn->out_next - FAR_BYTES / 2u;
    conn->answer_pos = conn->answer_seq - conn->d_out;
    conn->answer_len = 0;
}

INLINE int egress(struct __sk_buff *skb)
{
    struct packet p;
    struct tux_kernel_control *ctl = FIRST(control);
    if (!ctl || ctl->paused == TUX_KERNEL_RESTING)
        return TC_ACT_UNSPEC;
    if (skb->mark != 0 && skb->mark == ctl->mark) { /* an answer, from the ingress program */
        skb->mark = 0;
        return TC_ACT_UNSPEC;
    }
    if (packet_parse(skb, &p, OUTGOING) != PARSED_SEGMENT)
        return TC_ACT_UNSPEC;
    struct tux_kernel_counters *count = FIRST(counters);
    struct tux_kernel_scratch *work = FIRST(scratch);
    if (!count || !work)
        return TC_ACT_UNSPEC;
    struct options *o = &work->options;
    if (p.flags & TCP_SYN) {
        if (p.flags & TCP_ACK)
            open_synack(skb, &p, o, ctl, count);
        return TC_ACT_UNSPEC;
    }
    struct tux_kernel_conn *conn = bpf_map_lookup_elem(&conns, &p.tuple);
    if (!conn)
        return TC_ACT_UNSPEC;
    read_options(skb, &p, o);
    __u32 ts = o->timestamp_at ? load32(o->bytes, o->timestamp_at) : 0, ts_sent = ts;
    __u64 now = bpf_ktime_get_boot_ns();
    struct ack_map none = {};
    int stale = 0, closed = 0;
    __u32 seq, ack;

    bpf_spin_lock(&conn->lock);
    if (!is_entry_of(conn, &p.tuple)) {
        bpf_spin_unlock(&conn->lock);
        return TC_ACT_UNSPEC;
    }
    conn->last_ns = now;
    conn->window = p.window;
    __u32 d_in = conn->d_in;
    seq = p.seq + conn->d_out;
    ack = p.flags & TCP_ACK ? p.ack + d_in : p.ack;
    if (conn->state & TUX_KERNEL_ANSWERED && p.payload_len > 0 && seq_before(p.seq, conn->answer_pos)) {
        /* Sent again although the client acknowledged it before the last answer: in the client's numbers it would lie
         * where answers are. The stack learns of the acknowledgement with the client's next packet. */
        stale = 1;
        if (seq_before(p.seq, conn->una)) /* it was told of an acknowledgement, and did not hear it */
            conn->una = p.seq;
    } else {
        __u32 end = seq + p.payload_len + (p.flags & TCP_FIN ? 1 : 0);
        if (seq_after(end, conn->out_next))
            conn->out_next = end;
        if (conn->state & TUX_KERNEL_ANSWERED && !(conn->state & TUX_KERNEL_PENDING) &&
            conn->out_next - conn->answer_seq > FAR_BYTES)
            forget_answer(conn);
        if (p.flags & TCP_FIN)
            conn->state |= TUX_KERNEL_SERVER_FIN;
        if (p.flags & TCP_RST)
            conn->state |= TUX_KERNEL_RESET;
        if (p.flags & TCP_ACK && seq_after(ack, conn->stack_ack)) {
            conn->stack_ack = ack;
            if (seq_after(ack, conn->in_next)) /* it came in an order that was not counted */
                conn->in_next = ack;
        }
        __u32 segment = skb->gso_size ? skb->gso_size : p.payload_len;
        if (segment > conn->proven && segment <= 65535) {
            conn->probe_len = (__u16)segment;
            conn->probe_end = seq + p.payload_len;
        }
        /* As long as the client may miss the answer, it must not learn that the request has arrived, or it would not
         * send it again. */
        if (conn->state & TUX_KERNEL_PENDING && p.flags & TCP_ACK && seq_after(ack, conn->request_seq))
            ack = conn->request_seq;
        if (o->timestamp_at) {
            if (seq_before(ts, conn->ts_last))
                ts_sent = conn->ts_last;
            else
                conn->ts_last = ts;
        }
        if (p.flags & TCP_RST && !(conn->state & TUX_KERNEL_ANSWERED)) {
            conn->state |= TUX_KERNEL_DEAD;
            closed = 1;
        }
    }
    bpf_spin_unlock(&conn->lock);

    if (stale) {
        count->stale_dropped++;
        return TC_ACT_SHOT;
    }
    if (closed) {
        count->closed++;
        bpf_map_delete_elem(&conns, &p.tuple);
    }
    if (seq == p.seq && ack == p.ack && ts_sent == ts)
        return TC_ACT_UNSPEC;
    count->translated_out++;
    long error = replace32(skb, &p, TCP_SEQ_OFFSET, p.seq, seq);
    if (!error)
        error = replace32(skb, &p, TCP_ACK_OFFSET, p.ack, ack);
    if (!error && o->sack_blocks)
        error = replace_sack(skb, &p, o, &none, d_in, OUTGOING);
    if (!error && ts_sent != ts && !(o->timestamp_at & 1))
        error = replace32(skb, &p, TCP_BYTES + o->timestamp_at, ts, ts_sent);
    return error ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

#endif
