/* SPDX-License-Identifier: MIT */
/* Reading a packet: where its parts are, and whether it is one of ours. Nothing is altered here. */
#ifndef TUX_KERNEL_PACKET_H
#define TUX_KERNEL_PACKET_H

#include "maps.h"

#define ETHERNET_BYTES 14u
#define IPV4_BYTES 20u /* without options */
#define IPV6_BYTES 40u
#define TCP_BYTES 20u  /* without options */
#define TCP_OPTION_BYTES 40u
#define STANDARD_TIMESTAMP_BYTES 12u /* NOP NOP TS: what every stack sends after the handshake (RFC 7323 appendix A) */

#define JUMBO_BYTES 8u /* hop-by-hop header with the jumbo payload option alone (RFC 2675) ... */
#define JUMBO_HEADER 0x0600c204u /* ... which begins like this: TCP follows, no more words, option 0xc2 of 4 bytes */

#define ETHERTYPE_IPV4 0x0800u
#define ETHERTYPE_IPV6 0x86ddu
#define PROTOCOL_TCP 6u
#define PROTOCOL_ICMP 1u
#define PROTOCOL_ICMPV6 58u

#define TCP_FIN 0x01u
#define TCP_SYN 0x02u
#define TCP_RST 0x04u
#define TCP_PSH 0x08u
#define TCP_ACK 0x10u
#define TCP_URG 0x20u
#define TCP_ECE 0x40u
#define TCP_CWR 0x80u

#define TCP_SEQ_OFFSET 4u /* in the TCP header */
#define TCP_ACK_OFFSET 8u
#define TCP_WINDOW_OFFSET 14u
#define TCP_CHECK_OFFSET 16u

enum direction { INCOMING, OUTGOING };

INLINE int port_is_ours(__u16 port)
{
    __u32 word = port / 64u;
    __u64 *bits = bpf_map_lookup_elem(&ports, &word);
    return bits && (*bits >> (port % 64u) & 1);
}

/* The address words of IPv4, as if it were IPv6 (RFC 4291 section 2.5.5.2). */
INLINE void map_ipv4(__u32 out[4], __u32 address)
{
    out[0] = out[1] = 0;
    out[2] = NET32(0xffff);
    out[3] = address;
}

/* What a packet is to us. */
enum parsed { PARSED_FOREIGN, PARSED_SEGMENT, PARSED_ICMP };

