/* SPDX-License-Identifier: MIT */
/* What the eBPF programs, the engine and the supervisor share: the layout of every map value and message, and the
 * limits. The engine includes this file as it is; Python reads the structs from the object's BTF. Byte order is the
 * machine's but for addresses and ports, which are as in packets. All clocks are CLOCK_BOOTTIME in nanoseconds. */
#ifndef TUX_KERNEL_LAYOUT_H
#define TUX_KERNEL_LAYOUT_H

#include <stdint.h>

#define TUX_KERNEL_MAX_HEAD_BYTES 2048u  /* head of a request: a browser's has 500 to 1,500 with cookies */
#define TUX_KERNEL_CHUNK_BYTES 4096u     /* answers lie in chunks of this size: small ones do not waste much */
#define TUX_KERNEL_MAX_CHUNKS 4u         /* ... in a row */
#define TUX_KERNEL_MAX_ANSWER_BYTES 15872u /* bpf_skb_change_tail makes no packet larger than 16,064 bytes with its
                                              headers (SKB_MAX_ALLOC with pages of 4 KiB) */
#define TUX_KERNEL_SLOTS 65536u          /* per worker; power of two: more than connections, so that few share one */
#define TUX_KERNEL_CELLS 4096u           /* published answers per worker */
#define TUX_KERNEL_WORKERS 256u          /* workers of one server */
#define TUX_KERNEL_PORTS 65536u
#define TUX_KERNEL_DATES 256u            /* seconds whose Date is at hand: as long as an answer may be retransmitted */
#define TUX_KERNEL_DATE_BYTES 29u        /* "Tue, 24 Nov 2026 21:00:00 GMT" */
#define TUX_KERNEL_HEARTBEAT_NS 750000000ull /* the supervisor's heart beats each 250 ms; three missed: quiet */

/* The key of a head: see head_key.h. */
struct tux_kernel_key {
    uint64_t lo, hi;
    uint32_t length;
    uint32_t listener; /* index of the listener, as in asks */
};

/* A published answer: element first_chunk of the array `entries`. It is complete before its key enters the map
 * `answers`, and changes only when nobody can be asking for it any more (see the supervisor); `id` is set to 0 first
 * then. */
struct tux_kernel_answer {
    uint64_t id;          /* of the supervisor, never used twice; 0: nothing is here */
    struct tux_kernel_key key;
    uint64_t version;     /* of its cell: the worker's */
    uint32_t worker, cell;
    uint32_t length;      /* bytes of the whole answer, in a row of chunks from this element's */
    uint32_t date_offset; /* where the 29 bytes of the Date go; zeros in the chunks */
    uint32_t sum;         /* RFC 1071 sum of all bytes (not complemented, folded to 16 bits), the Date as zeros */
    uint32_t reserved;
};

/* What `answers` says about a key. Elements of a hash map may be used again while a program still looks at one, so it
 * only points: the program compares id and key in `entries`. */
struct tux_kernel_found {
    uint64_t id;
    uint32_t first_chunk;
    uint32_t reserved;
};

/* What a worker says about one connection; in its slots map at cookie % TUX_KERNEL_SLOTS. */
struct tux_kernel_slot {
    uint64_t cookie; /* SO_COOKIE of the connection; 0: free */
    uint64_t marks;  /* bytes received, and bytes sent << 32, when the last answer was complete; both modulo 2^32.
                        TUX_KERNEL_NO_MARKS: the worker is at it */
};
#define TUX_KERNEL_NO_MARKS UINT64_MAX

/* What a worker says about one published answer; in its cells map. */
struct tux_kernel_cell {
    uint64_t version;        /* of the answer that this cell is about */
    uint64_t fresh_until_ns; /* its checks hold until then; 0: do not use it */
    uint64_t used_ns;        /* written by the program: last use, to the second or so */
    uint64_t reserved;
};

/* On each listening socket of ours (socket storage): what its connections are. */
struct tux_kernel_listener {
    uint32_t worker;
    uint32_t listener;
};

/* Whether connections are taken up. From TAKING to PAUSED at any time. From there to RESTING only when no program runs
 * that began before the pause, and nothing is in `conns`: nobody can make an entry then, so none appears. From RESTING
 * back to TAKING: whoever handles the first packet of an entry does so after the SYN-ACK that made it, so it sees what
 * the program saw that made it. */
enum tux_kernel_pause {
    TUX_KERNEL_TAKING = 0,  /* all that are ours */
    TUX_KERNEL_PAUSED = 1,  /* none; those that were taken up go on */
    TUX_KERNEL_RESTING = 2, /* none, and there are none: no packet is looked at */
};

/* One element: what the supervisor tells the programs. */
struct tux_kernel_control {
    uint64_t heartbeat_ns;
    uint64_t wall_ns;     /* CLOCK_REALTIME - CLOCK_BOOTTIME, for the Date */
    uint64_t key[2];      /* of the hash over heads */
    uint64_t liveness_ns; /* each connection lets one request through at least this often */
    uint32_t answering;   /* 0: nothing new is answered */
    uint32_t logging;     /* a record for each answer */
    uint32_t pid;         /* of the supervisor */
    uint32_t mark;        /* skb->mark of an answer between the two programs: random, so that two servers on one
                             interface do not take each other's; not 0 */
    uint32_t paused;      /* enum tux_kernel_pause */
    uint32_t reserved;
};

struct tux_kernel_date {
    uint64_t second; /* since 1970; at second % TUX_KERNEL_DATES */
    uint32_t sum;    /* RFC 1071 sum of the text at an even offset, folded to 16 bits */
    uint8_t text[36]; /* TUX_KERNEL_DATE_BYTES, then zeros */
};

/* A record of the log ring, one an answer. */
struct tux_kernel_record {
    uint64_t id;          /* of the answer */
    uint64_t boot_ns;
    uint32_t remote[4];   /* address of the client; IPv4 as ::ffff:a.b.c.d */
    uint32_t first_chunk; /* of the answer: where the reader looks the id up */
    uint16_t remote_port;
    uint16_t reserved;
};

/* A connection, by the addresses of both ends. IPv4 as ::ffff:a.b.c.d. */
struct tux_kernel_tuple {
    uint32_t local[4], remote[4]; /* local: the server's */
    uint16_t local_port, remote_port;
};

/* -- messages of a worker to the supervisor: one datagram each ---------------------------------------------------- */

enum tux_kernel_message_kind { TUX_KERNEL_PUBLISH = 1, TUX_KERNEL_RETIRE = 2 };

/* PUBLISH: this, then head_length bytes of the request, then answer_length bytes of the answer (the Date as zeros).
 * RETIRE: this alone; worker, cell and version say which. */
struct tux_kernel_message {
    uint32_t kind;
    uint32_t cell;
    uint64_t version;
    struct tux_kernel_key key;
    uint32_t head_length, answer_length, body_length, date_offset, sum;
    uint16_t status;
    uint16_t reserved;
};

#endif
