"""The rule for missing programs; what a server that does not start, or dies, says."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.processes import program, reserved_ports, running


def test_ci_fails_and_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"no weedy: pip install weedy, or set WEEDY_BIN"):
        program("weedy", variable="WEEDY_BIN", install="pip install weedy")


def test_a_laptop_skips_and_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no weedy: pip install weedy, or set WEEDY_BIN"):
        program("weedy", variable="WEEDY_BIN", install="pip install weedy")


def test_a_variable_that_names_nothing_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("SHELL_BIN", "/nowhere/sh")
    with pytest.raises(pytest.fail.Exception, match="SHELL_BIN=/nowhere/sh"):
        program("sh", variable="SHELL_BIN", install="-")


def test_a_variable_goes_before_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL_BIN", sys.executable)
    assert program("sh", variable="SHELL_BIN", install="-") == sys.executable


def test_a_server_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('no such disk'); sys.exit(3)"]
    with (
        pytest.raises(RuntimeError, match=r"(?s)exit status 3.*no such disk"),
        running(command, tmp_path, lambda: False),
    ):
        pass


def test_a_server_that_dies_under_the_tests_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys, time; print('up', flush=True); time.sleep(600)"]
    output = tmp_path / "output.log"

    def use() -> None:
        with running(command, tmp_path, lambda: output.read_bytes() == b"up\n") as process:
            process.kill()
            process.wait()

    with pytest.raises(RuntimeError, match=r"(?s)exit status -9.*up"):
        use()


def test_a_server_is_stopped_also_when_a_test_fails(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(ZeroDivisionError), running(command, tmp_path, lambda: True) as process:
        raise ZeroDivisionError
    assert process.returncode is not None


def test_reserved_ports_can_be_listened_on() -> None:
    with reserved_ports(2) as ports, socket.create_server(("127.0.0.1", ports[0])) as server:
        assert len(set(ports)) == 2
        socket.create_connection(server.getsockname()).close()
