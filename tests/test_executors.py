"""Bulk verbs by the workers of a Dask cluster, and of a pool of processes: the same result, and little that travels."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from refart import Artifact, Workspace
from refart.testing import Lake
from tests.artifacts import contents
from tests.lakes import moto_options
from tests.manifest.support import small_shards

OBJECTS = 60
TASK_BYTES = 8 << 10
"""More than a shard's description, or a small page of entries, with the configuration; far less than all entries."""


class Measured(Executor):
    """Hands calls on, and remembers how large they were."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.sent_bytes: list[int] = []

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.sent_bytes.append(len(pickle.dumps((function, args, kwargs))))
        return self._executor.submit(function, *args, **kwargs)


@pytest.fixture(scope="module")
def dask_executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    """Two worker processes."""
    import dask
    from distributed import Client, LocalCluster

    with (
        dask.config.set({"temporary-directory": str(tmp_path_factory.mktemp("dask"))}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor()


@pytest.fixture(scope="module")
def process_executor() -> Iterator[Executor]:
    started = multiprocessing.get_context("spawn")  # a fork takes the threads of a test's servers along
    with ProcessPoolExecutor(2, mp_context=started) as pool:
        yield pool


@pytest.fixture(params=["dask", "process"])
def executor(request: pytest.FixtureRequest) -> Measured:
    return Measured(request.getfixturevalue(f"{request.param}_executor"))


@pytest.fixture
def lake(
    versioned_lake: Lake, s3_server: Any, refart_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> Lake:
    """Objects that workers reach by the configuration alone: they were started before it was known."""
    monkeypatch.setenv("REFART_STORAGE_OPTIONS", json.dumps({"s3://": moto_options(s3_server.url)}))
    for number in range(OBJECTS):
        versioned_lake.put(f"data/{number:03}", f"object {number}".encode())
    return versioned_lake


@pytest.fixture
def workspace(lake: Lake) -> Iterator[Workspace]:
    with Workspace.open() as workspace:
        yield workspace


def logged(workspace: Workspace, uri: str, **how: Any) -> Artifact:
    draft = Artifact("data", "dataset")
    draft.add_reference(uri, **how)
    with small_shards(4), workspace.init() as run:
        return run.log_artifact(draft)


def test_content_hashing(workspace: Workspace, lake: Lake, executor: Measured) -> None:
    """Small pages of entries travel."""
    here = logged(workspace, f"{lake.uri}/data", checksum="sha256")
    there = logged(workspace, f"{lake.uri}/data", checksum="sha256", executor=executor)
    assert there.digest == here.digest
    assert not there.created
    assert max(executor.sent_bytes) < TASK_BYTES


def test_verifying_bytes(workspace: Workspace, lake: Lake, executor: Measured) -> None:
    """Parts of shards travel; and what was wrong once is looked at again, whatever a cluster remembers."""
    artifact = logged(workspace, f"{lake.uri}/data")
    assert len(artifact._reader().index.shards) > 1
    here = artifact.verify_bytes()
    assert artifact.verify_bytes(executor=executor) == here
    assert here.checked_by == {"md5": OBJECTS}
    assert artifact.verify_bytes(sample=9, executor=executor) == artifact.verify_bytes(sample=9)
    for version in lake.client.list_object_versions(Bucket=lake.bucket, Prefix="data/007")["Versions"]:
        lake.delete("data/007", version["VersionId"])
    assert artifact.verify_bytes(executor=executor).missing == ["007"]
    assert artifact.verify_remote(executor=executor).lost == ["007"]
    assert artifact.verify_remote(sample=9, executor=executor).references == 9
    assert artifact.status(executor=executor).read() == artifact.status().read()
    assert max(executor.sent_bytes) < TASK_BYTES


def test_downloading(workspace: Workspace, lake: Lake, executor: Measured, tmp_path: Path) -> None:
    """To a folder that all workers see."""
    artifact = logged(workspace, f"{lake.uri}/data")
    choice: dict[str, Any] = {"exclude": "*7"}
    here = artifact.download_report(tmp_path / "here", **choice)
    there = artifact.download_report(tmp_path / "there", executor=executor, **choice)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert there.files == OBJECTS - OBJECTS // 10
    assert there.checked_by.keys() <= {"md5", "sha256"}
    assert asdict(there) == {**asdict(here), "root": there.root, **_moved(there)}
    again = artifact.download_report(tmp_path / "there", executor=executor, path_prefix="003")
    assert (again.files, again.kept_files) == (1, 1)
    assert max(executor.sent_bytes) < TASK_BYTES


def _moved(report: Any) -> dict[str, Any]:
    """What the cache decides: the second download finds what the first one brought."""
    return {name: getattr(report, name) for name in ("cached_files", "moved_bytes", "checked_by")}


def test_materializing(workspace: Workspace, lake: Lake, executor: Measured) -> None:
    artifact = logged(workspace, f"{lake.uri}/data")
    here, there = artifact.new_draft(), artifact.new_draft()
    report = here.materialize()
    assert report.stored_files == OBJECTS
    assert there.materialize(executor=executor).kept_files == OBJECTS
    assert there.digest == here.digest
    assert not any(entry.is_reference for entry in there.entries())
    assert max(executor.sent_bytes) < TASK_BYTES
