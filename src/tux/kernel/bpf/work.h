/* SPDX-License-Identifier: MIT */
/* What a program works with while it has a packet. The stack of a program has 512 bytes, so most of it lies in a
 * map, one for each CPU: nothing else of ours runs on a CPU while a program does. */
#ifndef TUX_KERNEL_WORK_H
#define TUX_KERNEL_WORK_H

#include "conn.h"

#define MAX_HEADER_BYTES 88u /* Ethernet, IPv6, TCP with timestamps: 86, in whole words */

struct packet {
    struct tux_kernel_tuple tuple;
    __u32 l4;          /* offset of the TCP header */
    __u32 payload_off; /* ... of what follows its options */
    __u32 payload_len;
    __u32 seq, ack;
    __u16 window;
    __u8 flags;
    __u8 option_len;
    __u8 v6;
    __u8 plain;        /* no IP options */
    __u8 tos, ttl;
    __u32 flow;        /* IPv6: first word, network order */
    __u8 no_fragment;  /* DF, or IPv6 */
    __u8 hop[6];       /* hardware address of the neighbour it comes from, or goes to */
};

/* The TCP options that matter here. */
struct options {
    __u8 bytes[64];  /* as sent, then zeros */
    __u8 mss_at, wscale_at, timestamp_at, sack_at; /* offset of the option's value in bytes; 0: there is none */
    __u8 unknown;    /* another option, or nonsense */
    __u8 standard;   /* nothing, or exactly NOP NOP timestamp */
    __u8 sack_blocks;
    __u8 len, at;    /* while they are read. In memory the verifier does not follow their values through the loop */
};

/* The first bytes of the packet: Ethernet, IP without options, TCP; then room for the standard options. */
struct header {
    __u8 bytes[MAX_HEADER_BYTES];
};

/* All that a header needs; numbers in host order. */
struct reply {
    __u32 seq, ack;
    __u32 tsval, tsecr;
    __u32 payload_len;
    __u32 payload_sum;
    __u32 ifindex;
    __u32 flow;
    __u16 identification; /* not 0: routers may fragment it (IPv4) */
    __u16 window;
    __u8 flags;
    __u8 ttl, tos;
    __u8 timestamps;
    __u8 v6;
    __u8 by_device;
};

/* How the client's acknowledgements look to the stack: an answer is one point for it. */
struct ack_map {
    __u32 d_out, answer_seq, answer_end, answer_len;
    int answered;
};

/* What became of a packet under the lock. */
enum verdict { VERDICT_PASS, VERDICT_ANSWER, VERDICT_RESEND };

struct outcome {
    enum verdict verdict;
    struct ack_map acks;
    __u32 seq, ack;        /* of the packet, for the stack */
    __u32 d_in;
    __u32 answer_chunk;
    __u64 answer_id, answer_second;
    __u16 window;          /* of the packet, for the stack */
    __u32 stack_next;      /* the stack's next expected byte from the client */
    __u8 tell_stack;       /* the stack has not heard all that this packet acknowledges */
    __u8 closed;           /* nobody needs the entry any more */
};

/* The compiler describes (BTF) only types that some value has, and Python reads all layouts from there: here are
 * those that the programs reach through pointers alone. */
union tux_kernel_layouts {
    struct tux_kernel_slot slot;
    struct tux_kernel_cell cell;
    struct tux_kernel_record record;
    struct tux_kernel_message message;
    enum tux_kernel_message_kind kind;
    enum tux_kernel_state state;
    enum tux_kernel_pause pause;
};

struct tux_kernel_scratch {
    uint64_t words[TUX_KERNEL_MAX_HEAD_BYTES / 8]; /* the head that is looked at */
    struct options options;
    struct header header;
    struct reply reply;
    struct outcome outcome;
    union tux_kernel_layouts layouts; /* never used */
};

#endif
