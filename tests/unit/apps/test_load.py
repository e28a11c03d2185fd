"""Finding applications, and saying why there is none."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tux.apps.load import LoadError, detect, load

WSGI = "def application(environ, start_response):\n    return []\n"
ASGI = "async def app(scope, receive, send):\n    pass\n"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Writes modules into a folder; what was imported is forgotten afterwards."""
    modules, path = set(sys.modules), list(sys.path)

    def writer(**files: str) -> Path:
        for name, text in files.items():
            file = tmp_path / (name.replace("__init", "\0").replace("_", "/").replace("\0", "__init__") + ".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    yield writer
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def error_of(spec: str, folder: Path, **options: Any) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load(spec, app_dir=str(folder), **options)
    assert "\n" not in caught.value.message
    return caught.value


def test_attribute_is_named(write: Write) -> None:
    found = load("shop1:handler", app_dir=str(write(shop1=WSGI.replace("application", "handler"))))
    assert found.interface == "wsgi"
    assert found.application.__name__ == "handler"


@pytest.mark.parametrize(("text", "interface"), [(WSGI, "wsgi"), (ASGI, "asgi"), (WSGI + ASGI, "wsgi")])
def test_usual_names_are_tried(write: Write, text: str, interface: str) -> None:
    assert load("shop2", app_dir=str(write(shop2=text))).interface == interface


def test_attributes_and_modules_have_dots(write: Write) -> None:
    folder = write(pack__init="")
    write(pack_web="class A:\n    class b:\n        @staticmethod\n        def app(environ, start_response): ...\n")
    assert load("pack.web:A.b.app", app_dir=str(folder)).interface == "wsgi"


def test_folder_comes_first_in_the_path(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(shop3=WSGI)
    monkeypatch.chdir(folder)
    load("shop3")
    assert sys.path[0] == str(folder)
    assert sys.path.count(str(folder)) == 1


def test_factory_makes_it(write: Write) -> None:
    folder = write(
        shop4=f"def create_app():\n    {ASGI.strip()}\n    return app\n".replace("\n    pass", "\n        pass")
    )
    assert load("shop4:create_app", app_dir=str(folder), factory=True).interface == "asgi"
    assert load("shop4", app_dir=str(folder), factory=True).interface == "asgi"


def test_interface_is_believed(write: Write) -> None:
    assert load("shop5", app_dir=str(write(shop5="def app(*args): ...")), interface="asgi").interface == "asgi"


# What is said when there is none


def test_folder_is_missing(tmp_path: Path) -> None:
    assert f'the folder "{tmp_path}/none" does not exist' in error_of("a", tmp_path / "none").message


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("shop/wsgi.py", "perhaps shop.wsgi"),
        ("./shop.py:app", "perhaps shop:app"),
        ("shop:create_app()", '"shop:create_app", and say that it is a factory'),
        ("shop:", "expected MODULE:ATTRIBUTE"),
        (":app", "expected MODULE:ATTRIBUTE"),
        ("shop..a:app", "expected MODULE:ATTRIBUTE"),
        ("sh op", "expected MODULE:ATTRIBUTE"),
    ],
)
def test_name_is_none(tmp_path: Path, spec: str, part: str) -> None:
    assert part in error_of(spec, tmp_path).message


def test_module_is_missing(write: Write, tmp_path: Path) -> None:
    assert "no module is there: name another folder (--app-dir" in error_of("shopp", tmp_path).message
    folder = write(shop6=WSGI, site_hidden=WSGI)
    assert f"there is no module shop66 in {folder}, nor among what is installed; perhaps shop6" in (
        error_of("shop66", folder).message
    )
    assert "what is there: shop6" in error_of("completely_else", folder).message
    assert f"it is in {folder}/site: name that folder (--app-dir" in error_of("hidden", folder).message


def test_part_of_a_package_is_missing(write: Write) -> None:
    folder = write(pack1__init="", pack1_wsgi=WSGI)
    assert f"there is no module pack1.wsgy in {folder}/pack1; perhaps wsgi" in error_of("pack1.wsgy", folder).message
    assert "is a module, not a package" in error_of("pack1.wsgi.app", folder).message


def test_attribute_is_missing(write: Write) -> None:
    folder = write(shop7=f"import json\nfrom os.path import join\n{WSGI}def other(): ...\nclass site: ...\n")
    error = error_of("shop7:aplication", folder)
    assert f"shop7 ({folder}/shop7.py) has no attribute aplication; perhaps application" in error.message
    assert "shop7:site has no attribute app" in error_of("shop7:site.app", folder).message


def test_usual_names_are_missing(write: Write) -> None:
    folder = write(
        shop8="from os.path import join\ndef main(environ, start_response): ...\n", shop9="def make_app(): ..."
    )
    text = error_of("shop8", folder).message
    assert "has neither application nor app; name the attribute; what can be called there: main" in text
    assert "join" not in text
    assert "perhaps shop9:make_app, with --factory" in error_of("shop9", folder).message
    assert "has none of create_app" in error_of("shop8", folder, factory=True).message


