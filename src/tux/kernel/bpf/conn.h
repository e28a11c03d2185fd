/* SPDX-License-Identifier: MIT */
/* What the programs know of a connection, and of what they did. */
#ifndef TUX_KERNEL_CONN_H
#define TUX_KERNEL_CONN_H

#include "helpers.h"
#include "layout.h"

enum tux_kernel_state {
    TUX_KERNEL_CLIENT_FIN = 2,   /* the client has sent its FIN */
    TUX_KERNEL_SERVER_FIN = 4,   /* the stack has sent its own */
    TUX_KERNEL_RESET = 16,       /* a RST was seen: no more answers */
    TUX_KERNEL_DEAD = 32,        /* about to be deleted: nobody uses it any more */
    TUX_KERNEL_PENDING = 64,     /* the client has not acknowledged the last answer */
    TUX_KERNEL_ANSWERED = 128,   /* at least one answer was sent: the two number spaces differ */
    TUX_KERNEL_TIMESTAMPS = 256, /* RFC 7323 timestamps are in use */
};

/* Two number spaces: the client's, on the wire, and the stack's, which never saw the answered requests (d_in bytes)
 * nor the answers (d_out bytes). All members below the lock change under it. Members without a note are in the
 * client's space. */
struct tux_kernel_conn {
    struct bpf_spin_lock lock;
    struct tux_kernel_tuple tuple; /* its key: the memory of a deleted entry may hold another one at once */
    __u32 state;            /* enum tux_kernel_state */
    __u32 padding;
    __u64 cookie;           /* SO_COOKIE of the socket */
    __u64 opened_ns;        /* of the SYN-ACK that ts_base belongs to */
    __u64 last_ns;          /* last packet, either way */
    __u64 passed_ns;        /* last request that went to the stack */
    __u64 answer_id;        /* last answer: which */
    __u64 answer_second;    /* ... and the second of its Date */
    __u32 irs, iss;         /* number of the first byte of either end */
    __u32 in_next, out_next; /* one behind the highest byte seen from either end, answers included */
    __u32 d_in, d_out;
    __u32 una;              /* highest ACK that the stack was given; in the stack's space */
    __u32 stack_ack;        /* highest ACK of the stack's */
    __u32 probe_end;        /* of a segment of the stack's that is larger than any that arrived before */
    __u32 request_seq;      /* last answered request ... */
    __u32 request_len;
    __u32 answer_seq;       /* ... and its answer */
    __u32 answer_len;
    __u32 answer_chunk;
    __u32 answer_pos;       /* answer_seq in the stack's space: data before it was all acknowledged */
    __u32 ts_base, ts_last; /* timestamp of the SYN-ACK; highest one sent */
    __u32 flow;             /* IPv6: version, class and flow label as sent */
    __u32 worker, listener, ifindex;
    __u32 mss;              /* the largest payload of a segment either side takes */
    __u16 proven;           /* the largest payload that has arrived: the path may take less than both ends */
    __u16 probe_len;        /* payload of the segment before probe_end; 0: none is under way */
    __u16 window;           /* last one advertised by the stack, scaled */
    __u8 wscale;            /* of the client's windows */
    __u8 ttl, tos;
    __u8 hop[6];            /* hardware address that the SYN-ACK went to */
    __u8 reserved[5];
};

/* One counter each: what happened to packets of our connections. */
#define TUX_KERNEL_COUNTERS(X)                                                                                         \
    X(answered) X(answered_bytes) X(resent) X(stack_acks) X(opened) X(closed) X(translated_in) X(translated_out)       \
    X(stale_dropped) X(answer_lost) X(version_gone)                                                                    \
    /* requests that were passed to the engine, by reason; only heads in one piece are counted */                      \
    X(pass_quiet) X(pass_shape) X(pass_order) X(pass_busy) X(pass_live) X(pass_unknown) X(pass_stale) X(pass_window)   \
    X(pass_size) X(pass_log_full) X(pass_checksum) X(pass_first)                                                       \
    /* connections without an entry */                                                                                 \
    X(open_full) X(open_options) X(open_unknown) X(open_paused)

struct tux_kernel_counters {
#define TUX_KERNEL_COUNTER(name) __u64 name;
    TUX_KERNEL_COUNTERS(TUX_KERNEL_COUNTER)
#undef TUX_KERNEL_COUNTER
};

/* What a SYN offered, until the SYN-ACK that answers it at once: in one word, which is never half written. At
 * hash % SYNS; another SYN there costs a connection its acceleration, and nothing else. */
#define TUX_KERNEL_SYNS 16384u /* power of two: 128 KiB */
#define SYN_WORD(seq, mss, wscale) ((__u64)(seq) << 32 | (__u64)(mss) << 16 | (wscale))
#define SYN_SEQ(word) ((__u32)((word) >> 32))
#define SYN_MSS(word) ((__u16)((word) >> 16))
#define SYN_WSCALE(word) ((__u8)(word))

/* Under the lock: is this still the entry that was looked up, or was it deleted meanwhile? */
INLINE int is_entry_of(const struct tux_kernel_conn *conn, const struct tux_kernel_tuple *tuple)
{
    __u32 differ = 0;
    for (__u32 i = 0; i < 4; i++)
        differ |= (conn->tuple.local[i] ^ tuple->local[i]) | (conn->tuple.remote[i] ^ tuple->remote[i]);
    differ |= (__u32)(conn->tuple.local_port ^ tuple->local_port);
    differ |= (__u32)(conn->tuple.remote_port ^ tuple->remote_port);
    return differ == 0 && !(conn->state & TUX_KERNEL_DEAD);
}

#endif
