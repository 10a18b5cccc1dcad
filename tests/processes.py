"""Programs that tests start: found or missing by one rule, on ports that are theirs, ready before they are used."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """A test cannot have its server: a failure in CI (where `CI` is set), a skip on a laptop."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def program(name: str, *, variable: str, install: str) -> str:
    """Absolute path of a server's program: what the environment variable names, else beside this Python, else on PATH.

    `/usr/sbin` is looked at too, which is not on everybody's PATH. Without the program: `missing`, with the line that
    installs it.
    """
    configured = os.environ.get(variable)
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin"]
    found = shutil.which(configured or name, path=os.pathsep.join(folders))
    if found is None:
        what = f"{variable}={configured}" if configured else name
        missing(f"no {what}: {install}" + ("" if configured else f", or set {variable}"))
    return str(Path(found).absolute())


@contextmanager
def reserved_ports(number: int) -> Iterator[list[int]]:
    """Free TCP ports of 127.0.0.1, kept from everybody but a server that is told to listen on them.

    The sockets stay bound, without listening: no other bind to port 0 and no outgoing connection is given these ports,
    while a server that sets SO_REUSEADDR, as all of ours do, may listen on them.
    """
    sockets = []
    try:
        for _ in range(number):
            one = socket.socket()
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def running(
    command: Sequence[str], folder: Path, ready: Callable[[], bool], *, timeout_s: float = 120
) -> Iterator[subprocess.Popen[bytes]]:
    """A server's process, from the moment that it is ready. Stopped at the end, by its process id.

    A server that does not become ready, or that died while tests used it, is an error that shows the end of its log.
    """
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + timeout_s
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(_said(command, process, log))
            time.sleep(0.05)
        yield process
        if process.poll() is not None:
            raise RuntimeError(_said(command, process, log))
    finally:
        process.kill()  # nothing that a test wrote must survive, and SeaweedFS takes its time to shut down
        process.wait()


def _said(command: Sequence[str], process: subprocess.Popen[bytes], log: Path) -> str:
    code = process.poll()
    state = "did not become ready" if code is None else f"ended with exit status {code}"
    return f"{command[0]} {state}; its log ends:\n{log.read_text(errors='replace')[-4000:]}"
