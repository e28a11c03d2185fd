# SPDX-License-Identifier: MIT
# What _engine.pyx has of forwarding: a part of that file, which would be too long with it.


cdef str _FRAMINGS = "none length chunked close"


cdef int _scan_response(bytes data, size_t seen, bint is_head, tux_response *response) except -1:
    return tux_response_scan(<const uint8_t *> PyBytes_AS_STRING(data), len(data), seen, is_head, response)


def scan_response(bytes data not None, *, size_t seen=0, bint is_head=False):
    cdef tux_response *response = <tux_response *> calloc(1, sizeof(tux_response))
    cdef const uint8_t *base = <const uint8_t *> PyBytes_AS_STRING(data)
    cdef int outcome
    if response is NULL:
        raise MemoryError
    try:
        outcome = _scan_response(data, seen, is_head, response)
        if outcome == TUX_MORE:
            return {"outcome": "more"}
        if outcome == TUX_MALFORMED:
            return {"outcome": "malformed", "reason": response.error_reason.decode("ascii")}
        return {
            "outcome": "done",
            "length": response.length,
            "status": response.status,
            "minor": response.minor,
            "reason": _text(base, response.reason),
            "framing": _FRAMINGS.split()[response.framing],
            "keep_alive": bool(response.keep_alive),
            "content_length": response.content_length if response.has_length else None,
            "fields": [
                (_text(base, response.fields[i].name), _text(base, response.fields[i].value))
                for i in range(response.n_fields)
            ],
        }
    finally:
        free(response)


cdef int _set_address(tux_address *address, bytes text) except -1:
    memset(address, 0, sizeof(tux_address))
    if text == b"unix:":
        address.kind = TUX_ADDRESS_UNIX
    elif not tux_address_parse_node(<const uint8_t *> PyBytes_AS_STRING(text), len(text), address):
        raise ValueError(f"not an address: {text!r}")
    return 0


cdef const char **_texts_of(list kept) except NULL:
    """An array of the texts, which `kept` (bytes) has the memory of; to be freed."""
    cdef const char **texts = <const char **> calloc(len(kept) + 1, sizeof(char *))
    if texts is NULL:
        raise MemoryError
    for i in range(len(kept)):
        texts[i] = PyBytes_AS_STRING(kept[i])
    return texts


cdef tux_trust *_new_trust(networks) except? NULL:
    """NULL when there are none."""
    kept = [network.encode() for network in networks]
    cdef const char **texts = _texts_of(kept)
    cdef tux_trust *trust = tux_trust_new(texts, <uint32_t> len(kept)) if kept else NULL
    free(texts)
    if trust is NULL and kept:
        raise ValueError(f"not addresses and networks, or too many: {', '.join(networks)}")
    return trust


cdef int _set_trust(tux_engine *engine, networks, bint proxy_protocol) except -1:
    kept = [network.encode() for network in networks]
    cdef const char **texts = _texts_of(kept)
    cdef int error = tux_engine_trust(engine, texts, <uint32_t> len(kept), proxy_protocol)
    free(texts)
    if error == -_errno.EINVAL:
        raise ValueError(f"not addresses and networks, or too many: {', '.join(networks)}")
    if error < 0:
        raise OSError(-error, os.strerror(-error))
    return 0


def trust_client(bytes data not None, *, trusted=(), bytes peer not None=b"192.0.2.1"):
    cdef tux_head_limits limits
    cdef tux_sign_rules sign
    cdef tux_address address
    cdef tux_client client
    cdef tux_trust *trust
    cdef tux_head *head
    cdef char text[TUX_ADDRESS_TEXT_BYTES]
    cdef const uint8_t *base = <const uint8_t *> PyBytes_AS_STRING(data)
    limits.target_bytes = TUX_MAX_TARGET_BYTES
    limits.head_bytes = TUX_MAX_HEAD_BYTES
    limits.fields = TUX_MAX_FIELDS
    memset(&sign, 0, sizeof(sign))
    _set_address(&address, peer)
    trust = _new_trust(trusted)
    head = <tux_head *> calloc(1, sizeof(tux_head))
    try:
        if head is NULL:
            raise MemoryError
        if tux_head_scan(base, len(data), 0, &limits, &sign, 0, head) != TUX_DONE:
            raise ValueError("not the whole head of a request")
        tux_trust_client(trust, &address, base, head, &client)
        tux_address_format(&client.address, text)
        return {
            "address": text.decode("ascii"),
            "port": client.address.port,
            "believed": bool(client.believed),
            "secure": bool(client.secure),
            "host": _text(base, client.host),
        }
    finally:
        free(head)
        tux_trust_free(trust)


