"""Every byte of a version where it lies: what is wrong, what was read before, what is drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from refart import Artifact, Workspace
from refart.errors import (
    ChecksumError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    SourceError,
)
from refart.ops import shards, verify_bytes
from refart.ops.journal import Journal
from refart.ops.shards import Part
from refart.ops.verify_bytes import BytesReport
from refart.testing import Lake, S3Requests
from tests.manifest.support import small_shards
from tests.ops.test_shards import shard
from tests.places import on_every_kind

FILES = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:03}").write_text(str(number))
    return folder


@pytest.fixture
def artifact(refart_workspace: Workspace, folder: Path, tmp_path: Path) -> Artifact:
    """References to many files, and a managed one, in many shards."""
    draft = Artifact("data", "dataset")
    draft.add_reference(folder)
    (tmp_path / "managed").write_text("managed")
    draft.add_file(tmp_path / "managed")
    with small_shards(3), refart_workspace.init() as run:
        return run.log_artifact(draft)


def now() -> datetime:
    return datetime.now(UTC)


def test_every_byte_is_read(artifact: Artifact) -> None:
    report = artifact.verify_bytes()
    assert (report.ok_entries, report.checked_by) == (FILES + 1, {"sha256": FILES + 1})
    assert report.read_bytes == artifact.size
    assert report.earlier_entries == 0
    report.check()


def test_what_is_wrong_is_told_and_never_remembered(artifact: Artifact, folder: Path) -> None:
    began = now()
    (folder / "007").write_text("other")
    (folder / "008").unlink()
    for _ in range(2):
        report = artifact.verify_bytes(since=began)
        assert (report.modified, report.missing, report.ok_entries) == (["007"], ["008"], FILES - 1)
        with pytest.raises(ChecksumError, match=r"1 entries have other bytes and 1 are gone, such as '007'"):
            report.check("data:v0")
    assert 0 < report.earlier_entries < FILES - 1, "what was right is not read again"
    (folder / "007").write_text("7")
    (folder / "008").write_text("8")
    report = artifact.verify_bytes(since=began)
    assert (report.is_good, report.ok_entries) == (True, FILES + 1)


class Breaking:
    """Breaks off all streams after so many."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.read: list[str] = []
        self.after: int | None = after
        stream = verify_bytes.stream

        def stream_or_break(local: Any, store: Any, entry: Any) -> Any:
            if self.after is not None and len(self.read) >= self.after:
                raise SourceError("the connection broke off", transient=True)
            self.read.append(entry.path)
            return stream(local, store, entry)

        monkeypatch.setattr(verify_bytes, "stream", stream_or_break)


