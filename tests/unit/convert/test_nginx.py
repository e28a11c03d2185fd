"""nginx.conf -> tux.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tux.convert import nginx
from tux.convert.result import Result, header
from tux.convert.units import FormatError, seconds, size_bytes
from tux.errors import StartError


def converted(folder: Path, text: str) -> Result:
    file = folder / "nginx.conf"
    file.write_text(dedent(text))
    result = nginx.convert(str(file))
    assert not list(result.problems(str(folder)))
    return result


def tree(result: Result) -> dict[str, Any]:
    return tomllib.loads(header(result, "nginx.conf") + result.toml())


def server(folder: Path, text: str) -> dict[str, Any]:
    """The only site that the inside of a server block becomes; nothing in it is lost."""
    result = converted(folder, f"events {{}} http {{ server {{ listen 80; {text} }} }}")
    assert [str(note) for note in result.notes if note.kind == "lost"] == []
    (site,) = tree(result)["site"]
    assert isinstance(site, dict)
    return site


def lost(folder: Path, text: str) -> list[str]:
    """What is not supported of the inside of a server block that has a root."""
    result = converted(folder, f"http {{ server {{ listen 80; root /srv;\n{text}\n}} }}")
    return [note.what for note in result.notes if note.kind == "lost"]


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "shop.conf").write_text("server { server_name shop.example *.shop.example; root /srv/shop; }")
    result = converted(
        tmp_path,
        """
        user www-data;
        worker_processes 4;
        events { worker_connections 1024; }
        http {
            sendfile on;
            keepalive_timeout 75s;
            client_max_body_size 20m;
            access_log /var/log/nginx/access.log;
            set_real_ip_from 10.0.0.0/8;
            upstream api { least_conn; server 10.0.0.1:8000 weight=2; server 10.0.0.2:8000 max_fails=3; keepalive 32; }
            server {
                listen 80 default_server;
                listen [::]:80 default_server;
                server_name _;
                root /srv/www;
                index index.html index.htm;
                location / { try_files $uri $uri/ =404; }
                location /static/ { alias /srv/static/; expires 30d; }
                location /img/ { root /srv/media; }
                location /api/ {
                    proxy_pass http://api;
                    proxy_set_header Host $host;
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                    proxy_read_timeout 5m;
                }
                location /private/ { internal; alias /srv/private/; }
                location /secret/ { deny all; }
                location ~ /\\.ht { deny all; }
                location ~* \\.(?:css|js)$ { expires max; add_header X-Kind asset; }
            }
            include shop.conf;
        }
        """,
    )
    assert [note for note in result.notes if note.kind == "lost"] == []
    assert tree(result) == {
        "server": {
            "user": "www-data",
            "workers": 4,
            "limits": {"connections": 1024, "idle_timeout": 75.0, "body_bytes": 20 * 1024 * 1024},
            "access_log": "/var/log/nginx/access.log",
            "log_format": "combined",
            "trusted": ["10.0.0.0/8"],
            "listen": ["0.0.0.0:80", "[::]:80"],
        },
        "upstream": {
            "api": {
                "servers": ["http://10.0.0.1:8000", "http://10.0.0.2:8000"],
                "weights": [2, 1],
                "balance": "least-connections",
                "max_fails": 3,
                "keepalive": 32,
                "first_byte_timeout": 300.0,
                "idle_timeout": 300.0,
            }
        },
        "site": [
            {
                "root": "/srv/www",
                "index": ["index.html", "index.htm"],
                "cache_control": {"*.css": "max-age=315360000", "*.js": "max-age=315360000"},
                "headers": {"*.css": {"X-Kind": "asset"}, "*.js": {"X-Kind": "asset"}},
                "route": [
                    {
                        "path": "/static/",
                        "root": "/srv/static/",
                        "index": ["index.html", "index.htm"],
                        "cache_control": "max-age=2592000",
                    },
                    {"path": "/img/", "root": "/srv/media/img", "index": ["index.html", "index.htm"]},
                    {"path": "/api/", "forward": "api"},
                    {
                        "path": "/private/",
                        "internal": True,
                        "root": "/srv/private/",
                        "index": ["index.html", "index.htm"],
                    },
                    {"path": "/secret/", "deny": True},
                ],
            },
            {"hosts": ["shop.example", "*.shop.example"], "root": "/srv/shop"},
        ],
    }


def test_files_first_then_the_server_behind(tmp_path: Path) -> None:
    text = "root /srv; location / { try_files $uri @app; } location @app { proxy_pass http://127.0.0.1:8000; }"
    assert server(tmp_path, text) == {"root": "/srv", "forward": "http://127.0.0.1:8000"}


def test_proxy_pass_alone_looks_for_no_file(tmp_path: Path) -> None:
    """The root of the server is that of its other locations."""
    text = """
        root /srv; index a.html;
        location / { proxy_pass http://unix:/run/app.sock:/; }
        location /static/ { gzip_static off; }
    """
    assert server(tmp_path, text) == {
        "forward": "unix:/run/app.sock",
        "route": [{"path": "/static/", "root": "/srv/static", "index": ["a.html"], "precompressed": False}],
    }


def test_listings_compression_and_error_pages(tmp_path: Path) -> None:
    text = """
        root /srv; autoindex on; gzip on; gzip_types text/css; gzip_comp_level 6;
        error_page 404 /404.html; error_page 500 502 503 504 /50x.html;
        location = /50x.html { root /srv; }
        location = /404.html { internal; }
        location = /favicon.ico { return 204; access_log off; log_not_found off; }
        location = /robots.txt { access_log off; log_not_found off; }
        location /docs/ { autoindex off; error_page 404 /docs/none.html; }
        location /other/ { root /other; }
    """
    pages = {"404": "404.html", "500": "50x.html", "502": "50x.html", "503": "50x.html", "504": "50x.html"}
    assert server(tmp_path, text) == {
        "root": "/srv",
        "listing": True,
        "compress": True,
        "favicon": True,
        "error_page": pages,
        "route": [
            {"path": "/docs/", "listing": False, "compress": True, "error_page": {"404": "docs/none.html"}},
            {"path": "/other/", "root": "/other/other", "listing": True, "compress": True},
        ],
    }


def test_pages_of_a_site_without_a_folder_are_lost(tmp_path: Path) -> None:
    result = converted(
        tmp_path, "server { error_page 502 /down.html; location / { proxy_pass http://127.0.0.1:8000; } }"
    )
    assert [note.what for note in result.notes if note.kind == "lost"] == ["error_page (the site has no folder)"]


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("location / { try_files $uri $uri/ /index.html; }", {"spa": "index.html"}),
        ("location / { try_files $uri /app.html?$args; }", {"spa": "app.html"}),
        ("location / { try_files $uri $uri.html $uri/ =404; }", {"clean_urls": True}),
        ("location /a/ { try_files $uri /a/index.html; }", {"route": [{"path": "/a/", "spa": "a/index.html"}]}),
        (
            "location /a/ { alias /x/; try_files $uri /a/index.html; }",
            {"route": [{"path": "/a/", "spa": "index.html", "root": "/x/"}]},
        ),
    ],
)
def test_pages(text: str, site: dict[str, Any], tmp_path: Path) -> None:
    assert server(tmp_path, f"root /srv; {text}") == {"root": "/srv", **site}


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("location /old { return 301 /new; }", {"path": "/old", "redirect": "/new", "status": 301}),
        ("location = /old { return 302 /new; }", {"path": "/old", "redirect": "/new", "status": 302}),
        (
            "location /old { return https://b.example/; }",
            {"path": "/old", "redirect": "https://b.example/", "status": 302},
        ),
        (
            "return 308 https://$host$request_uri;",
            {"path": "/", "redirect": "https://{host}{path}", "status": 308},
        ),
        (
            "rewrite ^/blog/(.*)$ /articles/$1 permanent;",
            {"path": "/blog/", "redirect": "/articles/{rest}", "status": 301},
        ),
        ("rewrite ^/a\\.html$ /b.html redirect;", {"path": "/a.html", "redirect": "/b.html", "status": 302}),
        (
            "rewrite ^/x/(.*) http://b.example/$1;",
            {"path": "/x/", "redirect": "http://b.example/{rest}", "status": 302},
        ),
        ("rewrite ^/manual/(.*)$ /docs/$1 last;", {"path": "/manual/", "rewrite": "/docs/{rest}"}),
        ("location /m/ { rewrite ^/m/(.*)$ /docs/$1 break; }", {"path": "/m/", "rewrite": "/docs/{rest}"}),
    ],
)
def test_what_leads_elsewhere(text: str, route: dict[str, Any], tmp_path: Path) -> None:
    assert server(tmp_path, f"root /srv; {text}") == {"root": "/srv", "route": [route]}


def test_a_site_that_leads_elsewhere_needs_no_folder(tmp_path: Path) -> None:
    assert server(tmp_path, "return 301 https://www.example.org$request_uri;") == {
        "route": [{"path": "/", "redirect": "https://www.example.org{path}", "status": 301}]
    }


def test_time_outs_make_an_upstream(tmp_path: Path) -> None:
    result = converted(
        tmp_path, "server { location / { proxy_connect_timeout 3s; proxy_pass http://127.0.0.1:8000; } }"
    )
    assert tree(result)["upstream"] == {
        "127-0-0-1-8000": {"servers": ["http://127.0.0.1:8000"], "connect_timeout": 3.0}
    }
    assert tree(result)["site"] == [{"forward": "127-0-0-1-8000"}]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("location ~ ^/a { deny all; }", "location ~ ^/a (regular expressions)"),
        ("location ~ \\.php$ { fastcgi_pass h:9; }", "fastcgi_pass h:9 (run its own server, and forward to it)"),
        ("rewrite ^/a(b|c)$ /b;", "rewrite ^/a(b|c)$ /b (regular expressions)"),
        ("rewrite ^/a/(.*)$ /$2 last;", "rewrite ^/a/(.*)$ /$2 last (a value with variables)"),
        ("return 301 $scheme://a$request_uri;", "return 301 $scheme://a$request_uri (a value with variables)"),
        ("return 200 ok;", "return 200 ok"),
        ("location /a { return 301 //evil$uri; }", "return 301 //evil$uri (expected /PATH)"),
        ("error_page 404 =200 /a.html;", "error_page 404 =200 /a.html (the status stays what it is)"),
        ("error_page 404 @b;", "error_page 404 @b (only files below the root)"),
        ("error_page 404 http://a/;", "error_page 404 http://a/ (only files below the root)"),
        ("error_page 418 /a.html;", "error_page 418 /a.html (Tux itself never answers 418)"),
        (
            "location / { try_files $uri /index.php?$args; }",
            "try_files $uri /index.php?$args (/index.php?$args for all",
        ),
        ("location = /favicon.ico { empty_gif; }", "location = /favicon.ico (a route covers all below its path)"),
        ("add_header X-Host $host;", "add_header X-Host $host (a value with variables)"),
        ("location /a/ { proxy_pass http://h:1/b/; }", "proxy_pass http://h:1/b/ (the path is passed as it is)"),
        ("location /a/ { proxy_pass https://h; }", "proxy_pass https://h (only http://, without variables)"),
        ("limit_req zone=one;", "limit_req zone=one"),
        ("keepalive_timeout soon;", 'keepalive_timeout soon (expected a time, got "soon")'),
        ("server_name ~^www;", "server_name ~^www (only names, and *.NAME)"),
    ],
)
def test_what_is_not_supported_is_named(text: str, what: str, tmp_path: Path) -> None:
    assert any(note.startswith(what) for note in lost(tmp_path, text))


def test_everything_within_what_is_not_supported_is_named_with_its_line(tmp_path: Path) -> None:
    result = converted(tmp_path, "server { root /srv;\nif ($a) {\nreturn 301 /b;\n}\n}")
    assert [(note.where.rpartition(":")[2], note.what) for note in result.notes if note.kind == "lost"] == [
        ("2", "if $a"),
        ("3", "return 301 /b"),
    ]
    assert "# " + str(result.notes[0]) in header(result, "x")


def test_what_follows_an_include_is_in_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "types").write_text("one x;\n")
    result = converted(tmp_path, "http {\ninclude types;\ntwo y;\nserver { root /srv; include types; }\n}")
    where = [(note.where.rpartition("/")[2], note.what) for note in result.notes if note.kind == "lost"]
    assert where == [("types:1", "one x"), ("nginx.conf:3", "two y"), ("types:1", "one x")]


def test_a_file_that_includes_itself(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text("http { include nginx.conf; }")
    with pytest.raises(StartError, match="includes itself"):
        nginx.convert(str(tmp_path / "nginx.conf"))


def test_tls_ends_in_front(tmp_path: Path) -> None:
    result = converted(tmp_path, "server { listen 80; listen 443 ssl; ssl_certificate a.pem; root /srv; }")
    assert tree(result)["server"]["listen"] == ["0.0.0.0:80"]
    assert len([note for note in result.notes if "TLS ends in front" in note.what]) == 2


def test_a_file_of_sites_enabled_is_a_configuration(tmp_path: Path) -> None:
    assert tree(converted(tmp_path, "server { root /srv; }"))["site"] == [{"root": "/srv"}]


@pytest.mark.parametrize("text", ["server {", "server { root /a; } }"])
def test_what_nginx_would_not_read_is_an_error_with_its_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text(text)
    with pytest.raises(StartError, match=r"nginx\.conf"):
        nginx.convert(str(tmp_path / "nginx.conf"))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"nginx\.conf"):
        nginx.convert(str(tmp_path / "nginx.conf"))


@pytest.mark.parametrize(
    ("text", "value"), [("75", 75), ("1m", 60), ("1h 30m", 5400), ("1m30s", 90), ("500ms", 0.5), ("2d", 172800)]
)
def test_times(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("8k", 8192), ("20M", 20 * 2**20), ("1g", 2**30)])
def test_sizes(text: str, value: int) -> None:
    assert size_bytes(text) == value


@pytest.mark.parametrize("text", ["", "x", "5x", "-1"])
def test_no_time_and_no_size(text: str) -> None:
    with pytest.raises(FormatError):
        seconds(text)
    with pytest.raises(FormatError):
        size_bytes(text)


def test_a_folder_for_each_host(tmp_path: Path) -> None:
    assert server(tmp_path, "server_name _; root /srv/$host/public;")["root"] == "/srv/{host}/public"
    for line in ("root /srv/$user;", "root '/srv/{a}';"):
        result = converted(tmp_path, f"http {{ server {{ {line} }} server {{ server_name b; root /srv; }} }}")
        assert [site.get("root") for site in tree(result)["site"]] == ["/srv"]
        assert any(note.kind == "lost" and note.what.startswith("root") for note in result.notes)
    (what,) = lost(tmp_path, "location /a/ { alias /srv/$user/; }")
    assert what == "alias /srv/$user/ (a folder with variables)"


def test_charsets_and_types(tmp_path: Path) -> None:
    (tmp_path / "mime.types").write_text("types { application/javascript js; }")
    site = server(
        tmp_path,
        """include mime.types; default_type application/octet-stream; root /srv; charset utf-16;
        types { text/plain log; text/html html; application/x-thing thing thg; }
        location /off/ { root /other; charset off; }""",
    )
    assert site["charset"] == "utf-16"
    assert site["types"] == {".thing": "application/x-thing", ".thg": "application/x-thing"}
    assert site["route"][0]["charset"] == ""
    assert lost(tmp_path, "default_type text/plain;") == [
        'default_type text/plain (name globs: types = { "downloads/*" = "TYPE" })'
    ]
    assert lost(tmp_path, "location /d/ { types { } }") == ['types (name globs: types = { "downloads/*" = "TYPE" })']


def made(folder: Path, text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The sites that a file becomes, and what is said about it."""
    result = converted(folder, text)
    return tree(result).get("site", []), [f"{note.kind}: {note.what}" for note in result.notes]


@pytest.mark.parametrize(
    "block",
    [
        "auth_basic x; auth_basic_user_file f;",
        "auth_request /auth;",
        "auth_basic x; proxy_pass http://127.0.0.1:1;",
        "uwsgi_pass unix:/run/app.sock; include uwsgi_params;",
        "fastcgi_pass 127.0.0.1:9000;",
        "proxy_pass https://elsewhere;",
        "allow 10.0.0.0/8; deny all;",
        "return 403;",
    ],
)
@pytest.mark.parametrize("path", ["/", "/admin/", "= /admin"])
def test_what_lets_some_in_lets_nobody_in(block: str, path: str, tmp_path: Path) -> None:
    """Better a site that says no than one that shows what a password was before."""
    sites, notes = made(
        tmp_path, f"server {{ root /srv; location {path} {{ {block} }} location /open/ {{ index a; }} }}"
    )
    assert {"path": path.removeprefix("= "), "deny": True} in sites[0]["route"]
    assert {"path": "/open/", "deny": True} not in sites[0]["route"]
    assert any(route["path"] == "/open/" for route in sites[0]["route"])
    if not block.endswith(("deny all;", "403;")):
        assert f"changed: location {path} (refused: what" in "".join(notes)


@pytest.mark.parametrize("line", ["auth_basic x;", "deny all;", "allow 10.0.0.0/8; deny all;", "return 403;"])
def test_a_server_that_lets_only_some_in(line: str, tmp_path: Path) -> None:
    sites, notes = made(tmp_path, f"server {{ root /srv; {line} location /a/ {{ proxy_pass http://127.0.0.1:1; }} }}")
    assert sites == [{"route": [{"path": "/", "deny": True}]}]
    assert "changed: server (nobody is let in, since what lets some in is not supported)" in notes


def test_open_places_stay_open(tmp_path: Path) -> None:
    sites, _ = made(tmp_path, "server { root /srv; auth_basic off; location /a/ { auth_basic off; index a; } }")
    assert sites == [{"root": "/srv", "route": [{"path": "/a/", "index": ["a"]}]}]


@pytest.mark.parametrize(
    ("location", "ends"),
    [
        ("~ \\.php$ { fastcgi_pass unix:/f; }", ["php"]),
        ("~ [^/]\\.php(/|$) { fastcgi_pass unix:/f; }", ["php"]),
        ("~ ^/index\\.php(/|$) { fastcgi_pass unix:/f; internal; }", ["php"]),
        ("~* \\.(?:bak|sql|inc)$ { deny all; }", ["bak", "inc", "sql"]),
        ("~* \\.(py|jpe?g)$ { proxy_pass http://a; }", ["jpeg", "jpg", "py"]),
    ],
)
def test_programs_and_secrets_are_not_sent_as_files(location: str, ends: list[str], tmp_path: Path) -> None:
    """What was run, or refused, by its suffix must not be shown when that is not supported."""
    sites, notes = made(tmp_path, f"server {{ root /srv; location {location} }}")
    assert sites == [{"root": "/srv", "tux": {"redirect": ends}}]
    assert f"(files that end in {', '.join('.' + end for end in ends)} are not sent)" in notes[-1]


def test_leading_to_https_is_not_taken_over(tmp_path: Path) -> None:
    """Behind what ends TLS it would lead to itself for ever; certbot writes it in the second way."""
    tls = "server { listen 443 ssl; server_name a.org www.a.org; root /srv; }"
    for plain in (
        "server { server_name a.org; return 301 https://$host$request_uri; }",
        "server { if ($host = a.org) { return 301 https://$host$request_uri; } server_name a.org; return 404; }",
        "server { server_name a.org; location / { return 301 https://a.org$request_uri; } }",
        "server { server_name a.org; rewrite ^(.*)$ https://a.org$1 permanent; }",
    ):
        for text in (plain + tls, tls + plain):
            sites, notes = made(tmp_path, text)
            assert sites == [{"root": "/srv"}]
            assert "lost: server (from HTTP to HTTPS: what ends TLS in front does that)" in notes


def test_one_name_of_two_servers(tmp_path: Path) -> None:
    one = "server { server_name a.org b.org; root /1; }"
    sites, notes = made(tmp_path, f"server {{ root /0; }} {one} server {{ server_name a.org .c.org; root /2; }} {one}")
    assert [site.get("hosts") for site in sites] == [None, ["a.org", "b.org"], ["c.org", "*.c.org"]]
    assert "lost: server_name a.org (another server has it)" in notes
    assert "lost: server (no name that another server has not, and another one is the default)" in notes


def test_what_is_included_may_be_missing(tmp_path: Path) -> None:
    """As when the configuration of another machine is converted."""
    text = """
    http {
        include /nowhere/mime.types;
        include /nowhere/*.conf;
        server { root /srv; location /a/ { include /nowhere/snippet; index a; } }
    }
    """
    sites, notes = made(tmp_path, text)
    assert sites == [{"root": "/srv", "route": [{"path": "/a/", "index": ["a"]}]}]
    assert notes == [
        "needless: include /nowhere/mime.types (Tux has a table of its own)",
        "needless: include /nowhere/*.conf (no file matches)",
        "lost: include /nowhere/snippet (there is no such file)",
    ]


def test_a_life_and_more_about_it(tmp_path: Path) -> None:
    """nginx sends a field for each, which together mean this."""
    both = 'expires 1y; add_header Cache-Control "public, immutable";'
    site = server(tmp_path, f"root /srv; location ~* \\.(css|woff2?)$ {{ {both} }} location /a/ {{ {both} }}")
    assert site["cache_control"] == dict.fromkeys(("*.css", "*.woff", "*.woff2"), "public, immutable, max-age=31536000")
    assert site["route"][0]["cache_control"] == "public, immutable, max-age=31536000"
    assert (
        server(tmp_path, 'root /srv; expires 1y; add_header Cache-Control "max-age=5";')["cache_control"] == "max-age=5"
    )


def test_pages_of_a_site_that_only_passes_on(tmp_path: Path) -> None:
    text = "root /srv/errors; error_page 502 503 /down.html; location / { proxy_pass http://127.0.0.1:1; }"
    site = server(tmp_path, text)
    assert (site["root"], site["try"]) == ("/srv/errors", ["forward"])
    assert site["error_page"] == {"502": "down.html", "503": "down.html"}


def test_a_server_that_is_never_left_out(tmp_path: Path) -> None:
    result = converted(
        tmp_path,
        "upstream app { server unix:/run/app.sock fail_timeout=0; } server { location / { proxy_pass http://app; } }",
    )
    assert tree(result)["upstream"] == {"app": {"servers": ["unix:/run/app.sock"], "max_fails": 0}}


@pytest.mark.parametrize(
    ("text", "policy"),
    [("User-agent: *\\nDisallow: /\\n", "deny"), ("User-agent: *\\nDisallow:\\n", "allow"), ("Disallow: /a", None)],
)
def test_a_text_for_robots(text: str, policy: str | None, tmp_path: Path) -> None:
    block = f'access_log off; default_type text/plain; return 200 "{text}";'
    sites, _ = made(tmp_path, f"server {{ root /srv; location = /robots.txt {{ {block} }} }}")
    assert sites[0].get("robots") == policy


def test_a_page_for_all_else_before_404(tmp_path: Path) -> None:
    """As in many a Dockerfile for an application in the browser."""
    text = """
    server {
        location = /50x.html { root /usr/share/nginx/html; }
        location / {
            root /usr/share/nginx/html;
            try_files $uri $uri/ /index.html =404;
        }
        error_page 500 502 /50x.html;
    }
    """
    sites, notes = made(tmp_path, text)
    assert sites == [
        {"root": "/usr/share/nginx/html", "spa": "index.html", "error_page": {"500": "50x.html", "502": "50x.html"}}
    ]
    assert not [note for note in notes if note.startswith("lost")]


@pytest.mark.parametrize("inside", ["return 302 /en/;", "proxy_pass http://127.0.0.1:1;", "rewrite ^ /b permanent;"])
def test_the_path_of_the_root_alone(inside: str, tmp_path: Path) -> None:
    sites, notes = made(tmp_path, f"server {{ root /srv; location = / {{ {inside} }} }}")
    assert sites == [{"root": "/srv"}]
    assert notes[0] == "lost: location = / (a route covers all below its path)"


REALISTIC = """
worker_processes auto;
http {
    include /etc/nginx/mime.types;
    sendfile on;
    gzip on;
    gzip_types text/css application/json;
    upstream app {
        least_conn;
        server 10.0.0.1:8080 weight=3;
        server 10.0.0.2:8080 backup;
        keepalive 32;
    }
    upstream unused {
        server 10.0.0.9:80;
    }
    server {
        listen 8080 default_server;
        server_name example.com;
        root /var/www/html;
        index index.html;
        charset utf-8;
        server_tokens off;
        add_header X-Frame-Options SAMEORIGIN always;
        error_page 404 /404.html;
        error_page 418 /418.html;
        location / {
            try_files $uri $uri/ /index.html;
            autoindex on;
        }
        location ~* \\.(css|js)$ {
            expires 1y;
            add_header Cache-Control "public, immutable";
            charset koi8-r;
        }
        location /api {
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_read_timeout 90s;
            add_header Access-Control-Allow-Origin *;
            expires -1;
            gzip_static on;
            client_max_body_size 20m;
        }
        location /stripped/ {
            proxy_pass http://app/;
            proxy_send_timeout 5s;
        }
        location /admin {
            auth_basic "Staff only";
            auth_basic_user_file /etc/nginx/.htpasswd;
            expires 1d;
        }
        location ~ \\.php$ {
            fastcgi_pass unix:/run/php.sock;
            fastcgi_index index.php;
        }
        location /media/ {
            alias /srv/media/;
            add_header Content-Disposition attachment;
            types {
                text/x-log log;
            }
        }
        location /none {
            return 410;
        }
        location @named {
            proxy_pass http://app;
        }
        rewrite ^/old/(.*)$ /new/$1 permanent;
        rewrite ^/a([0-9]+)$ /b last;
    }
}
"""


def test_no_line_is_dropped_in_silence(tmp_path: Path) -> None:
    """Without any one of them something else comes out: another configuration, or another note."""
    lines = [line for line in REALISTIC.splitlines() if line.strip()]

    def outcome(kept: list[str]) -> tuple[str, list[tuple[str, str]]]:
        file = tmp_path / "nginx.conf"
        file.write_text("\n".join(kept))
        result = nginx.convert(str(file))
        return result.toml(), sorted((note.kind, note.what) for note in result.notes)

    whole = outcome(lines)
    for number, line in enumerate(lines):
        if line.endswith(";") and "server_name" not in line:  # of the default server, which takes all names
            assert outcome(lines[:number] + lines[number + 1 :]) != whole, line
