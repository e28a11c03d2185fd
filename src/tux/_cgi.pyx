# SPDX-License-Identifier: MIT
# cython: language_level=3
"""The binding to script.h. Its types and documentation are in _cgi.pyi."""

import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from posix.signal cimport kill
from posix.types cimport pid_t


cdef extern from "script.h" nogil:
    enum:
        TUX_MAX_SCRIPT_LIMITS
    struct tux_birth:
        pass
    struct tux_script_limit:
        int resource
        uint64_t most
    struct tux_script:
        const char *path
        const char *folder
        const char *variables
        size_t variables_len
        int input
        const tux_script_limit *limits
        unsigned n_limits
    struct tux_child:
        pid_t pid
        int pidfd
        int input
        int output
        int errors
        tux_birth *birth
    int tux_script_start(const tux_script *script, tux_child *child)
    int tux_child_error(const tux_child *child)
    bint tux_child_ended(tux_child *child, int *status)
    int tux_script_adopt_orphans()


cdef const char *_text(bytes text) except NULL:
    if b"\0" in text:
        raise ValueError(f"{text!r} cannot be a path")
    return PyBytes_AS_STRING(text)


@cython.final
cdef class Child:
    cdef tux_child child
    cdef bint started, reaped

    def __init__(self, bytes path not None, bytes folder not None, bytes variables not None, int input_fd, limits):
        cdef tux_script script
        cdef tux_script_limit table[8]
        cdef unsigned n = 0
        cdef int result
        if self.started:
            raise RuntimeError("a child is started once")
        if len(limits) > TUX_MAX_SCRIPT_LIMITS:
            raise ValueError("too many limits")
        for resource, most in limits:
            table[n].resource = resource
            table[n].most = most
            n += 1
        script.path = _text(path)
        script.folder = _text(folder)
        script.variables = PyBytes_AS_STRING(variables)
        script.variables_len = PyBytes_GET_SIZE(variables)
        script.input = input_fd
        script.limits = table
        script.n_limits = n
        with nogil:
            result = tux_script_start(&script, &self.child)
        if result < 0:
            raise OSError(-result, os.strerror(-result), os.fsdecode(path))
        self.started = True

    @property
    def pid(self):
        return self.child.pid

    @property
    def pidfd(self):
        return self.child.pidfd

    @property
    def input(self):
        return self.child.input

    @property
    def output(self):
        return self.child.output

    @property
    def errors(self):
        return self.child.errors

    @property
    def error(self):
        return tux_child_error(&self.child)

    def signal(self, int number):
        if not self.started or self.reaped:
            return
        # Just started, it has no group of its own yet.
        if kill(-self.child.pid, number) < 0:
            kill(self.child.pid, number)

    def ended(self):
        cdef int status = 0
        if not self.started or self.reaped:
            raise RuntimeError("there is no such child any more")
        if not tux_child_ended(&self.child, &status):
            return None
        self.reaped = True
        return status


def adopt_orphans():
    cdef int result = tux_script_adopt_orphans()
    if result < 0:
        raise OSError(-result, os.strerror(-result))
