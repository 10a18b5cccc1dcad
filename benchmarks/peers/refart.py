"""refart itself, from an empty workspace to a logged version."""

from __future__ import annotations

from typing import Any

import refart
from benchmarks.peers import Task


def add_reference(task: Task) -> int:
    """`Artifact.add_reference(uri)` and `log_artifact`: a sorted manifest on disk and a version in the catalog, with
    version ids where the bucket has them."""
    return _logged(lambda artifact: artifact.add_reference(task.uri))


prepare_download = add_reference


def download(task: Task) -> int:
    """`use_artifact("data:latest").download(folder)`: files and a cache of them, of the recorded versions, compared
    with the recorded checksums; with `refart[fast]`."""
    with refart.init() as run:
        artifact = run.use_artifact("data:latest")
        artifact.download("out")
        return int(artifact.file_count)


def add_reference_folder(task: Task) -> int:
    """`Artifact.add_reference(folder)` and `log_artifact`: a sorted manifest on disk with SHA-256, a version in the
    catalog; nothing is copied."""
    return _logged(lambda artifact: artifact.add_reference(task.source))


def add_dir(task: Task) -> int:
    """`Artifact.add_dir(folder)` and `log_artifact`: the same, and a copy of the files in the store."""
    return _logged(lambda artifact: artifact.add_dir(task.source))


def _logged(fill: Any) -> int:
    with refart.init() as run:
        artifact = refart.Artifact("data", type="dataset")
        fill(artifact)
        return int(run.log_artifact(artifact).file_count)
