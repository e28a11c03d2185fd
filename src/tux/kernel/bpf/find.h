/* SPDX-License-Identifier: MIT */
/* What answers a request, looked for before the lock is taken. */
#ifndef TUX_KERNEL_FIND_H
#define TUX_KERNEL_FIND_H

#include "checksum.h"
#include "head_key.h"
#include "turn.h"

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
    int by_device; /* a device computes the checksum of the request, so one must compute that of the answer, too */
    __u8 logging;
};

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
                       struct tux_kernel_counters *count, __u64 now, struct candidate *c)
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
     * answer, and the engine spends nothing on a connection that is used once. */
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
    __u64 fresh_until_ns = LOAD(cell->fresh_until_ns);
    __u64 version = LOAD_AFTER(fresh_until_ns, cell->version);
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
    c->by_device = look_at_checksum(skb, p);
    if (c->by_device < 0) {
        count->pass_checksum++;
        return 0;
    }
    c->logging = ctl->logging != 0;
    return 1;
}

#endif
