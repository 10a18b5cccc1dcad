"""Choosing entries of a version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refart.artifact import Artifact
from refart.errors import InvalidInputError, NotFoundError
from refart.ops.select import selection
from refart.workspace import Workspace
from tests.manifest.support import small_shards
from tests.ops.support import paths, write

FILES = ["a", "a.csv", "data/a.csv", "data/b.jpg", "data2/c.csv"]


def logged(workspace: Workspace, tmp_path: Path, names: list[str]) -> Artifact:
    with workspace.init() as run:
        artifact = workspace.draft("data")
        if names:
            artifact.add_dir(write(tmp_path / "source", dict.fromkeys(names, b"x")))
        return run.log_artifact(artifact)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, FILES),
        ({"path_prefix": "data"}, ["data/a.csv", "data/b.jpg"]),
        ({"path_prefix": "data/"}, ["data/a.csv", "data/b.jpg"]),
        ({"path_prefix": "a"}, ["a"]),
        ({"include": "*.csv"}, ["a.csv", "data/a.csv", "data2/c.csv"]),
        ({"path_prefix": "data", "include": "*.csv"}, ["data/a.csv"]),
        ({"path_prefix": "data", "exclude": "*.csv"}, ["data/b.jpg"]),
        ({"exclude": "*"}, []),
    ],
)
def test_selection(refart_workspace: Workspace, tmp_path: Path, chosen: dict, expected: list[str]) -> None:
    pages = selection(logged(refart_workspace, tmp_path, FILES)._reader(), "data:v0", **chosen)
    assert paths(pages()) == paths(pages()) == expected, "it may be read again and again"


def test_a_typing_error_does_not_look_like_an_empty_success(
    refart_workspace: Workspace, tmp_path: Path
) -> None:
    reader = logged(refart_workspace, tmp_path, FILES)._reader()
    with pytest.raises(NotFoundError, match="data:v0 has no entry for path_prefix='dat'"):
        selection(reader, "data:v0", path_prefix="dat")
    with pytest.raises(NotFoundError, match=r"for path_prefix='data' and include='\*.png'"):
        selection(reader, "data:v0", path_prefix="data", include="*.png")
    with pytest.raises(InvalidInputError):
        selection(reader, "data:v0", path_prefix="../data")


def test_a_prefix_is_looked_for_without_reading_everything(
    refart_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounds of shards tell, else one page of what may hold it."""
    with small_shards(2):
        reader = logged(refart_workspace, tmp_path, [f"{n:03}/x" for n in range(200)])._reader()
    assert len(reader.index.shards) > 10
    opened = []
    open_shard = reader.open_shard
    monkeypatch.setattr(reader, "open_shard", lambda shard: opened.append(shard) or open_shard(shard))
    for there in (f"{number:03}{rest}" for number in range(200) for rest in ("", "/x")):
        assert reader.has_any(there)
        assert len(opened) <= 1
        opened.clear()
    for nowhere in ("00", "000_", "100x", "100/y", "100/x/y", "a", "!"):
        assert not reader.has_any(nowhere)
        assert len(opened) <= 2
        opened.clear()


def test_a_typing_error_never_looks_like_a_good_result(refart_workspace: Workspace, tmp_path: Path) -> None:
    """Whatever compares below a path refuses one at which no side has anything; where one has, it compares."""
    folder = write(tmp_path / "lake", {"a": b"a", "d/b": b"b"})
    draft = refart_workspace.draft("data")
    draft.add_reference(folder)
    with refart_workspace.init() as run:
        artifact = run.log_artifact(draft)
    later = artifact.new_draft()
    later.remove("d")
    with refart_workspace.init() as run:
        other = run.log_artifact(later)
    root = artifact.download(tmp_path / "root")
    for call in (
        lambda prefix: artifact.status(prefix),
        lambda prefix: artifact.verify_remote(prefix),
        lambda prefix: artifact.diff(other, prefix),
        lambda prefix: artifact.diff_live(prefix),
        lambda prefix: artifact.diff_folder(root, prefix),
        lambda prefix: artifact.new_draft().materialize(path_prefix=prefix),
    ):
        with pytest.raises(NotFoundError, match="'typo' or below it"):
            call("typo")
        call("d/")
    assert artifact.diff(other, "d").read().removed == other.diff(artifact, "d").read().added == 1
    assert other.status("d").read().entries["new"] == other.diff_live("d").read().added == 1
    assert other.diff_folder(root, "d").read().added == 1
    with pytest.raises(NotFoundError):
        other.verify_remote("d")
    assert list(artifact.uris("typo")) == []
    assert artifact.to_arrow(prefix="typo").num_rows == 0


def test_what_is_no_version_and_no_folder_is_refused(refart_workspace: Workspace, tmp_path: Path) -> None:
    artifact: Any = logged(refart_workspace, tmp_path, FILES)
    with pytest.raises(InvalidInputError, match=r"takes another Artifact, not 'data:v0'"):
        artifact.diff("data:v0")
    for wrong in (5, artifact):
        with pytest.raises(InvalidInputError, match="takes the path of a folder"):
            artifact.diff_folder(wrong)


def test_a_version_without_entries_has_nothing_to_choose_from(
    refart_workspace: Workspace, tmp_path: Path
) -> None:
    reader = logged(refart_workspace, tmp_path, [])._reader()
    assert paths(selection(reader, "data:v0", path_prefix="a")()) == []
