"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from refart.workspace import Workspace
from tests.cli.calls import Calls


@pytest.fixture
def cli(refart_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The command line in this process, in a folder and a workspace of the test's own."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return Calls()


@pytest.fixture
def folder(cli: Calls) -> Path:
    """A small folder, `data`, in the current one."""
    folder = Path("data")
    (folder / "train").mkdir(parents=True)
    (folder / "labels.json").write_text('["cat", "dog"]')
    (folder / "train" / "a.txt").write_text("a")
    (folder / "train" / "b.txt").write_text("bb")
    return folder
