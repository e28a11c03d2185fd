/* SPDX-License-Identifier: MIT */
/* Latencies in buckets: linear inside a power of two, logarithmic over them. Used by load.c. */
#ifndef TUX_BENCH_HISTOGRAM_H
#define TUX_BENCH_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

enum {
    SUB_BITS = 6, /* 2^6 buckets per power of two, an error below 1.6 % */
    SUB = 1 << SUB_BITS,
    BUCKETS = (64 - SUB_BITS) * SUB,
};

/* Nanoseconds. All zeros: an empty one. */
typedef struct {
    uint64_t buckets[BUCKETS];
    int64_t max;
} histogram_t;

static inline unsigned bucket_of(uint64_t value)
{
    if (value < SUB)
        return (unsigned)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - SUB_BITS;
    return (shift + 1) * SUB + (unsigned)(value >> shift) - SUB;
}

/* The largest value that falls into `bucket`. */
static inline uint64_t bucket_top(unsigned bucket)
{
    if (bucket < SUB)
        return bucket;
    unsigned shift = bucket / SUB - 1;
    return ((uint64_t)(bucket % SUB + SUB + 1) << shift) - 1;
}

static inline void histogram_record(histogram_t *histogram, int64_t latency)
{
    if (latency < 0)
        latency = 0;
    histogram->buckets[bucket_of((uint64_t)latency)]++;
    if (latency > histogram->max)
        histogram->max = latency;
}

static inline void histogram_add(histogram_t *sum, const histogram_t *one)
{
    sum->max = one->max > sum->max ? one->max : sum->max;
    for (unsigned i = 0; i < BUCKETS; i++)
        sum->buckets[i] += one->buckets[i];
}

static inline double histogram_percentile_us(const histogram_t *histogram, double fraction)
{
    uint64_t total = 0, seen = 0, max = (uint64_t)histogram->max;
    for (unsigned i = 0; i < BUCKETS; i++)
        total += histogram->buckets[i];
    uint64_t rank = (uint64_t)((double)total * fraction);
    if ((double)rank < (double)total * fraction)
        rank++;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank && seen > 0) /* no more than the largest value seen, which its bucket may exceed */
            return (double)(bucket_top(i) < max ? bucket_top(i) : max) / 1000.0;
    }
    return 0.0;
}

/* Print `, "NAME": {"p50": ..., ..., "max": ...}`. */
static inline void histogram_print_percentiles(const char *name, const histogram_t *histogram)
{
    printf(", \"%s\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"p999\": %.3f, \"max\": %.3f}", name,
           histogram_percentile_us(histogram, 0.5), histogram_percentile_us(histogram, 0.9),
           histogram_percentile_us(histogram, 0.99), histogram_percentile_us(histogram, 0.999),
           (double)histogram->max / 1000.0);
}

/* Print `, "NAME": [[upper bound in us, count], ...]` of every bucket in use. */
static inline void histogram_print(const char *name, const histogram_t *histogram)
{
    const char *separator = "";
    printf(", \"%s\": [", name);
    for (unsigned i = 0; i < BUCKETS; i++) {
        if (!histogram->buckets[i])
            continue;
        printf("%s[%.3f, %llu]", separator, (double)bucket_top(i) / 1000.0, (unsigned long long)histogram->buckets[i]);
        separator = ", ";
    }
    printf("]");
}

#endif
