/* SPDX-License-Identifier: MIT */
/* SipHash-1-3 (Aumasson and Bernstein, 2012) with 64 and 128 bits of output, keyed, little-endian words.
 * One round a word and three at the end are enough where an attacker does not see the output; Rust and CPython use the
 * same. Everything is inline and needs no libc, so that eBPF programs can include it too. */
#ifndef TUX_SIPHASH_H
#define TUX_SIPHASH_H

#include <stdint.h>

#define TUX_SIPHASH_INLINE static inline __attribute__((always_inline, unused))

/* A hash under way. Each word is 8 bytes of the message; length counts them. */
struct tux_siphash {
    uint64_t v0, v1, v2, v3;
    uint64_t length;
};

TUX_SIPHASH_INLINE uint64_t tux_siphash_rotate(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64u - bits);
}

TUX_SIPHASH_INLINE void tux_siphash_round(struct tux_siphash *hash)
{
    hash->v0 += hash->v1;
    hash->v2 += hash->v3;
    hash->v1 = tux_siphash_rotate(hash->v1, 13) ^ hash->v0;
    hash->v3 = tux_siphash_rotate(hash->v3, 16) ^ hash->v2;
    hash->v0 = tux_siphash_rotate(hash->v0, 32);
    hash->v2 += hash->v1;
    hash->v0 += hash->v3;
    hash->v1 = tux_siphash_rotate(hash->v1, 17) ^ hash->v2;
    hash->v3 = tux_siphash_rotate(hash->v3, 21) ^ hash->v0;
    hash->v2 = tux_siphash_rotate(hash->v2, 32);
}

/* Start a hash of 64 bits. */
TUX_SIPHASH_INLINE void tux_siphash_init64(struct tux_siphash *hash, const uint64_t key[2])
{
    hash->v0 = key[0] ^ 0x736f6d6570736575u;
    hash->v1 = key[1] ^ 0x646f72616e646f6du;
    hash->v2 = key[0] ^ 0x6c7967656e657261u;
    hash->v3 = key[1] ^ 0x7465646279746573u;
    hash->length = 0;
}

/* Start a hash of 128 bits. */
TUX_SIPHASH_INLINE void tux_siphash_init128(struct tux_siphash *hash, const uint64_t key[2])
{
    tux_siphash_init64(hash, key);
    hash->v1 ^= 0xeeu;
}

/* Add 8 bytes of the message. */
TUX_SIPHASH_INLINE void tux_siphash_word(struct tux_siphash *hash, uint64_t word)
{
    hash->v3 ^= word;
    tux_siphash_round(hash);
    hash->v0 ^= word;
    hash->length += 8;
}

/* Add the last 0 to 7 bytes (zeros above them) and the padding that the definition asks for. */
TUX_SIPHASH_INLINE void tux_siphash_last(struct tux_siphash *hash, uint64_t rest, unsigned rest_bytes)
{
    tux_siphash_word(hash, rest | (hash->length + rest_bytes) << 56);
}

/* The hash of 64 bits: after init64, the words and tux_siphash_last. */
TUX_SIPHASH_INLINE uint64_t tux_siphash_finish64(struct tux_siphash *hash)
{
    hash->v2 ^= 0xffu;
    tux_siphash_round(hash);
    tux_siphash_round(hash);
    tux_siphash_round(hash);
    return hash->v0 ^ hash->v1 ^ hash->v2 ^ hash->v3;
}

/* The hash of 128 bits, lower half first: after init128, the words and tux_siphash_last. */
TUX_SIPHASH_INLINE void tux_siphash_finish128(struct tux_siphash *hash, uint64_t out[2])
{
    hash->v2 ^= 0xeeu;
    tux_siphash_round(hash);
    tux_siphash_round(hash);
    tux_siphash_round(hash);
    out[0] = hash->v0 ^ hash->v1 ^ hash->v2 ^ hash->v3;
    hash->v1 ^= 0xddu;
    tux_siphash_round(hash);
    tux_siphash_round(hash);
    tux_siphash_round(hash);
    out[1] = hash->v0 ^ hash->v1 ^ hash->v2 ^ hash->v3;
}

/* 8 bytes as a little-endian word. */
TUX_SIPHASH_INLINE uint64_t tux_siphash_load(const void *bytes)
{
    uint64_t word;
    __builtin_memcpy(&word, bytes, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* Add a whole message: what the two functions below share. */
TUX_SIPHASH_INLINE void tux_siphash_message(struct tux_siphash *hash, const void *data, uint64_t len)
{
    const uint8_t *bytes = (const uint8_t *)data;
    uint64_t whole = len & ~(uint64_t)7;
    uint64_t rest = 0;
    for (uint64_t i = 0; i < whole; i += 8)
        tux_siphash_word(hash, tux_siphash_load(bytes + i));
    for (uint64_t i = whole; i < len; i++)
        rest |= (uint64_t)bytes[i] << (8 * (i - whole));
    tux_siphash_last(hash, rest, (unsigned)(len & 7));
}

/* SipHash-1-3 of `len` bytes at `data`, 64 bits. */
TUX_SIPHASH_INLINE uint64_t tux_siphash64(const uint64_t key[2], const void *data, uint64_t len)
{
    struct tux_siphash hash;
    tux_siphash_init64(&hash, key);
    tux_siphash_message(&hash, data, len);
    return tux_siphash_finish64(&hash);
}

/* SipHash-1-3 of `len` bytes at `data`, 128 bits, lower half first. */
TUX_SIPHASH_INLINE void tux_siphash128(const uint64_t key[2], const void *data, uint64_t len, uint64_t out[2])
{
    struct tux_siphash hash;
    tux_siphash_init128(&hash, key);
    tux_siphash_message(&hash, data, len);
    tux_siphash_finish128(&hash, out);
}

#endif
