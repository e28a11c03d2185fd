/* SPDX-License-Identifier: MIT */
/* The kernel tier: three small programs over one set of maps. A request that the engine remembers is answered where
 * it arrives (ingress.h, step by step); what the stack sends afterwards is renumbered where it leaves (egress.h); the supervisor
 * runs the third to free what connections left behind (reap.h). No HTTP is understood here: heads are compared,
 * answers copied. */
#include "egress.h"
#include "ingress.h"
#include "reap.h"

/* clsact's filters and tcx alike: TC_ACT_UNSPEC (TCX_NEXT) lets other programs have their turn. */
SEC("tc") int tux_ingress(struct __sk_buff *skb)
{
    return ingress(skb);
}

SEC("tc") int tux_egress(struct __sk_buff *skb)
{
    return egress(skb);
}

SEC("tc") int tux_reap(struct __sk_buff *skb)
{
    return reap(skb);
}

char tux_license[] SEC("license") = "Dual MIT/GPL";
