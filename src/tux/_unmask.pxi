# SPDX-License-Identifier: MIT
# Part of _app.pyx: what WebSockets need of C.


def unmask(bytes key not None, bytes payload not None):
    cdef Py_ssize_t length = PyBytes_GET_SIZE(payload), i = 0
    cdef bytes plain
    cdef const uint8_t *masked = <const uint8_t *> PyBytes_AS_STRING(payload)
    cdef const uint8_t *mask = <const uint8_t *> PyBytes_AS_STRING(key)
    cdef uint8_t *out
    cdef uint64_t word, wide
    if PyBytes_GET_SIZE(key) != 4:
        raise ValueError(f"a key has 4 bytes, not {len(key)}")
    plain = PyBytes_FromStringAndSize(NULL, length)
    out = <uint8_t *> PyBytes_AS_STRING(plain)
    memcpy(&wide, mask, 4)
    memcpy(<uint8_t *> &wide + 4, mask, 4)
    while i + 8 <= length:
        memcpy(&word, masked + i, 8)
        word ^= wide
        memcpy(out + i, &word, 8)
        i += 8
    while i < length:
        out[i] = masked[i] ^ mask[i & 3]
        i += 1
    return plain
