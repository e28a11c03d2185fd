"""What tux(2) takes and returns, and which of its 23 actions may be called when: an enum of states and one table.

Numbers and names are those of TUX 3.0. This file knows which calls are allowed, and nothing of how they are done.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

TUX_MAJOR_VERSION: Final = 3
TUX_MINOR_VERSION: Final = 0
TUX_PATCHLEVEL_VERSION: Final = 0


class Action(enum.IntEnum):
    """The first argument of tux()."""

    STARTUP = 1
    SHUTDOWN = 2
    STARTTHREAD = 3
    STOPTHREAD = 4
    EVENTLOOP = 5
    GET_OBJECT = 6
    SEND_OBJECT = 7
    READ_OBJECT = 8
    FINISH_REQ = 9
    FINISH_CLOSE_REQ = 10
    REGISTER_MODULE = 11
    UNREGISTER_MODULE = 12
    CURRENT_DATE = 13
    REGISTER_MIMETYPE = 14
    READ_HEADERS = 15
    POSTPONE_REQ = 16
    CONTINUE_REQ = 17
    REDIRECT_REQ = 18
    READ_POST_DATA = 19
    SEND_BUFFER = 20
    WATCH_PROXY_SOCKET = 21
    WAIT_PROXY_SOCKET = 22
    QUERY_VERSION = 23


class State(enum.Enum):
    """Where a call comes from: what the caller has in its hands. The values are how the error log says it."""

    OUTSIDE = "without a request"
    """No thread that serves: at import, in TUXAPI_init(), in a helper process."""
    IDLE = "without a current request"
    """A thread of a program, between two requests."""
    CURRENT = "for a request that is not answered yet"
    """The module has it, and nothing of the answer is sent."""
    SENDING = "for a request whose answer has begun"
    """The module has it, and has sent some of the answer."""
    ANSWERED = "for a request whose answer is complete"
    """The module has it, and there is nothing left but to finish."""
    WAITING = "for a request that waits for its next event"
    """An action was called that enters the event loop: the request comes back with the next event."""
    POSTPONED = "for a request that is postponed"
    """Until CONTINUE_REQ."""
    GONE = "for a request whose client is gone"
    """The module has it, and it is over: nothing that is done with it has an effect."""
    OVER = "for a request that is over"
    """Finished, redirected or dropped."""


NOWHERE: Final[frozenset[State]] = frozenset()
EVERYWHERE: Final = frozenset(State)
OPEN: Final = frozenset((State.CURRENT, State.SENDING, State.GONE))
"""Something may yet be sent."""
HELD: Final = OPEN | {State.ANSWERED}
"""The module has the request."""


class Rule(NamedTuple):
    """When an action is allowed, and what the caller has after it."""

    allowed: frozenset[State]
    then: State | None = None
    """None: what it had before."""


RULES: Final[dict[Action, Rule]] = {
    # The server is started and stopped by others: see call.py for what these return.
    Action.STARTUP: Rule(NOWHERE),
    Action.SHUTDOWN: Rule(NOWHERE),
    Action.STARTTHREAD: Rule(frozenset((State.IDLE,))),
    Action.STOPTHREAD: Rule(HELD | {State.IDLE, State.POSTPONED}, State.OUTSIDE),
    # What enters the event loop.
    Action.EVENTLOOP: Rule(HELD | {State.IDLE, State.POSTPONED}, State.OVER),
    Action.GET_OBJECT: Rule(OPEN, State.WAITING),
    Action.SEND_OBJECT: Rule(OPEN, State.WAITING),
    Action.SEND_BUFFER: Rule(OPEN, State.WAITING),
    Action.WAIT_PROXY_SOCKET: Rule(HELD, State.WAITING),
    Action.FINISH_REQ: Rule(HELD, State.OVER),
    Action.FINISH_CLOSE_REQ: Rule(HELD, State.OVER),
    Action.REDIRECT_REQ: Rule(frozenset((State.CURRENT, State.GONE)), State.OVER),
    # What returns at once.
    Action.READ_OBJECT: Rule(HELD),
    Action.READ_HEADERS: Rule(HELD),
    Action.READ_POST_DATA: Rule(HELD),
    Action.WATCH_PROXY_SOCKET: Rule(HELD),
    Action.POSTPONE_REQ: Rule(HELD, State.POSTPONED),
    # What needs no request.
    Action.CONTINUE_REQ: Rule(EVERYWHERE),
    Action.REGISTER_MODULE: Rule(frozenset((State.OUTSIDE,))),
    Action.UNREGISTER_MODULE: Rule(frozenset((State.OUTSIDE,))),
    Action.REGISTER_MIMETYPE: Rule(EVERYWHERE),
    Action.CURRENT_DATE: Rule(EVERYWHERE),
    Action.QUERY_VERSION: Rule(EVERYWHERE),
}
"""One line for each action."""

MOVES: Final = frozenset(
    action for action, rule in RULES.items() if rule.then in {State.WAITING, State.OVER} or action is Action.STOPTHREAD
)
"""Those that enter the event loop, or leave it: the request's next step is the server's."""


TUX_ERROR: Final = -1
TUX_RETURN_USERSPACE_REQUEST: Final = 0
TUX_RETURN_EXIT: Final = 1
TUX_RETURN_SIGNAL: Final = 2
TUX_CONTINUE_EVENTLOOP: Final = 3

HTTP_1_0: Final = 0
HTTP_1_1: Final = 1

METHOD_NONE: Final = 0
METHOD_GET: Final = 1
METHOD_HEAD: Final = 2
METHOD_POST: Final = 3
METHOD_PUT: Final = 4

METHODS: Final = {"GET": METHOD_GET, "HEAD": METHOD_HEAD, "POST": METHOD_POST, "PUT": METHOD_PUT}
