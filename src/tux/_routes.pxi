# SPDX-License-Identifier: MIT
# What _engine.pyx has of the route table.

# The names of the configuration; the values are those of enum tux_origin.
_ORIGINS = {"static": 0, "module": 1, "app": 1, "forward": 2}


cdef class RouteTable:
    cdef tux_routes *table

    def __cinit__(self):
        self.table = tux_routes_new()
        if self.table is NULL:
            raise MemoryError

    def __dealloc__(self):
        tux_routes_free(self.table)

    def add_site(self, hosts):
        cdef int site = -1, result
        for host in hosts:
            name = host.encode("latin-1")
            if site < 0:
                site = result = tux_routes_add_site(self.table, name, len(name))
            else:
                result = tux_routes_alias(self.table, site, name, len(name))
            if result < 0:
                if result == -_errno.EEXIST:
                    raise ValueError(f"host {host!r} is taken by another site")
                raise ValueError(f"host {host!r}: {os.strerror(-result)}")
        if site < 0:
            raise ValueError("a site needs at least one host")
        return site

    def add_route(self, int site, bytes prefix, uint32_t route, chain=(), *, int64_t root=-1, uint32_t mount_len=0,
                  uint32_t pages=0):
        cdef tux_chain steps
        memset(&steps, 0, sizeof(steps))
        steps.root = TUX_NO_ROUTE if root < 0 else <uint32_t> root
        steps.mount_len = mount_len
        steps.pages = pages
        if len(chain) > TUX_MAX_STEPS:
            raise ValueError(f"a chain has at most {TUX_MAX_STEPS} steps")
        for origin, number in chain or (("static", 0),):
            steps.steps[steps.n_steps].origin = _ORIGINS[origin]
            steps.steps[steps.n_steps].number = number
            steps.n_steps += 1
        cdef int result = tux_routes_add_route(self.table, site, prefix, len(prefix), route,
                                               &steps)
        if result < 0:
            raise ValueError(f"route {prefix!r}: {os.strerror(-result)}")

    def set_pages(self, int site, uint32_t pages):
        if tux_routes_set_pages(self.table, site, pages) < 0:
            raise ValueError(f"there is no site {site}")

    def pages(self, str host):
        cdef bytes name = host.encode("latin-1")
        return tux_routes_pages(self.table, <const uint8_t *> PyBytes_AS_STRING(name), len(name))

    def match(self, str host, bytes path):
        cdef bytes name = host.encode("latin-1")
        cdef const tux_chain *chain
        cdef uint32_t route = tux_routes_match(
            self.table, <const uint8_t *> PyBytes_AS_STRING(name), len(name),
            <const uint8_t *> PyBytes_AS_STRING(path), len(path), &chain
        )
        return -1 if route == TUX_NO_ROUTE else route
