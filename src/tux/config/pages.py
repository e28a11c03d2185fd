"""Files that stand for what is not there: `error_page` and `spa`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from tux.config import hosts
from tux.config.site import Site
from tux.errors import Problem, shown
from tux.planner.rules import ErrorPage

Place = tuple[str | int, ...]

STATUSES = frozenset((400, 403, 404, 405, 408, 412, 413, 414, 416, 417, 431, 500, 501, 502, 503, 504, 505))
"""Those that Tux itself answers with."""


def problems(pages: Mapping[str, str], root: str | None, place: Place) -> Iterator[Problem]:
    """What is wrong with the pages of a site or route, whose folder `root` is."""
    if pages and root is None:
        yield Problem((*place, "error_page"), 'needs "root": the folder that the pages are in')
    for status, path in pages.items():
        inner: Place = (*place, "error_page", status)
        if not (status.isascii() and status.isdigit() and int(status[:4]) in STATUSES and len(status) == 3):
            yield Problem(inner, f"expected one of {', '.join(map(str, sorted(STATUSES)))}")
        elif not is_file(path):
            yield Problem(inner, f"expected the path of a file below the root, got {shown(path)}")


def spa_problems(spa: str | None, steps: Sequence[str], site: Site, place: Place) -> Iterator[Problem]:
    """What is wrong with the page of an application in the browser, in a site or a route of it that tries these."""
    if not spa:
        return
    if not is_file(spa):
        yield Problem((*place, "spa"), f"expected the path of a file below the root, got {shown(spa)}")
    if steps[-1:] != ("static",):
        yield Problem((*place, "spa"), "nothing would be tried behind it: files must come last, see try")
    elif site.tux.cgi:
        yield Problem((*place, "spa"), "the programs of tux.cgi are tried behind it; use a route with cgi for them")


def is_file(path: str) -> bool:
    """Whether this can be a file below a root."""
    return bool(path.strip("/")) and not path.endswith("/") and not {".", ".."} & set(path.split("/"))


def compiled(
    pages: Mapping[str, str], root: str | None, site: Site, root_index: Callable[[str], int]
) -> tuple[ErrorPage, ...]:
    """The rules of a site or of a route in it, with pages below `root`."""
    if root is None or not pages:
        return ()
    where = hosts.compiled(root, site, root_index)
    return tuple(
        ErrorPage(int(status), where.number, path.strip("/").encode("utf-8", "surrogateescape"), where.hosts)
        for status, path in pages.items()
    )


def of_site(site: Site, root_index: Callable[[str], int]) -> tuple[ErrorPage, ...]:
    """The pages of a site."""
    return compiled(site.error_page, site.root, site, root_index)
