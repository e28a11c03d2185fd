/* SPDX-License-Identifier: MIT */
/* Checksums (RFC 1071) of a packet: who computes them, and whether one is right. See also translate.h. */
#ifndef TUX_KERNEL_CHECKSUM_H
#define TUX_KERNEL_CHECKSUM_H

#include "packet.h"

INLINE __u16 fold(__u64 sum)
{
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (__u16)sum;
}

/* Who computes the checksum of this packet? There is no field that says so; but the helper that replaces a part of it
 * leaves it alone when a device will compute it. It is restored. */
INLINE int checksum_by_device(struct __sk_buff *skb, const struct packet *p)
{
    __u16 before = 0, after = 0;
    __u32 at = p->l4 + TCP_CHECK_OFFSET;
    if (bpf_skb_load_bytes(skb, at, &before, 2) || bpf_l4_csum_replace(skb, at, 0, NET16(1), 2) ||
        bpf_skb_load_bytes(skb, at, &after, 2))
        return -1;
    if (before == after)
        return 1;
    if (bpf_skb_store_bytes(skb, at, &before, 2, 0))
        return -1;
    return 0;
}

INLINE __u64 pseudo_header(const struct packet *p, __u32 tcp_len)
{
    __u64 sum = 0;
    for (__u32 i = 0; i < 4; i++)
        sum += (__u64)p->tuple.local[i] + p->tuple.remote[i];
    if (!p->v6)
        sum -= 2ull * NET32(0xffff); /* the mapped prefix is not on the wire */
    return sum + NET16(tcp_len) + NET16(PROTOCOL_TCP);
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

#endif
