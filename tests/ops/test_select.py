"""Choosing entries of a version."""

from __future__ import annotations

from pathlib import Path

import pytest

from refart.artifact import Artifact
from refart.errors import InvalidInputError, NotFoundError
from refart.ops.select import selection
from refart.workspace import Workspace
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


def test_a_version_without_entries_has_nothing_to_choose_from(
    refart_workspace: Workspace, tmp_path: Path
) -> None:
    reader = logged(refart_workspace, tmp_path, [])._reader()
    assert paths(selection(reader, "data:v0", path_prefix="a")()) == []