/* A segment: whole, over plain Ethernet, of a port of ours. */
INLINE enum parsed packet_parse(struct __sk_buff *skb, struct packet *p, enum direction direction)
{
    int v6 = skb->protocol == NET16(ETHERTYPE_IPV6);
    if ((!v6 && skb->protocol != NET16(ETHERTYPE_IPV4)) || skb->vlan_present)
        return PARSED_FOREIGN;
    __u32 need = ETHERNET_BYTES + (v6 ? IPV6_BYTES : IPV4_BYTES) + TCP_BYTES;
    if (skb->len < need)
        return PARSED_FOREIGN;
    __u8 *data = (__u8 *)(long)skb->data, *end = (__u8 *)(long)skb->data_end;
    if (data + need > end) {
        if (bpf_skb_pull_data(skb, need))
            return PARSED_FOREIGN;
        data = (__u8 *)(long)skb->data;
        end = (__u8 *)(long)skb->data_end;
    }
    __u8 *tcp;
    __u32 l4, ip_payload;
    if (v6) {
        if (data + ETHERNET_BYTES + IPV6_BYTES + TCP_BYTES > end)
            return PARSED_FOREIGN;
        __u8 *ip = data + ETHERNET_BYTES;
        if (ip[0] >> 4 != 6)
            return PARSED_FOREIGN;
        l4 = ETHERNET_BYTES + IPV6_BYTES;
        ip_payload = NET16(*(__u16 *)(ip + 4));
        tcp = ip + IPV6_BYTES;
        p->plain = ip[6] == PROTOCOL_TCP;
        if (p->plain && ip_payload == 0)
            ip_payload = skb->len - l4; /* the same without such a header (Linux 6.19) */
        if (!p->plain) {
            /* Extension headers are not ours, but for one: more than 64 KiB in one packet, inside this machine (BIG
             * TCP, RFC 2675). Its TCP header then lies behind that. */
            if (ip[6] == PROTOCOL_ICMPV6)
                return PARSED_ICMP;
            if (ip[6] != 0 || ip_payload != 0 || skb->len < need + JUMBO_BYTES)
                return PARSED_FOREIGN;
            if (bpf_skb_pull_data(skb, need + JUMBO_BYTES))
                return PARSED_FOREIGN;
            data = (__u8 *)(long)skb->data;
            end = (__u8 *)(long)skb->data_end;
            if (data + ETHERNET_BYTES + IPV6_BYTES + JUMBO_BYTES + TCP_BYTES > end)
                return PARSED_FOREIGN;
            ip = data + ETHERNET_BYTES;
            if (*(__u32 *)(ip + IPV6_BYTES) != NET32(JUMBO_HEADER))
                return PARSED_FOREIGN;
            l4 += JUMBO_BYTES;
            ip_payload = skb->len - l4;
            tcp = ip + IPV6_BYTES + JUMBO_BYTES;
        }
        p->no_fragment = 1;
        p->flow = *(__u32 *)ip;
        p->tos = (__u8)(NET32(p->flow) >> 20);
        p->ttl = ip[7];
        __u16 own = *(__u16 *)(tcp + (direction == INCOMING ? 2 : 0));
        if (!port_is_ours(NET16(own)))
            return PARSED_FOREIGN;
        __u8 *local = ip + (direction == INCOMING ? 24 : 8), *remote = ip + (direction == INCOMING ? 8 : 24);
        __builtin_memcpy(p->tuple.local, local, 16);
        __builtin_memcpy(p->tuple.remote, remote, 16);
    } else {
        if (data + ETHERNET_BYTES + IPV4_BYTES + TCP_BYTES > end)
            return PARSED_FOREIGN;
        __u8 *ip = data + ETHERNET_BYTES;
        __u32 header = (ip[0] & 15u) * 4u;
        if (ip[0] >> 4 != 4 || header < IPV4_BYTES)
            return PARSED_FOREIGN;
        if (*(__u16 *)(ip + 6) & NET16(0x3fff)) /* a fragment has no header, or not all of its payload */
            return PARSED_FOREIGN;
        if (ip[9] == PROTOCOL_ICMP && header == IPV4_BYTES)
            return PARSED_ICMP;
        if (ip[9] != PROTOCOL_TCP)
            return PARSED_FOREIGN;
        l4 = ETHERNET_BYTES + header;
        ip_payload = NET16(*(__u16 *)(ip + 2));
        if (ip_payload == 0) /* more than 64 KiB in one (BIG TCP) */
            ip_payload = skb->len - ETHERNET_BYTES;
        if (ip_payload < header)
            return PARSED_FOREIGN;
        ip_payload -= header;
        if (header != IPV4_BYTES) { /* rare: such packets are translated, but never answered */
            if (skb->len < l4 + TCP_BYTES || bpf_skb_pull_data(skb, l4 + TCP_BYTES))
                return PARSED_FOREIGN;
            data = (__u8 *)(long)skb->data;
            end = (__u8 *)(long)skb->data_end;
            ip = data + ETHERNET_BYTES;
            if (ip + IPV4_BYTES > end)
                return PARSED_FOREIGN;
        }
        tcp = data + (l4 & 127u);
        if (tcp + TCP_BYTES > end)
            return PARSED_FOREIGN;
        p->plain = header == IPV4_BYTES;
        p->no_fragment = (ip[6] & 0x40) != 0;
        p->flow = 0;
        p->tos = ip[1];
        p->ttl = ip[8];
        __u16 own = *(__u16 *)(tcp + (direction == INCOMING ? 2 : 0));
        if (!port_is_ours(NET16(own)))
            return PARSED_FOREIGN;
        map_ipv4(p->tuple.local, *(__u32 *)(ip + (direction == INCOMING ? 16 : 12)));
        map_ipv4(p->tuple.remote, *(__u32 *)(ip + (direction == INCOMING ? 12 : 16)));
    }
    __builtin_memcpy(p->hop, data + (direction == INCOMING ? 6 : 0), 6);
    p->v6 = (__u8)v6;
    p->l4 = l4;
    p->tuple.local_port = *(__u16 *)(tcp + (direction == INCOMING ? 2 : 0));
    p->tuple.remote_port = *(__u16 *)(tcp + (direction == INCOMING ? 0 : 2));
    p->seq = NET32(*(__u32 *)(tcp + 4));
    p->ack = NET32(*(__u32 *)(tcp + 8));
    p->window = NET16(*(__u16 *)(tcp + 14));
    p->flags = tcp[13];
    __u32 header = (tcp[12] >> 4) * 4u;
    if (header < TCP_BYTES || l4 + header > skb->len || ip_payload < header)
        return PARSED_FOREIGN;
    if (tcp[12] & 15) /* reserved, or AccECN */
        p->plain = 0;
    p->option_len = (__u8)(header - TCP_BYTES);
    p->payload_off = l4 + header;
    p->payload_len = ip_payload - header;
    return p->payload_off + p->payload_len <= skb->len ? PARSED_SEGMENT : PARSED_FOREIGN;
}

