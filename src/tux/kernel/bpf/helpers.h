/* SPDX-License-Identifier: MIT */
/* What eBPF programs need of their surroundings: helpers by number (bpf-helpers(7)), map declarations, byte order. */
#ifndef TUX_KERNEL_HELPERS_H
#define TUX_KERNEL_HELPERS_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdint.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline, unused))

/* Members of a map declaration: the loader reads their values from the types (BTF). */
#define __uint(name, value) int(*name)[value]
#define __type(name, value) value *name
#define __array(name, value) value *name[]

/* The compiler knows the value only as far as the verifier does after this: bounds are then checked where they are
 * used. */
#define OPAQUE(variable) __asm__ volatile("" : "+r"(variable))

/* A number from 1 to a power of two, as the verifier can follow it: before Linux 6.8 it learns nothing from n != 0,
 * which compilers make of n < 1. */
#define FROM_1_TO(max, number)                                                                                         \
    ({                                                                                                                 \
        __u32 less_ = (number) - 1u;                                                                                   \
        OPAQUE(less_);                                                                                                 \
        (less_ & ((max) - 1u)) + 1u;                                                                                   \
    })

/* 64 bits of memory that a worker writes without any lock. LOAD_AFTER looks at its own after what gave `earlier`, also on
 * arm64, which may take loads that do not depend on each other in any order: here the address depends on `earlier`, which
 * adds nothing to it. Linux 6.1 has no load with acquire semantics in eBPF. */
#define LOAD(member) (*(const volatile __u64 *)&(member))
#define LOAD_AFTER(earlier, member)                                                                                    \
    ({                                                                                                                 \
        __u64 nothing_ = (earlier);                                                                                    \
        __asm__ volatile("%0 &= 0" : "+r"(nothing_));                                                                  \
        *(const volatile __u64 *)((const char *)&(member) + nothing_);                                                 \
    })

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) =
    (void *)BPF_FUNC_map_update_elem;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;
static __u64 (*bpf_ktime_get_boot_ns)(void) = (void *)BPF_FUNC_ktime_get_boot_ns;
static long (*bpf_skb_store_bytes)(struct __sk_buff *skb, __u32 offset, const void *from, __u32 len, __u64 flags) =
    (void *)BPF_FUNC_skb_store_bytes;
static long (*bpf_skb_load_bytes)(const struct __sk_buff *skb, __u32 offset, void *to, __u32 len) =
    (void *)BPF_FUNC_skb_load_bytes;
static long (*bpf_l4_csum_replace)(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags) =
    (void *)BPF_FUNC_l4_csum_replace;
static __s64 (*bpf_csum_diff)(const __be32 *from, __u32 from_size, const __be32 *to, __u32 to_size, __wsum seed) =
    (void *)BPF_FUNC_csum_diff;
static long (*bpf_csum_level)(struct __sk_buff *skb, __u64 level) = (void *)BPF_FUNC_csum_level;
static long (*bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
static long (*bpf_clone_redirect)(struct __sk_buff *skb, __u32 ifindex, __u64 flags) = (void *)BPF_FUNC_clone_redirect;
static long (*bpf_skb_change_tail)(struct __sk_buff *skb, __u32 len, __u64 flags) = (void *)BPF_FUNC_skb_change_tail;
static long (*bpf_skb_pull_data)(struct __sk_buff *skb, __u32 len) = (void *)BPF_FUNC_skb_pull_data;
static __u64 (*bpf_get_socket_cookie)(void *ctx) = (void *)BPF_FUNC_get_socket_cookie;
static long (*bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)BPF_FUNC_spin_lock;
static long (*bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)BPF_FUNC_spin_unlock;
static struct bpf_sock *(*bpf_get_listener_sock)(struct bpf_sock *sk) = (void *)BPF_FUNC_get_listener_sock;
static struct bpf_sock *(*bpf_skc_lookup_tcp)(void *ctx, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns,
                                              __u64 flags) = (void *)BPF_FUNC_skc_lookup_tcp;
static long (*bpf_sk_release)(void *sk) = (void *)BPF_FUNC_sk_release;
static void *(*bpf_sk_storage_get)(void *map, void *sk, void *value, __u64 flags) = (void *)BPF_FUNC_sk_storage_get;
static void *(*bpf_ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)BPF_FUNC_ringbuf_reserve;
static void (*bpf_ringbuf_submit)(void *record, __u64 flags) = (void *)BPF_FUNC_ringbuf_submit;
static void (*bpf_ringbuf_discard)(void *record, __u64 flags) = (void *)BPF_FUNC_ringbuf_discard;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NET16(x) ((__u16)__builtin_bswap16((__u16)(x)))
#define NET32(x) ((__u32)__builtin_bswap32((__u32)(x)))
#else
#define NET16(x) ((__u16)(x))
#define NET32(x) ((__u32)(x))
#endif

/* Sequence numbers (RFC 9293 section 3.4): is a before b, modulo 2^32? */
INLINE int seq_before(__u32 a, __u32 b)
{
    return (__s32)(a - b) < 0;
}

INLINE int seq_after(__u32 a, __u32 b)
{
    return (__s32)(b - a) < 0;
}

#endif
