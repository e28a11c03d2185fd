/* SPDX-License-Identifier: MIT */
/* What was decided is done to the packet: it goes to the stack, or it becomes an answer and leaves. */
#ifndef TUX_KERNEL_CARRY_OUT_H
#define TUX_KERNEL_CARRY_OUT_H

#include "reply.h"
#include "translate.h"
#include "window.h"

/* The packet goes to the stack, in its numbers. */
INLINE int pass_on(struct __sk_buff *skb, const struct packet *p, const struct options *o, const struct outcome *out,
                   struct tux_kernel_counters *count)
{
    if (out->window != p->window && replace16(skb, p, TCP_WINDOW_OFFSET, p->window, out->window))
        return TC_ACT_SHOT;
    if (out->acks.answered) {
        count->translated_in++;
        long error = replace32(skb, p, TCP_SEQ_OFFSET, p->seq, out->seq);
        if (!error)
            error = replace32(skb, p, TCP_ACK_OFFSET, p->ack, out->ack);
        if (!error && o->sack_blocks)
            error = replace_sack(skb, p, o, &out->acks, 0, INCOMING);
        if (error)
            return TC_ACT_SHOT; /* half translated: it must not arrive */
    }
    if (out->closed) {
        count->closed++;
        bpf_map_delete_elem(&conns, &p->tuple);
    }
    return TC_ACT_UNSPEC;
}

/* The request's packet, turned round before, becomes one for the stack, without data. */
INLINE int pass_empty(struct __sk_buff *skb, const struct packet *p, struct tux_kernel_scratch *work, __u32 seq,
                      __u8 flags)
{
    const struct options *o = &work->options;
    struct reply *r = &work->reply;
    swap_ends(&work->header, p->v6);
    r->seq = seq;
    r->ack = work->outcome.ack;
    r->window = RESTING_WINDOW;
    r->tsval = load32(o->bytes, o->timestamp_at);
    r->tsecr = load32(o->bytes, o->timestamp_at + 4u);
    return build_empty(skb, p, &work->header, r, flags) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

/* The client asks again for an answer whose bytes are gone (120 s later at the least): nobody can fill the hole. */
INLINE int reset_both(struct __sk_buff *skb, const struct packet *p, struct tux_kernel_scratch *work, __u32 own_mark)
{
    __u32 mark = skb->mark;
    if (build_empty(skb, p, &work->header, &work->reply, TCP_RST | TCP_ACK))
        return TC_ACT_SHOT;
    skb->mark = own_mark;
    bpf_clone_redirect(skb, skb->ifindex, 0);
    skb->mark = mark;
    return pass_empty(skb, p, work, work->outcome.stack_next, TCP_RST | TCP_ACK);
}

/* The packet becomes the answer that was decided on. Should that fail, then the answer is lost, and asked for again.
 * `by_device`: of the checksum of a request that is answered for the first time. */
INLINE int send_answer(struct __sk_buff *skb, const struct packet *p, struct tux_kernel_scratch *work,
                       const struct tux_kernel_control *ctl, struct tux_kernel_counters *count, int by_device)
{
    struct options *o = &work->options;
    struct reply *r = &work->reply;
    struct outcome *out = &work->outcome;
    struct header *h = &work->header;
    __u32 index = out->answer_chunk;
    struct tux_kernel_answer *answer = bpf_map_lookup_elem(&entries, &index);
    index = (__u32)(out->answer_second % TUX_KERNEL_DATES);
    struct tux_kernel_date *date = bpf_map_lookup_elem(&dates, &index);
    if (out->verdict == VERDICT_RESEND)
        by_device = look_at_checksum(skb, p);
    if (!answer || !date || by_device < 0 || !p->plain || (r->timestamps && !o->timestamp_at) ||
        load_header(skb, h, p->v6)) {
        count->answer_lost++;
        return TC_ACT_SHOT;
    }
    swap_ends(h, p->v6);
    r->tsecr = load32(o->bytes, o->timestamp_at);
    r->by_device = by_device == 1;
    r->flags = TCP_ACK | TCP_PSH;
    if (answer->id != out->answer_id || date->second != out->answer_second || answer->length != r->payload_len) {
        count->version_gone++;
        return reset_both(skb, p, work, ctl->mark);
    }
    r->payload_sum = answer_sum(answer, date);
    __u32 mark = skb->mark;
    if (build_answer(skb, p, h, r, out->answer_chunk, answer->date_offset, date)) {
        count->answer_lost++;
        return TC_ACT_SHOT;
    }
    skb->mark = ctl->mark;
    if (out->verdict == VERDICT_RESEND)
        count->resent++;
    else
        count->answered++;
    count->answered_bytes += r->payload_len;
    if (!out->tell_stack)
        return (int)bpf_redirect(skb->ifindex, 0);
    /* The stack, too, hears what the client has acknowledged with its request: otherwise it would send it again. */
    count->stack_acks++;
    bpf_clone_redirect(skb, skb->ifindex, 0);
    skb->mark = mark;
    return pass_empty(skb, p, work, out->seq, TCP_ACK);
}

#endif
