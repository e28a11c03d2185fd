"""How whoever is behind names files in place of a body: the keys that applications, modules and upstreams share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from tux.config.doc import Doc

Accel: TypeAlias = Annotated[
    bool,
    Doc(
        """Honour `X-Accel-Redirect: PATH` in its answers: the file at PATH of the same site is sent in place of the
        body, as if it had been asked for. The field never reaches a client, in either case."""
    ),
]
SendfileRoot: TypeAlias = Annotated[
    str | None,
    Doc(
        """Honour `X-Sendfile: /PATH` in its answers: that file is sent, if it lies in this folder. Not set: it is not.
        The field never reaches a client, in either case.""",
        min_length=1,
    ),
]
