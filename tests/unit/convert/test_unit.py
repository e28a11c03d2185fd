"""NGINX Unit's JSON -> tux.toml."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tux.convert import unit
from tux.convert.result import Result
from tux.errors import StartError


def converted(folder: Path, config: Any) -> Result:
    file = folder / "unit.json"
    file.write_text(json.dumps(config))
    result = unit.convert(str(file))
    assert [problem for problem in result.problems(str(folder)) if "no site" not in problem] == []
    return result


def routes(folder: Path, *steps: Any, **more: Any) -> tuple[list[Any], list[str]]:
    """The sites that these steps become, and what of them does not."""
    config = {"listeners": {"*:80": {"pass": "routes"}}, "routes": list(steps), **more}
    result = converted(folder, config)
    return tomllib.loads(result.toml()).get("site", []), [str(n) for n in result.notes if n.kind == "lost"]


def test_a_whole_configuration(tmp_path: Path) -> None:
    result = converted(
        tmp_path,
        {
            "listeners": {
                "*:8080": {"pass": "routes", "forwarded": {"source": ["10.0.0.0/8"], "client_ip": "X-Forwarded-For"}}
            },
            "routes": [
                {"match": {"uri": "/static/*"}, "action": {"share": "/srv/shop$uri"}},
                {"match": {"uri": "/api/*"}, "action": {"pass": "upstreams/api"}},
                {"match": {"host": ["a.example", "*.b.example"]}, "action": {"proxy": "http://127.0.0.1:9000"}},
                {
                    "action": {
                        "share": "/srv/public$uri",
                        "index": "start.html",
                        "response_headers": {"Cache-Control": "max-age=60", "X-A": "b"},
                        "fallback": {"pass": "applications/shop"},
                    }
                },
            ],
            "upstreams": {"api": {"servers": {"10.0.0.1:80": {"weight": 2}, "10.0.0.2:80": {}}}},
            "applications": {
                "shop": {
                    "type": "python 3.11",
                    "path": "/srv/shop",
                    "module": "shop.wsgi",
                    "callable": "app",
                    "processes": 4,
                    "threads": 8,
                    "protocol": "asgi",
                    "environment": {"A": "b"},
                    "limits": {"requests": 1000},
                    "prefix": "/shop",
                }
            },
            "settings": {"http": {"idle_timeout": 30, "max_body_size": 1048576}},
            "access_log": "/var/log/unit.log",
        },
    )
    assert [note for note in result.notes if note.kind == "lost"] == []
    assert tomllib.loads(result.toml()) == {
        "server": {
            "listen": ["0.0.0.0:8080"],
            "trusted": ["10.0.0.0/8"],
            "limits": {"idle_timeout": 30, "body_bytes": 1048576},
            "access_log": "/var/log/unit.log",
            "log_format": "combined",
        },
        "upstream": {"api": {"servers": ["http://10.0.0.1:80", "http://10.0.0.2:80"], "weights": [2, 1]}},
        "app": {
            "shop": {
                "module": "shop.wsgi:app",
                "dir": "/srv/shop",
                "workers": 4,
                "interface": "asgi",
                "max_requests": 1000,
                "threads": 8,
                "env": {"A": "b"},
                "root_path": "/shop",
            }
        },
        "site": [
            {
                "route": [{"path": "/static/", "root": "/srv/shop/static"}, {"path": "/api/", "forward": "api"}],
                "root": "/srv/public",
                "index": ["start.html"],
                "cache_control": "max-age=60",
                "headers": {"X-A": "b"},
                "app": "shop",
            },
            {"hosts": ["a.example", "*.b.example"], "forward": "http://127.0.0.1:9000"},
        ],
    }


def test_a_listener_that_passes_to_an_application(tmp_path: Path) -> None:
    app = {"type": "python", "module": "wsgi"}
    result = converted(tmp_path, {"listeners": {"*:80": {"pass": "applications/a"}}, "applications": {"a": app}})
    assert tomllib.loads(result.toml())["site"] == [{"app": "a"}]


def test_what_the_control_api_shows_is_a_configuration(tmp_path: Path) -> None:
    config = {"listeners": {"*:80": {"pass": "routes"}}, "routes": [{"action": {"share": "/srv$uri"}}]}
    result = converted(tmp_path, {"certificates": {}, "config": config})
    assert tomllib.loads(result.toml())["site"] == [{"root": "/srv"}]


@pytest.mark.parametrize(
    ("step", "what"),
    [
        ({"match": {"method": "POST"}, "action": {"return": 405}}, "routes[0]: not supported: match by method"),
        ({"action": {"return": 301, "location": "/a"}}, "routes[0].action.location: not supported: /a"),
        (
            {"match": {"uri": "/a/*"}, "action": {"return": 301, "location": "/b?$args$x"}},
            "routes[0].action.location: not supported: /b?$args$x (a value with variables)",
        ),
        ({"action": {"pass": "applications/none"}}, 'routes[0].action: not supported: pass "applications/none"'),
        (
            {"action": {"share": "/srv$request_uri"}},
            "routes[0].action.share: not supported: /srv$request_uri (FOLDER$uri)",
        ),
        (
            {"match": {"uri": "~^/a"}, "action": {"share": "/srv$uri"}},
            "routes[0].match.uri: not supported: ~^/a (only prefixes: /PATH/*)",
        ),
        (
            {"action": {"share": "/srv$uri", "fallback": {"share": "/other$uri"}}},
            "routes[0].action.fallback: not supported: a second folder",
        ),
    ],
)
def test_what_is_not_supported_is_named(step: Any, what: str, tmp_path: Path) -> None:
    _, lost = routes(tmp_path, step)
    assert what in lost


def test_what_leads_elsewhere(tmp_path: Path) -> None:
    sites, lost = routes(
        tmp_path,
        {"match": {"uri": "/old/*"}, "action": {"return": 308, "location": "https://$host/new"}},
    )
    assert sites == [{"route": [{"path": "/old/", "redirect": "https://{host}/new", "status": 308}]}]
    assert lost == []


def test_other_languages_keep_their_servers(tmp_path: Path) -> None:
    config = {"listeners": {"*:80": {"pass": "applications/a"}}, "applications": {"a": {"type": "php"}}}
    result = converted(tmp_path, config)
    assert "run its own server" in str(result.notes[0])
    assert "site" not in tomllib.loads(result.toml())


def test_steps_whose_order_counts(tmp_path: Path) -> None:
    config = {
        "listeners": {"*:80": {"pass": "routes"}},
        "routes": [
            {"match": {"uri": "/a/*"}, "action": {"share": "/srv$uri"}},
            {"match": {"uri": "/a/b/*"}, "action": {"return": 403}},
        ],
    }
    result = converted(tmp_path, config)
    assert any("counts before /a/" in note.what for note in result.notes if note.kind == "changed")


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_no_configuration(text: str, tmp_path: Path) -> None:
    (tmp_path / "u.json").write_text(text)
    with pytest.raises(StartError, match=r"u\.json"):
        unit.convert(str(tmp_path / "u.json"))


def test_programs_are_not_sent_as_files(tmp_path: Path) -> None:
    """What was run by its suffix must not be shown when that is not supported."""
    sites, lost = routes(
        tmp_path,
        {"match": {"uri": ["*.php", "*.php/*"]}, "action": {"pass": "applications/php/direct"}},
        {"match": {"uri": "/wp-*.inc"}, "action": {"return": 403}},
        {"action": {"share": "/srv/wp$uri", "fallback": {"pass": "applications/php/index"}}},
        applications={"php": {"type": "php", "root": "/srv/wp"}},
    )
    assert sites == [{"root": "/srv/wp", "tux": {"redirect": ["inc", "php"]}}]
    assert 'routes[2].action.fallback: not supported: pass "applications/php/index"' in lost


def test_what_only_some_may_see_nobody_sees(tmp_path: Path) -> None:
    sites, _ = routes(
        tmp_path,
        {"match": {"uri": "/admin/*", "source": "!10.0.0.0/8"}, "action": {"return": 403}},
        {"action": {"share": "/srv$uri"}},
    )
    assert sites == [{"root": "/srv", "route": [{"path": "/admin/", "deny": True}]}]


def test_a_share_that_has_no_place_leaves_its_fallback(tmp_path: Path) -> None:
    action = {"share": "/srv$request_uri", "index": "a.html", "fallback": {"proxy": "http://127.0.0.1:1"}}
    sites, lost = routes(tmp_path, {"action": action})
    assert sites == [{"forward": "http://127.0.0.1:1"}]
    assert lost == [
        "routes[0].action.share: not supported: /srv$request_uri (FOLDER$uri)",
        "routes[0].action.index: not supported: a.html",
    ]


def test_a_folder_for_each_host(tmp_path: Path) -> None:
    assert routes(tmp_path, {"action": {"share": "/srv/$host$uri"}}) == ([{"root": "/srv/{host}"}], [])


def test_media_types(tmp_path: Path) -> None:
    types = {"text/x-code": [".py", ".pyx"], "text/x-make": "Makefile"}
    sites, lost = routes(
        tmp_path, {"action": {"share": "/srv$uri"}}, settings={"http": {"static": {"mime_types": types}}}
    )
    assert sites == [{"root": "/srv", "types": {".py": "text/x-code", ".pyx": "text/x-code"}}]
    assert lost == ["settings.http.static.mime_types: not supported: Makefile text/x-make (extensions: .NAME)"]


def test_an_address_with_tls_is_not_taken_over_without(tmp_path: Path) -> None:
    listeners = {"*:443": {"pass": "routes", "tls": {"certificate": "x"}}, "*:80": {"pass": "routes"}}
    result = converted(tmp_path, {"listeners": listeners, "routes": [{"action": {"share": "/srv$uri"}}]})
    assert result.server["listen"] == ["0.0.0.0:80"]
