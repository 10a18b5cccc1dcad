"""Runs a command and tells what it cost: CPU of all its processes, wall time, peak of memory.

    run_child([sys.executable, "-c", "…"], {**os.environ, "NAME": "value"})

Between the caller and the command stands one small process (this file), for two reasons. On Linux `ru_maxrss` starts
with the peak of the process that started it, so a large caller would be measured along. And processes that the command
leaves behind (services, daemons) come to the small one, which waits for them and counts their CPU too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

PR_SET_CHILD_SUBREAPER: Final = 36
"""`prctl(2)`, Linux: orphans of this process' descendants become its children."""

LEFT_BEHIND_S: Final = 30
"""How long a process that outlives the command may take to end; then it is killed, its CPU uncounted."""


def run_child(
    command: Sequence[str | os.PathLike[str]],
    env: Mapping[str, str] | None = None,
    *,
    cwd: str | os.PathLike[str] | None = None,
    stdout: str | os.PathLike[str] | None = None,
    timeout_s: float | None = None,
) -> dict[str, Any]:
    """Run `command` to its end.

    Returns `cpu_s` (user and system, of the command and all that it started), `wall_s` (until the command itself
    ended), `rss_mb` (peak of its largest process) and `output`: what it printed, or `""` where `stdout` is a file for
    it. `env` is the whole environment, this process' own by default; PYTHONDONTWRITEBYTECODE is left out of it.

    Raises `RuntimeError` with the end of what it wrote to stderr where the command fails, and
    `subprocess.TimeoutExpired` where it takes longer than `timeout_s`; nothing of it runs on.
    """
    read_fd, write_fd = os.pipe()
    sink = subprocess.PIPE if stdout is None else Path(stdout).open("wb")  # noqa: SIM115
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(write_fd), *(os.fspath(word) for word in command)],
            # Modules are compiled once, as on a user's machine, not in every process.
            env={k: v for k, v in (env or os.environ).items() if k != "PYTHONDONTWRITEBYTECODE"},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.PIPE,
            pass_fds=[write_fd],
            start_new_session=True,
        )
    finally:
        os.close(write_fd)
        if stdout is not None:
            sink.close()  # type: ignore[union-attr]
    with child, os.fdopen(read_fd, "rb") as report:
        try:
            output, errors = child.communicate(timeout=timeout_s)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        record: dict[str, Any] = json.loads(report.read() or b"{}")
    if record.pop("status", 1) != 0:
        raise RuntimeError(f"{command[0]} failed: {errors.decode(errors='replace')[-2_000:]}")
    return record | {"output": (output or b"").decode(errors="replace")}


def _launch(report_fd: int, command: list[str]) -> None:
    """Run the command in the place of the caller, and write what it cost."""
    os.set_inheritable(report_fd, False)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    start_s = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ)
    status, cpu_s, wall_s, maxrss = 1, 0.0, 0.0, 0
    signal.signal(signal.SIGALRM, _give_up)
    with suppress(ChildProcessError, TimeoutError):  # no more children; or one that goes on
        while True:
            ended, wait_status, usage = os.wait4(-1, 0)
            cpu_s += usage.ru_utime + usage.ru_stime
            maxrss = max(maxrss, usage.ru_maxrss)
            if ended == pid:
                wall_s = time.perf_counter() - start_s
                status = os.waitstatus_to_exitcode(wait_status)
                signal.alarm(LEFT_BEHIND_S)
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    record = {
        "status": status,
        "cpu_s": round(cpu_s, 3),
        "wall_s": round(wall_s, 3),
        "rss_mb": round(maxrss / unit),
    }
    os.write(report_fd, json.dumps(record).encode())
    os.killpg(0, signal.SIGKILL)  # with what is left; this process leads the group


def _give_up(*_: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    _launch(int(sys.argv[1]), sys.argv[2:])
