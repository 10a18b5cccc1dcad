"""A process that dies at any step of a commit harms no version, and the next log of the same content succeeds."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from refart.artifact import Artifact
from refart.context import Context
from refart.store import KINDS, Store
from refart.store.objects import ObjectStore
from refart.workspace import Workspace
from tests.ops.support import sha256, tree, write

# A process that has everything imported, and forks one for each step.
forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload([__name__, "refart.sources.local.source", "psycopg", "s3fs"])


class Steps:
    """Counts the steps of a commit by name, and ends the process without a goodbye right after step `die_after`."""

    def __init__(self, die_after: int | None) -> None:
        self.names: list[str] = []
        self._die_after = die_after
        self.done("begin")

    def done(self, name: str) -> None:
        if len(self.names) == self._die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        self.names.append(name)


class SteppingStore:
    """A store, each of whose writes is a step."""

    def __init__(self, store: Store, steps: Steps) -> None:
        self._store, self._steps = store, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_file(self, kind: str, *arguments: Any, **options: Any) -> bool:
        created = self._store.put_file(kind, *arguments, **options)
        self._steps.done(kind)
        return created

    def put_bytes(self, kind: str, *arguments: Any) -> bool:
        created = self._store.put_bytes(kind, *arguments)
        self._steps.done(kind)
        return created


class SteppingCatalog:
    """A catalog, each SQL statement of whose commit is a step; so is the moment before COMMIT, and the one after."""

    def __init__(self, catalog: Any, steps: Steps) -> None:
        self._catalog, self._steps = catalog, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def commit(self, *arguments: Any) -> Any:
        engine, done = self._catalog._database.engine, self._steps.done
        listeners = {
            "after_cursor_execute": lambda *_: done("statement"),
            "commit": lambda *_: done("before COMMIT"),
        }
        for name, listener in listeners.items():
            event.listen(engine, name, listener)
        committed = self._catalog.commit(*arguments)
        for name, listener in listeners.items():
            event.remove(engine, name, listener)
        done("after COMMIT")
        return committed


def content(folder: Path, number: int) -> dict[str, bytes]:
    """Files of a version: one that all versions share, and two of its own."""
    files = {"shared": b"in every version", "own": b"%d" % number, "deep/own": b"deep %d" % number}
    write(folder / str(number), files)
    return files


def log(context: Context, folder: Path, number: int) -> Artifact:
    """Log version `number`: managed files, and references to the same files."""
    with Workspace(context).init() as run:
        artifact = Workspace(context).draft("data")
        artifact.add_dir(folder / str(number), "managed")
        artifact.add_reference(folder / str(number), "referenced")
        return run.log_artifact(artifact)


def log_and_die(
    url: str, folder: Path, number: int, die_after: int | None, environ: dict[str, str], names: Any
) -> None:
    os.environ.update(environ)  # its own is that of the first test
    tempfile.tempdir = str(folder)  # what a killed process leaves must not pile up on the machine
    context = Workspace.open(url)._context
    steps = Steps(die_after)
    context = replace(
        context, store=SteppingStore(context.store, steps), catalog=SteppingCatalog(context.catalog, steps)
    )  # type: ignore[arg-type]
    log(context, folder, number)
    names.put(steps.names)


def in_another_process(*arguments: Any) -> tuple[int | None, list[str]]:
    """How the process ended, and the steps it went through if it lived."""
    names = forkserver.SimpleQueue()
    child = forkserver.Process(target=log_and_die, args=(*arguments, dict(os.environ), names))
    child.start()
    child.join(120)
    return child.exitcode, [] if names.empty() else names.get()


@pytest.fixture(params=["sqlite", "postgres", "postgres and SeaweedFS"])
def workspace(
    request: pytest.FixtureRequest,
    refart_workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    monkeypatch.setenv("REFART_THREADS", "1")  # so that steps come in the same order every time
    if request.param == "sqlite":
        yield refart_workspace
        return
    url = request.getfixturevalue("postgres_url")
    monkeypatch.setenv("REFART_URL", url)
    store = str(tmp_path / "store")
    if request.param != "postgres":
        seaweed = request.getfixturevalue("seaweed")
        store = seaweed.bucket(versioned=False).uri
        monkeypatch.setenv("REFART_STORAGE_OPTIONS", json.dumps({store: seaweed.storage_options}))
    with Workspace.open(url, store=store) as opened:
        yield opened


def assert_whole(artifact: Artifact, expected: dict[str, bytes], root: Path) -> None:
    both = {f"{side}/{path}": data for side in ("managed", "referenced") for path, data in expected.items()}
    assert {entry.path: entry.content_id for entry in artifact.entries()} == {
        path: "sha256:" + sha256(data) for path, data in both.items()
    }
    assert tree(Path(artifact.download(root / artifact.version))) == both


def assert_every_object_right(store: Store) -> None:
    for kind in KINDS:
        for stored in store.keys(kind):
            data = store.read(kind, stored.key)
            if kind != "shards":  # whose keys are digests of rows: reading every version compared them
                assert hashlib.sha256(data).hexdigest() == stored.key


def test_a_commit_killed_after_each_step(workspace: Workspace, tmp_path: Path) -> None:
    context, sources, roots = workspace._context, tmp_path / "sources", tmp_path / "roots"
    url = os.environ["REFART_URL"]
    expected: list[dict[str, bytes]] = [content(sources, 0), content(sources, 1)]
    log(context, sources, 0)
    exit_code, steps = in_another_process(url, sources, 1, None)
    assert exit_code == 0
    assert steps[:6] == ["begin", "blobs", "blobs", "blobs", "shards", "manifests"]
    assert steps[-2:] == ["before COMMIT", "after COMMIT"]
    assert len(steps) > 12, "statements of the transaction are steps"

    for step, name in enumerate(steps):
        if name == "statement" and isinstance(context.store, ObjectStore):
            continue  # the store has no part in it, and is slow
        number = len(expected)
        told = f"killed after step {step}: {name}"
        expected.append(content(sources, number))
        assert in_another_process(url, sources, number, step) == (-signal.SIGKILL, []), told

        landed = [a.version for a in workspace.artifacts("data")]
        visible = number + (name == "after COMMIT")
        assert landed == [f"v{n}" for n in reversed(range(visible))], told
        for earlier in (0, number - 1):
            assert_whole(workspace.artifact(f"data:v{earlier}"), expected[earlier], roots)
        assert workspace.artifact("data:latest").version == f"v{visible - 1}", told

        again = log(context, sources, number)
        assert (again.version, again.created) == (f"v{number}", name != "after COMMIT"), told
        assert_whole(again, expected[number], roots)

    for number, files in enumerate(expected):
        assert_whole(workspace.artifact(f"data:v{number}"), files, roots)
    assert_every_object_right(context.store)
