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
    assert (report.stored_files, report.kept_files) == (1, 2)
    assert report.stored_bytes == report.moved_bytes
    assert s3_requests.operations == ["GetObject"]
    again = artifact.new_draft().materialize()
    assert (again.stored_files, again.stored_bytes, again.kept_files, again.moved_bytes) == (0, 0, 3, 0)


@pytest.mark.parametrize("in_memory_bytes", [0, 1 << 20])
def test_what_only_reading_finds_in_the_store_is_kept(
    refart_workspace, versioned_lake, monkeypatch, in_memory_bytes
):
    monkeypatch.setattr("refart.ops.materialize.IN_MEMORY_BYTES", in_memory_bytes)
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw")
    artifact.new_draft().materialize()
    monkeypatch.setattr("refart.ops.seen.sha256_of", lambda cache, entry: None)
    again = artifact.new_draft().materialize()
    assert (again.stored_files, again.kept_files, again.moved_bytes) == (0, 3, artifact.size)


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
    assert (report.lost, report.stored_files + report.kept_files) == (["labels.json"], 2)
    unversioned_lake.delete("raw/labels.json")
    gone = artifact.new_draft().materialize(allow_missing_references=True)
    assert (gone.lost, gone.stored_files, gone.kept_files) == (["labels.json"], 0, 2)
    assert [entry.path for entry in draft.entries() if entry.is_reference] == ["labels.json"]


def test_large_files_go_by_a_temporary_file(refart_workspace, tmp_path, monkeypatch):
    monkeypatch.setattr("refart.ops.materialize.IN_MEMORY_BYTES", 1)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "large").write_bytes(b"large")
    draft = log(refart_workspace, str(tmp_path / "data")).new_draft()
    assert draft.materialize().moved_bytes == 5
    assert log_draft(refart_workspace, draft).open("large").read() == b"large"
