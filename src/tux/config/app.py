"""Applications: `[app.NAME]`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Struct, field

from tux.config.doc import MAX_SECONDS, Doc

AppInterface: TypeAlias = Literal["auto", "wsgi", "asgi"]
Lifespan: TypeAlias = Literal["auto", "on", "off"]


class App(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    dir: Annotated[
        str, Doc("Folder that modules are looked for in first, and the current folder of its processes.", min_length=1)
    ] = "."
    factory: Annotated[bool, Doc("ATTRIBUTE is a function without arguments that returns the application.")] = False
    interface: Annotated[AppInterface, Doc("`auto` finds out which of the two it is.")] = "auto"
    workers: Annotated[
        int | Literal["auto"],
        Doc("Number of its processes; `auto` is one for each CPU that Tux may use.", ge=1, le=1024),
    ] = 1
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
    env: Annotated[dict[str, str], Doc("Environment variables of its processes, beside the server's own.")] = field(
        default_factory=dict
    )
    accel: Annotated[
        bool,
        Doc(
            """Honour `X-Accel-Redirect: PATH` in its answers: the file at PATH of the same site is sent in place of the
            body, as if it had been asked for. The field never reaches a client, in either case."""
        ),
    ] = True
    sendfile_root: Annotated[
        str | None,
        Doc(
            """Honour `X-Sendfile: /PATH` in its answers: that file is sent, if it lies in this folder. Not set: it is
            not. The field never reaches a client, in either case.""",
            min_length=1,
        ),
    ] = None
    queue: Annotated[
        int,
        Doc(
            "Requests per server worker that wait while no process is ready; over it the answer is 503.", ge=0, le=10**6
        ),
    ] = 1024
    queue_timeout: Annotated[
        float,
        Doc("How long such a request waits before the answer is 503.", ge=0.001, le=MAX_SECONDS, unit="seconds"),
    ] = 30.0
    max_requests: Annotated[int, Doc("Replace a process after so many requests; 0: never.", ge=0, le=10**12)] = 0
    max_requests_jitter: Annotated[
        int,
        Doc("Add a random number up to this to `max_requests`, so that not all are replaced at once.", ge=0, le=10**12),
    ] = 0
    max_memory: Annotated[
        int, Doc("Replace a process that uses more resident memory than this; 0: never.", ge=0, le=2**50, unit="bytes")
    ] = 0
    stall_timeout: Annotated[
        float,
        Doc(
            """Kill and replace a process that has taken no request for so long while requests wait for it: one that is
            dead-locked. 0: never.""",
            ge=0,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 0.0
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
