"""`[site.tux]`: which files are served, in the words of the original."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Struct

from tux.config.doc import Doc
from tux.errors import Problem

MAX_MODE = 0o7777
"""Permission bits of a file, with set-user-ID, set-group-ID and sticky."""


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which files of a site are served, as TUX decided it: by their extension and their permission bits. What is not
    set decides nothing."""

    redirect: Annotated[
        tuple[str, ...],
        Doc(
            """Extensions (`"php"`) of files that are never served: what the site tries next gets the request, as
            `TUX/redirect` and `TUX/module` of tux.mime.types had it; 404 when there is nothing."""
        ),
    ] = ()
    cgi: Annotated[
        tuple[str, ...],
        Doc(
            """Extensions (`"cgi"`) of files that are never served, but run where they lie (`TUX/CGI`): they need an
            executable bit. `[cgi]` has the bounds."""
        ),
    ] = ()
    mode_allowed: Annotated[
        int, Doc("A file needs one of these permission bits (`0o004`: others may read it); 0: none.", ge=0, le=MAX_MODE)
    ] = 0
    mode_forbidden: Annotated[
        int, Doc("A file with one of these permission bits (`0o1111`: sticky, executable) is 403.", ge=0, le=MAX_MODE)
    ] = 0
    refused_next: Annotated[
        bool, Doc("What would be 403 goes to what the site tries next; it is 403 when there is nothing.")
    ] = False


def problems(policy: Policy, place: tuple[str | int, ...]) -> Iterator[Problem]:
    """What is wrong with the values."""
    for key, extensions in (("redirect", policy.redirect), ("cgi", policy.cgi)):
        for i, extension in enumerate(extensions):
            if not extension or "." in extension or "/" in extension:
                yield Problem((*place, key, i), f'expected an extension without its dot, got "{extension}"')
            elif key == "cgi" and extension in policy.redirect:
                yield Problem((*place, key, i), f'"{extension}" is in redirect, too')
