/* SPDX-License-Identifier: MIT */
/* The beginning of a connection: what its SYN offers is kept until the SYN-ACK leaves, which makes the entry. */
#ifndef TUX_KERNEL_OPEN_H
#define TUX_KERNEL_OPEN_H

#include "packet.h"

#define DEFAULT_MSS_IPV4 536u /* RFC 9293 section 3.7.1: when the option is missing */
#define DEFAULT_MSS_IPV6 1220u
#define LOOPBACK_INDEX 1u     /* of lo, in every network namespace: nothing lies behind it that takes less */
#define PROVEN_BYTES 1208u    /* an IPv6 packet of 1280 bytes, which every path takes (RFC 8200 section 5) */
#define MAX_WSCALE 14u        /* RFC 7323 section 2.3 */

INLINE __u32 load16(const __u8 *bytes, __u32 at)
{
    return (__u32)bytes[at & 63u] << 8 | bytes[(at + 1u) & 63u];
}

/* State of the stack's socket for this connection (BPF_TCP_...), 0 when there is none: it is gone, or its listener
 * alone would take the packet. */
INLINE int socket_state(struct __sk_buff *skb, const struct tux_kernel_tuple *key)
{
    struct bpf_sock_tuple tuple = {};
    struct bpf_sock *sk;
    if (key->local[0] == 0 && key->local[1] == 0 && key->local[2] == NET32(0xffff)) {
        tuple.ipv4.saddr = key->remote[3];
        tuple.ipv4.daddr = key->local[3];
        tuple.ipv4.sport = key->remote_port;
        tuple.ipv4.dport = key->local_port;
        sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof tuple.ipv4, BPF_F_CURRENT_NETNS, 0);
    } else {
        __builtin_memcpy(tuple.ipv6.saddr, key->remote, 16);
        __builtin_memcpy(tuple.ipv6.daddr, key->local, 16);
        tuple.ipv6.sport = key->remote_port;
        tuple.ipv6.dport = key->local_port;
        sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof tuple.ipv6, BPF_F_CURRENT_NETNS, 0);
    }
    if (!sk)
        return 0;
    int state = (int)sk->state;
    bpf_sk_release(sk);
    return state == BPF_TCP_LISTEN ? 0 : state;
}

/* The entry belongs to a connection that is no more: delete it. Who makes an entry dead deletes it, and until then
 * nobody makes another one under its key. 0: somebody else is at it. */
INLINE int open_forget(struct tux_kernel_conn *conn, const struct tux_kernel_tuple *key,
                       struct tux_kernel_counters *count)
{
    bpf_spin_lock(&conn->lock);
    int ours = is_entry_of(conn, key);
    if (ours)
        conn->state |= TUX_KERNEL_DEAD;
    bpf_spin_unlock(&conn->lock);
    if (!ours)
        return 0;
    bpf_map_delete_elem(&conns, key);
    count->closed++;
    return 1;
}

/* Where a SYN between these ends is noted. */
INLINE __u64 *syn_of(const struct tux_kernel_tuple *tuple)
{
    __u64 hash = (__u64)tuple->remote_port << 16 | tuple->local_port;
    for (__u32 i = 0; i < 4; i++) /* a multiplication by an odd number, whose upper bits depend on all before */
        hash = (hash ^ tuple->remote[i] ^ (__u64)tuple->local[i] << 32) * 0x9e3779b97f4a7c15ull;
    __u32 index = (__u32)(hash >> 50); /* 14 bits: TUX_KERNEL_SYNS */
    return bpf_map_lookup_elem(&syns, &index);
}

INLINE void open_syn(struct __sk_buff *skb, const struct packet *p, struct options *o,
                     const struct tux_kernel_control *ctl, struct tux_kernel_counters *count)
{
    /* The same ends again: if the old connection is gone, what is said about this one must not be renumbered. */
    struct tux_kernel_conn *old = bpf_map_lookup_elem(&conns, &p->tuple);
    if (old && socket_state(skb, &p->tuple) == 0)
        open_forget(old, &p->tuple, count);
    if (ctl->paused != TUX_KERNEL_TAKING)
        return; /* nobody will ask */
    read_options(skb, p, o);
    __u32 mss = p->v6 ? DEFAULT_MSS_IPV6 : DEFAULT_MSS_IPV4;
    if (o->mss_at)
        mss = load16(o->bytes, o->mss_at);
    __u8 wscale = o->wscale_at ? o->bytes[o->wscale_at & 63u] : 0;
    __u64 *word = syn_of(&p->tuple);
    if (word)
        *(volatile __u64 *)word = SYN_WORD(p->seq, mss, wscale);
}