def test_a_call_goes_on_where_the_one_before_was_stopped(
    refart_workspace: Workspace, versioned_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        versioned_lake.put(f"d/{number:02}", str(number).encode())
    draft = Artifact("data", "dataset")
    draft.add_reference(f"{versioned_lake.uri}/d")
    with small_shards(3), refart_workspace.init() as run:
        artifact = run.log_artifact(draft)
    breaking = Breaking(monkeypatch, after=25)
    with pytest.raises(SourceError, match="broke off"):
        artifact.verify_bytes()
    breaking.after = None
    breaking.read.clear()
    report = artifact.verify_bytes()
    assert (report.ok_entries, report.checked_by) == (40, {"md5": 40})
    assert report.earlier_entries == 40 - len(breaking.read) > 0
    assert report.read_bytes == sum(len(str(int(path))) for path in breaking.read)
    assert report.read_bytes + report.earlier_bytes == artifact.size
    assert artifact.verify_bytes().earlier_entries == 0, "that pass came to its end"

    breaking.after = len(breaking.read) + 25
    with pytest.raises(SourceError):
        artifact.verify_bytes()
    breaking.after = None
    assert artifact.verify_bytes(restart=True).earlier_entries == 0


def test_since_counts_what_was_read_later_for_whichever_version(
    refart_workspace: Workspace, artifact: Artifact, tmp_path: Path
) -> None:
    began = now()
    artifact.verify_bytes()
    assert artifact.verify_bytes(since=began.isoformat()).earlier_entries == FILES + 1
    assert artifact.verify_bytes(since=now()).earlier_entries == 0
    draft = artifact.new_draft()
    draft.add_file(tmp_path / "managed", name="zzz")
    with small_shards(3), refart_workspace.init() as run:
        second = run.log_artifact(draft)
    report = second.verify_bytes(since=began)
    assert report.ok_entries == FILES + 2
    assert FILES // 2 < report.earlier_entries < report.ok_entries
    assert report.read_bytes + report.earlier_bytes == second.size
    assert min(report.read_bytes, report.earlier_bytes) > 0


def test_a_part_of_which_only_some_was_read_is_never_noted_as_whole(artifact: Artifact, folder: Path) -> None:
    """Whatever of it has a prefix in common: it is a part of its shard only."""
    began = now()
    manifest = artifact._reader()
    shard = next(shard for shard in manifest.index.shards if shard.first_path > "000" and shard.rows > 1)
    report = artifact.verify_bytes(shard.first_path, since=began)
    assert (report.ok_entries, report.earlier_entries) == (1, 0)
    assert artifact.verify_bytes(shard.first_path, since=began).earlier_entries == 0
    assert artifact.verify_bytes(since=began).earlier_entries == 0
    (folder / shard.last_path).write_text("other")
    report = artifact.verify_bytes(shard.first_path, since=began)
    assert (report.ok_entries, report.is_good) == (1, True), "the rest is not looked at"
    with pytest.raises(NotFoundError, match="'typo' or below it"):
        artifact.verify_bytes("typo")


def test_parts_that_lie_in_a_folder_are_noted(
    refart_workspace: Workspace, folder: Path, tmp_path: Path
) -> None:
    began = now()
    draft = Artifact("data", "dataset")
    draft.add_reference(folder, name="a")
    draft.add_reference(folder, name="b")
    with small_shards(3), refart_workspace.init() as run:
        artifact = run.log_artifact(draft)
    first = artifact.verify_bytes("b/")
    assert (first.ok_entries, first.earlier_entries) == (FILES, 0)
    again = artifact.verify_bytes("b", since=began)
    assert FILES // 2 < again.earlier_entries <= again.ok_entries == FILES
    whole = artifact.verify_bytes(since=began)
    assert (whole.ok_entries, whole.earlier_entries) == (2 * FILES, again.earlier_entries)


def test_a_sample_is_drawn_anew_for_each_seed(artifact: Artifact, folder: Path) -> None:
    for file in folder.iterdir():
        file.write_text("other")
    drawn = {seed: artifact.verify_bytes(sample=10, seed=seed) for seed in (0, 1)}
    assert drawn[0] == artifact.verify_bytes(sample=10)
    assert drawn[0].modified != drawn[1].modified
    assert all(len(report.modified) + report.ok_entries == 10 for report in drawn.values())
    assert len(artifact.verify_bytes(sample=1000).modified) == FILES


@pytest.mark.parametrize(
    "wrong",
    [
        {"sample": 0},
        {"sample": 1, "restart": True},
        {"sample": 1, "path_prefix": "000"},
        {"sample": 1, "since": "2026-01-01T00:00:00Z"},
        {"since": "2026-01-01"},
        {"since": datetime.now(UTC) + timedelta(days=1)},
        {"since": "yesterday"},
        {"since": "2026-01-01T00:00:00Z", "restart": True},
    ],
)
def test_wrong_arguments(artifact: Artifact, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        artifact.verify_bytes(**wrong)


def test_a_file_that_the_store_has_lost(artifact: Artifact) -> None:
    store = Path(artifact._logged_context().store.url)
    (blob,) = [path for path in (store / "blobs").rglob("*") if path.is_file()]
    blob.unlink()
    assert artifact.verify_bytes().missing == ["managed"]


def test_what_may_not_be_read_is_not_called_right(
    refart_workspace: Workspace, unversioned_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = Artifact("data", "dataset")
    draft.add_reference(f"{unversioned_lake.uri}/raw")
    with refart_workspace.init() as run:
        artifact = run.log_artifact(draft)

    def denied(*_: Any) -> None:
        raise PermissionDeniedError("no")

    monkeypatch.setattr(verify_bytes, "stream", denied)
    report = artifact.verify_bytes()
    assert (len(report.denied), report.is_good) == (3, False)
    with pytest.raises(PermissionDeniedError, match="3 entries may not be read"):
        report.check()


@on_every_kind()
def test_bytes_of_every_kind_of_place(lake: Any) -> None:
    for key in ("a", "b"):
        lake.put(f"d/{key}", key.encode())
    with Workspace.open() as workspace, workspace.init() as run:
        draft = Artifact("data", "dataset")
        for key in ("a", "b"):
            draft.add_reference(lake.uri_of(f"d/{key}"))
        artifact = run.log_artifact(draft)
        assert artifact.verify_bytes().checked_by == {lake.kind.rung: 2}
        lake.delete("d/a")
        lake.put("d/b", b"longer than it was")
        report = artifact.verify_bytes()
        assert (report.missing, report.modified) in ((["a"], ["b"]), ([], [])), "kept as a version, or not"


def test_no_request_is_made_for_what_is_noted(
    refart_workspace: Workspace, versioned_lake: Lake, s3_requests: S3Requests
) -> None:
    draft = Artifact("data", "dataset")
    draft.add_reference(f"{versioned_lake.uri}/raw")
    with refart_workspace.init() as run:
        artifact = run.log_artifact(draft)
    began = now()
    s3_requests.clear()
    artifact.verify_bytes()
    assert s3_requests.operations == ["GetObject"] * 3
    s3_requests.clear()
    assert artifact.verify_bytes(since=began).ok_entries == 3
    assert s3_requests.operations == []


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "cache", "store")) as journal:
        yield journal


def test_the_journal_knows_parts_of_one_store(journal: Journal, tmp_path: Path) -> None:
    part = Part(shard(10, 100), 0, 5)
    journal.note(part, 100.0, {"ok_entries": 5})
    assert journal.found(part, 100.0) == {"ok_entries": 5}
    assert journal.found(part, 100.5) is None
    assert journal.found(part._replace(start=1), 0.0) is None
    with closing(Journal(tmp_path / "cache", "another store")) as other:
        assert other.found(part, 0.0) is None


def test_the_journal_knows_what_did_not_end(journal: Journal) -> None:
    assert journal.unfinished("m") is None
    journal.begin("m", 5.0)
    assert journal.unfinished("m") == 5.0
    journal.finish("m")
    assert journal.unfinished("m") is None


def test_a_journal_of_no_use_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with closing(Journal(tmp_path / "cache", "store")) as journal:
        journal.begin("m", 5.0)
        journal.note(Part(shard(1, 1), 0, 1), 1.0, json.loads("{}"))
        assert journal.found(Part(shard(1, 1), 0, 1), 0.0) is None


def test_reports_add_up() -> None:
    report = BytesReport(1, 2, 0, 0, {"md5": 1})
    shards.add_up(report, BytesReport(1, 3, 1, 4, {"md5": 1, "sha256": 2}, modified=["a"]))
    assert report == BytesReport(2, 5, 1, 4, {"md5": 2, "sha256": 2}, modified=["a"])


def test_large_entries_are_noted_a_few_at_a_time() -> None:
    """4 GiB of objects of 1 GiB each are four."""
    parts = list(shards.parts_of([shard(10, 10 << 30)], size_bytes=shards.PART_BYTES))
    assert [part.rows for part in parts] == [4, 4, 2]
