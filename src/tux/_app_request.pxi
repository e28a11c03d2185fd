# SPDX-License-Identifier: MIT
# What _app.pyx has of requests: a part of that file, which would be too long with it.


@cython.final
@cython.freelist(64)
cdef class Request:
    cdef readonly uint64_t key
    cdef readonly str method
    cdef readonly bytes target, path, query
    cdef readonly int minor
    cdef readonly str scheme
    cdef readonly list headers
    cdef readonly bytes mount
    cdef readonly object client, server
    cdef readonly bytes body
    cdef readonly bint complete
    cdef readonly int64_t length
    cdef readonly bint upgrade
    cdef readonly uint32_t listener

    def __repr__(self):
        return f"<Request {self.key:#x} {self.method} {self.target!r}>"


cdef inline str _method(const uint8_t *name, uint32_t length):
    if length == 3 and memcmp(name, b"GET", 3) == 0:
        return _GET
    if length == 4 and memcmp(name, b"POST", 4) == 0:
        return _POST
    return PyUnicode_DecodeLatin1(<const char *> name, length, NULL)


cdef list _headers(const tux_app_request_view *view):
    cdef const tux_app_field *field
    cdef bint absolute = (view.request.record.flags & TUX_APP_ABSOLUTE) != 0
    cdef list headers = []
    cdef bytes name
    cdef uint32_t i
    if absolute:
        headers.append((_HOST, _bytes(view.head, view.request.host.off, view.request.host.len)))
    for i in range(view.request.n_fields):
        field = &view.fields[i]
        if field.id:
            if absolute and field.id == TUX_FIELD_HOST:
                continue  # RFC 9112 section 3.2.2: the target's counts
            name = <bytes> _names[field.id]
        else:
            name = _lower(view.head + field.name, field.name_len)
        headers.append((name, _bytes(view.head, field.value, field.value_len)))
    return headers
