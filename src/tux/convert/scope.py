"""What a block of an nginx.conf hands on to those within it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from tux.convert.directives import Directive


@dataclass(slots=True)
class Scope:
    """What an http, server or location block hands on to those within."""

    root: str | None = None
    index: list[str] | None = None
    upstream: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, Any] = field(default_factory=dict)
    expires: str | None = None
    cache: str | None = None
    """Of add_header."""
    precompressed: bool | None = None
    listing: bool | None = None
    compress: bool | None = None
    charset: str | None = None
    types: dict[str, str] | None = None
    error_page: dict[str, str] = field(default_factory=dict)
    said: list[Directive] = field(default_factory=list)
    """Directives of this very block that are about files: named, if it turns out that there are none."""

    def inner(self) -> Scope:
        return replace(
            self,
            upstream=dict(self.upstream),
            headers=dict(self.headers),
            error_page=dict(self.error_page),
            said=[],
        )

    @property
    def cache_control(self) -> str | None:
        """nginx sends a field for each of the two, which together mean this."""
        if self.cache is None or self.expires is None or "max-age" in self.cache or self.expires == "no-cache":
            return self.cache or self.expires
        return f"{self.cache}, {self.expires}"

    @property
    def adds(self) -> bool:
        """Whether it adds fields to answers, to those of servers behind, too, when it is nginx."""
        return bool(self.headers) or self.cache_control is not None


_OF_FILES: Final = (
    "cache_control",
    "headers",
    "index",
    "precompressed",
    "listing",
    "compress",
    "clean_urls",
    "charset",
    "types",
)


def to_routes(site: dict[str, Any], scope: Scope, routes: list[dict[str, Any]]) -> None:
    """The site has no files: what is said about them belongs to those routes that do."""
    said = {key: site.pop(key) for key in _OF_FILES if key in site}
    values = {
        "index": scope.index,
        "precompressed": scope.precompressed,
        "listing": scope.listing,
        "compress": scope.compress,
        "charset": scope.charset,
        "types": scope.types or None,
        **said,
    }
    for route in routes:
        if "root" in route:
            for key, value in values.items():
                if value is not None:
                    route.setdefault(key, value)