INLINE __u32 load32(const __u8 *bytes, __u32 at)
{
    return (__u32)bytes[at & 63u] << 24 | (__u32)bytes[(at + 1u) & 63u] << 16 | (__u32)bytes[(at + 2u) & 63u] << 8 |
           bytes[(at + 3u) & 63u];
}

/* RFC 9293 section 3.2 (MSS), RFC 7323 (window scale, timestamps), RFC 2018 (SACK). */
INLINE void read_option(struct options *o, __u8 kind, __u8 size, __u8 value)
{
    if (kind == 2 && size == 4)
        o->mss_at = value;
    else if (kind == 3 && size == 3)
        o->wscale_at = value;
    else if (kind == 4 && size == 2)
        return; /* SACK permitted: it changes nothing here */
    else if (kind == 5 && size >= 10 && size <= 34 && (size - 2u) % 8u == 0) {
        o->sack_at = value;
        o->sack_blocks = (__u8)((size - 2u) / 8u);
    } else if (kind == 8 && size == 10)
        o->timestamp_at = value;
    else
        o->unknown = 1;
}

INLINE void read_options(struct __sk_buff *skb, const struct packet *p, struct options *o)
{
    __builtin_memset(o, 0, sizeof *o);
    __u32 len = p->option_len;
    OPAQUE(len);
    if (len == 0) {
        o->standard = 1;
        return;
    }
    if (len > TCP_OPTION_BYTES || bpf_skb_load_bytes(skb, p->l4 + TCP_BYTES, o->bytes, FROM_1_TO(64u, len))) {
        o->unknown = 1;
        return;
    }
    if (len == STANDARD_TIMESTAMP_BYTES && o->bytes[0] == 1 && o->bytes[1] == 1 && o->bytes[2] == 8 &&
        o->bytes[3] == 10) {
        o->timestamp_at = 4;
        o->standard = 1;
        return;
    }
    o->len = (__u8)len;
    for (__u32 i = 0; i < TCP_OPTION_BYTES; i++) {
        __u32 at = *(volatile __u8 *)&o->at, end = *(volatile __u8 *)&o->len;
        if (at >= end)
            break;
        __u8 kind = o->bytes[at & 63u], size = o->bytes[(at + 1u) & 63u];
        if (kind == 0)
            break;
        if (kind == 1) {
            *(volatile __u8 *)&o->at = (__u8)(at + 1u);
            continue;
        }
        if (size < 2 || at + size > end) {
            o->unknown = 1;
            break;
        }
        read_option(o, kind, size, (__u8)(at + 2u));
        *(volatile __u8 *)&o->at = (__u8)(at + size);
    }
}

#endif
