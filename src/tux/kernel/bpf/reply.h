/* SPDX-License-Identifier: MIT */
/* Turning the request's packet into the answer, or into what the stack must hear of it. */
#ifndef TUX_KERNEL_REPLY_H
#define TUX_KERNEL_REPLY_H

#include "checksum.h"

#define STANDARD_BYTES (TCP_BYTES + STANDARD_TIMESTAMP_BYTES)

/* Put the header in front of what is behind it already. (RECOMPUTE_CSUM is for devices that give the sum of a whole
 * packet.) */
INLINE long store_header(struct __sk_buff *skb, const struct packet *p, struct header *h, const struct reply *r)
{
    __u32 tcp_header = r->timestamps ? STANDARD_BYTES : TCP_BYTES;
    __u32 tcp_len = tcp_header + r->payload_len;
    __u8 *ip = h->bytes + ETHERNET_BYTES;
    __u8 *tcp = ip + (r->v6 ? IPV6_BYTES : IPV4_BYTES);
    if (r->v6) {
        *(__u32 *)ip = r->flow;
        *(__u16 *)(ip + 4) = NET16(tcp_len);
        ip[7] = r->ttl;
    } else {
        ip[1] = r->tos;
        *(__u16 *)(ip + 2) = NET16(IPV4_BYTES + tcp_len);
        *(__u16 *)(ip + 4) = r->identification; /* RFC 6864: with DF it means nothing */
        *(__u16 *)(ip + 6) = r->identification ? 0 : NET16(0x4000);
        ip[8] = r->ttl;
        *(__u16 *)(ip + 10) = 0;
        __u64 sum = 0;
        for (__u32 i = 0; i < IPV4_BYTES; i += 2)
            sum += *(__u16 *)(ip + i);
        *(__u16 *)(ip + 10) = (__u16)~fold(sum);
    }
    *(__u32 *)(tcp + 4) = NET32(r->seq);
    *(__u32 *)(tcp + 8) = NET32(r->ack);
    tcp[12] = (__u8)(tcp_header / 4u << 4);
    tcp[13] = r->flags;
    *(__u16 *)(tcp + 14) = NET16(r->window);
    *(__u16 *)(tcp + TCP_CHECK_OFFSET) = 0;
    *(__u16 *)(tcp + 18) = 0;
    if (r->timestamps) {
        *(__u32 *)(tcp + 20) = NET32(0x0101080a); /* NOP NOP, kind 8, 10 bytes */
        *(__u32 *)(tcp + 24) = NET32(r->tsval);
        *(__u32 *)(tcp + 28) = NET32(r->tsecr);
    }
    __u64 sum = pseudo_header(p, tcp_len);
    if (r->by_device) {
        *(__u16 *)(tcp + TCP_CHECK_OFFSET) = fold(sum);
    } else {
        for (__u32 i = 0; i < STANDARD_BYTES; i += 2) {
            if (i >= tcp_header)
                break;
            sum += *(__u16 *)(tcp + i);
        }
        *(__u16 *)(tcp + TCP_CHECK_OFFSET) = (__u16)~fold(sum + r->payload_sum);
    }
    __u64 sums = BPF_F_RECOMPUTE_CSUM;
    if (r->v6)
        return r->timestamps ? bpf_skb_store_bytes(skb, 0, h, ETHERNET_BYTES + IPV6_BYTES + STANDARD_BYTES, sums)
                             : bpf_skb_store_bytes(skb, 0, h, ETHERNET_BYTES + IPV6_BYTES + TCP_BYTES, sums);
    return r->timestamps ? bpf_skb_store_bytes(skb, 0, h, ETHERNET_BYTES + IPV4_BYTES + STANDARD_BYTES, sums)
                         : bpf_skb_store_bytes(skb, 0, h, ETHERNET_BYTES + IPV4_BYTES + TCP_BYTES, sums);
}

