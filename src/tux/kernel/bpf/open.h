/* SPDX-License-Identifier: MIT */
/* The beginning of a connection: what its SYN offers is kept until the SYN-ACK leaves, which makes the entry. */
#ifndef TUX_KERNEL_OPEN_H
#define TUX_KERNEL_OPEN_H

#include "packet.h"

#define DEFAULT_MSS_IPV4 536u /* RFC 9293 section 3.7.1: when the option is missing */
#define DEFAULT_MSS_IPV6 1220u
#define MAX_WSCALE 14u        /* RFC 7323 section 2.3 */

INLINE __u32 load16(const __u8 *bytes, __u32 at)
{
    return (__u32)bytes[at & 63u] << 8 | bytes[(at + 1u) & 63u];
}

INLINE void open_syn(struct __sk_buff *skb, const struct packet *p, struct options *o)
{
    read_options(skb, p, o);
    struct tux_kernel_syn syn = {.mss = p->v6 ? DEFAULT_MSS_IPV6 : DEFAULT_MSS_IPV4};
    if (o->mss_at)
        syn.mss = (__u16)load16(o->bytes, o->mss_at);
    if (o->wscale_at)
        syn.wscale = o->bytes[o->wscale_at & 63u];
    bpf_map_update_elem(&syns, &p->tuple, &syn, BPF_ANY);
}

/* Link-local addresses mean something only together with an interface: left alone. */
INLINE int is_link_local(const __u32 address[4])
{
    return (address[0] & NET32(0xffc00000)) == NET32(0xfe800000);
}

INLINE void open_synack(struct __sk_buff *skb, const struct packet *p, struct options *o,
                        struct tux_kernel_counters *count)
{
    struct bpf_sock *sk = skb->sk;
    if (!sk)
        return; /* a SYN cookie: no socket yet */
    __u64 cookie = bpf_get_socket_cookie(skb);
    struct bpf_sock *listener = bpf_get_listener_sock(sk);
    if (!listener || cookie == 0)
        return;
    struct tux_kernel_listener *own = bpf_sk_storage_get(&listeners, listener, 0, 0);
    if (!own)
        return; /* somebody else's socket on the same port number */
    read_options(skb, p, o);
    struct tux_kernel_syn *syn = bpf_map_lookup_elem(&syns, &p->tuple);
    if (!syn) {
        count->open_unknown++;
        return;
    }
    if (o->unknown || !p->no_fragment || !p->plain || is_link_local(p->tuple.remote)) {
        count->open_options++;
        return;
    }
    __u32 server_mss = o->mss_at ? load16(o->bytes, o->mss_at) : (p->v6 ? DEFAULT_MSS_IPV6 : DEFAULT_MSS_IPV4);
    __u32 mss = syn->mss < server_mss ? syn->mss : server_mss;
    __u8 server_scale = o->wscale_at ? o->bytes[o->wscale_at & 63u] : 0;
    if (server_scale > MAX_WSCALE || syn->wscale > MAX_WSCALE || mss <= STANDARD_TIMESTAMP_BYTES) {
        count->open_options++;
        return;
    }
    __u64 now = bpf_ktime_get_boot_ns();
    struct tux_kernel_conn fresh = {
        .cookie = cookie,
        .opened_ns = now,
        .last_ns = now,
        .passed_ns = now,
        .irs = p->ack,
        .iss = p->seq + 1,
        .in_next = p->ack,
        .out_next = p->seq + 1,
        .una = p->seq + 1,
        .flow = p->flow,
        .worker = own->worker,
        .listener = own->listener,
        .ifindex = skb->ifindex,
        .mss = mss,
        .window = (__u16)(p->window >> server_scale),
        .wscale = o->wscale_at ? syn->wscale : 0,
        .ttl = p->ttl,
        .tos = p->tos & 0xfc,
    };
    if (o->timestamp_at) {
        fresh.state = TUX_KERNEL_TIMESTAMPS;
        fresh.mss -= STANDARD_TIMESTAMP_BYTES;
        fresh.ts_base = fresh.ts_last = load32(o->bytes, o->timestamp_at);
    }
    struct tux_kernel_conn *conn = bpf_map_lookup_elem(&conns, &p->tuple);
    if (!conn) {
        if (bpf_map_update_elem(&conns, &p->tuple, &fresh, BPF_NOEXIST))
            count->open_full++;
        else
            count->opened++;
        return;
    }
    /* A repeated SYN-ACK changes nothing; another one begins a new connection between the same ends. One that is about to
     * be deleted stays so, and the new connection is not accelerated. */
    bpf_spin_lock(&conn->lock);
    if (!(conn->state & TUX_KERNEL_DEAD) && conn->iss != fresh.iss) {
        conn->state = fresh.state;
        conn->cookie = fresh.cookie;
        conn->opened_ns = conn->last_ns = conn->passed_ns = now;
        conn->answer_id = 0;
        conn->answer_second = 0;
        conn->irs = conn->in_next = fresh.irs;
        conn->iss = conn->out_next = conn->una = fresh.iss;
        conn->d_in = conn->d_out = 0;
        conn->request_seq = conn->request_len = 0;
        conn->answer_seq = conn->answer_len = conn->answer_chunk = conn->answer_pos = 0;
        conn->ts_base = conn->ts_last = fresh.ts_base;
        conn->flow = fresh.flow;
        conn->worker = fresh.worker;
        conn->listener = fresh.listener;
        conn->ifindex = fresh.ifindex;
        conn->mss = fresh.mss;
        conn->window = fresh.window;
        conn->wscale = fresh.wscale;
        conn->ttl = fresh.ttl;
        conn->tos = fresh.tos;
    }
    bpf_spin_unlock(&conn->lock);
}

#endif
