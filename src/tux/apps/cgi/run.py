"""One script at work: what flows between it and its client, and how it ends.

COLLECTING -> WAITING -> HEAD -> BODY -> OVER
   COLLECTING: the request's body has no length, and is collected: scripts are told the length
   WAITING:    as many scripts run as may
   HEAD:       it runs, and has not written a complete head
   BODY:       the head is complete; the response is on its way
   OVER:       the exchange is. The script may go on, without an audience
"""

from __future__ import annotations

import enum
import errno
import os
import select
import signal
import tempfile
from collections import deque
from typing import IO, TYPE_CHECKING, Final

from tux._cgi import Child
from tux.apps.cgi.environ import Script
from tux.apps.cgi.errors import Lines
from tux.apps.cgi.head import Head, HeadError, Parser
from tux.apps.port import Request
from tux.apps.refusal import refuse

if TYPE_CHECKING:
    from tux.apps.cgi.server import Server

READ_BYTES: Final = 65536
"""What a pipe holds: read at once."""
PIPE_BYTES: Final = 65536
"""A body of so many bytes is in the pipe before the script is started."""
EXIT_SECONDS: Final = 0.2
"""How long the end of a response without length waits for the end of its script: one that was killed in the middle of
it must not look like one that was complete. Most end within a millisecond; some close their output and go on."""
LINGER_SECONDS: Final = 1.0
"""How long after the end of a script its output may stay open and silent: a child that it left behind has it, and may
have something to say, or, mostly, has forgotten to close it."""
HALF_CLOSED_SECONDS: Final = 5.0
"""How long a script may be silent when its client has ended its side of the connection. Such a client may still read
(RFC 9112 section 9.6), but nearly all of them are gone, which shows only when something is sent to them."""
ERROR_READS: Final = 16
"""Of standard error, when a script has ended: what is left there."""


class Phase(enum.Enum):
    """See the table above."""

    COLLECTING = enum.auto()
    WAITING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    OVER = enum.auto()


