/* SPDX-License-Identifier: MIT */
/* Freeing entries of connections that are gone and, in a pause, of those that were never answered: they have one number
 * space, so their packets mean the same without an entry. The supervisor runs this with the keys of candidates behind 14
 * bytes of nothing (an Ethernet header is asked for); the program decides, under the lock. */
#ifndef TUX_KERNEL_REAP_H
#define TUX_KERNEL_REAP_H

#include "open.h"

#define REAP_KEYS 32u                  /* a run */
#define REAP_ENDED_NS 1000000000ull    /* after the last packet of a connection that ended */
#define REAP_IDLE_NS 120000000000ull   /* ... of one whose end nobody saw */

INLINE int reap(struct __sk_buff *skb)
{
    struct tux_kernel_counters *count = FIRST(counters);
    struct tux_kernel_control *ctl = FIRST(control);
    __u64 now = bpf_ktime_get_boot_ns();
    int freed = 0;
    if (!count || !ctl)
        return 0;
    for (__u32 i = 0; i < REAP_KEYS; i++) {
        struct tux_kernel_tuple key;
        if (bpf_skb_load_bytes(skb, ETHERNET_BYTES + i * sizeof key, &key, sizeof key))
            break;
        struct tux_kernel_conn *conn = bpf_map_lookup_elem(&conns, &key);
        if (!conn)
            continue;
        int gone = socket_state(skb, &key) == 0;
        __u32 fins = TUX_KERNEL_CLIENT_FIN | TUX_KERNEL_SERVER_FIN;
        int dead = 0;
        bpf_spin_lock(&conn->lock);
        int ended = (conn->state & fins) == fins || conn->state & TUX_KERNEL_RESET;
        __s64 idle_ns = (__s64)(now - conn->last_ns);
        int old = gone && idle_ns > (__s64)(ended ? REAP_ENDED_NS : REAP_IDLE_NS);
        int useless = ctl->paused != TUX_KERNEL_TAKING && !(conn->state & TUX_KERNEL_ANSWERED);
        if (is_entry_of(conn, &key) && (old || useless)) {
            conn->state |= TUX_KERNEL_DEAD;
            dead = 1;
        }
        bpf_spin_unlock(&conn->lock);
        if (dead) {
            bpf_map_delete_elem(&conns, &key);
            count->closed++;
            freed++;
        }
    }
    return freed;
}

#endif
