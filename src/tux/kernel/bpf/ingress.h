/* SPDX-License-Identifier: MIT */
/* Packets from clients: answered, answered again, or passed on in the stack's numbers. */
#ifndef TUX_KERNEL_INGRESS_H
#define TUX_KERNEL_INGRESS_H

#include "carry_out.h"
#include "decide.h"
#include "icmp.h"
#include "open.h"
#include "record.h"

INLINE int ingress(struct __sk_buff *skb)
{
    struct packet p;
    if (is_resting())
        return TC_ACT_UNSPEC;
    enum parsed parsed = packet_parse(skb, &p, INCOMING);
    if (parsed == PARSED_ICMP)
        return icmp(skb);
    if (parsed != PARSED_SEGMENT)
        return TC_ACT_UNSPEC;
    struct tux_kernel_counters *count = FIRST(counters);
    struct tux_kernel_scratch *work = FIRST(scratch);
    struct tux_kernel_control *ctl = FIRST(control);
    if (!count || !work || !ctl)
        return TC_ACT_UNSPEC;
    struct options *o = &work->options;
    struct reply *r = &work->reply;
    struct outcome *out = &work->outcome;
    if (p.flags & TCP_SYN) {
        if (!(p.flags & TCP_ACK))
            open_syn(skb, &p, o, ctl, count);
        return TC_ACT_UNSPEC;
    }
    struct tux_kernel_conn *conn = bpf_map_lookup_elem(&conns, &p.tuple);
    if (!conn)
        return TC_ACT_UNSPEC;
    if (p.payload_len > 0 || conn->state & TUX_KERNEL_ANSWERED) /* else nothing depends on them */
        read_options(skb, &p, o);
    else
        o->sack_blocks = 0;

    __u64 now = bpf_ktime_get_boot_ns();
    struct candidate c = {};
    int is_candidate = 0;
    if (p.payload_len > 0 && !is_asked_again(conn, &p))
        is_candidate = find_answer(skb, &p, o, ctl, conn, count, now, &c);
    if (is_candidate && c.logging)
        is_candidate = reserve_record(&c, count);
    struct tux_kernel_slot *slot = 0;
    if (p.payload_len == 0 && p.flags == TCP_ACK && ctl->answering)
        slot = slot_of(conn);

    __builtin_memset(out, 0, sizeof *out);
    __builtin_memset(r, 0, sizeof *r);
    r->v6 = p.v6;
    bpf_spin_lock(&conn->lock);
    int is_known = is_entry_of(conn, &p.tuple);
    if (is_known)
        decide(conn, &p, is_candidate ? &c : 0, slot, now, r, out);
    bpf_spin_unlock(&conn->lock);

    finish_record(&c, &p, now, out->verdict == VERDICT_ANSWER);
    if (!is_known)
        return TC_ACT_UNSPEC;
    if (out->verdict == VERDICT_PASS)
        return pass_on(skb, &p, o, out, count);
    return send_answer(skb, &p, work, ctl, count, c.by_device);
}

#endif
