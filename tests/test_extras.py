"""What only some need and is not installed: one class, one sentence, one exit code, wherever it is missed."""

from __future__ import annotations

import pickle
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import refart
from refart.errors import NotInstalledError
from refart.testing import S3Server
from tests.cli.calls import Calls

ROOT = Path(__file__).parents[1]


@pytest.fixture
def version(refart_workspace: refart.Workspace, tmp_path: Path) -> refart.Artifact:
    (tmp_path / "data").write_text("a")
    (tmp_path / "data.dvc").write_text("outs: []")
    with refart_workspace.init() as run:
        return run.log_artifact(tmp_path / "data", "data")


@pytest.mark.parametrize(
    ("missing", "used", "said"),
    [
        (
            "duckdb",
            lambda v, _: v.sql("select 1"),
            "SQL needs duckdb, which is not installed: pip install 'refart[sql]'",
        ),
        (
            "pandas",
            lambda v, _: v.to_pandas(),
            "to_pandas() needs pandas, which is not installed: pip install pandas",
        ),
        (
            "yaml",
            lambda v, folder: v.new_draft().add_dvc(folder / "data.dvc"),
            "a .dvc file needs yaml, which is not installed: pip install 'refart[dvc]'",
        ),
        (
            "moto.server",
            lambda *_: S3Server(),
            "an S3 in this process needs moto.server, which is not installed: pip install 'refart[demo]'",
        ),
    ],
)
def test_what_is_not_installed_is_told_in_one_way(
    version: refart.Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    used: Callable[[refart.Artifact, Path], object],
    said: str,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(NotInstalledError) as error:
        used(version, tmp_path)
    assert str(error.value) == said
    assert isinstance(error.value, ImportError)
    assert str(pickle.loads(pickle.dumps(error.value))) == said


@pytest.mark.parametrize(
    ("missing", "args"),
    [("duckdb", ("sql", "data", "select 1")), ("yaml", ("import", "data.dvc")), ("moto.server", ("demo",))],
)
def test_commands_end_with_one_exit_code(
    version: refart.Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    args: tuple[str, ...],
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.chdir(tmp_path)
    error = Calls()(*args, "--json", code=8).error
    assert error["type"] == "NotInstalledError"


def test_the_readme_lists_every_extra_and_what_is_in_all() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rows = re.findall(
        r"^\|.+\| `pip install -e '\.\[(.+)\]'` \|$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    named = {extra for row in rows for extra in row.split(",")}
    assert named == set(extras) - {"test", "dev", "server"}
    (in_all,) = extras["all"]
    above = {extra for row in rows[: rows.index("all")] for extra in row.split(",")}
    assert above == set(re.findall(r"\w+", in_all)) - {"refart"}
