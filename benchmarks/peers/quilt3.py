"""quilt3."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import quilt3

from benchmarks.peers import Task, files_below

MANIFEST: Final = Path("manifest.jsonl")


def set_dir(task: Task) -> int:
    """`Package().set_dir("/", uri)` and `dump`: a manifest of JSON lines, with version ids; no checksums, for which
    `build` would read every object."""
    package = quilt3.Package().set_dir("/", task.uri)
    with MANIFEST.open("w") as file:
        package.dump(file)
    return sum(1 for _ in package.walk())


prepare_fetch = set_dir


def fetch(task: Task) -> int:
    """`Package.load(manifest).fetch(folder)`: files, of the versions in the manifest, not verified."""
    with MANIFEST.open() as file:
        quilt3.Package.load(file).fetch("out/")
    return files_below("out")


def build(task: Task) -> int:
    """`Package().set_dir("/", folder)` and `build`: a manifest of JSON lines, with SHA-256 of chunks; nothing is
    copied."""
    package = quilt3.Package().set_dir("/", str(task.source))
    package.build("benchmarks/folder")
    return sum(1 for _ in package.walk())