def test_it_cannot_be_called(write: Write) -> None:
    folder = write(shop10="app = None\nthing = {}\nimport os\ndef make():\n    return 3\n")
    assert "shop10:app is None, which cannot be called" in error_of("shop10", folder).message
    assert "shop10:thing is of type dict" in error_of("shop10:thing", folder).message
    assert "shop10:os is a module" in error_of("shop10:os", folder).message
    assert "the factory shop10:thing is of type dict" in error_of("shop10:thing", folder, factory=True).message
    assert "shop10:make is of type int" in error_of("shop10:make", folder, factory=True).message


def test_factory_that_is_none(write: Write) -> None:
    folder = write(
        shop11="def app(name): ...\nasync def slow(): ...\ndef broken():\n    def inner(): return 1 + ''\n    inner()\n"
    )
    assert "takes no call without arguments: app() missing 1" in error_of("shop11:app", folder, factory=True).message
    assert "is a coroutine function" in error_of("shop11:slow", folder, factory=True).message
    error = error_of("shop11:broken", folder, factory=True)
    assert "the factory shop11:broken failed: TypeError: unsupported operand" in error.message
    assert "in inner" in error.trace


def test_errors_of_the_application_itself_are_shown_whole(write: Write) -> None:
    folder = write(shop12="import shop13\n", shop13="try:\n    1 / 0\nexcept ZeroDivisionError:\n    import nothere\n")
    error = error_of("shop12:app", folder)
    assert error.message == (
        "application \"shop12:app\": importing shop12 failed: ModuleNotFoundError: No module named 'nothere'"
    )
    lines = error.trace.splitlines()
    assert "ZeroDivisionError: division by zero" in lines
    files = [line for line in lines if line.startswith("  File")]
    assert [line.split('"')[1] for line in files] == [f"{folder}/{name}.py" for name in ("shop13", "shop12", "shop13")]
    assert "importlib" not in error.trace


def test_module_that_does_not_find_itself_is_not_missing(write: Write) -> None:
    folder = write(shop14="raise ModuleNotFoundError('no', name='shop14')\n")
    assert "importing shop14 failed: ModuleNotFoundError: no" in error_of("shop14", folder).message


def test_the_first_line_of_an_error_is_its_summary(write: Write) -> None:
    folder = write(shop17="class Odd(Exception): ...\nraise Odd('one\\ntwo')\n")
    error = error_of("shop17", folder)
    assert error.message.endswith("importing shop17 failed: Odd: one")
    assert error.trace.endswith("shop17.Odd: one\ntwo\n")
    folder = write(shop19="raise RuntimeError\n")
    assert error_of("shop19", folder).message.endswith("importing shop19 failed: RuntimeError")


def test_syntax_errors_show_the_line(write: Write) -> None:
    error = error_of("shop15", write(shop15="def f(:\n"))
    assert "importing shop15 failed: SyntaxError: invalid syntax" in error.message
    assert "def f(:" in error.trace


def test_module_that_ends_the_process_does_not(write: Write) -> None:
    assert (
        "importing shop16 failed: SystemExit: 3" in error_of("shop16", write(shop16="import sys; sys.exit(3)")).message
    )


# WSGI or ASGI


def wsgi(environ: Any, start_response: Any) -> Any: ...
async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any, extra: int = 1) -> Any: ...


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...
    def method(self, environ: Any, start_response: Any) -> Any: ...


class WsgiClass:
    """Of PEP 3333: made for every request."""

    def __init__(self, environ: Any, start_response: Any) -> None: ...
    def __iter__(self) -> Iterator[bytes]:
        yield b""


class Asgi2:
    def __init__(self, scope: Any) -> None: ...
    async def __call__(self, receive: Any, send: Any) -> None: ...


class AnyArguments:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __call__(self, *args: Any) -> Any: ...


@functools.wraps(asgi)
def wrapped(*args: Any) -> Any: ...


@pytest.mark.parametrize(
    ("application", "interface"),
    [
        (wsgi, "wsgi"),
        (WsgiObject(), "wsgi"),
        (WsgiClass, "wsgi"),
        (AsgiObject().method, "wsgi"),
        (functools.partial(WsgiObject(), extra=3), "wsgi"),
        (lambda environ, start_response: [], "wsgi"),
        (AnyArguments(wsgi_app=1), "wsgi"),
        (asgi, "asgi"),
        (AsgiObject(), "asgi"),
        (wrapped, "asgi"),
        (functools.partial(asgi), "asgi"),
        (lambda scope, receive, send: None, "asgi"),
        (AnyArguments(wsgi_app=1, asgi_app=2), "asgi"),
    ],
)
def test_interface_is_seen(application: Any, interface: str) -> None:
    assert detect(application, "a:b") == interface


async def two(scope: Any, receive: Any) -> None: ...
def one(scope: Any) -> Any: ...
def none() -> Any: ...


@pytest.mark.parametrize(
    ("application", "part"),
    [
        (Asgi2, "as ASGI 2 applications are"),
        (one, "as ASGI 2 applications are"),
        (two, "called with three: scope, receive, send"),
        (none, "seems to be a factory"),
        (AnyArguments(), "cannot be seen; say it (--app-interface wsgi"),
        (AnyArguments, "a:b is a class; expected an application"),
        (WsgiObject, "a:b is a class; expected an application"),
    ],
)
def test_what_is_neither_is_refused(application: Any, part: str) -> None:
    with pytest.raises(LoadError) as caught:
        detect(application, "a:b")
    assert part in caught.value.message
