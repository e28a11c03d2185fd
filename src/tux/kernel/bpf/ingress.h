/* SPDX-License-Identifier: MIT */
/* Packets from clients: answered, answered again, or passed on in the stack's numbers. */
#ifndef TUX_KERNEL_INGRESS_H
#define TUX_KERNEL_INGRESS_H

#include "head_key.h"
#include "icmp.h"
#include "open.h"
#include "reply.h"
#include "translate.h"

#define PACKET_HOST 0u        /* linux/if_packet.h: the packet is for this machine */
#define USED_NS 1000000000ull /* how exactly the time of an answer's last use is known */

/* Everything an answer needs, found before the lock is taken. */
struct candidate {
    struct tux_kernel_answer *answer;
    struct tux_kernel_date *date;
    struct tux_kernel_slot *slot;
    struct tux_kernel_record *record;
    __u64 held; /* 1: there is a record. The verifier of Linux 6.1 follows a number, and not that record is not null */
    __u32 first_chunk;
    __u64 id;
    __u64 second;
    __u8 logging;
};

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
    __u64 cookie = *(volatile const __u64 *)&slot->cookie;
    __u64 marks = *(volatile const __u64 *)&slot->marks;
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

INLINE int same_hop(const __u8 a[6], const __u8 b[6])
{
    __u32 differ = 0;
    for (__u32 i = 0; i < 6; i++)
        differ |= (__u32)(a[i] ^ b[i]);
    return differ == 0;
}

/* Is this a request that may be answered at all? The shape of the packet alone decides. An answer goes back to the
 * neighbour that the request comes from: that must be the one that the stack itself sends to. */
INLINE int has_shape(const struct __sk_buff *skb, const struct packet *p, const struct options *o,
                     const struct tux_kernel_conn *conn)
{
    int timestamps = (conn->state & TUX_KERNEL_TIMESTAMPS) != 0;
    return (p->flags & ~(__u32)TCP_PSH) == TCP_ACK && p->payload_len <= TUX_KERNEL_MAX_HEAD_BYTES && p->plain &&
           p->no_fragment && skb->pkt_type == PACKET_HOST && (p->tos & 3) != 3 && o->standard &&
           (o->timestamp_at != 0) == timestamps && conn->ifindex == skb->ifindex && same_hop(conn->hop, p->hop);
}

/* The head into the scratch, in whole words, and its key. */
INLINE int read_key(struct __sk_buff *skb, const struct packet *p, const struct tux_kernel_control *ctl,
                    __u32 listener, struct tux_kernel_key *key)
{
    struct tux_kernel_scratch *head = FIRST(scratch);
    __u32 len = p->payload_len;
    if (!head || len < 1 || len > TUX_KERNEL_MAX_HEAD_BYTES)
        return 0;
    len = FROM_1_TO(TUX_KERNEL_MAX_HEAD_BYTES, len);
    __u32 last = len / 8u;
    if (last < TUX_KERNEL_MAX_HEAD_BYTES / 8u)
        head->words[last] = 0; /* zeros behind the head, up to a whole word */
    if (bpf_skb_load_bytes(skb, p->payload_off, head->words, len))
        return 0;
    return tux_kernel_key_of(ctl->key, head->words, len, listener, key);
}

#define SUM_BYTES 512u   /* the most that bpf_csum_diff takes before Linux 6.13 */
#define SUM_PIECES 20u   /* more than 9,000 bytes come in one packet only after they were looked at (GRO) */

/* A checksum that nobody has looked at is looked at here: an answer must not be based on a damaged packet. Uses the
 * scratch's words. */
INLINE int checksum_is_right(struct __sk_buff *skb, const struct packet *p)
{
    struct tux_kernel_scratch *work = FIRST(scratch);
    __u32 at = p->l4, left = p->payload_off + p->payload_len - p->l4;
    if (!work)
        return 0;
    __u64 total = pseudo_header(p, left);
    __wsum sum = 0;
    for (__u32 i = 0; i < SUM_PIECES; i++) {
        if (left == 0)
            break;
        __u32 n = left < SUM_BYTES ? left : SUM_BYTES;
        left -= n;
        n = FROM_1_TO(SUM_BYTES, n);
        work->words[n / 8u] = 0; /* zeros behind an odd end */
        if (bpf_skb_load_bytes(skb, at, work->words, n))
            return 0;
        at += n;
        __u32 whole = (n + 3u) & ~3u;
        OPAQUE(whole);
        if (whole > SUM_BYTES)
            return 0;
        sum = (__wsum)bpf_csum_diff(0, 0, (const __be32 *)work->words, whole, sum);
    }
    if (!p->v6) {
        __u16 ip[IPV4_BYTES / 2];
        __u64 header = 0;
        if (bpf_skb_load_bytes(skb, ETHERNET_BYTES, ip, IPV4_BYTES))
            return 0;
        for (__u32 i = 0; i < IPV4_BYTES / 2; i++)
            header += ip[i];
        if (fold(header) != 0xffff)
            return 0;
    }
    return left == 0 && fold(total + sum) == 0xffff;
}

