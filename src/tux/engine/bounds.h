/* SPDX-License-Identifier: MIT */
/* Every limit of the engine, with its unit and its reason. Those that a user may set are defaults here. The file is not
 * called limits.h: that would hide the header of C from whoever puts this folder in its include path (Python.h). */
#ifndef TUX_BOUNDS_H
#define TUX_BOUNDS_H

/* -- heads ------------------------------------------------------------------------------------------------------ */
#define TUX_MAX_TARGET_BYTES 8192u      /* RFC 9112 section 3 recommends at least 8000; over it: 414 */
#define TUX_MAX_HEAD_BYTES 16384u       /* cookies of a browser fit (4 KiB each, few); over it: 431 */
#define TUX_MAX_FIELDS 100u             /* as Apache; a browser sends about 15; over it: 431 */
#define TUX_MAX_METHOD_BYTES 32u        /* the longest registered method has 17 (UPDATEREDIRECTREF) */
#define TUX_MAX_SIGNED_BYTES 4096u      /* covered bytes of one head; more is legal, but the answer is not remembered */

/* -- bodies ----------------------------------------------------------------------------------------------------- */
#define TUX_MAX_CHUNK_LINE_BYTES 256u   /* chunk-size with extensions; nobody uses more, attackers do */
#define TUX_MAX_PAGES 65536u            /* sets of answers to errors: one for each route at most, of as many sites as anybody has */
#define TUX_MAX_TRAILER_BYTES 8192u     /* trailer section of a chunked body, all lines together */
#define TUX_MAX_BODY_BYTES (1024ull * 1024u * 1024u) /* of a request, to an application or a forwarded server: it streams; over it: 413 */
#define TUX_MAX_DRAIN_BYTES (256u * 1024u) /* unwanted request body read to keep the connection; over it: close */

/* -- connections ------------------------------------------------------------------------------------------------ */
#define TUX_RECV_BYTES 16384u           /* one recv(2): holds 16 pipelined heads with ease; bounds what a client makes us hold */
#define TUX_MAX_HELD_BYTES (TUX_RECV_BYTES + TUX_MAX_HEAD_BYTES) /* an incomplete head and one recv behind it */
#define TUX_HELD_BYTES (256u * 1024u * 1024u) /* all connections' unconsumed input and unsent output; over it: 503 */
#define TUX_MAX_CONNECTIONS 50000u      /* per worker; also bounded by RLIMIT_NOFILE */
#define TUX_MAX_PIPELINED 64u           /* answers collected for one writev(2): its iovecs stay under IOV_MAX */
#define TUX_MAX_PIPELINED_BYTES (256u * 1024u) /* ... and their bytes about one socket buffer */
#define TUX_ACCEPTS_PER_TURN 64u        /* so that a flood of connections cannot starve established ones */
#define TUX_HEAD_TIMEOUT_MS 10000u      /* first byte of a head until its last */
#define TUX_IDLE_TIMEOUT_MS 65000u      /* between requests; over the 60 s of common load balancers */
#define TUX_STALL_TIMEOUT_MS 60000u     /* no byte accepted by the client while an answer is under way */
#define TUX_LINGER_TIMEOUT_MS 2000u     /* after an early close: reading so that the answer is not lost to a RST */
#define TUX_MAX_LINGER_BYTES (1024u * 1024u) /* ... and at most this much of it */
#define TUX_FIRST_FLIGHT_BYTES 14600u   /* so much leaves without waiting for the client (RFC 6928, ten segments): after it a
                                           connection is closed without a look at what else the client sent */

/* -- forwarding ------------------------------------------------------------------------------------------------- */
#define TUX_MAX_RESPONSE_HEAD_BYTES 32768u /* of an upstream, 1xx heads each: several cookies of 4 KiB and a long policy fit; over
                                           it: 502 */
#define TUX_MAX_RESPONSE_FIELDS 200u    /* field lines of a response head; over it: 502 */
#define TUX_MAX_INFORMATIONAL 16u       /* 1xx heads before the final one; over it: 502 */
#define TUX_UPSTREAM_RECV_BYTES (256u * 1024u) /* one recv(2) of a response: as much as a relay buffers for its client */
#define TUX_UPSTREAM_READS 4u           /* of one connection, before others get their turn */
#define TUX_UPSTREAM_OUT_BYTES 65536u   /* of a request's body that waits for the upstream; then the client is not read */
#define TUX_CONTINUE_MS 1000u           /* how long an upstream may take to say 100 before the body is sent all the same
                                           (RFC 9110 section 10.1.1: it may not know Expect) */
