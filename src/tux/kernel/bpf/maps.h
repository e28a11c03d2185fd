/* SPDX-License-Identifier: MIT */
/* The maps. Numbers of elements that depend on the configuration are set by the loader. */
#ifndef TUX_KERNEL_MAPS_H
#define TUX_KERNEL_MAPS_H

#include "work.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 65536);
    __type(key, struct tux_kernel_tuple);
    __type(value, struct tux_kernel_conn);
} conns SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, TUX_KERNEL_SYNS);
    __type(key, __u32);
    __type(value, __u64);
} syns SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __type(key, struct tux_kernel_key);
    __type(value, struct tux_kernel_found);
} answers SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 4096);
    __type(key, __u32);
    __type(value, struct tux_kernel_answer);
} entries SEC(".maps");

struct chunk {
    __u8 bytes[TUX_KERNEL_CHUNK_BYTES];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 4096);
    __type(key, __u32);
    __type(value, struct chunk);
} chunks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct tux_kernel_control);
} control SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, TUX_KERNEL_DATES);
    __type(key, __u32);
    __type(value, struct tux_kernel_date);
} dates SEC(".maps");

/* Bit p % 64 of word p / 64: port p is one of ours. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, TUX_KERNEL_PORTS / 64);
    __type(key, __u32);
    __type(value, __u64);
} ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct tux_kernel_listener);
} listeners SEC(".maps");

struct inner_slots {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, TUX_KERNEL_SLOTS);
    __type(key, __u32);
    __type(value, struct tux_kernel_slot);
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, TUX_KERNEL_WORKERS);
    __type(key, __u32);
    __array(values, struct inner_slots);
} slots SEC(".maps");

struct inner_cells {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, TUX_KERNEL_CELLS);
    __type(key, __u32);
    __type(value, struct tux_kernel_cell);
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, TUX_KERNEL_WORKERS);
    __type(key, __u32);
    __array(values, struct inner_cells);
} cells SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct tux_kernel_counters);
} counters SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct tux_kernel_scratch);
} scratch SEC(".maps");

/* 8 MiB: half a second of the fastest answering. */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 8388608);
} records SEC(".maps");

#define FIRST(map)                                                                                                     \
    ({                                                                                                                 \
        __u32 zero_ = 0;                                                                                               \
        bpf_map_lookup_elem(&(map), &zero_);                                                                           \
    })

/* No packet concerns us. */
INLINE int is_resting(void)
{
    struct tux_kernel_control *ctl = FIRST(control);
    return !ctl || ctl->paused == TUX_KERNEL_RESTING;
}

#endif
