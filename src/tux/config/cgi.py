"""CGI: `[cgi]`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct, field

from tux.config.doc import MAX_SECONDS, Doc


class Cgi(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the scripts of all routes with `cgi = "FOLDER"` are run. The bounds are for each script, unless they say
    otherwise."""

    workers: Annotated[
        int | Literal["auto"],
        Doc(
            "Number of processes that start scripts; `auto` is one for every two CPUs that Tux may use, at most 4.",
            ge=1,
            le=64,
        ),
    ] = "auto"
    running: Annotated[
        int, Doc("Scripts that run at the same time, all together; further requests wait.", ge=1, le=4096)
    ] = 64
    queue: Annotated[
        int, Doc("Requests that wait for others to end, all together; over it the answer is 503.", ge=0, le=10**6)
    ] = 256
    queue_timeout: Annotated[
        float,
        Doc("How long such a request waits before the answer is 503.", ge=0.001, le=MAX_SECONDS, unit="seconds"),
    ] = 30.0
    head_timeout: Annotated[
        float,
        Doc(
            "From the start of a script to the end of its response's head; over it the answer is 504.",
            ge=0.001,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 60.0
    idle_timeout: Annotated[
        float,
        Doc(
            """How long a script may write nothing in the middle of its response, although the client takes it; over it
            the connection is cut.""",
            ge=0.001,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 60.0
    timeout: Annotated[
        float,
        Doc("How long a script may run, whatever it does.", ge=0.001, le=MAX_SECONDS, unit="seconds"),
    ] = 3600.0
    kill_grace: Annotated[
        float,
        Doc(
            """A script that is to end gets SIGTERM, with its whole process group, and SIGKILL when it is still there
            after this time.""",
            ge=0,
            le=MAX_SECONDS,
            unit="seconds",
        ),
    ] = 2.0
    output_bytes: Annotated[
        int,
        Doc("The largest response body; over it the connection is cut. 0: no bound.", ge=0, le=2**50, unit="bytes"),
    ] = 1024 * 1024 * 1024
    spool_bytes: Annotated[
        int,
        Doc(
            """The largest request body of unknown length (chunked). Scripts are told the length of what they get, so
            it is collected in a temporary file before the script is started; over it the answer is 413.""",
            ge=0,
            le=2**50,
            unit="bytes",
        ),
    ] = 64 * 1024 * 1024
    cpu_seconds: Annotated[int, Doc("Processor time (RLIMIT_CPU); 0: no bound.", ge=0, le=10**9, unit="seconds")] = 0
    memory: Annotated[
        int,
        Doc("Address space of a process (RLIMIT_AS); 0: no bound.", ge=0, le=2**50, unit="bytes"),
    ] = 0
    open_files: Annotated[int, Doc("Open files of a process (RLIMIT_NOFILE).", ge=16, le=10**6)] = 1024
    file_bytes: Annotated[
        int,
        Doc("The largest file that it may write (RLIMIT_FSIZE); 0: no bound.", ge=0, le=2**50, unit="bytes"),
    ] = 0
    processes: Annotated[
        int,
        Doc("Processes of the user that scripts run as, all together (RLIMIT_NPROC); 0: no bound.", ge=0, le=10**6),
    ] = 0
    authorization: Annotated[
        bool,
        Doc("Tell scripts the field `Authorization` of the request, as `HTTP_AUTHORIZATION`: for those that check it."),
    ] = False
    env: Annotated[
        dict[str, str],
        Doc(
            """Environment variables of scripts, beside those of CGI and `PATH`, which is `/usr/local/bin:/usr/bin:/bin`
            unless it is set here. They get none of the server's own."""
        ),
    ] = field(default_factory=dict)
    accel: Annotated[
        bool,
        Doc("Honour `X-Accel-Redirect: PATH` in responses of scripts, as for applications."),
    ] = True
    sendfile_root: Annotated[
        str | None,
        Doc("Honour `X-Sendfile: /PATH` in responses of scripts, as for applications.", min_length=1),
    ] = None
