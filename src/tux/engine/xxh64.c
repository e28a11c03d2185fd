/* SPDX-License-Identifier: MIT */
#include "xxh64.h"

#include "siphash.h"

#define STRIPE_BYTES 32u /* a word for each lane */
#define LANES 4u

static const uint64_t p1 = 0x9e3779b185ebca87u, p2 = 0xc2b2ae3d27d4eb4fu, p3 = 0x165667b19e3779f9u,
                      p4 = 0x85ebca77c2b2ae63u, p5 = 0x27d4eb2f165667c5u;

static inline uint64_t mix(uint64_t lane, uint64_t word)
{
    return tux_siphash_rotate(lane + word * p2, 31) * p1;
}

/* Four lanes, one word of each stripe for each; then all of them as one. */
static uint64_t stripes(const uint8_t *bytes, const uint8_t *end)
{
    uint64_t lanes[LANES] = {p1 + p2, p2, 0, 0u - p1};
    for (; bytes < end; bytes += STRIPE_BYTES)
        for (unsigned i = 0; i < LANES; i++)
            lanes[i] = mix(lanes[i], tux_siphash_load(bytes + 8 * i));
    uint64_t sum = tux_siphash_rotate(lanes[0], 1) + tux_siphash_rotate(lanes[1], 7) + tux_siphash_rotate(lanes[2], 12) +
                   tux_siphash_rotate(lanes[3], 18);
    for (unsigned i = 0; i < LANES; i++)
        sum = (sum ^ mix(0, lanes[i])) * p1 + p4;
    return sum;
}

uint64_t tux_xxh64(const void *data, size_t len)
{
    const uint8_t *at = data;
    const size_t whole = len - len % STRIPE_BYTES;
    uint64_t sum = p5;
    if (whole > 0) {
        sum = stripes(at, at + whole);
        at += whole;
    }
    size_t left = len - whole;
    sum += len;
    for (; left >= 8; left -= 8, at += 8)
        sum = tux_siphash_rotate(sum ^ mix(0, tux_siphash_load(at)), 27) * p1 + p4;
    if (left >= 4) {
        uint64_t word = at[0] | (uint64_t)at[1] << 8 | (uint64_t)at[2] << 16 | (uint64_t)at[3] << 24;
        sum = tux_siphash_rotate(sum ^ word * p1, 23) * p2 + p3;
        left -= 4;
        at += 4;
    }
    for (; left > 0; left--)
        sum = tux_siphash_rotate(sum ^ *at++ * p5, 11) * p1;
    sum = (sum ^ sum >> 33) * p2;
    sum = (sum ^ sum >> 29) * p3;
    return sum ^ sum >> 32;
}
