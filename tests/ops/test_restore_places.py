"""Restoring on every kind of place: by its server, from the store, or not at all, and saying so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from refart import Workspace
from refart.errors import ReferenceMissingError
from refart.run import Run
from tests.artifacts import referring
from tests.lakes import Lake
from tests.places import Can, on_every_kind


@pytest.fixture
def run(lake: Lake) -> Iterator[Run]:
    with Workspace.open() as workspace, workspace.init() as run:
        yield run


@on_every_kind(Can.LIST, Can.KEEP)
def test_what_was_overwritten_or_deleted_comes_back(lake: Lake, run: Run) -> None:
    for key in ("data/changed", "data/gone", "data/same", "data/a b+%25#?"):
        lake.put(key, key.encode())
    artifact = run.log_artifact(referring(f"{lake.uri}/data"))
    lake.put("data/changed", b"other")
    lake.put("data/a b+%25#?", b"other")
    lake.delete("data/gone")
    lake.put("data/new", b"new")
    report = artifact.restore(delete=True)
    assert (report.restored_files, report.deleted_files, report.unverified) == (3, 1, [])
    assert referring(f"{lake.uri}/data").digest == artifact.digest
    assert artifact.restore_plan(delete=True).is_empty


@on_every_kind(Can.LIST, Can.HASH)
def test_another_prefix_gets_what_is_unchanged(lake: Lake, run: Run) -> None:
    for key in ("data/a", "data/b/c"):
        lake.put(key, key.encode())
    artifact = run.log_artifact(referring(f"{lake.uri}/data"))
    report = artifact.restore(to=f"{lake.uri}/back")
    assert (report.restored_files, report.unverified) == (2, [])
    assert referring(f"{lake.uri}/back").digest == artifact.digest
    draft = artifact.new_draft()
    assert draft.relocate(f"{lake.uri}/data", f"{lake.uri}/back") == 2
    assert run.log_artifact(draft).digest == artifact.digest


@on_every_kind(Can.LIST)
def test_what_cannot_be_restored_is_said_and_can_be_materialized_before(lake: Lake, run: Run) -> None:
    lake.put("data/a", b"a")
    artifact = run.log_artifact(referring(f"{lake.uri}/data"))
    draft = artifact.new_draft()
    draft.materialize()
    kept = run.log_artifact(draft)
    lake.delete("data/a")
    if lake.kind.can(Can.KEEP) or lake.kind.name == "local":  # whose bytes are in the store now
        assert artifact.restore().restored_files == 1
    else:
        with pytest.raises(ReferenceMissingError, match="data/a"):
            artifact.restore()
    assert kept.open("a").read() == b"a"
