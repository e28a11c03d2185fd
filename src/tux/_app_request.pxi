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
    cdef readonly bytes head
    cdef readonly object client, server
    cdef readonly bytes body
    cdef readonly bint complete
    cdef readonly int64_t length
    cdef readonly bint upgrade
    cdef readonly uint32_t listener
    cdef bytes lines  # the header lines, as struct tux_app_field
    cdef tux_span host  # of the target, in absolute-form
    cdef bint absolute
    cdef list made

    @property
    def headers(self):
        # Made when it is asked for: not every handler looks at them.
        if self.made is None:
            self.made = _headers(self)
        return self.made

    def __repr__(self):
        return f"<Request {self.key:#x} {self.method} {self.target!r}>"


@cython.final
cdef class Object:
    cdef readonly int status
    cdef readonly uint64_t size
    cdef readonly bytes media_type, etag
    cdef readonly int64_t modified
    cdef readonly int fd

    def __repr__(self):
        return f"<Object {self.status}, {self.size} bytes, {self.media_type!r}>"


cdef inline str _method(const uint8_t *name, uint32_t length):
    if length == 3 and memcmp(name, b"GET", 3) == 0:
        return _GET
    if length == 4 and memcmp(name, b"POST", 4) == 0:
        return _POST
    return PyUnicode_DecodeLatin1(<const char *> name, length, NULL)


cdef list _headers(Request request):
    cdef const tux_app_field *lines = <const tux_app_field *> PyBytes_AS_STRING(request.lines)
    cdef const tux_app_field *field
    cdef const uint8_t *head = <const uint8_t *> PyBytes_AS_STRING(request.head)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(request.lines) // <Py_ssize_t> sizeof(tux_app_field)
    cdef list headers = []
    cdef bytes name
    cdef Py_ssize_t i
    if request.absolute:
        headers.append((_HOST, _bytes(head, request.host.off, request.host.len)))
    for i in range(n):
        field = &lines[i]
        if field.id:
            if request.absolute and field.id == TUX_FIELD_HOST:
                continue  # RFC 9112 section 3.2.2: the target's counts
            name = <bytes> _names[field.id]
        else:
            name = _lower(head + field.name, field.name_len)
        headers.append((name, _bytes(head, field.value, field.value_len)))
    return headers
