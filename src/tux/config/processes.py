"""Processes that requests are handed to: what `[app.NAME]` and `[module.NAME]` have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct, field

from tux.config.accel import Accel, SendfileRoot
from tux.config.doc import MAX_SECONDS, Doc


class Processes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of processes with the same code in them."""

    dir: Annotated[
        str, Doc("Folder that modules are looked for in first, and the current folder of its processes.", min_length=1)
    ] = "."
    workers: Annotated[
        int | Literal["auto"],
        Doc("Number of its processes; `auto` is one for each CPU that Tux may use.", ge=1, le=1024),
    ] = 1
    env: Annotated[dict[str, str], Doc("Environment variables of its processes, beside the server's own.")] = field(
        default_factory=dict
    )
    accel: Accel = True
    sendfile_root: SendfileRoot = None
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
