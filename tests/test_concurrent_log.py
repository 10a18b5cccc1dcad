"""Sixteen processes log into one collection at the same time: none is lost, and equal content is one version."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

import refart
from refart.workspace import Workspace
from tests.ops.support import tree, write

WRITERS = 16
_barrier: Barrier


def prepare(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def log(url: str, folder: str, environ: dict[str, str]) -> tuple[str, bool]:
    """Log a folder as managed files and as references, when all others are ready to."""
    os.environ.update(environ)  # its own is that of the first test
    with refart.init(workspace=url) as run:
        artifact = refart.Artifact("data", "dataset")
        artifact.add_dir(folder, "managed")
        artifact.add_reference(folder, "referenced")
        _barrier.wait(timeout=120)
        logged = run.log_artifact(artifact)
    return logged.version, logged.created


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Sixteen processes that share no memory; they start once, as starting costs the most."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WRITERS, context, prepare, (context.Barrier(WRITERS),)) as pool:
        yield pool


Log = Callable[[list[Path]], list[tuple[str, bool]]]


@pytest.fixture(params=["sqlite", "postgres", "postgres and SeaweedFS"])
def workspace(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    refart_workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Workspace]:
    """An empty workspace, on either database, with its store in a folder or on a server."""
    if request.param == "sqlite":
        yield refart_workspace
        return
    store = str(tmp_path / "store")
    if request.param != "postgres":
        seaweed = request.getfixturevalue("seaweed")
        store = seaweed.bucket(versioned=False).uri
        monkeypatch.setenv("REFART_STORAGE_OPTIONS", json.dumps({store: seaweed.storage_options}))
    with Workspace.open(request.getfixturevalue("postgres_url"), store=store) as opened:
        yield opened


@pytest.fixture
def url(request: pytest.FixtureRequest, workspace: Workspace) -> str:
    """With its password, which a workspace does not show."""
    return workspace.url if "sqlite" in request.node.name else request.getfixturevalue("postgres_url")


@pytest.fixture
def log_all(pool: ProcessPoolExecutor, url: str) -> Log:
    def call(folders: list[Path]) -> list[tuple[str, bool]]:
        calls = [pool.submit(log, url, str(folder), dict(os.environ)) for folder in folders]
        return [call.result(timeout=240) for call in calls]

    return call


def folder_of(tmp_path: Path, number: int) -> Path:
    return write(
        tmp_path / str(number), {"shared": b"in all", "own": b"%d" % number, "deep/own": b"d%d" % number}
    )


def test_different_contents_become_v0_to_v15(workspace: Workspace, log_all: Log, tmp_path: Path) -> None:
    folders = [folder_of(tmp_path, number) for number in range(WRITERS)]
    logged = log_all(folders)
    assert sorted(logged) == sorted((f"v{number}", True) for number in range(WRITERS))

    for (version, _), folder in zip(logged, folders, strict=True):
        artifact = workspace.artifact(f"data:{version}")
        root = Path(artifact.download(tmp_path / "roots" / version))
        assert tree(root / "managed") == tree(root / "referenced") == tree(folder)
        assert len(artifact) == 6
    latest = workspace.artifact("data:latest")
    assert [a.version for a in workspace.artifacts("data")] == [f"v{n}" for n in reversed(range(WRITERS))]
    assert latest.version == workspace.artifacts("data")[0].version, "the last number was given last"
    assert [run.state for run in workspace.runs()] == ["finished"] * WRITERS


def test_the_same_content_from_all_becomes_one_version(
    workspace: Workspace, log_all: Log, tmp_path: Path
) -> None:
    logged = log_all([folder_of(tmp_path, 0)] * WRITERS)
    assert [version for version, _ in logged] == ["v0"] * WRITERS
    assert [created for _, created in logged].count(True) == 1
    assert len(workspace.artifacts("data")) == 1

    artifact = workspace.artifact("data:v0")
    edges = artifact.lineage("upstream").edges
    assert {edge.kind for edge in edges} == {"output"}
    assert {edge.run_id for edge in edges} == {run.id for run in workspace.runs()}
    assert len(edges) == WRITERS
    root = Path(artifact.download(tmp_path / "root"))
    assert tree(root / "managed") == tree(root / "referenced") == tree(tmp_path / "0")
