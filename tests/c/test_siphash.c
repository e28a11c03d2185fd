/* SPDX-License-Identifier: MIT */
/* SipHash-1-3 against vectors. The key of the first table is 00 01 ... 0f, the message is 00 01 02 ... (modulo 256).
 * They come from a model in Python, which agrees with the vectors of the SipHash paper when it runs 2-4 rounds, and
 * with CPython's hash() of bytes (PYTHONHASHSEED=0: a key of zeros), from which the second table is. */
#include "check.h"
#include "siphash.h"

static const struct {
    unsigned len;
    uint64_t want64, want128[2];
} vectors[] = {
    {0, 0xabac0158050fc4dcu, {0xbea58827b2bc7ee7u, 0x013030dd6adb62fdu}},
    {1, 0xc9f49bf37d57ca93u, {0xa8edd36004376ffcu, 0x63f02f2bcc73055eu}},
    {7, 0xd3927d989bb11140u, {0xc3e0aaf223b98410u, 0x77ab4808c82e2fa6u}},
    {8, 0x369095118d299a8eu, {0xb4dae3d5e1fe12aau, 0x99c7f935ab164f72u}},
    {9, 0x25a48eb36c063de4u, {0x9439f32c04b8dd81u, 0x427c1394000e72f4u}},
    {15, 0xd320d86d2a519956u, {0x6c52bdb205557ec1u, 0x09017e1eeccd2129u}},
    {16, 0xcc4fdd1a7d908b66u, {0xeb8e511557d9a8d0u, 0x93179e3df8b013b5u}},
    {63, 0x9d199062b7bbb3a8u, {0x6f42fe4ee300584cu, 0xad6052a70a6b9f07u}},
    {64, 0xf17997ec4b4a6065u, {0x36a54a4bf2de5312u, 0xc2666aba59a7c84eu}},
    {255, 0xf76214e3153c4a15u, {0xa558210ac1a428f5u, 0xe93ebbaed065a4f1u}},
    {256, 0x75b3e64e167de370u, {0x5a020c3a248b6cf5u, 0x7a709cb9a27a686au}},
    {300, 0x4016a23bda5a2224u, {0x17c56127d6ea6531u, 0x2b57cd73cf9d8119u}},
};

static const struct {
    const char *text;
    uint64_t want;
} cpython[] = {
    {"xxxxxxxxx", 0x0f6ae89db9e68682u},
    {"hello world", 0xb1b1f2e707e4ac8au},
    {"tux tux tux tux!", 0xc41cec6d74a25422u},
};

static void test_vectors(void)
{
    const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    uint8_t message[300];
    for (unsigned i = 0; i < sizeof(message); i++)
        message[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        uint64_t out[2];
        CHECK_EQ(tux_siphash64(key, message, vectors[i].len), vectors[i].want64);
        tux_siphash128(key, message, vectors[i].len, out);
        CHECK_EQ(out[0], vectors[i].want128[0]);
        CHECK_EQ(out[1], vectors[i].want128[1]);
    }
}

static void test_cpython(void)
{
    const uint64_t zero[2] = {0, 0};
    for (size_t i = 0; i < sizeof(cpython) / sizeof(cpython[0]); i++)
        CHECK_EQ(tux_siphash64(zero, cpython[i].text, strlen(cpython[i].text)), cpython[i].want);
}

/* Word by word is the same hash as at once, and each bit of key and message matters. */
static void test_words(void)
{
    uint64_t key[2] = {1, 2}, words[3] = {3, 4, 5}, once[2], stepped[2];
    struct tux_siphash hash;
    uint8_t bytes[24];
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(words[i / 8] >> 8 * (i % 8));
    tux_siphash128(key, bytes, sizeof(bytes), once);
    tux_siphash_init128(&hash, key);
    for (unsigned i = 0; i < 3; i++)
        tux_siphash_word(&hash, words[i]);
    tux_siphash_last(&hash, 0, 0);
    tux_siphash_finish128(&hash, stepped);
    CHECK(once[0] == stepped[0] && once[1] == stepped[1]);
    for (unsigned bit = 0; bit < 24 * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        tux_siphash128(key, bytes, sizeof(bytes), stepped);
        CHECK(once[0] != stepped[0] && once[1] != stepped[1]);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (unsigned bit = 0; bit < 128; bit++) {
        key[bit / 64] ^= (uint64_t)1 << bit % 64;
        tux_siphash128(key, bytes, sizeof(bytes), stepped);
        CHECK(once[0] != stepped[0] && once[1] != stepped[1]);
        key[bit / 64] ^= (uint64_t)1 << bit % 64;
    }
}

int main(void)
{
    test_vectors();
    test_cpython();
    test_words();
    return check_report();
}
