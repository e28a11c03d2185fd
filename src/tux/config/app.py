"""Applications: `[app.NAME]`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from tux.config.doc import MAX_SECONDS, Doc
from tux.config.processes import Processes

AppInterface: TypeAlias = Literal["auto", "wsgi", "asgi"]
Lifespan: TypeAlias = Literal["auto", "on", "off"]


class App(Processes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A WSGI or ASGI application, `[app.NAME]`, which runs in processes of its own. Sites and routes name it with
    `app = "NAME"`; `app = "MODULE:ATTRIBUTE"` there needs no table."""

    module: Annotated[
        str,
        Doc(
            """Where the application is: `MODULE:ATTRIBUTE`, as in `shop.wsgi:application`. Without `:ATTRIBUTE`,
            `application` and `app` are tried.""",
            min_length=1,
        ),
    ]
    factory: Annotated[bool, Doc("ATTRIBUTE is a function without arguments that returns the application.")] = False
    interface: Annotated[AppInterface, Doc("`auto` finds out which of the two it is.")] = "auto"
    threads: Annotated[
        int, Doc("WSGI: requests that a process works on at the same time, each in a thread.", ge=1, le=1024)
    ] = 4
    root_path: Annotated[
        str,
        Doc(
            """Where clients see the application, when something in front takes off a prefix: `/shop`. SCRIPT_NAME of
            WSGI and `root_path` of ASGI begin with it."""
        ),
    ] = ""
    lifespan: Annotated[
        Lifespan,
        Doc("ASGI: whether the application is told of start and end; `auto`: unless it does not know of that."),
    ] = "auto"
    ws_max_size: Annotated[int, Doc("ASGI: largest message of a WebSocket.", ge=1, le=2**31, unit="bytes")] = (
        16 * 1024 * 1024
    )
    ws_ping_interval: Annotated[
        float,
        Doc("ASGI: time between the pings of a WebSocket; 0: none.", ge=0, le=MAX_SECONDS, unit="seconds"),
    ] = 20.0
    ws_ping_timeout: Annotated[
        float,
        Doc(
            "ASGI: a WebSocket whose ping was not answered for so long is closed.",
            ge=0.001,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 20.0
    ws_compression: Annotated[bool, Doc("ASGI: offer `permessage-deflate` to WebSocket clients.")] = True
