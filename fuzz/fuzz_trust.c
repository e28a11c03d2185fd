/* SPDX-License-Identifier: MIT */
/* Fuzz who the client is: the first byte says what is trusted and what the peer is, the rest is a head. The client is the peer, or
 * somebody whom a trusted proxy names; what the next server is told is one well-formed set of fields. */
#include "../tests/c/head_text.h"
#include "trust.h"

#define MUST(condition)                                                                                                \
    if (!(condition))                                                                                                  \
    __builtin_trap()

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tux_trust *trusts[4];
    static struct tux_head head, again;
    static const struct tux_head_limits wide = {65536, 65536, TUX_MAX_FIELDS};
    static const char *const networks[] = {"10.0.0.0/8", "2001:db8::/33", "unix", "0.0.0.0/0", "::/0"};
    static const char *const peers[] = {"10.1.2.3", "192.0.2.1", "2001:db8::1", "::1"};
    if (trusts[3] == NULL) {
        trusts[1] = tux_trust_new(networks, 1);
        trusts[2] = tux_trust_new(networks, 3);
        trusts[3] = tux_trust_new(networks, 5);
    }
    if (size == 0)
        return 0;
    const struct tux_trust *trust = trusts[data[0] & 3];
    struct tux_address peer = {.kind = TUX_ADDRESS_UNIX};
    if (data[0] & 64)
        MUST(tux_address_parse((const uint8_t *)peers[data[0] >> 2 & 3], strlen(peers[data[0] >> 2 & 3]), &peer));
    bool forwarded = data[0] & 128;
    data++;
    size--;
    if (size > TUX_MAX_HEAD_BYTES || scan_copy(data, size, 0, &default_limits, &default_rules, &head) != TUX_DONE)
        return 0;
    struct tux_client client;
    tux_trust_client(trust, &peer, data, &head, &client);
    MUST(client.believed == tux_trust_has(trust, &peer));
    MUST(client.address.kind > TUX_ADDRESS_NONE && client.address.kind <= TUX_ADDRESS_V6);
    if (!client.believed)
        MUST(memcmp(&client.address, &peer, sizeof peer) == 0 && !client.secure && client.host.len == 0);
    MUST((size_t)client.host.off + client.host.len <= size);
    MUST(client.host.len == 0 ||
         tux_host_is_valid(data + client.host.off, data + client.host.off + client.host.len, false));

    static char out[65536];
    size_t at = (size_t)snprintf(out, sizeof out, "GET / HTTP/1.0\r\n");
    size_t n = tux_trust_put(&peer, data, &head, &client, forwarded, (uint8_t *)out + at);
    uint32_t host_len = client.host.len > head.host.len ? client.host.len : head.host.len;
    MUST(n <= head.length + 2u * host_len + 400u);
    at += n;
    memcpy(out + at, "\r\n", 2);
    at += 2;
    MUST(scan_copy(out, at, 0, &wide, &default_rules, &again) == TUX_DONE && again.length == at);
    uint32_t told = 0; /* how many of each */
    for (uint32_t i = 0; i < again.n_fields; i++) {
        uint8_t id = again.fields[i].id;
        MUST((TUX_FORWARDED_FIELDS >> id & 1u) != 0 && (told & 1u << id) == 0 && again.fields[i].value.len > 0);
        told |= 1u << id;
    }
    MUST((told & 1u << TUX_FIELD_X_FORWARDED_PROTO) != 0);
    MUST(((told & 1u << TUX_FIELD_FORWARDED) != 0) == forwarded);
    if (peer.kind == TUX_ADDRESS_UNIX)
        return 0;
    /* Whoever trusts us, and whom we trust, sees the same client. */
    static const char *const ours[] = {"192.0.2.99"};
    static struct tux_trust *them;
    static struct tux_address us;
    if (them == NULL)
        MUST((them = tux_trust_new(ours, 1)) != NULL && tux_address_parse((const uint8_t *)ours[0], 10, &us));
    struct tux_client next;
    tux_trust_client(them, &us, (const uint8_t *)out, &again, &next);
    MUST(memcmp(next.address.bytes, peer.bytes, 16) == 0 && next.secure == client.secure);
    return 0;
}
