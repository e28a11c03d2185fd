"""The error log and the access log."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from tux.daemon.logs import AccessLog, error_log
from tux.errors import StartError

logger = logging.getLogger("tux.test")


class TestErrorLog:
    def test_lines(self, capfd: pytest.CaptureFixture[str]) -> None:
        with error_log():
            logger.debug("hidden")
            logger.info("ready on %s", "http://127.0.0.1:8080")
            logger.warning("careful")
            logger.error("a name\nwith a break")
        logger.error("nobody listens any more")
        assert capfd.readouterr().err.splitlines() == [
            "tux: ready on http://127.0.0.1:8080",
            "tux: warning: careful",
            "tux: error: a name\\nwith a break",
        ]

    def test_a_traceback_follows_its_line(self, capfd: pytest.CaptureFixture[str]) -> None:
        with error_log():
            try:
                raise RuntimeError("the reason")
            except RuntimeError:
                logger.exception("it failed")
        lines = capfd.readouterr().err.splitlines()
        assert lines[:2] == ["tux: error: it failed", "Traceback (most recent call last):"]
        assert lines[-1] == "RuntimeError: the reason"

    def test_all_is_as_before(self) -> None:
        base = logging.getLogger("tux")
        before = (base.level, base.propagate, list(base.handlers))
        with error_log():
            assert not base.propagate
        assert (base.level, base.propagate, list(base.handlers)) == before


class TestAccessLog:
    def test_off(self) -> None:
        log = AccessLog("off")
        assert log.fd == -1
        assert not log.reopen()

    def test_standard_output(self) -> None:
        log = AccessLog("-")
        assert log.fd == 1
        assert not log.reopen()
        log.close()
        os.fstat(1)  # still open

    def test_default_without_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "isatty", lambda fd: False)
        assert AccessLog(None).fd == -1

    def test_default_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "isatty", lambda fd: fd == 2)
        assert AccessLog(None).fd == 2

    def test_a_file_is_appended_to(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        path.write_text("before\n")
        log = AccessLog(str(path))
        os.write(log.fd, b"after\n")
        log.close()
        assert path.read_text() == "before\nafter\n"

    def test_a_new_file_is_not_for_everybody(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            AccessLog(str(tmp_path / "log")).close()
        finally:
            os.umask(before)
        assert (tmp_path / "log").stat().st_mode & 0o777 == 0o640

    def test_reopen(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        log = AccessLog(str(path))
        path.rename(tmp_path / "old")
        assert log.reopen()
        os.write(log.fd, b"new\n")
        log.close()
        assert (path.read_text(), (tmp_path / "old").read_text()) == ("new\n", "")

    def test_a_fifo_without_a_reader_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(StartError, match=r"cannot open the access log .*/fifo: "):
            AccessLog(str(tmp_path / "fifo"))

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(StartError) as caught:
            AccessLog(str(tmp_path))
        assert caught.value.message == f"cannot open the access log {tmp_path}: Is a directory"