#define TUX_CONNECT_AGAIN_MS 100u       /* until a unix socket whose queue was full is tried again; timers round it up */
#define TUX_MAX_UPSTREAM_SERVERS 64u    /* of a group: the ones that were tried are bits of one word */
#define TUX_MAX_UPSTREAM_WEIGHT 1000u   /* finer shares make no sense */

/* -- memo ------------------------------------------------------------------------------------------------------- */
#define TUX_SMALL_BODY_BYTES 65536u     /* bodies up to here are held in memory, larger ones as descriptors */
#define TUX_MEMO_BYTES (64u * 1024u * 1024u) /* default byte budget of a worker's memo */
#define TUX_MEMO_FILES 4096u            /* descriptors of large files that the memo may hold; also bounded by RLIMIT_NOFILE */
#define TUX_RECHECK_MS 700u             /* a remembered plan is checked against the disk after this time: with
                                           TUX_ROOT_REOPEN_MS it stays under the second that is promised */

/* -- rings ------------------------------------------------------------------------------------------------------ */
#define TUX_ASK_RING_BYTES (1024u * 1024u)   /* about 1,500 asks of usual size; full means 503 */
#define TUX_REPLY_RING_BYTES (4096u * 1024u) /* must hold several bodies of TUX_SMALL_BODY_BYTES */

/* -- kernel tier ------------------------------------------------------------------------------------------------ */
#define TUX_KERNEL_RECHECK_MS 300u      /* checks of what is published are repeated this often: twice in TUX_RECHECK_MS, for
                                           which one holds, so that a late round leaves no gap */
#define TUX_KERNEL_LOOKS_PER_TURN 64u   /* ... with this many looks at paths in one turn of the loop: about 0.1 ms */
#define TUX_KERNEL_UNUSED_MS 30000u     /* what nobody asked for in this time is retired: its place is for others */
#define TUX_KERNEL_CANDIDATES 1024u     /* heads that are counted at a time; even number */
#define TUX_KERNEL_CANDIDATE_MS 10000u  /* a head that was not seen for this time is not hot: its count begins again */

/* -- files ------------------------------------------------------------------------------------------------------ */
#define TUX_LOAD_BYTES (256u * 1024u)   /* a hot file up to here is loaded into the memo; for larger ones a look costs little */
#define TUX_LOAD_SHARE 16u              /* ... but no more than this part of the memo */
#define TUX_FREEZE_BYTES (1024u * 1024u) /* a hot file from here on is copied into memory, whose pages are sent without a copy:
                                            17 % less CPU at 1 MiB, more above it; handing over short pieces costs more */
#define TUX_FREEZE_SHARE 5u             /* ... if it takes no more than this part of the memo: of a quarter it takes none */
#define TUX_FROZEN_SHARE 2u             /* ... and all such copies no more than this part: the rest is for small answers */
#define TUX_LOAD_AFTER_HITS 4u          /* ... at this use of its plan: what is asked once or twice stays on the disk */
#define TUX_APP_LOADED_BYTES (32u * 1024u * 1024u) /* of files that applications send, in memory; per worker */
#define TUX_SETTLED_MS 2000             /* a file that changed less than this ago may change again unseen: its bytes are not kept */
#define TUX_APP_SWEEP_MS 10000u         /* how often is looked whether files that are kept for applications are still worth it */
#define TUX_APP_UNUSED_MS 30000u        /* ... which they are not when nobody sent them for so long */
#define TUX_COPY_BYTES 65536u           /* the end of a file's body is copied and checked before it is sent: one packet of
                                           the largest size that segmentation offload takes */
#define TUX_PROBE_BYTES (128u * 1024u)  /* the kernel's usual read-ahead window: what lies in it came together */
#define TUX_SLICE_BYTES (2048u * 1024u) /* one send(2) of a file: others wait 0.3 ms; smaller ones cost 10 %
                                           at 10 MiB */

#endif
