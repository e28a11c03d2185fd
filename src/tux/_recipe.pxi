# SPDX-License-Identifier: MIT
# What _engine.pyx has of recipes, and the validators that the engine writes by them.


_SCOPES = ("all", "below", "beside")  # enum tux_recipe_scope


cdef class Recipe:
    cdef tux_wire_recipe say
    cdef readonly object absent

    def __init__(self, uint32_t head_len, *, uint32_t root, uint32_t mount_len, absent, bint sides, uint32_t mode_allowed,
                 uint32_t mode_forbidden, uint32_t small_bytes, scope="all"):
        self.absent = frozenset(absent)
        memset(&self.say, 0, sizeof(self.say))
        for name in self.absent:
            if name not in FIELD_NAMES or not name:
                raise ValueError(f"field {name!r} cannot be told by the engine")
            self.say.absent |= <uint32_t> 1 << FIELD_NAMES.index(name)
        self.say.head_len = head_len
        self.say.root = root
        self.say.mount_len = mount_len
        self.say.sides = sides
        self.say.mode_allowed = mode_allowed
        self.say.mode_forbidden = mode_forbidden
        self.say.small_bytes = small_bytes
        self.say.scope = _SCOPES.index(scope)

    @property
    def head_len(self):
        return self.say.head_len

    @property
    def root(self):
        return self.say.root

    @property
    def sides(self):
        return self.say.sides != 0

    @property
    def scope(self):
        return _SCOPES[self.say.scope]

    def __repr__(self):
        return f"<Recipe scope={self.scope} head_len={self.say.head_len} root={self.say.root} sides={self.say.sides}>"


def is_hashed(bytes path not None):
    return tux_recipe_is_hashed(PyBytes_AS_STRING(path), len(path))


def http_date(int64_t seconds):
    cdef char out[TUX_HTTP_DATE_BYTES]
    tux_http_date(seconds, out)
    return out[:TUX_HTTP_DATE_BYTES].decode("ascii")


def content_tag(bytes body not None):
    cdef char out[TUX_CONTENT_TAG_BYTES]
    tux_content_tag(PyBytes_AS_STRING(body), len(body), out)
    return out[:TUX_CONTENT_TAG_BYTES].decode("ascii")


def state_tag(uint64_t size, int64_t mtime_ns):
    cdef char out[TUX_MAX_STATE_TAG_BYTES]
    cdef size_t length = tux_state_tag(size, mtime_ns, out)
    return out[:length].decode("ascii")
