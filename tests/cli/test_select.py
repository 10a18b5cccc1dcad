"""`refart select`"""

from __future__ import annotations

from pathlib import Path

import pytest

from refart.workspace import Workspace
from tests.cli.calls import Calls


def test_a_part_is_logged_by_its_own_name(cli: Calls, folder: Path, refart_workspace: Workspace) -> None:
    cli("put", "data")
    told = cli("select", "data", "--include", "*.txt", "-n", "texts", "-a", "best", "--json").document
    assert (told["name"], told["created"], told["entries"]) == ("default/texts:v0", True, 2)
    assert told["aliases"] == ["best", "latest"]
    run = refart_workspace.run(told["run"])
    assert (run.job_type, [used.qualified_name for used in run.used_artifacts()]) == (
        "select",
        ["default/data:v0"],
    )
    assert "unchanged" in cli("select", "data", "--include", "*.txt", "-n", "texts").stdout
    assert cli("select", "data", "--path", "train/", "--json").document["name"] == "default/data-subset:v0"


@pytest.mark.parametrize(("sample", "count"), [("7", 7), ("1.0", 40), ("100%", 40)])
def test_a_sample(cli: Calls, folder: Path, sample: str, count: int) -> None:
    for number in range(37):
        Path(f"data/{number}").write_text(str(number))
    cli("put", "data")
    assert cli("select", "data", "--sample", sample, "--json").document["entries"] == count


def test_a_split_logs_every_part_in_one_run(cli: Calls, folder: Path) -> None:
    for number in range(40):
        Path(f"data/{number}").write_text(str(number))
    cli("put", "data")
    rows = cli(
        "select", "data", "--split", "train=0.7", "--split", "val=0.3", "-n", "set", "--json"
    ).documents
    assert [row["name"] for row in rows] == ["default/set-train:v0", "default/set-val:v0"]
    assert sum(row["entries"] for row in rows) == 43
    assert len({row["run"] for row in rows}) == 1
    assert cli("select", "data", "--split", "a=1").stdout.splitlines()[1].split()[:3] == [
        "default/data-a:v0",
        "created",
        "43",
    ]


@pytest.mark.parametrize(
    "wrong",
    [("--sample", "x"), ("--sample", "99"), ("--split", "train"), ("--split", "=1"), ("--split", "a=0.5")],
)
def test_what_cannot_be_chosen_leaves_no_version(cli: Calls, folder: Path, wrong: tuple[str, ...]) -> None:
    cli("put", "data")
    cli("select", "data", *wrong, code=2)
    assert [row["name"] for row in cli("ls", "--json").documents] == ["default/data"]


def test_all_of_a_version_by_its_own_name_logs_nothing(cli: Calls, folder: Path) -> None:
    cli("put", "data")
    (folder / "new.txt").write_text("new")
    cli("put", "data")
    told = cli("select", "data:v0", "-n", "data", "--json").document
    assert (told["name"], told["created"], told["run"]) == ("default/data:v0", False, None)
    assert (told["aliases"], told["description"]) == ([], None)
