"""What blocks of an nginx.conf are about, as far as that takes a look at all that is in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tux.convert.directives import Directive

PASSES: Final = frozenset(("fastcgi_pass", "grpc_pass", "memcached_pass", "scgi_pass", "uwsgi_pass"))
"""What answers in place of files, and is not supported: then the files, which may be programs, are not sent either."""
RESTRICTS: Final = frozenset(("auth_basic", "auth_jwt", "auth_request", "secure_link"))
"""What lets not everybody in, and is not supported: then nobody is let in."""
_QUIET: Final = ("access_log", "error_log", "log_not_found")
"""What says nothing about answers."""
_ROBOTS: Final[Mapping[tuple[str, ...], str]] = {
    ("user-agent: *", "disallow: /"): "deny",
    ("user-agent: *", "disallow:"): "allow",
}


def names_of(server: Directive) -> set[str]:
    return {name for directive in server.block if directive.name == "server_name" for name in directive.args}


def has_tls(server: Directive) -> bool:
    return any(one.name == "listen" and ({"ssl", "quic"} & {*one.args} or one.args[0] == "443") for one in server.block)


def leads_to_https(server: Directive) -> bool:
    """Whether all that a server does is leading to HTTPS, as certbot writes it, too."""
    inner = [one for d in server.block for one in (d.block if d.name in ("if", "location") else (d,))]
    said = [one for one in inner if one.name not in (*_QUIET, "listen", "server_name", "server_tokens")]
    leads = [one for one in said if one.name in ("return", "rewrite") and "https://" in " ".join(one.args[:2])]
    return bool(leads) and all(one in leads or one.text == "return 404" for one in said)


def restricts(directive: Directive) -> bool:
    """Whether it lets not everybody in."""
    return refuses(directive) or (directive.name in RESTRICTS and directive.args != ("off",))


def answers(directive: Directive) -> bool:
    """Whether it answers in place of files."""
    return directive.name in (*PASSES, "proxy_pass", "return", "rewrite") and not refuses(directive)


def spelled(suffixes: str) -> list[str]:
    """The names in `css|jpe?g`, each once."""
    names = []
    for name in suffixes.split("|"):
        at = name.find("?")
        names += [name] if at < 1 else [name[: at - 1] + name[at + 1 :], name.replace("?", "", 1)]
    return [name for name in dict.fromkeys(names) if name and "?" not in name]


def robots_policy(location: Directive) -> str | None:
    """What the text for robots says, when it says one thing about all."""
    said = [one for one in location.block if one.name not in (*_QUIET, "default_type", "add_header")]
    if len(said) != 1 or (said[0].name, *said[0].args[:1]) != ("return", "200") or len(said[0].args) != 2:
        return None
    lines = [line.strip().lower() for line in said[0].args[1].replace("\\n", "\n").split("\n") if line.strip()]
    return _ROBOTS.get(tuple(lines))


def refuses(directive: Directive) -> bool:
    """Whether every request is answered with 403."""
    return (directive.name, *directive.args) in (("return", "403"), ("deny", "all"))


def is_proxied(location: Directive) -> bool:
    """Whether all requests of a server that no other location takes go to a server behind: no file is looked for."""
    names = {directive.name for directive in location.block}
    return location.args == ("/",) and "proxy_pass" in names and "try_files" not in names


def all_of(directive: Directive) -> Iterator[Directive]:
    """The directive, and all within it."""
    yield directive
    for inner in directive.block:
        yield from all_of(inner)
