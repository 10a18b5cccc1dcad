"""`refart diff`"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.calls import Calls


@pytest.fixture
def versions(cli: Calls, folder: Path) -> tuple[str, str]:
    """Two versions: one file changed, one added, one removed, one the same."""
    Path("data/same.txt").write_text("same")
    cli("put", "data")
    Path("data/labels.json").write_text('["cow"]')
    Path("data/train/a.txt").unlink()
    Path("data/new.txt").write_text("new")
    cli("put", "data")
    return "data:v0", "data:v1"


def test_diff_lists_changes_by_path(cli: Calls, versions: tuple[str, str]) -> None:
    told = cli("diff", *versions)
    assert told.stdout.splitlines() == [
        "modified  14 B → 7 B  labels.json",
        "added     3 B         new.txt",
        "removed   1 B         train/a.txt",
    ]
    assert told.stderr == "default/data:v0 → default/data:v1: 1 added, 1 removed, 1 modified\n"
    assert cli("diff", *versions, "--quiet").stderr == ""


def test_diff_with_json_is_one_change_a_line(cli: Calls, versions: tuple[str, str]) -> None:
    rows = cli("diff", *versions, "--json").documents
    assert [(row["path"], row["change"], row["old_size"], row["new_size"]) for row in rows] == [
        ("labels.json", "modified", 14, 7),
        ("new.txt", "added", None, 3),
        ("train/a.txt", "removed", 1, None),
    ]
    columns = {f"{side}_{name}" for side in ("old", "new") for name in ("size", "content_id", "uri", "pin")}
    assert set(rows[0]) == {"path", "change", "old_path"} | columns


def test_diff_can_be_narrowed_and_shortened(cli: Calls, versions: tuple[str, str]) -> None:
    assert cli("diff", *versions, "--name-only").stdout.split() == ["labels.json", "new.txt", "train/a.txt"]
    assert cli("diff", *versions, "--name-only", "--path", "train/").stdout.split() == ["train/a.txt"]


def test_stat_counts(cli: Calls, versions: tuple[str, str]) -> None:
    summary = cli("diff", *versions, "--stat", "--json").document
    assert (summary["old"], summary["new"]) == ("default/data:v0", "default/data:v1")
    assert [summary[key] for key in ("added", "removed", "modified", "relocated")] == [1, 1, 1, 0]
    assert (summary["added_bytes"], summary["old_modified_bytes"], summary["new_modified_bytes"]) == (
        3,
        14,
        7,
    )
    assert cli("diff", *versions, "--stat").stdout.splitlines()[1:] == [
        "  added     1 (3 B)",
        "  removed   1 (1 B)",
        "  modified  1 (14 B → 7 B)",
    ]


def test_a_relocated_entry_is_told(cli: Calls, folder: Path) -> None:
    cli("put", "data")
    cli("put", "-r", "data")
    assert {row["change"] for row in cli("diff", "data:v0", "data:v1", "--json").documents} == {"relocated"}
    assert cli("diff", "data:v0", "data:v1", "--stat").stdout.splitlines()[1:] == ["  relocated  3 (17 B)"]


def test_exit_code_tells_a_difference_from_an_error(cli: Calls, versions: tuple[str, str]) -> None:
    cli("diff", *versions)
    cli("diff", *versions, "--exit-code", code=11)
    cli("diff", *versions, "--exit-code", "--stat", code=11)
    assert "no change" in cli("diff", "data:v0", "data:v0", "--exit-code").stderr
    cli("diff", "data:v0", "data:v9", "--exit-code", code=3)


def test_stat_and_name_only_exclude_each_other(cli: Calls, versions: tuple[str, str]) -> None:
    cli("diff", *versions, "--stat", "--name-only", code=2)


def test_what_moved_is_one_change(cli: Calls, versions: tuple[str, str]) -> None:
    Path("data/train/b.txt").rename("data/b.txt")
    cli("put", "data")
    assert cli("diff", "data:v1", "data:v2").stdout == "moved  2 B  train/b.txt → b.txt\n"
    (row,) = cli("diff", "data:v1", "data:v2", "--json").documents
    assert (row["change"], row["old_path"], row["path"]) == ("moved", "train/b.txt", "b.txt")
    assert cli("diff", "data:v1", "data:v2", "--name-only").stdout == "b.txt\n"
    assert cli("diff", "data:v1", "data:v2", "--stat").stdout.splitlines()[1:] == ["  moved  1 (2 B)"]
    assert cli("diff", "data:v1", "data:v2", "--no-moves").stdout.split()[::4] == ["added", "removed"]


@pytest.mark.parametrize("other", [("--live",), ("--root", "here")])
def test_a_live_source_and_a_folder_are_told_as_a_version_is(
    cli: Calls, folder: Path, other: tuple[str, ...]
) -> None:
    cli("put", "-r", "data")
    cli("get", "data", "--root", "here", "--link", "copy")
    assert cli("diff", "data", *other, "--exit-code").stdout == ""
    changed = folder if other == ("--live",) else Path("here")
    (changed / "labels.json").write_text("[]")
    (changed / "new.txt").write_text("new")
    (changed / "train" / "a.txt").unlink()
    (changed / "train" / "b.txt").rename(changed / "b.txt")
    told = cli("diff", "data", *other, "--exit-code", code=11)
    assert told.stdout.splitlines() == [
        "moved     2 B         train/b.txt → b.txt",
        "modified  14 B → 2 B  labels.json",
        "added     3 B         new.txt",
        "removed   1 B         train/a.txt",
    ]
    name = other[-1].strip("-")
    assert told.stderr == f"default/data:v0 → {name}: 1 added, 1 removed, 1 modified, 1 moved\n"
    assert cli("diff", "data", *other, "--path", "train", "--name-only").stdout.split() == [
        "train/a.txt",
        "train/b.txt",
    ]
    summary = cli("diff", "data", *other, "--stat", "--json").document
    assert (summary["old"], summary["new"], summary["moved_bytes"]) == ("default/data:v0", name, 2)


def test_there_is_one_other_side(cli: Calls, versions: tuple[str, str]) -> None:
    cli("diff", "data:v0", code=2)
    cli("diff", *versions, "--live", code=2)
    cli("diff", "data:v0", "--live", "--root", "x", code=2)
    cli("diff", "data:v0", "--root", "nowhere", code=3)
