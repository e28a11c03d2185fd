# SPDX-License-Identifier: MIT
# The parsers of the engine, for tests and tools: a part of _engine.pyx, which would be too long with it.


cdef bytes _signature(tux_signature signature):
    return (<int> 0 + signature.lo).to_bytes(8, "little") + (<int> 0 + signature.hi).to_bytes(8, "little")


def scan_head(bytes data not None, *, size_t seen=0, bytes key not None=bytes(16), uint64_t context=0):
    cdef tux_head_limits limits
    cdef tux_sign_rules rules
    cdef tux_head *head = <tux_head *> calloc(1, sizeof(tux_head))
    cdef const uint8_t *base = <const uint8_t *> PyBytes_AS_STRING(data)
    cdef tux_outcome outcome
    if head is NULL:
        raise MemoryError
    if len(key) != 16:
        raise ValueError("key: 16 bytes expected")
    limits.target_bytes = TUX_MAX_TARGET_BYTES
    limits.head_bytes = TUX_MAX_HEAD_BYTES
    limits.fields = TUX_MAX_FIELDS
    rules.significant = TUX_SIGNIFICANT_BY_DEFAULT
    memcpy(rules.key, PyBytes_AS_STRING(key), 16)
    try:
        outcome = tux_head_scan(base, len(data), seen, &limits, &rules, context, head)
        if outcome == TUX_MORE:
            return {"outcome": "more"}
        if outcome == TUX_MALFORMED:
            return {"outcome": "malformed", "status": head.error_status,
                    "reason": head.error_reason.decode("ascii")}
        return {
            "outcome": "done",
            "length": head.length,
            "method": _text(base, head.method_name),
            "target": _text(base, head.target),
            "path": _text(base, head.path),
            "query": _text(base, head.query) if head.has_query else None,
            "host": _text(base, head.host),
            "minor": head.minor,
            "keep_alive": bool(head.keep_alive),
            "content_length": head.content_length if head.has_length else None,
            "chunked": bool(head.chunked),
            "expect_continue": bool(head.expect_continue),
            "expect_other": bool(head.expect_other),
            "upgrade": bool(head.upgrade),
            "signed": bool(head.is_signed),
            "plain_range": head.range.kind != 0,
            "general": _signature(head.general) if head.is_signed else None,
            "exact": _signature(head.exact) if head.is_signed else None,
            "fields": [
                (_text(base, head.fields[i].name), _text(base, head.fields[i].value)) for i in range(head.n_fields)
            ],
        }
    finally:
        free(head)


def decode_chunked(bytes data not None, size_t piece=0):
    cdef tux_chunked decoder
    cdef tux_outcome outcome = TUX_MORE
    cdef tux_span run
    cdef const uint8_t *base = <const uint8_t *> PyBytes_AS_STRING(data)
    cdef size_t pos = 0, end = 0, consumed = 0
    memset(&decoder, 0, sizeof(decoder))
    body = bytearray()
    while outcome == TUX_MORE and end < <size_t> len(data):
        end = len(data) if piece == 0 else min(end + piece, <size_t> len(data))
        while outcome == TUX_MORE and pos < end:
            outcome = tux_chunked_decode(&decoder, base + pos, end - pos, &consumed, &run)
            if outcome != TUX_MALFORMED:
                body += data[pos + run.off:pos + run.off + run.len]
            pos += consumed
            if consumed == 0:
                break
    return ("done", "more", "malformed")[<int> outcome], bytes(body), pos


def parse_range(bytes value not None):
    cdef tux_range parsed = tux_range_parse(<const uint8_t *> PyBytes_AS_STRING(value), len(value))
    return ("none", "closed", "open", "suffix")[parsed.kind], parsed.first, parsed.last
