"""Requests and answers as tests write and read them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tux._engine import RANGE, SIGNIFICANT_BY_DEFAULT, Roots
from tux.http.target import decode_path
from tux.planner.errors import Errors
from tux.planner.plan import Plan
from tux.planner.rules import StaticRule
from tux.planner.static import StaticPlanner
from tux.planner.view import View

NOW_S = 1_800_000_000
"""The time at which tests run: Fri, 15 Jan 2027 08:00:00 GMT."""
NOW_NS = NOW_S * 1_000_000_000

_PLAIN_RANGE = re.compile(r"bytes=(\d{1,18}-(\d{1,18})?|-\d{1,18})")


@dataclass
class Ask:
    """A request, with the engine's view of it derived from its target and fields."""

    method: str = "GET"
    target: str = "/"
    fields: dict[str, str] = field(default_factory=dict)
    minor: int = 1
    host: str = "example.org"
    listener: int = 0
    has_body: bool = False
    expect_other: bool = False
    peer: str = "192.0.2.1"
    id: int = 1
    root: int | None = None

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str | None:
        _, mark, query = self.target.partition("?")
        return query if mark else None

    @property
    def signed(self) -> bool:
        return not self.has_body and not self.expect_other

    @property
    def plain_range(self) -> bool:
        match = _PLAIN_RANGE.fullmatch(self.fields.get("range", ""))
        if match is None:
            return False
        first, _, last = match[1].partition("-")
        return not first or not last or int(first) <= int(last)


class Answer:
    """A plan, its head taken apart."""

    def __init__(self, plan: Plan, view: View) -> None:
        self.plan, self.view = plan, view
        self.status = plan.status
        self.flags = plan.flags
        status_line, *lines = plan.head.decode("latin-1").split("\r\n")
        assert lines.pop() == "", "a CRLF after each line, and no blank line"
        assert status_line.startswith(f"HTTP/1.1 {plan.status} ")
        pairs = [line.split(": ", 1) for line in lines]
        self.fields = {name.lower(): value for name, value in pairs}
        assert len(self.fields) == len(pairs), f"a field is there twice: {lines}"
        assert {"date", "connection"}.isdisjoint(self.fields), "these are the engine's"

    @property
    def body(self) -> bytes:
        """What the engine would send as the body (of a template: the whole representation)."""
        file = self.plan.file
        if file is None:
            return self.plan.body
        with open(file.fd, "rb", closefd=False) as opened:
            opened.seek(self.plan.offset)
            return opened.read(self.plan.length)

    def check_framing(self, method: str) -> None:
        """What must be true of every answer."""
        length = self.fields.get("content-length")
        if self.flags & RANGE:
            assert {"content-length", "content-range"}.isdisjoint(self.fields)
        elif self.status in (204, 304):
            assert length is None
            assert self.body == b""
        elif method == "HEAD":
            assert length is not None
            assert self.body == b""
            assert self.plan.file is None
        else:
            assert length == str(len(self.body))


class World:
    """A root in a temporary folder, and one rule for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now_ns = NOW_NS
        self.roots = Roots([bytes(root)])
        self.serve()

    def serve(self, *, own: frozenset[tuple[int, int]] = frozenset(), small: int = 65536, **rule: Any) -> None:
        """Use this rule from now on."""
        made = StaticRule(root=0, **rule)
        errors = Errors(made.errors.pages, made.errors.headers, roots=self.roots, own=own)
        self.static = StaticPlanner(made, self.roots, own=own, errors=errors, small_body_bytes=small)

    def view(self, ask: Ask) -> View:
        return View(ask, SIGNIFICANT_BY_DEFAULT, lambda: self.now_ns)

    def ask(self, target: str = "/", method: str = "GET", /, **fields: str) -> Answer:
        """The answer to a request; keywords are fields, with "_" for "-"."""
        return self.answer(Ask(method, target, {name.replace("_", "-"): value for name, value in fields.items()}))

    def answer(self, ask: Ask) -> Answer:
        view = self.view(ask)
        answer = Answer(self.static.plan(view, decode_path(ask.path), example=True), view)
        answer.check_framing(ask.method)
        return answer
