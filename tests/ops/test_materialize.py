"""References that become managed files."""

from __future__ import annotations

import pytest

from refart.errors import ReferenceChangedError
from refart.testing import LAKE_OBJECTS
from tests.ops.support import tree
from tests.ops.test_live import log


def log_draft(workspace, draft):
    with workspace.init() as run:
        return run.log_artifact(draft)


def test_references_become_managed_files_at_their_paths(
    refart_workspace, versioned_lake, s3_requests, tmp_path
):
    artifact = log(refart_workspace, versioned_lake.uri)
    versioned_lake.put("README.txt", b"other")
    draft = artifact.new_draft()
    report = draft.materialize()
    managed = log_draft(refart_workspace, draft)
    assert (report.stored_files, report.kept_files) == (len(LAKE_OBJECTS), 0)
    assert (managed.stored_size, managed.referenced_size) == (artifact.size, 0)
    for key in LAKE_OBJECTS:
        versioned_lake.delete(key)
    assert tree(tmp_path / managed.download(tmp_path / "there")) == LAKE_OBJECTS
    assert managed.logged_by().used_artifacts()[0].qualified_name == artifact.qualified_name


def test_what_the_store_has_is_not_read_again(refart_workspace, versioned_lake, s3_requests):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw")
    artifact.new_draft().materialize("2026")
    s3_requests.clear()
    report = artifact.new_draft().materialize()
    assert (report.stored_files, report.kept_files) == (3, 2)
    assert s3_requests.operations == ["GetObject"]


def test_only_what_is_at_risk(refart_workspace, versioned_lake, unversioned_lake, s3_requests):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw", f"{unversioned_lake.uri}/README.txt")
    versioned_lake.put("raw/labels.json", b"[]")
    versioned_lake.delete("raw/2026/b.csv")
    versioned_lake.put("raw/new", b"-")
    draft = artifact.new_draft()
    s3_requests.clear()
    report = draft.materialize(at_risk=True)
    assert s3_requests.count("GetObject") == report.stored_files == 3
    assert [entry.path for entry in draft.entries() if not entry.is_reference] == [
        "2026/b.csv",
        "README.txt",
        "labels.json",
    ]
    assert draft.file_count == artifact.file_count


def test_what_is_lost_is_an_error_or_stays_a_reference(refart_workspace, unversioned_lake):
    artifact = log(refart_workspace, f"{unversioned_lake.uri}/raw")
    unversioned_lake.put("raw/labels.json", b"[]")
    draft = artifact.new_draft()
    with pytest.raises(ReferenceChangedError, match=r"labels\.json"):
        draft.materialize()
    assert draft.stored_size == 0
    report = draft.materialize(allow_missing_references=True)
    assert (report.lost, report.stored_files) == (["labels.json"], 2)
    assert [entry.path for entry in draft.entries() if entry.is_reference] == ["labels.json"]


def test_large_files_go_by_a_temporary_file(refart_workspace, tmp_path, monkeypatch):
    monkeypatch.setattr("refart.ops.materialize.IN_MEMORY_BYTES", 1)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "large").write_bytes(b"large")
    draft = log(refart_workspace, str(tmp_path / "data")).new_draft()
    assert draft.materialize().moved_bytes == 5
    assert log_draft(refart_workspace, draft).open("large").read() == b"large"
