/* SPDX-License-Identifier: MIT */
/* Fuzz headers of the PROXY protocol: however they arrive the outcome is the same, and what was read can be written and read
 * again. */
#include "proxyproto.h"

#include <stdlib.h>
#include <string.h>

#define MUST(condition)                                                                                                \
    if (!(condition))                                                                                                  \
    __builtin_trap()

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* From memory of exactly that size, so that a sanitizer sees any read past it. */
static enum tux_outcome parse(const uint8_t *data, size_t size, struct tux_proxy *proxy)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    MUST(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    enum tux_outcome outcome = tux_proxy_parse(copy, size, proxy);
    free(copy);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tux_proxy proxy, other;
    enum tux_outcome outcome = parse(data, size, &proxy);
    size_t least = outcome == TUX_DONE ? proxy.length : size;
    MUST(least <= size && least <= (outcome == TUX_DONE ? TUX_MAX_PROXY_BYTES : size));
    MUST(outcome != TUX_MORE || size < TUX_MAX_PROXY_BYTES);
    bool over = false;
    for (size_t n = 0; n < least && n < 300; n++) { /* incomplete, and from some byte on perhaps malformed for good */
        enum tux_outcome part = parse(data, n, &other);
        MUST(part == TUX_MORE || (part == TUX_MALFORMED && outcome == TUX_MALFORMED));
        MUST(!over || part == TUX_MALFORMED);
        over = part == TUX_MALFORMED;
    }
    if (outcome != TUX_DONE)
        return 0;
    MUST(parse(data, proxy.length, &other) == TUX_DONE && other.length == proxy.length);
    MUST(!proxy.named || proxy.source.kind == TUX_ADDRESS_V4 || proxy.source.kind == TUX_ADDRESS_V6);
    if (!proxy.named)
        return 0;
    for (unsigned version = 1; version <= 2; version++) {
        uint8_t out[TUX_PROXY_BUILD_BYTES];
        size_t len = tux_proxy_build(version, &proxy.source, &proxy.source, out);
        MUST(len <= sizeof out && parse(out, len, &other) == TUX_DONE && other.length == len && other.named);
        MUST(memcmp(&other.source, &proxy.source, sizeof other.source) == 0);
    }
    return 0;
}
