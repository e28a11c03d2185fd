"""The threads that work on requests, and how they share the port.

Whoever has nothing to do takes events from the port. The one that gets a request works on it, and comes back. Nothing
is handed from thread to thread: while requests take less than a moment, one thread does all of it, and another looks
now and then whether it came back (LOOK_SECONDS). One that did not is slow, or waits for something: its place is taken.
Where requests are slow as a rule (SLOW_SECONDS), somebody is called before one is begun. A thread that waits for a
body, or for the client to read, takes events itself, so that one thread is enough.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from tux.apps.options import AppOptions
from tux.apps.port import BODY, DRAIN, GONE, REQUEST, Event, Port, Request
from tux.apps.wsgi.environ import Environs
from tux.apps.wsgi.exchange import Application, Exchange

LOOK_SECONDS = 0.005
"""Between two looks at a thread that works: a request that comes meanwhile waits for at most two of them. 200 looks in
a second cost less than half a percent of a processor."""
SLOW_SECONDS = 0.001
"""Where requests take longer on average, they are worth the price of waking another thread first, some 20 us."""
MOST_SECONDS = 2 * SLOW_SECONDS
"""What counts at most of one request: a fast one takes long when its thread has to wait for the processor."""
WEIGHT = 0.1
"""Of the latest request in the average: seven fast ones after a slow one, and they are taken to be fast."""
FLUSH_SECONDS = 0.0002
"""How long an answer may stay unnoticed by an engine that sleeps, while the next request is worked on: waking it costs
both of us some us. As always, the thread that looks ends it when that request is slow."""
FAILED = 1
"""Exit code of a process whose threads failed: a bug of ours."""

logger = logging.getLogger("tux.app")


def serve(port: Port, application: Application, options: AppOptions, ready: Callable[[], None] = lambda: None) -> None:
    """Answer what comes by the port, with `options.threads` threads, this one among them; `ready` is called before.
    Returns when the port has said DRAIN and all requests are answered."""
    pool = Pool(port, application, options)
    ready()
    pool.serve()


class Pool:
    """The threads of a process."""

    def __init__(self, port: Port, application: Application, options: AppOptions) -> None:
        self.port = port
        self.lock = threading.Lock()
        """For the port and for all that is written here."""
        self.name = options.name
        self.environs = Environs(options, sys.stderr)
        self._application = application
        self._threads = options.threads
        self._exchanges: dict[int, Exchange] = {}
        self._pending: deque[Exchange] = deque()
        """Requests that were taken by threads which had to wait for something else."""
        self._blocked: dict[Exchange, threading.Condition] = {}
        """Exchanges whose threads wait for an event that another thread will take."""
        self._draining = False
        self._waiting = False
        """A thread waits in the port."""
        self._idle = threading.Condition(self.lock)
        """Of threads that have nothing to do, while another waits in the port or will soon."""
        self._idlers = 0
        self._looker = threading.Condition(self.lock)
        """Of one more such thread, which looks now and then whether that is so."""
        self._looking = False
        """There is one."""
        self._looker_sleeps = False
        """It does not look until it is called."""
        self._soon: Exchange | None = None
        """Whose thread is expected back in a moment; nobody else takes events."""
        self._turns = 0
        """Counts requests."""
        self._unflushed = False
        """There is an answer that the engine has not been woken for ..."""
        self._flush_due = 0.0
        """... which it is when a request is begun after this time."""
        self._begin = 0.0
        """When the latest request was begun."""
        self._average = 0.0
        """Seconds that requests take, the latest count most."""

    def serve(self) -> None:
        """See `serve` above."""
        others = [
            threading.Thread(target=self._work_or_die, name=f"tux-app-{number}", daemon=True)
            for number in range(1, self._threads)
        ]
        for thread in others:
            thread.start()
        self._work()
        for thread in others:
            thread.join()

    def _work_or_die(self) -> None:
        try:
            self._work()
        except BaseException:
            # What it held is unknown. The supervisor starts another process.
            logger.exception("%s: a thread failed; this process ends", self.name)
            os._exit(FAILED)

    def _work(self) -> None:
        lock = self.lock
        lock.acquire()
        try:
            while True:
                exchange = self._next()
                if exchange is None:
                    self.flush()
                    return
                if self._threads == 1:
                    lock.release()
                    exchange.run(self._application)
                    lock.acquire()
                else:
                    self._run_beside_others(exchange)
                del self._exchanges[exchange.key]
        finally:
            lock.release()

    def _run_beside_others(self, exchange: Exchange) -> None:
        """With the lock, which is released meanwhile."""
        self._turns += 1
        if self._average > SLOW_SECONDS or self._blocked:
            self._pass_on()
        elif not self._waiting:
            self._soon = exchange
            if self._looker_sleeps:
                self._looker.notify()
            elif not self._looking:
                self._idle.notify()
        begin = self._begin = time.monotonic()
        if self._unflushed and (begin > self._flush_due or not self._is_looked_after()):
            self.flush()
        self.lock.release()
        exchange.run(self._application)
        took = time.monotonic() - begin
        self.lock.acquire()
        self._average += (min(took, MOST_SECONDS) - self._average) * WEIGHT
        if self._soon is exchange:
            self._soon = None

    def _next(self) -> Exchange | None:
        """The next request; None: there will be none. With the lock, which is released while nothing happens."""
        while True:
            while self._pending:
                exchange = self._pending.popleft()
                if not exchange.gone:
                    return exchange
                del self._exchanges[exchange.key]
            if self._waiting or self._soon is not None:
                if self._draining:
                    return None
                self._be_idle()
                continue
            event = self.port.take()
            if event is not None:
                if event[0] == REQUEST:
                    return self._new(event)
                self._note(event)
            elif self._draining and self.port.open <= len(self._exchanges):  # nothing is kept back in the port
                self._pass_on()
                return None
            else:
                self._wait_in_port()

    def _new(self, event: Event) -> Exchange:
        request: Request = event[2]
        exchange = Exchange(self, request)
        self._exchanges[request.key] = exchange
        return exchange

    def _note(self, event: Event) -> None:
        """Anything but a request."""
        kind, key, payload = event
        if kind == DRAIN:
            self._draining = True
            self._idle.notify_all()
            self._looker.notify_all()
            return
        exchange = self._exchanges.get(key)
        if exchange is None:
            return  # has ended
        if kind == BODY:
            data, end = payload
            if data:
                exchange.chunks.append(data)
            exchange.complete = end
        elif kind == GONE:
            exchange.half_closed = True
            exchange.gone = exchange.gone or bool(payload)
        exchange.news = True
        bell = self._blocked.get(exchange)
        if bell is not None:
            bell.notify()

    def flush(self) -> None:
        """Wake the engines that have something to read. With the lock."""
        self._unflushed = False
        self.port.flush()

    def flush_soon(self, exchange: Exchange) -> None:
        """The same, when the answer of `exchange` was the last for now, or a moment has passed. With the lock."""
        if self._soon is not exchange or not self._is_looked_after():
            self.flush()
        elif not self._unflushed:
            self._unflushed = True
            self._flush_due = self._begin + FLUSH_SECONDS

    def _is_looked_after(self) -> bool:
        """Somebody will notice within LOOK_SECONDS that a thread does not come back."""
        return self._looking and not self._looker_sleeps

    # Who waits where. All of these are called with the lock, and may release it meanwhile.

    def wait_for(self, exchange: Exchange) -> None:
        """Called by a thread at work, when it has to: returns after an event for its exchange."""
        if self._soon is exchange:
            self._soon = None
        self.flush()  # what it has written: another thread may be the one that waits in the port
        exchange.news = False
        while not exchange.news:
            if self._waiting:
                bell = self._blocked[exchange] = threading.Condition(self.lock)
                bell.wait()
                del self._blocked[exchange]
                continue
            event = self.port.take()
            if event is None:
                self._wait_in_port()
            elif event[0] == REQUEST:
                self._pending.append(self._new(event))
                self._call_another()
            else:
                self._note(event)
        self._pass_on()

    def _wait_in_port(self) -> None:
        self.flush()
        self._waiting = True
        self.lock.release()
        try:
            self.port.wait(-1)
        finally:
            self.lock.acquire()
            self._waiting = False

    def _be_idle(self) -> None:
        if self._unflushed:
            self.flush()
        if self._looking:
            self._idlers += 1
            self._idle.wait()
            self._idlers -= 1
            return
        self._looking = True
        turns, soon = self._turns, self._soon
        self._looker.wait(LOOK_SECONDS)
        if self._turns != turns:
            pass  # busy
        elif soon is not None and self._soon is soon:
            self._soon = None  # it takes long: its place is free
            self._average = MOST_SECONDS
        elif self._waiting and not self._pending and not self._draining:
            self._looker_sleeps = True
            self._looker.wait()
            self._looker_sleeps = False
        self._looking = False

    def _call_another(self) -> None:
        """Make a thread that has nothing to do look for something."""
        if self._idlers:
            self._idle.notify()
        else:
            self._looker.notify()

    def _pass_on(self) -> None:
        """This thread will take no events for a while."""
        if self._waiting:
            return
        if self._idlers or self._looking:
            self._call_another()
        elif self._blocked:
            next(iter(self._blocked.values())).notify()