INLINE long load_header(struct __sk_buff *skb, struct header *h, int v6)
{
    return v6 ? bpf_skb_load_bytes(skb, 0, h, ETHERNET_BYTES + IPV6_BYTES + TCP_BYTES)
              : bpf_skb_load_bytes(skb, 0, h, ETHERNET_BYTES + IPV4_BYTES + TCP_BYTES);
}

INLINE void swap_bytes(__u8 *a, __u8 *b, __u32 n)
{
    for (__u32 i = 0; i < n; i += 2) {
        __u16 kept = *(__u16 *)(a + i);
        *(__u16 *)(a + i) = *(__u16 *)(b + i);
        *(__u16 *)(b + i) = kept;
    }
}

/* Sender and receiver change places: hardware addresses, IP addresses, ports. Twice is as before. */
INLINE void swap_ends(struct header *h, int v6)
{
    __u8 *ip = h->bytes + ETHERNET_BYTES;
    swap_bytes(h->bytes, h->bytes + 6, 6);
    if (v6) {
        swap_bytes(ip + 8, ip + 24, 16);
        swap_bytes(ip + IPV6_BYTES, ip + IPV6_BYTES + 2, 2);
    } else {
        swap_bytes(ip + 12, ip + 16, 4);
        swap_bytes(ip + IPV4_BYTES, ip + IPV4_BYTES + 2, 2);
    }
}

/* Copy an answer's chunks behind the header. */
INLINE long store_payload(struct __sk_buff *skb, __u32 at, __u32 first, __u32 length)
{
    for (__u32 i = 0; i < TUX_KERNEL_MAX_CHUNKS; i++) {
        if (length == 0)
            return 0;
        __u32 index = first + i, n = length < TUX_KERNEL_CHUNK_BYTES ? length : TUX_KERNEL_CHUNK_BYTES;
        struct chunk *chunk = bpf_map_lookup_elem(&chunks, &index);
        if (!chunk)
            return -1;
        length -= n;
        n = FROM_1_TO(TUX_KERNEL_CHUNK_BYTES, n);
        if (bpf_skb_store_bytes(skb, at, chunk, n, BPF_F_RECOMPUTE_CSUM))
            return -1;
        at += n;
    }
    return length == 0 ? 0 : -1;
}

/* Sum of an answer with its Date: a text at an odd offset has its bytes in the other halves of the words (RFC 1071). */
INLINE __u32 answer_sum(const struct tux_kernel_answer *answer, const struct tux_kernel_date *date)
{
    __u32 sum = date->sum & 0xffff;
    if (answer->date_offset & 1)
        sum = (sum << 8 | sum >> 8) & 0xffff;
    return answer->sum + sum;
}

INLINE __u32 header_bytes(const struct reply *r)
{
    return ETHERNET_BYTES + (r->v6 ? IPV6_BYTES : IPV4_BYTES) + (r->timestamps ? STANDARD_BYTES : TCP_BYTES);
}

/* Build the answer in place of the request. Not 0: it cannot be sent. */
INLINE long build_answer(struct __sk_buff *skb, const struct packet *p, struct header *h, const struct reply *r,
                         __u32 first_chunk, __u32 date_offset, const struct tux_kernel_date *date)
{
    __u32 header = header_bytes(r);
    if (bpf_skb_change_tail(skb, header + r->payload_len, 0) ||
        store_payload(skb, header, first_chunk, r->payload_len) ||
        bpf_skb_store_bytes(skb, header + date_offset, date->text, TUX_KERNEL_DATE_BYTES, BPF_F_RECOMPUTE_CSUM))
        return -1;
    return store_header(skb, p, h, r);
}

/* Build a segment without data in place of the request. */
INLINE long build_empty(struct __sk_buff *skb, const struct packet *p, struct header *h, struct reply *r, __u8 flags)
{
    r->payload_len = 0;
    r->payload_sum = 0;
    r->flags = flags;
    if (bpf_skb_change_tail(skb, header_bytes(r), 0))
        return -1;
    return store_header(skb, p, h, r);
}

#endif
