"""A version against what lies at its references now, and against a folder: every kind of change, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refart.artifact import Artifact
from refart.manifest.compare import Diff
from refart.workspace import Workspace
from tests.ops.support import write
from tests.places import Can, on_every_kind


def logged(workspace: Workspace, *uris: str, **how: Any) -> Artifact:
    with workspace.init() as run:
        draft = workspace.draft("data")
        for uri in uris:
            draft.add_reference(uri, **how)
        return run.log_artifact(draft)


def told(changes: Diff) -> dict[str, str]:
    """Path → change; of what moved, the old path."""
    rows = [row for page in changes for row in page.to_pylist()]
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    return {row["path"]: row["old_path"] or row["change"] for row in rows}


@on_every_kind(Can.LIST)
def test_changes_of_every_kind_of_place(lake: Any) -> None:
    """Whatever a listing tells of the bytes: size alone is enough for these."""
    for key in ("same", "changed", "gone", "old"):
        lake.put(f"data/{key}", key.encode())
    with Workspace.open() as workspace:
        artifact = logged(workspace, lake.uri_of("data"))
        assert told(artifact.diff_live()) == {}
        lake.put("data/changed", b"longer than before")
        lake.put("data/more", b"and more")
        lake.delete("data/gone")
        lake.delete("data/old")
        lake.put("data/renamed", b"old")
        expected = {"changed": "modified", "gone": "removed", "more": "added"}
        is_known = lake.kind.algo in ("md5", "sha256")
        moved = {"renamed": "old"} if is_known else {"renamed": "added", "old": "removed"}
        changes = artifact.diff_live()
        assert told(changes) == expected | moved
        assert changes.summary.new_modified_bytes == len(b"longer than before")
        assert told(artifact.diff_live("more/")) == {"more": "added"}


def test_what_cannot_be_told_is_unknown(refart_workspace: Workspace, versioned_lake: Any) -> None:
    """A SHA-256 says nothing of the MD5 that another write has."""
    artifact = logged(refart_workspace, f"{versioned_lake.uri}/raw", checksum="sha256")
    versioned_lake.put("raw/labels.json", b'["cat", "cow"]\n')
    changes = artifact.diff_live()
    assert told(changes) == {"labels.json": "unknown"}
    assert (changes.summary.unknown, changes.summary.unknown_bytes) == (1, 15)


def test_a_live_diff_is_one_listing(
    refart_workspace: Workspace, versioned_lake: Any, s3_requests: Any
) -> None:
    artifact = logged(refart_workspace, f"{versioned_lake.uri}/raw")
    s3_requests.clear()
    assert told(artifact.diff_live()) == {}
    assert s3_requests.operations == ["ListObjectVersions"]


def test_managed_files_are_not_asked_about(
    refart_workspace: Workspace, versioned_lake: Any, tmp_path: Path
) -> None:
    """Nor are they taken for removed ones, or an object in whose place one was put for a new one."""
    with refart_workspace.init() as run:
        draft = refart_workspace.draft("data")
        draft.add_reference(f"{versioned_lake.uri}/raw")
        draft.add_file(write(tmp_path / "own", {"labels.json": b"[]"}) / "labels.json", overwrite=True)
        draft.add_file(tmp_path / "own" / "labels.json", name="more.json")
        artifact = run.log_artifact(draft)
    assert told(artifact.diff_live()) == {}


def folder_of(artifact: Artifact, tmp_path: Path) -> Path:
    return Path(artifact.download(tmp_path / "root", link="copy"))


@pytest.mark.parametrize("checksum", [True, "sha256", False])
def test_a_folder_is_compared_by_what_is_known(
    refart_workspace: Workspace, versioned_lake: Any, tmp_path: Path, checksum: Any
) -> None:
    """Also where an MD5, or a pin alone, is recorded: a download saw the bytes."""
    artifact = logged(refart_workspace, f"{versioned_lake.uri}/raw", checksum=checksum)
    root = folder_of(artifact, tmp_path)
    assert told(artifact.diff_folder(root)) == {}
    (root / "labels.json").write_bytes(b'["cat", "cow"]\n')
    (root / "2026" / "a.csv").unlink()
    (root / "2026" / "b.csv").rename(root / "c.csv")
    (root / "link").symlink_to("c.csv")
    (root / ".refart-0123456789abcdef.tmp").touch()
    changes = artifact.diff_folder(root)
    assert told(changes) == {"2026/a.csv": "removed", "c.csv": "2026/b.csv", "labels.json": "modified"}
    assert told(artifact.diff_folder(root, "2026")) == {"2026/a.csv": "removed", "2026/b.csv": "removed"}


@pytest.mark.parametrize(("checksum", "change"), [(True, None), (False, "unknown")])
def test_a_folder_that_somebody_else_filled(
    refart_workspace: Workspace, versioned_lake: Any, tmp_path: Path, checksum: Any, change: str | None
) -> None:
    """An MD5 is computed again; where nothing is known, that is said."""
    artifact = logged(refart_workspace, f"{versioned_lake.uri}/raw/2026", checksum=checksum)
    root = write(tmp_path / "root", {"a.csv": b"id,label\n1,cat\n2,dog\n", "b.csv": b"id,label\n3,cow\n"})
    expected = {"a.csv": change, "b.csv": change or "modified"}
    assert told(artifact.diff_folder(root)) == {path: word for path, word in expected.items() if word}
