"""Examines a file or folder of this machine: what is there, and whether it can be read. Reads one byte of one file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from refart import files
from refart.errors import RefartError
from refart.receipts import Receipts
from refart.sources.findings import SAMPLE, Finding, ok, refused, warn
from refart.sources.local.walk import stat_path

NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "afs", "ceph", "lustre"})
"""File systems of other machines, as /proc/mounts names them."""


def diagnose(path: str, receipts: Receipts) -> Iterator[Finding]:
    """See `DiagnosableSource`."""
    try:
        stat_path(path)
        first = _first_file(path)
    except RefartError as error:
        yield refused("access", error, "nothing can be logged", "check the path, and its permissions")
        return
    if os.path.isdir(path):
        yield ok("list", "the folder can be listed")
    if first is None:
        yield warn(
            "list", f"no file lies directly in {path}", "there may be nothing to log", "check the path"
        )
    else:
        yield from _reading(first, receipts)
    kind = _file_system(path)
    if kind in NETWORK:
        yield warn(
            "files",
            f"{path} lies on a file system of another machine ({kind})",
            "times and inodes, by which files are not hashed again, are as exact as its server keeps them",
            "log with force=True where files are rewritten within one tick of its clock",
        )
    yield warn(
        "versions",
        "a file system keeps no old versions",
        "a change is noticed, by the SHA-256 of every file, but the logged bytes cannot be had again",
        "add_dir and add_file keep copies, each content once",
    )


def _first_file(path: str) -> str | None:
    """The path itself, or a file in the folder; None where there is none among the first entries."""
    if not os.path.isdir(path):
        return path
    try:
        with os.scandir(path) as entries:
            found = (entry.path for entry in islice(entries, SAMPLE) if entry.is_file())
            return next(found, None)
    except OSError as error:
        raise files.reading_error(error, path) from error


def _reading(path: str, receipts: Receipts) -> Iterator[Finding]:
    try:
        with files.open_for_reading(path) as file:
            next(files.chunks(file), b"")
        known = receipts.lookup([path])
    except RefartError as error:
        yield refused("read", error, "what cannot be read cannot be hashed", "give read permission")
        return
    yield ok("read", "a file was read")
    said = "is known, and not read again while size and times stay" if known else "will be computed once"
    yield ok("checksum", f"files are identified by SHA-256; that of the one looked at {said}")


def _file_system(path: str) -> str | None:
    """Its kind, where the system tells (Linux)."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    rows = [line.split(" ") for line in mounts.splitlines()]
    real = os.path.realpath(path)
    on = [
        (row[1], row[2]) for row in rows if len(row) > 2 and f"{real}/".startswith(row[1].rstrip("/") + "/")
    ]
    return max(on, key=lambda mount: len(mount[0]), default=("", None))[1]
