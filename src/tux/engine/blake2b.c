/* SPDX-License-Identifier: MIT */
#include "blake2b.h"

#include <string.h>

#include "siphash.h"

#define BLOCK_BYTES 128u

static const uint64_t iv[8] = {0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
                               0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u};

static inline uint64_t right(uint64_t word, unsigned bits)
{
    return word >> bits | word << (64u - bits);
}

#define MIX(a, b, c, d, x, y)                                                                                          \
    do {                                                                                                               \
        v[a] += v[b] + m[x];                                                                                           \
        v[d] = right(v[d] ^ v[a], 32);                                                                                 \
        v[c] += v[d];                                                                                                  \
        v[b] = right(v[b] ^ v[c], 24);                                                                                 \
        v[a] += v[b] + m[y];                                                                                           \
        v[d] = right(v[d] ^ v[a], 16);                                                                                 \
        v[c] += v[d];                                                                                                  \
        v[b] = right(v[b] ^ v[c], 63);                                                                                 \
    } while (0)

/* A round: columns, then diagonals, with the words of the block in the order of RFC 7693 section 2.7. Written out, so that
 * the compiler knows every place. */
#define ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15)                                    \
    MIX(0, 4, 8, 12, s0, s1);                                                                                          \
    MIX(1, 5, 9, 13, s2, s3);                                                                                          \
    MIX(2, 6, 10, 14, s4, s5);                                                                                         \
    MIX(3, 7, 11, 15, s6, s7);                                                                                         \
    MIX(0, 5, 10, 15, s8, s9);                                                                                         \
    MIX(1, 6, 11, 12, s10, s11);                                                                                       \
    MIX(2, 7, 8, 13, s12, s13);                                                                                        \
    MIX(3, 4, 9, 14, s14, s15)

/* gcc finds vectors of two words here, and loses a quarter of the speed by it. */
#if defined(__GNUC__) && !defined(__clang__)
#define ONE_BY_ONE __attribute__((optimize("no-tree-vectorize")))
#else
#define ONE_BY_ONE
#endif

/* `done`: bytes of the message up to the end of this block. */
ONE_BY_ONE static void compress(uint64_t h[8], const uint8_t block[BLOCK_BYTES], uint64_t done, int last)
{
    uint64_t m[16], v[16];
    for (unsigned i = 0; i < 16; i++)
        m[i] = tux_siphash_load(block + 8 * i);
    for (unsigned i = 0; i < 8; i++) {
        v[i] = h[i];
        v[i + 8] = iv[i];
    }
    v[12] ^= done; /* the high word of the count stays 0: nobody hashes 2^64 bytes */
    if (last)
        v[14] = ~v[14];
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
    ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4);
    ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8);
    ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13);
    ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9);
    ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11);
    ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10);
    ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5);
    ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0);
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
    for (unsigned i = 0; i < 8; i++)
        h[i] ^= v[i] ^ v[i + 8];
}

void tux_blake2b(const void *data, size_t len, uint8_t *digest, size_t digest_len)
{
    const uint8_t *bytes = data;
    uint8_t block[BLOCK_BYTES] = {0}, all[TUX_BLAKE2B_MAX_BYTES];
    uint64_t h[8];
    size_t at = 0;
    memcpy(h, iv, sizeof h);
    h[0] ^= 0x01010000u ^ (uint64_t)digest_len; /* depth and fan-out 1, no key */
    for (; len - at > BLOCK_BYTES; at += BLOCK_BYTES)
        compress(h, bytes + at, at + BLOCK_BYTES, 0);
    if (len > at)
        memcpy(block, bytes + at, len - at);
    compress(h, block, len, 1);
    for (unsigned i = 0; i < 64; i++)
        all[i] = (uint8_t)(h[i / 8] >> 8 * (i % 8));
    memcpy(digest, all, digest_len);
}
