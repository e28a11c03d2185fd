/* SPDX-License-Identifier: MIT */
/* Moving a packet from one number space into the other. Checksums are replaced incrementally by the kernel, which knows
 * when a device is still to compute them (CHECKSUM_PARTIAL). */
#ifndef TUX_KERNEL_TRANSLATE_H
#define TUX_KERNEL_TRANSLATE_H

#include "packet.h"

#define MAX_SACK_BLOCKS 4u

/* Bytes at an odd offset are in the other halves of the words that are summed (RFC 1071 section 2). */
INLINE __u32 as_summed(__u32 number, __u32 offset)
{
    return offset & 1 ? (number & 0x00ff00ffu) << 8 | (number >> 8 & 0x00ff00ffu) : number;
}

/* Replace one 32-bit number of the TCP header. 0, or the helper's error. */
INLINE long replace32(struct __sk_buff *skb, const struct packet *p, __u32 offset, __u32 from, __u32 to)
{
    __u32 was = NET32(from), is = NET32(to);
    if (was == is)
        return 0;
    long error =
        bpf_l4_csum_replace(skb, p->l4 + TCP_CHECK_OFFSET, as_summed(was, offset), as_summed(is, offset), 4);
    if (!error)
        error = bpf_skb_store_bytes(skb, p->l4 + offset, &is, 4, 0);
    return error;
}

/* ... and a 16-bit one. */
INLINE long replace16(struct __sk_buff *skb, const struct packet *p, __u32 offset, __u16 from, __u16 to)
{
    __u16 was = NET16(from), is = NET16(to);
    long error = bpf_l4_csum_replace(skb, p->l4 + TCP_CHECK_OFFSET, was, is, 2);
    if (!error)
        error = bpf_skb_store_bytes(skb, p->l4 + offset, &is, 2, 0);
    return error;
}

INLINE struct ack_map ack_map_of(const struct tux_kernel_conn *conn)
{
    return (struct ack_map){.d_out = conn->d_out,
                            .answer_seq = conn->answer_seq,
                            .answer_len = conn->answer_len,
                            .answer_end = conn->answer_seq + conn->answer_len,
                            .answered = (conn->state & TUX_KERNEL_ANSWERED) != 0};
}

INLINE __u32 ack_to_stack(const struct ack_map *map, __u32 ack)
{
    if (!map->answered || !seq_before(ack, map->answer_end))
        return ack - map->d_out;
    if (seq_after(ack, map->answer_seq))
        ack = map->answer_seq;
    return ack - (map->d_out - map->answer_len);
}

/* The edges of SACK blocks (RFC 2018) are sequence numbers, too. `map` is for incoming ones, `d_in` for
 * outgoing ones. */
INLINE long replace_sack(struct __sk_buff *skb, const struct packet *p, const struct options *o,
                         const struct ack_map *map, __u32 d_in, enum direction direction)
{
    if (!o->sack_at)
        return 0;
    for (__u32 i = 0; i < MAX_SACK_BLOCKS * 2u; i++) {
        if (i >= o->sack_blocks * 2u)
            break;
        __u32 at = o->sack_at + i * 4u;
        __u32 edge = load32(o->bytes, at);
        __u32 to = direction == INCOMING ? ack_to_stack(map, edge) : edge + d_in;
        long error = replace32(skb, p, TCP_BYTES + at, edge, to);
        if (error)
            return error;
    }
    return 0;
}

#endif