def parse_proxy(bytes data not None):
    cdef tux_proxy proxy
    cdef char text[TUX_ADDRESS_TEXT_BYTES]
    cdef int outcome = tux_proxy_parse(<const uint8_t *> PyBytes_AS_STRING(data), len(data), &proxy)
    if outcome != TUX_DONE:
        return {"outcome": "more" if outcome == TUX_MORE else "malformed"}
    tux_address_format(&proxy.source, text)
    return {
        "outcome": "done",
        "length": proxy.length,
        "version": proxy.version,
        "address": text.decode("ascii") if proxy.named else None,
        "port": proxy.source.port,
    }


def build_proxy(int version, bytes source not None, bytes destination not None):
    cdef tux_address addresses[2]
    cdef uint8_t out[TUX_PROXY_BUILD_BYTES]
    _set_address(&addresses[0], source)
    _set_address(&addresses[1], destination)
    cdef size_t length = tux_proxy_build(version, &addresses[0], &addresses[1], out)
    return PyBytes_FromStringAndSize(<char *> out, length)


def forward_request(bytes data not None, *, bytes host not None=b"", bint underscores=False, bint upgrade=True,
                    bytes peer not None=b"192.0.2.1", trusted=(), bint forwarded=False,
                    bytes server not None=b"upstream", bint close=False):
    cdef tux_head_limits limits
    cdef tux_sign_rules sign
    cdef tux_forward_rules rules
    cdef tux_forward_way way
    cdef tux_forward_head result
    cdef tux_address address
    cdef tux_client client
    cdef tux_trust *trust
    cdef tux_head *head
    cdef uint8_t *out
    cdef uint16_t status
    cdef const uint8_t *base = <const uint8_t *> PyBytes_AS_STRING(data)
    if len(host) > TUX_MAX_HOST_BYTES or len(server) > TUX_MAX_HOST_BYTES:
        raise ValueError(f"a host has at most {TUX_MAX_HOST_BYTES} bytes")
    limits.target_bytes = TUX_MAX_TARGET_BYTES
    limits.head_bytes = TUX_MAX_HEAD_BYTES
    limits.fields = TUX_MAX_FIELDS
    memset(&sign, 0, sizeof(sign))
    memset(&rules, 0, sizeof(rules))
    memcpy(rules.host, PyBytes_AS_STRING(host), len(host))
    rules.host_len = <uint32_t> len(host)
    rules.underscores = underscores
    rules.upgrade = upgrade
    rules.forwarded = forwarded
    _set_address(&address, peer)
    way.peer = &address
    way.client = &client
    way.server = PyBytes_AS_STRING(server)
    way.server_len = <uint32_t> len(server)
    way.close = close
    head = <tux_head *> calloc(1, sizeof(tux_head))
    out = <uint8_t *> calloc(1, TUX_FORWARD_HEAD_BYTES)
    trust = _new_trust(trusted)
    try:
        if head is NULL or out is NULL:
            raise MemoryError
        if tux_head_scan(base, len(data), 0, &limits, &sign, 0, head) != TUX_DONE:
            raise ValueError("not the whole head of a request")
        tux_trust_client(trust, &address, base, head, &client)
        status = tux_forward_request(base, head, &rules, &way, out, TUX_FORWARD_HEAD_BYTES, &result)
        return (status, b"") if status else (0, PyBytes_FromStringAndSize(<char *> out, result.length))
    finally:
        tux_trust_free(trust)
        free(head)
        free(out)


