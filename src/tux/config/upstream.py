"""Servers that requests are forwarded to: `[upstream.NAME]`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Struct

from tux.config.accel import Accel, SendfileRoot
from tux.config.doc import MAX_SECONDS, Doc

Balance: TypeAlias = Literal["round-robin", "least-connections"]


class Upstream(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Servers that requests are forwarded to, `[upstream.NAME]`. Sites and routes name it with `forward = "NAME"`;
    `forward = "http://127.0.0.1:8081"` there needs no table."""

    servers: Annotated[
        tuple[str, ...],
        Doc("`http://HOST:PORT` or `unix:/path`, one or several. Names are resolved at the start.", min_length=1),
    ]
    weights: Annotated[
        tuple[int, ...],
        Doc("How many requests each of `servers` gets in relation to the others. Empty: all the same."),
    ] = ()
    balance: Annotated[
        Balance,
        Doc("`round-robin`: in turn. `least-connections`: the one that is working on the fewest requests."),
    ] = "round-robin"
    host: Annotated[
        str,
        Doc(
            "Value of `Host`: `keep` is what the client sent, `server` is HOST:PORT of the server, all else is sent.",
            min_length=1,
        ),
    ] = "keep"
    underscores: Annotated[
        bool,
        Doc(
            """Pass on fields with an underscore in their names. Many applications cannot tell `X_User` from `X-User`,
            so without it they are dropped.""",
        ),
    ] = False
    upgrade: Annotated[
        bool,
        Doc("Pass on requests to switch to another protocol (WebSocket); without it they are ordinary requests."),
    ] = True
    forwarded: Annotated[
        bool,
        Doc(
            """Tell the servers about the client in `Forwarded` (RFC 7239), too. `X-Forwarded-For`, `X-Forwarded-Proto`
            and `X-Forwarded-Host` are always sent."""
        ),
    ] = False
    proxy_protocol: Annotated[
        int,
        Doc(
            """Begin each connection to the servers with a PROXY protocol header of this version, 1 or 2, which says who
            the client is. Such a connection serves one request, as if `keepalive` were 0. 0: none.""",
            ge=0,
            le=2,
        ),
    ] = 0
    accel: Accel = True
    sendfile_root: SendfileRoot = None
    keepalive: Annotated[
        int, Doc("Idle connections that each worker keeps open to each server; 0: none.", ge=0, le=50_000)
    ] = 64
    keepalive_timeout: Annotated[
        float,
        Doc(
            "How long an idle connection is kept. Shorter than the time-out of the servers themselves.",
            ge=0.001,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 4.0
    connections: Annotated[
        int, Doc("Connections per worker and server that are in use at a time; 0: no bound.", ge=0, le=50_000)
    ] = 0
    queue: Annotated[
        int, Doc("Requests per worker that wait for such a connection; over it the answer is 503.", ge=0, le=10**6)
    ] = 1024
    queue_timeout: Annotated[
        float, Doc("How long such a request waits before the answer is 503.", ge=0.001, le=MAX_SECONDS, unit="seconds")
    ] = 30.0
    connect_timeout: Annotated[
        float, Doc("For a new connection; over it another server is tried.", ge=0.001, le=MAX_SECONDS, unit="seconds")
    ] = 5.0
    send_timeout: Annotated[
        float,
        Doc(
            "How long sending a request may stand still; over it the answer is 504.",
            ge=0.001,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 60.0
    first_byte_timeout: Annotated[
        float,
        Doc(
            "From the end of a request to the begin of its answer; over it the answer is 504.",
            ge=0.001,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 60.0
    idle_timeout: Annotated[
        float,
        Doc(
            "How long an answer that has begun may stand still; over it the connection is cut.",
            ge=0.001,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 60.0
    retries: Annotated[
        int,
        Doc(
            """How many other servers are tried when one does not answer. Only requests that may be repeated (GET, HEAD,
            OPTIONS, PUT, DELETE; no body sent yet), and only before the first byte of an answer.""",
            ge=0,
            le=10,
        ),
    ] = 1
    max_fails: Annotated[
        int,
        Doc(
            "Failures within `fail_timeout` after which a server is left out for `fail_timeout`; 0: never.",
            ge=0,
            le=1000,
        ),
    ] = 1
    health_path: Annotated[
        str | None,
        Doc(
            """Check the servers: each worker asks each of them for this path (`/health`) at the start and from time to
            time. One that does not answer as it should gets no requests until a check succeeds; when all are out, the
            answer is 503. Not set: no checks.""",
            min_length=1,
        ),
    ] = None
    health_interval: Annotated[
        float, Doc("From one check of a server to the next.", ge=0.01, le=MAX_SECONDS, unit="seconds")
    ] = 5.0
    health_timeout: Annotated[
        float, Doc("For a check; over it the server does not work.", ge=0.001, le=MAX_SECONDS, unit="seconds")
    ] = 2.0
    health_status: Annotated[
        tuple[int, ...],
        Doc("Statuses of a check's answer that mean that the server works. Empty: 200 to 399."),
    ] = ()
    fail_timeout: Annotated[float, Doc("See `max_fails`.", ge=0.001, le=MAX_SECONDS, unit="seconds")] = 10.0
