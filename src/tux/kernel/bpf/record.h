/* SPDX-License-Identifier: MIT */
/* The log's record of an answer. An answer that would have none is not given. */
#ifndef TUX_KERNEL_RECORD_H
#define TUX_KERNEL_RECORD_H

#include "find.h"

/* Before an answer is committed: room for its record. 0: there is none. */
INLINE int reserve_record(struct candidate *c, struct tux_kernel_counters *count)
{
    c->record = bpf_ringbuf_reserve(&records, sizeof *c->record, 0);
    if (!c->record) {
        count->pass_log_full++;
        return 0;
    }
    c->held = 1;
    OPAQUE(c->held); /* the compiler would ask the record again */
    return 1;
}

/* After it: the record is written if the request was answered, else given back. */
INLINE void finish_record(struct candidate *c, const struct packet *p, __u64 now, int is_answered)
{
    if (!c->held)
        return;
    if (!is_answered) {
        bpf_ringbuf_discard(c->record, BPF_RB_NO_WAKEUP);
        return;
    }
    c->record->id = c->id;
    c->record->boot_ns = now;
    __builtin_memcpy(c->record->remote, p->tuple.remote, 16);
    c->record->first_chunk = c->first_chunk;
    c->record->remote_port = NET16(p->tuple.remote_port);
    c->record->reserved = 0;
    bpf_ringbuf_submit(c->record, BPF_RB_NO_WAKEUP);
}

#endif