def forward_response(bytes data not None, *, bint is_head=False):
    cdef tux_response *response = <tux_response *> calloc(1, sizeof(tux_response))
    cdef bytes out = PyBytes_FromStringAndSize(NULL, len(data))
    cdef size_t length
    if response is NULL:
        raise MemoryError
    try:
        if _scan_response(data, 0, is_head, response) != TUX_DONE:
            raise ValueError("not the whole head of a response")
        length = tux_forward_response(<const uint8_t *> PyBytes_AS_STRING(data), response,
                                      <uint8_t *> PyBytes_AS_STRING(out))
        return out[:length]
    finally:
        free(response)


def forward_trailers(bytes section not None):
    cdef bytes out = PyBytes_FromStringAndSize(NULL, len(section))
    cdef size_t length = tux_forward_trailers(<const uint8_t *> PyBytes_AS_STRING(section), len(section),
                                              <uint8_t *> PyBytes_AS_STRING(out))
    return out[:length]


cdef int _set_upstream_option(tux_upstream_config *config, str name, value) except -1:
    if name == "balance":
        balances = {"round-robin": TUX_BALANCE_ROUND_ROBIN, "least-connections": TUX_BALANCE_LEAST_CONNECTIONS}
        if value not in balances:
            raise ValueError(f"balance: one of {', '.join(balances)} expected, got {value!r}")
        config.balance = balances[value]
    elif name == "underscores":
        config.underscores = value
    elif name == "upgrade":
        config.upgrade = value
    elif name == "forwarded":
        config.forwarded = value
    elif name == "proxy_protocol":
        config.proxy_protocol = value
    elif name == "accel":
        config.accel = value
    elif name == "sendfile_root":
        config.sendfile_root = value
    elif name == "keepalive":
        config.keepalive = value
    elif name == "connections":
        config.connections = value
    elif name == "queue":
        config.queue = value
    elif name == "retries":
        config.retries = value
    elif name == "max_fails":
        config.max_fails = value
    elif name == "fail_timeout_ms":
        config.fail_timeout_ms = value
    elif name == "keepalive_timeout_ms":
        config.keepalive_timeout_ms = value
    elif name == "queue_timeout_ms":
        config.queue_timeout_ms = value
    elif name == "connect_timeout_ms":
        config.connect_timeout_ms = value
    elif name == "send_timeout_ms":
        config.send_timeout_ms = value
    elif name == "first_byte_timeout_ms":
        config.first_byte_timeout_ms = value
    elif name == "idle_timeout_ms":
        config.idle_timeout_ms = value
    else:
        raise TypeError(f"unknown option of an upstream: {name!r}")
    return 0


cdef int _add_upstream(tux_engine *engine, list servers, dict options) except -1:
    cdef tux_upstream_config config
    cdef tux_upstream_server *array
    cdef int index
    tux_upstream_defaults(&config)
    host = options.pop("host", "keep")
    kept = [b"" if host == "server" else host.encode("ascii")]  # their memory must outlive the call
    if host != "keep":
        config.host = PyBytes_AS_STRING(kept[0])
    for name, value in options.items():
        _set_upstream_option(&config, name, value)
    array = <tux_upstream_server *> calloc(len(servers) + 1, sizeof(tux_upstream_server))
    if array is NULL:
        raise MemoryError
    try:
        for i, (address, name, weight) in enumerate(servers):
            kept += [address.encode(), name.encode("ascii")]
            if b"\0" in kept[len(kept) - 2] or not tux_upstream_address(PyBytes_AS_STRING(kept[len(kept) - 2]), &array[i]):
                raise ValueError(f"not the address of a server: {address!r}")
            array[i].name = PyBytes_AS_STRING(kept[len(kept) - 1])
            array[i].weight = weight
        config.servers = array
        config.n_servers = <uint32_t> len(servers)
        index = tux_engine_upstream(engine, &config)
    finally:
        free(array)
    if index == -_errno.EINVAL:
        raise ValueError(f"upstream out of bounds: {len(servers)} servers, {options}")
    if index < 0:
        raise OSError(-index, os.strerror(-index))
    return index


cdef tuple _upstream_failures(tux_engine *engine, uint32_t group, uint32_t server):
    cdef uint64_t counts[TUX_UPFAIL_COUNT]
    cdef int error = tux_upstream_failures(engine, group, server, counts)
    return {tux_upstream_failure_names[i].decode("ascii"): counts[i] for i in range(TUX_UPFAIL_COUNT)}, error
