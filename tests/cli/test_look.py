"""`refart ls`, `show` and `cat`"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import refart
from refart.testing import Lake
from tests.cli.calls import Calls


@pytest.fixture
def data(cli: Calls, folder: Path) -> str:
    """Two versions of `data`, of which the first is `first`."""
    cli("put", "data", "-a", "first", "-d", "some data")
    Path("data/train/c.txt").write_text("ccc")
    cli("put", "data")
    return "data"


def test_ls_lists_collections(cli: Calls, data: str) -> None:
    cli("put", "data", "-p", "other", "-t", "model")
    rows = cli("ls", "--json").documents
    assert [(r["name"], r["type"], r["versions"], r["latest"]) for r in rows] == [
        ("default/data", "dataset", 2, "v1"),
        ("other/data", "model", 1, "v0"),
    ]
    assert [row["name"] for row in cli("ls", "--json", "-p", "other").documents] == ["other/data"]
    lines = cli("ls").stdout.splitlines()
    assert lines[0].split() == ["name", "type", "versions", "latest", "created"]
    assert lines[1].split()[:4] == ["default/data", "dataset", "2", "v1"]


def test_a_project_that_does_not_exist_does_not_look_like_an_empty_one(cli: Calls, data: str) -> None:
    assert "no project 'defualt'" in cli("ls", "-p", "defualt", code=3).stderr


def test_ls_of_a_name_lists_versions_newest_first(cli: Calls, data: str) -> None:
    rows = cli("ls", data, "--json").documents
    assert [(r["version"], r["entries"], r["aliases"]) for r in rows] == [
        ("v1", 4, ["latest"]),
        ("v0", 3, ["first"]),
    ]
    assert [row["version"] for row in cli("ls", "default/data", "--limit", "1", "--json").documents] == ["v1"]
    assert cli("ls", data).stdout.splitlines()[2].split()[0] == "v0"


def test_ls_of_a_version_lists_entries(cli: Calls, data: str) -> None:
    assert cli("ls", "data:first").stdout.splitlines() == [
        "14 B  labels.json",
        " 1 B  train/a.txt",
        " 2 B  train/b.txt",
    ]
    rows = cli("ls", "data:v1/train", "--json").documents
    assert [row["path"] for row in rows] == ["train/a.txt", "train/b.txt", "train/c.txt"]
    assert set(rows[0]) == {"path", "size", "content_id", "uri", "pin", "weak"}
    assert cli("ls", "data:v1/train/", "--json").documents == rows


def test_ls_long_shows_what_identifies_an_entry(cli: Calls, versioned_lake: Lake) -> None:
    cli("put", f"{versioned_lake.uri}/raw", "-n", "raw")
    header, first, *_ = cli("ls", "raw:v0", "--long").stdout.splitlines()
    assert header.split() == ["size", "content", "id", "path", "uri", "pin"]
    assert "md5:" in first
    assert f"{versioned_lake.uri}/raw/2026/a.csv" in first
    assert "version:" in first


def test_weak_identities_are_shown_as_weak(cli: Calls, tmp_path: Path) -> None:
    """When they are logged, listed, shown and downloaded; people are told what to do about it."""
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    put = cli("put", "-r", str(folder), "-n", "scans", "--checksum", "stat")
    assert "weak entries  1 (size and time" in put.stdout
    assert cli("ls", "scans:v0").stdout.splitlines() == ["1 B  weak  a"]
    [row] = cli("ls", "scans:v0", "--json").documents
    assert row["weak"] is True
    assert put.stderr == ""
    assert re.search(r"weak entries +1 \(size and time", cli("show", "scans").stdout)
    assert cli("show", "scans", "--json").document["weak_entries"] == 1
    got = cli("get", "scans", "--root", str(tmp_path / "root"))
    assert "checked by" in got.stdout
    assert "weak 1" in got.stdout
    assert "confirm the bytes of 1 files" in got.stderr


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("nothing",), 3, "no artifact 'nothing'"),
        (("data:v9",), 3, "no default/data:v9"),
        (("data:v0/nothing",), 3, "no entry 'nothing'"),
        (("data:v0/../x",), 2, "'..'"),
        (("--long",), 2, "--long is for entries"),
        (("data", "--long"), 2, "--long is for entries"),
        (("data:v0", "--limit", "1"), 2, "--limit is for versions"),
    ],
)
def test_ls_says_what_is_wrong(cli: Calls, data: str, args: tuple[str, ...], code: int, says: str) -> None:
    told = cli("ls", *args, "--json", code=code)
    assert says in told.error["message"]
    assert told.stdout == ""


def test_show_tells_everything(cli: Calls, data: str) -> None:
    run = cli("get", "data:v0", "--json").document["run"]
    shown = cli("show", "data:first", "--json").document
    assert (shown["name"], shown["description"], shown["entries"]) == ("default/data:v0", "some data", 3)
    assert shown["logged_by"]["job_type"] == "put"
    assert [user["id"] for user in shown["used_by"]] == [run]
    told = cli("show", "data:first").stdout
    assert "some data" in told
    assert f"run {run} (get)" in told


def test_cat_writes_the_bytes_and_nothing_else(cli: Calls, data: str) -> None:
    assert cli("cat", "data:v0/labels.json").stdout == '["cat", "dog"]'


def test_cat_writes_any_bytes_as_they_are(cli: Calls) -> None:
    blob = bytes(range(256)) * 100_000
    Path("blob").write_bytes(blob)
    cli("put", "blob")
    environment = {**os.environ, "PYTHONPATH": str(Path(refart.__file__).parents[1])}
    args = [sys.executable, "-m", "refart", "cat", "blob:v0/blob"]
    assert subprocess.run(args, capture_output=True, check=True, env=environment).stdout == blob


def test_cat_reads_the_version_that_was_logged(cli: Calls, versioned_lake: Lake) -> None:
    cli("put", f"{versioned_lake.uri}/raw", "-n", "raw")
    versioned_lake.put("raw/labels.json", b"other bytes")
    assert cli("cat", "raw:v0/labels.json").stdout == '["cat", "dog"]\n'


def test_cat_of_changed_bytes_does_not_end_with_0(cli: Calls, unversioned_lake: Lake, folder: Path) -> None:
    cli("put", f"{unversioned_lake.uri}/raw", "-n", "raw")
    unversioned_lake.put("raw/labels.json", b'["cow", "pig"]\n')
    assert cli("cat", "raw:v0/labels.json", "--json", code=5).error["type"] == "ReferenceChangedError"
    cli("put", "-r", "data", "-n", "local")
    Path("data/labels.json").write_text('["cow", "pig"]')
    assert cli("cat", "local:v0/labels.json", "--json", code=5).error["type"] == "ReferenceChangedError"


@pytest.mark.parametrize(
    ("target", "code"), [("data", 2), ("data:v0", 2), ("data:v0/x", 3), ("data:v0/train", 3)]
)
def test_cat_needs_one_entry(cli: Calls, data: str, target: str, code: int) -> None:
    cli("cat", target, code=code)


def test_hostile_keys_are_listed_literally_and_still_read(cli: Calls, versioned_lake: Lake) -> None:
    keys = ["[red]x[/red].txt", "a:b#c?d%20e.txt", "\u202egpj.txt", "trail "]
    for key in keys:
        versioned_lake.put(f"odd/{key}", key.encode())
    cli("put", f"{versioned_lake.uri}/odd", "-n", "odd")
    assert "[red]x[/red].txt" in cli("ls", "odd:v0").stdout
    rows = cli("ls", "odd:v0", "--json").documents
    assert {row["uri"] for row in rows} == {f"{versioned_lake.uri}/odd/{key}" for key in keys}
    for row in rows:
        assert cli("cat", f"odd:v0/{row['path']}").stdout == row["uri"].rpartition("/odd/")[2]
    for told in (cli("ls", "odd:v0"), cli("ls", "odd:v0", "--long"), cli("get", "odd", "--path", "trail ")):
        assert all(line.isprintable() for line in told.stdout.split("\n"))


def test_hostile_file_names_are_listed_literally(cli: Calls) -> None:
    names = ["line\nbreak", "bell\x07", "esc\x1b[2J", "[bold]b", " "]
    Path("odd").mkdir()
    for name in names:
        Path("odd", name).write_text(name)
    cli("put", "-r", "odd")
    told = cli("ls", "odd:v0", "--long").stdout
    assert len(told.splitlines()) == 1 + len(names)
    assert all(line.isprintable() for line in told.split("\n"))
    assert {row["uri"].rpartition("/odd/")[2] for row in cli("ls", "odd:v0", "--json").documents} == set(
        names
    )
