"""Python programs in processes of their own, as users run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import refart

CHECKOUT = Path(refart.__file__).parents[1]


def environment(**extra: str) -> dict[str, str]:
    """The environment of a child that imports the same refart as this process, wherever it is started."""
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **extra}


def run_python(
    code: str, *arguments: str | os.PathLike[str], cwd: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -c code`; whatever its exit code, the caller judges it."""
    return start_python(code, *arguments, cwd=cwd, **extra).finished()


class Child(subprocess.Popen[str]):
    """A running program."""

    def finished(self) -> subprocess.CompletedProcess[str]:
        out, err = self.communicate(timeout=120)
        return subprocess.CompletedProcess(self.args, self.returncode, out, err)


def start_python(
    code: str, *arguments: str | os.PathLike[str], cwd: Path | None = None, **extra: str
) -> Child:
    return Child(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=environment(**extra),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def good(done: subprocess.CompletedProcess[str]) -> str:
    """The output of a program that ended well."""
    assert done.returncode == 0, done.stderr
    return done.stdout