/* 1: a device computes the checksum of this packet; 0: it is there, and right; -1: it is wrong. */
INLINE int look_at_checksum(struct __sk_buff *skb, const struct packet *p)
{
    int by_device = checksum_by_device(skb, p);
    if (by_device == 0 && bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY) < 0 && !checksum_is_right(skb, p))
        return -1;
    return by_device;
}

INLINE int date_of(const struct tux_kernel_control *ctl, __u64 now, __u64 *second, struct tux_kernel_date **date)
{
    *second = (now + ctl->wall_ns) / 1000000000ull;
    __u32 index = (__u32)(*second % TUX_KERNEL_DATES);
    *date = bpf_map_lookup_elem(&dates, &index);
    return *date && (*date)->second == *second;
}

/* Find what answers this request. 0: nothing, or not now; the counter says why. */
INLINE int find_answer(struct __sk_buff *skb, const struct packet *p, const struct options *o,
                       const struct tux_kernel_control *ctl, const struct tux_kernel_conn *conn,
                       struct tux_kernel_counters *count, __u64 now, struct candidate *c, int *by_device)
{
    if (!ctl->answering || (__s64)(now - ctl->heartbeat_ns) > (__s64)TUX_KERNEL_HEARTBEAT_NS) {
        count->pass_quiet++;
        return 0;
    }
    if (!has_shape(skb, p, o, conn)) {
        count->pass_shape++;
        return 0;
    }
    /* The first request of a connection is the engine's. So the stack is known to be ready, the path has carried an
     * answer, and a connection that is used once costs no more than it would without us. */
    if (conn->out_next == conn->iss) {
        count->pass_first++;
        return 0;
    }
    /* Without the lock, to save work; it is all looked at again under it. */
    if (!is_in_order(conn, p)) {
        count->pass_order++;
        return 0;
    }
    c->slot = slot_of(conn);
    if (!c->slot || !is_quiescent(conn, c->slot)) {
        count->pass_busy++;
        return 0;
    }
    if ((__s64)(now - conn->passed_ns) > (__s64)ctl->liveness_ns) {
        count->pass_live++;
        return 0;
    }
    struct tux_kernel_key key = {};
    if (!read_key(skb, p, ctl, conn->listener, &key))
        return 0;
    struct tux_kernel_found *found = bpf_map_lookup_elem(&answers, &key);
    if (!found) {
        count->pass_unknown++;
        return 0;
    }
    c->id = found->id;
    c->first_chunk = found->first_chunk;
    c->answer = bpf_map_lookup_elem(&entries, &c->first_chunk);
    if (!c->answer || c->answer->id != c->id || c->answer->key.lo != key.lo || c->answer->key.hi != key.hi ||
        c->answer->key.length != key.length || c->answer->key.listener != key.listener) {
        count->pass_unknown++;
        return 0;
    }
    __u32 worker = c->answer->worker, index = c->answer->cell;
    void *inner = bpf_map_lookup_elem(&cells, &worker);
    struct tux_kernel_cell *cell = inner ? bpf_map_lookup_elem(inner, &index) : 0;
    if (!cell) {
        count->pass_stale++;
        return 0;
    }
    /* In this order: the worker sets the time to 0 before it gives the cell another version. */
    __u64 fresh_until_ns = *(volatile __u64 *)&cell->fresh_until_ns;
    __u64 version = *(volatile __u64 *)&cell->version;
    if (version != c->answer->version || now >= fresh_until_ns || !date_of(ctl, now, &c->second, &c->date)) {
        count->pass_stale++;
        return 0;
    }
    if (now - cell->used_ns > USED_NS)
        cell->used_ns = now;
    if (c->answer->length > conn->mss || c->answer->length > conn->proven ||
        c->answer->length > TUX_KERNEL_MAX_ANSWER_BYTES) {
        count->pass_size++;
        return 0;
    }
    if ((__u64)p->window << (conn->wscale & 15u) < c->answer->length) {
        count->pass_window++;
        return 0;
    }
    *by_device = look_at_checksum(skb, p);
    if (*by_device < 0) {
        count->pass_checksum++;
        return 0;
    }
    c->logging = ctl->logging != 0;
    return 1;
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
INLINE void commit_answer(struct tux_kernel_conn *conn, const struct packet *p, const struct candidate *c)
{
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

INLINE int ingress(struct __sk_buff *skb)
{
    struct packet p;
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
    struct header *h = &work->header;
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
    int by_device = 0, is_candidate = 0;
    if (p.payload_len > 0 && !(conn->state & TUX_KERNEL_PENDING && p.seq == conn->request_seq))
        is_candidate = find_answer(skb, &p, o, ctl, conn, count, now, &c, &by_device);
    struct tux_kernel_slot *slot = 0;
    if (p.payload_len == 0 && p.flags == TCP_ACK && ctl->answering)
        slot = slot_of(conn);
    if (is_candidate && c.logging) {
        c.record = bpf_ringbuf_reserve(&records, sizeof *c.record, 0);
        if (!c.record) {
            count->pass_log_full++;
            is_candidate = 0;
        } else {
            c.held = 1;
            OPAQUE(c.held); /* the compiler would ask the record again */
        }
    }

    __builtin_memset(out, 0, sizeof *out);
    __builtin_memset(r, 0, sizeof *r);
    r->v6 = p.v6;
    bpf_spin_lock(&conn->lock);
    if (!is_entry_of(conn, &p.tuple)) {
        bpf_spin_unlock(&conn->lock);
        if (c.held)
            bpf_ringbuf_discard(c.record, BPF_RB_NO_WAKEUP);
        return TC_ACT_UNSPEC;
    }
    conn->last_ns = now;
    if (conn->state & TUX_KERNEL_PENDING && acknowledges(conn, &p, conn->answer_seq + conn->answer_len))
        conn->state &= ~(__u32)TUX_KERNEL_PENDING;
    if (conn->probe_len && acknowledges(conn, &p, conn->probe_end)) {
        conn->proven = conn->probe_len;
        conn->probe_len = 0;
    }
    out->acks = ack_map_of(conn);
    r->timestamps = (conn->state & TUX_KERNEL_TIMESTAMPS) != 0;
    r->window = conn->window;
    r->flow = conn->flow;
    r->ttl = conn->ttl;
    r->tos = conn->tos;
    if ((conn->state & TUX_KERNEL_PENDING) && p.payload_len > 0 && p.seq == conn->request_seq) {
        /* The answer is lost. Whatever else is in this packet will come again. */
        out->verdict = VERDICT_RESEND;
        out->ack = ack_to_stack(&out->acks, p.ack);
        r->identification = p.v6 ? 0 : (__u16)(now >> 10 | 1); /* the path may take less now than it did */
    } else if (is_candidate && is_in_order(conn, &p) && is_quiescent(conn, c.slot)) {
        out->verdict = VERDICT_ANSWER;
        out->seq = p.seq - conn->d_in;
        out->ack = p.ack - conn->d_out;
        out->tell_stack = seq_after(out->ack, conn->una);
        if (out->tell_stack)
            conn->una = out->ack;
        commit_answer(conn, &p, &c);
    } else {
        commit_pass(conn, &p, slot, now, out);
    }
    if (out->verdict != VERDICT_PASS) {
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
    bpf_spin_unlock(&conn->lock);

    if (c.held) {
        if (out->verdict == VERDICT_ANSWER) {
            c.record->id = c.id;
            c.record->boot_ns = now;
            __builtin_memcpy(c.record->remote, p.tuple.remote, 16);
            c.record->first_chunk = c.first_chunk;
            c.record->remote_port = NET16(p.tuple.remote_port);
            c.record->reserved = 0;
            bpf_ringbuf_submit(c.record, BPF_RB_NO_WAKEUP);
        } else {
            bpf_ringbuf_discard(c.record, BPF_RB_NO_WAKEUP);
        }
    }

    if (out->verdict == VERDICT_PASS) {
        if (out->window != p.window && replace16(skb, &p, 14, p.window, out->window))
            return TC_ACT_SHOT;
        if (out->acks.answered) {
            count->translated_in++;
            long error = replace32(skb, &p, 4, p.seq, out->seq);
            if (!error)
                error = replace32(skb, &p, 8, p.ack, out->ack);
            if (!error && o->sack_blocks)
                error = replace_sack(skb, &p, o, &out->acks, 0, INCOMING);
            if (error)
                return TC_ACT_SHOT; /* half translated: it must not arrive */
        }
        if (out->closed) {
            count->closed++;
            bpf_map_delete_elem(&conns, &p.tuple);
        }
        return TC_ACT_UNSPEC;
    }

    /* From here on the request is answered; should the rest fail, then the answer is lost, and asked for again. */
    __u32 index = out->answer_chunk;
    struct tux_kernel_answer *answer = bpf_map_lookup_elem(&entries, &index);
    index = (__u32)(out->answer_second % TUX_KERNEL_DATES);
    struct tux_kernel_date *date = bpf_map_lookup_elem(&dates, &index);
    if (out->verdict == VERDICT_RESEND)
        by_device = look_at_checksum(skb, &p);
    if (!answer || !date || by_device < 0 || !p.plain || (r->timestamps && !o->timestamp_at) ||
        load_header(skb, h, p.v6)) {
        count->answer_lost++;
        return TC_ACT_SHOT;
    }
    swap_ends(h, p.v6);
    r->tsecr = load32(o->bytes, o->timestamp_at);
    r->by_device = by_device == 1;
    r->flags = TCP_ACK | TCP_PSH;
    if (answer->id != out->answer_id || date->second != out->answer_second || answer->length != r->payload_len) {
        count->version_gone++;
        return reset_both(skb, &p, work, ctl->mark);
    }
    r->payload_sum = answer_sum(answer, date);
    __u32 mark = skb->mark;
    if (build_answer(skb, &p, h, r, out->answer_chunk, answer->date_offset, date)) {
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
    return pass_empty(skb, &p, work, out->seq, TCP_ACK);
}

#endif