/* Link-local addresses mean something only together with an interface: left alone. */
INLINE int is_link_local(const __u32 address[4])
{
    return (address[0] & NET32(0xffc00000)) == NET32(0xfe800000);
}

/* Fill in what is known of a connection whose SYN-ACK this is. 0: it is not one of ours, or one to be left alone. */
INLINE int open_describe(struct __sk_buff *skb, const struct packet *p, const struct options *o,
                         const struct tux_kernel_control *ctl, struct tux_kernel_counters *count,
                         struct tux_kernel_conn *fresh)
{
    struct bpf_sock *sk = skb->sk;
    if (!sk)
        return 0; /* a SYN cookie: no socket yet */
    __u64 cookie = bpf_get_socket_cookie(skb);
    struct bpf_sock *listener = bpf_get_listener_sock(sk);
    if (!listener || cookie == 0)
        return 0;
    struct tux_kernel_listener *own = bpf_sk_storage_get(&listeners, listener, 0, 0);
    if (!own)
        return 0; /* somebody else's socket on the same port number */
    if (listener->bound_dev_if != 0)
        return 0; /* its connections are found on that interface only, not when entries are reaped */
    if (ctl->paused != TUX_KERNEL_TAKING) {
        count->open_paused++;
        return 0;
    }
    __u64 *noted = syn_of(&p->tuple);
    __u64 syn = noted ? LOAD(*noted) : 0;
    if (SYN_SEQ(syn) != p->ack - 1) {
        count->open_unknown++;
        return 0;
    }
    __u32 server_mss = o->mss_at ? load16(o->bytes, o->mss_at) : (p->v6 ? DEFAULT_MSS_IPV6 : DEFAULT_MSS_IPV4);
    __u32 mss = SYN_MSS(syn) < server_mss ? SYN_MSS(syn) : server_mss;
    __u8 server_scale = o->wscale_at ? o->bytes[o->wscale_at & 63u] : 0;
    /* ECE alone is ECN; with CWR it is AccECN, whose counts are not ours to give. */
    if (p->flags & TCP_CWR || o->unknown || !p->no_fragment || !p->plain || is_link_local(p->tuple.remote) ||
        server_scale > MAX_WSCALE || SYN_WSCALE(syn) > MAX_WSCALE || mss <= STANDARD_TIMESTAMP_BYTES) {
        count->open_options++;
        return 0;
    }
    __u64 now = bpf_ktime_get_boot_ns();
    fresh->tuple = p->tuple;
    fresh->cookie = cookie;
    fresh->opened_ns = fresh->last_ns = fresh->passed_ns = now;
    fresh->irs = fresh->in_next = p->ack;
    fresh->iss = fresh->out_next = fresh->una = p->seq + 1;
    fresh->stack_ack = p->ack;
    fresh->proven = skb->ifindex == LOOPBACK_INDEX ? 65535 : PROVEN_BYTES;
    fresh->flow = p->flow & ~NET32(0x00300000); /* without the ECN bits, as tos below */
    fresh->worker = own->worker;
    fresh->listener = own->listener;
    fresh->ifindex = skb->ifindex;
    fresh->mss = mss;
    fresh->window = (__u16)(p->window >> server_scale);
    fresh->wscale = o->wscale_at ? SYN_WSCALE(syn) : 0;
    fresh->ttl = p->ttl;
    fresh->tos = p->tos & 0xfc;
    __builtin_memcpy(fresh->hop, p->hop, 6);
    if (o->timestamp_at) {
        fresh->state = TUX_KERNEL_TIMESTAMPS;
        fresh->mss -= STANDARD_TIMESTAMP_BYTES;
        fresh->ts_base = fresh->ts_last = load32(o->bytes, o->timestamp_at);
    }
    return 1;
}

/* A repeated SYN-ACK changes nothing; another one begins a new connection between the same ends. The entry of the
 * old one is deleted, not overwritten: whoever holds it sees that it is dead. */
INLINE void open_synack(struct __sk_buff *skb, const struct packet *p, struct options *o,
                        const struct tux_kernel_control *ctl, struct tux_kernel_counters *count)
{
    struct tux_kernel_conn *old = bpf_map_lookup_elem(&conns, &p->tuple);
    if (old) {
        if (old->iss == p->seq + 1)
            return;
        if (!open_forget(old, &p->tuple, count))
            return;
    }
    struct tux_kernel_conn fresh = {};
    read_options(skb, p, o);
    if (!open_describe(skb, p, o, ctl, count, &fresh))
        return;
    if (bpf_map_update_elem(&conns, &p->tuple, &fresh, BPF_NOEXIST))
        count->open_full++;
    else
        count->opened++;
}

#endif