class Run:
    """A request, and the script that is run for it."""

    def __init__(self, server: Server, request: Request, script: Script, label: str, redirects: int = 0) -> None:
        self.server = server
        self.request = request
        self.key = request.key
        self.script = script
        self.label = label
        self.redirects = redirects
        """Local redirects that led here."""
        self.phase = Phase.WAITING
        self.since = 0.0
        """When it began to wait, or was started."""
        self.active = 0.0
        """When something was last read or written, or its client ended its side."""
        self.half_closed = False
        """It has: most likely nobody waits for the response."""
        self.child: Child | None = None
        """The script, until it is reaped."""
        self.pidfd = self.input = self.output = self.errors = -1
        self.pending: deque[bytes] = deque()
        """Of the request's body, not yet written to the script."""
        self.complete = request.complete
        """Nothing follows `pending`."""
        self.length = request.length
        """Of the request's body; -1: there is none."""
        self.collected: IO[bytes] | None = None
        self.head: Head | None = None
        self.held: list[bytes] = []
        """Bytes of the response that wait for its head to be sent."""
        self.unsent = True
        """The head was not given to the port."""
        self.left = -1
        """Of the announced body."""
        self.sent = 0
        self.starved = False
        """The client is slow: nothing is read from the script."""
        self.silent = False
        """Output is read, and dropped."""
        self.killed = False
        self.crashed = False
        self.kill_at: float | None = None
        self.end_at: float | None = None
        """All output was read. When the response ends, if the script does not end first."""
        if request.body:
            self.pending.append(request.body)
        if self.length < 0 and self.complete and request.body:
            self.length = len(request.body)

    def begin(self) -> None:
        """Wait for the body, for a place, or for nothing."""
        if self.length >= 0 or self.complete:
            self.server.submit(self)
            return
        self.phase = Phase.COLLECTING
        self._collect()

    # -- the request's body --------------------------------------------------------------------------------------------

    def on_body(self, data: bytes, *, end: bool) -> None:
        """More of it has come."""
        self.complete = self.complete or end
        if self.phase is Phase.OVER or (self.child is not None and self.input < 0):
            self.server.port.credit(self.key, len(data))  # nobody wants it
            return
        if data:
            self.pending.append(data)
        if self.phase is Phase.COLLECTING:
            self._collect()
        elif self.input >= 0:
            self._write()

    def _collect(self) -> None:
        try:
            if self.collected is None:
                self.collected = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (it lives as long as the run)
            while self.pending:
                data = self.pending.popleft()
                self.collected.write(data)
                self.server.port.credit(self.key, len(data))
            size = self.collected.tell()
        except OSError as error:
            self.complain(f"the body of its request cannot be kept: {error.strerror}")
            self.refuse(503)
            return
        if size > self.server.options.spool_bytes:
            self.refuse(413)
        elif self.complete:
            self.collected.seek(0)
            self.length = size
            self.phase = Phase.WAITING
            self.server.submit(self)

    def _write(self) -> None:
        while self.pending:
            data = self.pending[0]
            try:
                n = os.write(self.input, data)
            except BlockingIOError:
                self.server.watch(self.input, select.EPOLLOUT, self._on_input)
                return
            except OSError:  # the script reads no more
                self._close_input()
                return
            self.active = self.server.now
            self.server.port.credit(self.key, n)
            if n < len(data):
                self.pending[0] = data[n:]
            else:
                self.pending.popleft()
        if self.complete:
            self._close_input()
        else:
            self.server.watch(self.input, 0, self._on_input)  # told when the script reads no more

    def _on_input(self, mask: int) -> None:
        if mask & (select.EPOLLERR | select.EPOLLHUP):
            self._close_input()
        else:
            self._write()

    def _close_input(self) -> None:
        for data in self.pending:
            self.server.port.credit(self.key, len(data))
        self.pending.clear()
        self.input = self.server.close(self.input)

    # -- the start -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the script."""
        server, script = self.server, self.script
        variables = server.environments.make(self.request, script, self.length, self.label)
        given = -1
        try:
            given = self._ready_input()
            source = server.null if self.length <= 0 else given
            child = Child(script.path, script.folder, variables, source, server.limits)
        except OSError as error:
            self._not_started(error)
            return
        finally:
            if given >= 0:
                os.close(given)
            if self.collected is not None:
                self.collected.close()
        self.child = child
        self.pidfd, self.input, self.output, self.errors = child.pidfd, child.input, child.output, child.errors
        server.running += 1
        self.phase = Phase.HEAD
        self.since = self.active = server.now
        self.parser = Parser(nph=script.nph, known=server.heads)
        self.lines = Lines(server.log, self.label, script.name)
        server.watch(self.output, select.EPOLLIN, self._on_output)
        server.watch(self.errors, select.EPOLLIN, self._on_errors)
        if self.input >= 0:
            self._write()

    def _ready_input(self) -> int:
        """A descriptor from which the script can read the whole body; -1: it will be written to it bit by bit."""
        if self.collected is not None:
            return os.dup(self.collected.fileno())
        if self.length <= 0 or not self.complete or sum(map(len, self.pending)) > PIPE_BYTES:
            return -1
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            while self.pending:
                data = self.pending.popleft()
                os.write(writer, data)
                self.server.port.credit(self.key, len(data))
        finally:
            os.close(writer)
        return reader

    def _not_started(self, error: OSError) -> None:
        reason = f"cannot be started: {error.strerror}"
        if error.errno in {errno.EACCES, errno.EPERM}:
            self.fail(403, reason)
        elif error.errno == errno.ENOEXEC:
            self.fail(502, f"{reason}; is it a script without a first line like #!/bin/sh?")
        elif error.errno == errno.ENOENT:
            self.fail(502, f"{reason}; does the program in its first line exist?")
        else:
            self.fail(503, reason)

    # -- the response --------------------------------------------------------------------------------------------------

    def _on_output(self, mask: int) -> None:
        while self.output >= 0:  # ends: at the end of the output, or when there is none for now
            room = READ_BYTES
            if self.phase is Phase.BODY and not self.unsent:
                room = min(room, self.server.port.window(self.key))
                if room <= 0:
                    self.starved = True
                    self.server.watch(self.output, None, self._on_output)
                    return
            try:
                data = os.read(self.output, room)
            except BlockingIOError:
                return
            self.active = self.server.now
            if not data:
                self._on_output_end()
            elif self.silent:
                self._count(len(data))
            elif self.phase is Phase.HEAD:
                self._on_head(data)
            elif self.phase is Phase.BODY:
                self._on_data(data)
            else:
                self.complain("wrote more than it had announced")
                self._close_output()
            if not mask & select.EPOLLHUP:
                return

    def on_credit(self) -> None:
        """The client has taken something."""
        if self.starved and self.server.port.window(self.key) > 0:
            self.starved = False
            self.active = self.server.now
            self.server.watch(self.output, select.EPOLLIN, self._on_output)

    def _on_head(self, data: bytes) -> None:
        try:
            head = self.parser.feed(data)
        except HeadError as error:
            self.fail(502, f"{error}")
            return
        if head is None:
            return
        if head.local:
            self.silent = True
            self.phase = Phase.OVER
            self.server.redirect(self, head.local)
            return
        self.head = head
        self.left = head.length
        self.phase = Phase.BODY
        rest = self.parser.rest
        if self.request.method == "HEAD" or head.status in {204, 304}:
            self.silent = self.request.method == "HEAD"
            self._answer(b"", end=True)
            if rest and not self.silent:
                self.complain(f"wrote a body, which a response with status {head.status} cannot have")
                self._close_output()
            return
        if rest or self.left == 0:
            self._on_data(rest)
        if self.unsent and self.phase is Phase.BODY:
            self.server.fresh.append(self)

    def _on_data(self, data: bytes) -> None:
        """Bytes of the body."""
        if not self._count(len(data)):
            return
        assert self.head is not None
        if data and not self.head.typed:
            self.fail(502, "wrote a body without Content-Type")
            return
        surplus = b""
        if self.left >= 0:
            data, surplus = data[: self.left], data[self.left :]
            self.left -= len(data)
        end = self.left == 0
        if self.unsent:
            self.held.append(data)
            if end or self.sent > READ_BYTES:
                self._answer(b"".join(self.held), end=end)
        else:
            self.server.port.data(self.key, data, end)
            if end:
                self._over()
        if surplus:
            self.complain("wrote more than its Content-Length")
            self._close_output()

    def _count(self, n: int) -> bool:
        """False: that is too much."""
        self.sent += n
        most = self.server.options.output_bytes
        if most and self.sent > most:
            self.fail(502, f"wrote more than output_bytes, which is {most}")
            return False
        return True

    def answer_now(self) -> None:
        """It has not ended at once: send what there is."""
        assert self.head is not None
        if self.unsent and self.phase is Phase.BODY and (self.held or self.head.typed):
            self._answer(b"".join(self.held), end=False)

    def _answer(self, body: bytes, *, end: bool) -> None:
        """The head, and the body so far."""
        assert self.head is not None
        self.unsent = False
        self.held.clear()
        head = self.head
        try:
            self.server.port.answer(self.key, head.status, head.fields, length=head.length, body=body, end=end)
        except ValueError as error:  # a field that cannot be
            self.unsent = True
            self.fail(502, str(error))
            return
        if end:
            self._over()

    def _on_output_end(self) -> None:
        """All that it wrote was read."""
        error = 0 if self.child is None else self.child.error
        self._close_output()
        if self.phase is Phase.HEAD and error:
            self._not_started(OSError(error, os.strerror(error)))
        elif self.phase is Phase.HEAD:
            self.fail(502, str(self.parser.end()))
        elif self.phase is Phase.BODY and self.left > 0:
            self.fail(502, f"wrote {self.left} bytes less than its Content-Length")
        elif self.phase is Phase.BODY:
            self.end_at = self.server.now + EXIT_SECONDS
            if self.child is None:
                self.end_response()

    def end_response(self) -> None:
        """The end of a response without Content-Length."""
        self.end_at = None
        if self.phase is not Phase.BODY:
            return
        if self.crashed:
            self.fail(502, "its response is not complete")
        elif self.unsent:
            self._answer(b"".join(self.held), end=True)
        else:
            self.server.port.data(self.key, b"", True)  # noqa: FBT003
            self._over()

    def _over(self) -> None:
        """The exchange is."""
        self.phase = Phase.OVER
        self.starved = False
        if self.input >= 0:
            self._close_input()
        if self.collected is not None:
            self.collected.close()
        self.server.forget(self)

    # -- what goes wrong -----------------------------------------------------------------------------------------------

    def refuse(self, status: int) -> None:
        """Answer with an error of ours, without a word in the log."""
        if self.phase is not Phase.OVER:
            refuse(self.server.port, self.key, status)
            self._over()

    def fail(self, status: int, reason: str) -> None:
        """The script is at fault: it is killed, its client gets this status, or is cut off in the middle."""
        self.complain(reason)
        self._give_up(status)

    def _give_up(self, status: int) -> None:
        if self.unsent:
            self.refuse(status)
        elif self.phase is not Phase.OVER:
            self.server.port.abort(self.key)
            self._over()
        self.kill()

    def complain(self, text: str) -> None:
        """A line in the error log."""
        self.server.log.say(self.label, self.script.name, text)

    def on_half_closed(self) -> None:
        """The client sends nothing any more."""
        self.half_closed = True
        self.active = self.server.now

    def on_gone(self) -> None:
        """The client is, and the exchange with it."""
        if self.phase is not Phase.OVER:
            self._over()
            self.kill()

    def kill(self) -> None:
        """End it, and its group: nobody waits for it any more."""
        self._close_output()
        if self.input >= 0:
            self._close_input()
        if self.child is not None and not self.killed:
            self.killed = True
            grace = self.server.options.kill_grace
            self.child.signal(signal.SIGTERM if grace else signal.SIGKILL)
            self.kill_at = self.server.now + grace if grace else None
            self.check_exit()

    def kill_hard(self) -> None:
        """End it, without a chance to tidy up."""
        if self.child is not None:
            self.child.signal(signal.SIGKILL)

    def tick(self, now: float) -> None:
        """Look at its deadlines."""
        options = self.server.options
        if self.kill_at is not None and now >= self.kill_at:
            self.kill_at = None
            self.kill_hard()
        if self.starved:
            self.active = now  # its client is slow, which is the engine's business
        if self.end_at is not None and now >= self.end_at:
            self.end_response()
        if self.child is not None and not self.killed:
            if now - self.since > options.timeout:
                self.fail(504, f"ran for longer than timeout, which is {options.timeout:g} s, and is killed")
            elif self.phase is Phase.HEAD and now - self.active > options.head_timeout:
                self.fail(504, f"wrote no head within head_timeout, which is {options.head_timeout:g} s, and is killed")
            elif self.phase is Phase.BODY and self.output >= 0 and now - self.active > options.idle_timeout:
                limit = options.idle_timeout
                self.fail(504, f"wrote nothing for longer than idle_timeout, which is {limit:g} s, and is killed")
            elif self.half_closed and self.phase is not Phase.OVER and now - self.active > HALF_CLOSED_SECONDS:
                self._give_up(504)
            elif self.output >= 0:
                self.check_exit(watch=False)
        elif self.child is None and self.output >= 0 and not self.starved and now - self.active > LINGER_SECONDS:
            self._on_output_end()  # something that it left behind has its output

    # -- the end -------------------------------------------------------------------------------------------------------

    def _on_errors(self, _mask: int) -> None:
        try:
            data = os.read(self.errors, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self.lines.feed(data)
        else:
            self.errors = self.server.close(self.errors)

    def check_exit(self, *, watch: bool = True) -> None:
        """Has it ended? If not, and `watch` is set, it is told when it does."""
        assert self.child is not None
        status = self.child.ended()
        if status is not None:
            self._on_exit(os.waitstatus_to_exitcode(status))
        elif watch:
            self.server.watch(self.pidfd, select.EPOLLIN, self._on_pidfd)

    def _on_pidfd(self, _mask: int) -> None:
        self.check_exit()

    def _on_exit(self, code: int) -> None:
        self.child = None
        self.server.running -= 1
        self.kill_at = None
        self.pidfd = self.server.close(self.pidfd)
        for _ in range(ERROR_READS):
            if self.errors < 0:
                break
            before = self.errors
            try:
                data = os.read(before, READ_BYTES)
            except BlockingIOError:
                break  # a child of it has it, and is not heard any more
            if not data:
                break
            self.lines.feed(data)
        self.lines.end()
        self.errors = self.server.close(self.errors)
        if code < 0 and not self.killed:
            self.crashed = True
            self.complain(f"was killed by {_signal_name(-code)}")
        if self.output < 0:
            if self.end_at is not None:
                self.end_response()
            self.server.ended(self)
        else:
            self.active = self.server.now
            self._on_output(select.EPOLLHUP)

    def _close_output(self) -> None:
        if self.output < 0:
            return
        self.starved = False
        self.output = self.server.close(self.output)
        if self.child is not None:
            self.check_exit()
        else:
            self.server.ended(self)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
