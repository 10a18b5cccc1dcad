"""DVC, by its command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.peers import Task, files_below

IMPORTED: Final = Path("data.dvc")


def prepare_import_url(task: Task) -> int:
    """`dvc init --no-scm`, without the look for a newer release."""
    _dvc("init", "-q", "--no-scm")
    _dvc("config", "core.check_update", "false")
    return 0


prepare_import_url_versions = prepare_import_url


def import_url(task: Task) -> int:
    """`dvc import-url --no-download`: a .dvc file with one digest of all ETags; no list of files, no version ids."""
    _import(task)
    (line,) = (line for line in IMPORTED.read_text().splitlines() if "nfiles:" in line)
    return int(line.split()[-1])


def import_url_versions(task: Task) -> int:
    """`dvc import-url --no-download --version-aware`: a .dvc file that lists all files in YAML, with version ids."""
    _import(task, "--version-aware")
    with IMPORTED.open() as file:
        return sum("relpath:" in line for line in file)


def prepare_pull(task: Task) -> int:
    """What there is to pull."""
    prepare_import_url(task)
    return import_url_versions(task)


def pull(task: Task) -> int:
    """`dvc pull` after `dvc import-url --no-download --version-aware`: files and a cache of them, of the recorded
    versions, with an MD5 of each."""
    _dvc("pull", "-q")
    return files_below("data")


def prepare_add(task: Task) -> int:
    """The files, by hard links, in the repository: DVC adds no others."""
    prepare_import_url(task)
    shutil.copytree(task.source, "data", copy_function=os.link)
    return 0


def add(task: Task) -> int:
    """`dvc add folder`: a .dvc file with one digest, a list of MD5s, and the files copied into a cache."""
    _dvc("add", "-q", "data")
    return files_below("data")


def _import(task: Task, *options: str) -> None:
    uri = task.uri.rstrip("/")
    _dvc(
        "import-url",
        "-q",
        "--no-download",
        *options,
        uri,
        "data",
        "--fs-config",
        f"endpointurl={task.endpoint}",
    )


def _dvc(*arguments: str) -> None:
    subprocess.run([Path(sys.prefix, "bin", "dvc"), *arguments], check=True)
