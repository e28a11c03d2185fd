/* SPDX-License-Identifier: MIT */
/* ICMP errors about packets of our connections. They quote the sequence number as it was on the wire; the stack
 * believes them only if it knows it (RFC 5927), and would never learn that the path takes less than it sends. */
#ifndef TUX_KERNEL_ICMP_H
#define TUX_KERNEL_ICMP_H

#include "translate.h"

#define ICMP_BYTES 8u
#define ICMP_CHECK_OFFSET 2u
#define QUOTED_BYTES 8u /* of the TCP header: ports and sequence number (RFC 792); ICMPv6 quotes more */

/* RFC 792: unreachable (which has "fragmentation needed"), time exceeded, parameter problem. */
INLINE int is_icmp_error(__u8 type, int v6)
{
    return v6 ? type >= 1 && type <= 4 : type == 3 || type == 11 || type == 12; /* RFC 4443 section 2.1 */
}

/* Where the quoted TCP header begins, and whose it is; 0: nothing of ours. */
INLINE __u32 icmp_quoted(struct __sk_buff *skb, int v6, struct tux_kernel_tuple *tuple)
{
    __u8 type = 0, ip[IPV6_BYTES], ports[4];
    __u32 at = ETHERNET_BYTES + (v6 ? IPV6_BYTES : IPV4_BYTES);
    if (bpf_skb_load_bytes(skb, at, &type, 1) || !is_icmp_error(type, v6))
        return 0;
    at += ICMP_BYTES;
    if (v6) {
        if (bpf_skb_load_bytes(skb, at, ip, IPV6_BYTES) || ip[6] != PROTOCOL_TCP)
            return 0;
        at += IPV6_BYTES;
        __builtin_memcpy(tuple->local, ip + 8, 16);
        __builtin_memcpy(tuple->remote, ip + 24, 16);
    } else {
        if (bpf_skb_load_bytes(skb, at, ip, IPV4_BYTES) || ip[0] != 0x45 || ip[9] != PROTOCOL_TCP)
            return 0;
        at += IPV4_BYTES;
        map_ipv4(tuple->local, *(__u32 *)(ip + 12));
        map_ipv4(tuple->remote, *(__u32 *)(ip + 16));
    }
    if (bpf_skb_load_bytes(skb, at, ports, sizeof ports))
        return 0;
    tuple->local_port = *(__u16 *)ports;
    tuple->remote_port = *(__u16 *)(ports + 2);
    return port_is_ours(NET16(tuple->local_port)) ? at : 0;
}

INLINE int icmp(struct __sk_buff *skb)
{
    struct tux_kernel_tuple tuple = {};
    struct ack_map map = {};
    __u32 was, is;
    int v6 = skb->protocol == NET16(ETHERTYPE_IPV6);
    __u32 at = icmp_quoted(skb, v6, &tuple);
    if (!at || bpf_skb_load_bytes(skb, at + 4, &was, 4))
        return TC_ACT_UNSPEC;
    struct tux_kernel_conn *conn = bpf_map_lookup_elem(&conns, &tuple);
    if (!conn)
        return TC_ACT_UNSPEC;
    bpf_spin_lock(&conn->lock);
    int answered = is_entry_of(conn, &tuple) && conn->state & TUX_KERNEL_ANSWERED;
    map = ack_map_of(conn);
    bpf_spin_unlock(&conn->lock);
    if (!answered)
        return TC_ACT_UNSPEC;
    is = NET32(ack_to_stack(&map, NET32(was)));
    __u32 check = ETHERNET_BYTES + (v6 ? IPV6_BYTES : IPV4_BYTES) + ICMP_CHECK_OFFSET;
    if (bpf_l4_csum_replace(skb, check, was, is, 4) || bpf_skb_store_bytes(skb, at + 4, &is, 4, 0))
        return TC_ACT_SHOT;
    return TC_ACT_UNSPEC;
}

#endif
