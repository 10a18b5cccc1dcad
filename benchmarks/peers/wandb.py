"""W&B Artifacts in an offline run: all that its client does, but for the upload of the manifest."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import wandb
from wandb.sdk.artifacts.artifact import _FILE_EXECUTOR_WORKERS
from wandb.sdk.artifacts.artifact_manifest import ArtifactManifest

from benchmarks.peers import Task, files_below

MANIFEST: Final = Path("manifest.json")


def add_reference(task: Task) -> int:
    """`Artifact.add_reference(uri)` and `log_artifact` in an offline run: a manifest in memory, with version ids by
    one HEAD an object."""
    return _logged(lambda artifact: artifact.add_reference(task.uri))


def add_dir(task: Task) -> int:
    """`Artifact.add_dir(folder)` and `log_artifact` in an offline run: a manifest in memory with MD5s, and a copy of
    the files in a staging folder."""
    return _logged(lambda artifact: artifact.add_dir(str(task.source)))


def add_dir_immutable(task: Task) -> int:
    """`Artifact.add_dir(folder, policy="immutable")` and `log_artifact` in an offline run: a manifest in memory with
    MD5s; nothing is copied."""
    return _logged(lambda artifact: artifact.add_dir(str(task.source), policy="immutable"))


def add_dir_xxh128(task: Task) -> int:
    """`Artifact(…, digest_algorithm="XXH128").add_dir(folder, policy="immutable")` and `log_artifact` in an offline
    run: a manifest in memory with XXH128s; nothing is copied."""
    return _logged(
        lambda artifact: artifact.add_dir(str(task.source), policy="immutable"), digest_algorithm="XXH128"
    )


def _logged(fill: Any, **options: str) -> int:
    with wandb.init(project="benchmarks", mode="offline") as run:
        artifact = wandb.Artifact("data", type="dataset", **options)
        fill(artifact)
        run.log_artifact(artifact)
    return len(artifact.manifest.entries)


def prepare_download(task: Task) -> int:
    """The manifest that the server would keep."""
    artifact = wandb.Artifact("data", type="dataset")
    artifact.add_reference(task.uri)
    MANIFEST.write_text(json.dumps(artifact.manifest.to_manifest_json()))
    return len(artifact.manifest.entries)


def download(task: Task) -> int:
    """`entry.download(root)` of all entries in as many threads as `Artifact.download` has (which would ask the server
    first): files and a cache of them, of the recorded versions, not verified."""
    artifact = wandb.Artifact("data", type="dataset")
    manifest = ArtifactManifest.from_manifest_json(json.loads(MANIFEST.read_text()))
    for entry in manifest.entries.values():
        entry._parent_artifact = artifact
    with ThreadPoolExecutor(_FILE_EXECUTOR_WORKERS) as pool:
        list(pool.map(lambda entry: entry.download("out"), manifest.entries.values()))
    return files_below("out")
