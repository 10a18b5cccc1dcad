"""`refart who`"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.cli.calls import Calls
from tests.cli.test_docs import DOCS, table


def test_who_names_the_versions_that_hold_a_file(cli: Calls, folder: Path) -> None:
    cli("put", "-r", "data")
    cli("get", "data")
    used = cli("who", "data/train", "--json").documents
    assert [(row["name"], row["entries"], row["size_bytes"]) for row in used] == [("default/data:v0", 2, 3)]
    assert [example["path"] for example in used[0]["examples"]] == ["train/a.txt", "train/b.txt"]
    assert [run["job_type"] for run in used[0]["used_by"]] == ["get"]
    (documented,) = table((DOCS / "cli.md").read_text(), "## JSON")["who"]
    assert {*used[0], *used[0]["examples"][0]} <= set(re.findall(r"`(\w+)`", documented))
    (line,) = cli("who", "data/labels.json").stdout.splitlines()[1:]
    assert "default/data:v0" in line
    assert "(get)" in line


def test_who_holds_nothing(cli: Calls, folder: Path) -> None:
    cli("put", "-r", "data")
    nobody = cli("who", "s3://lake/data")
    assert (nobody.stdout, nobody.stderr) == ("", "no version holds s3://lake/data\n")
    assert cli("who", "s3://lake/data", "--json").stdout == ""


def test_a_name_is_not_taken_for_an_object_that_nobody_holds(cli: Calls, folder: Path) -> None:
    """Nor is a path with a typing error; what is there, or is a whole URI, may be held by nobody."""
    cli("put", "-r", "data")
    for name in ("data:v0", "default/data:latest"):
        told = cli("who", name, code=3)
        assert told.stdout == ""
        assert "is a version: refart show tells who used it" in told.stderr
    for nothing in ("data:v7", "dta", "other:v0", "data/labels.jsn"):
        assert (
            f"no version holds {nothing!r}, and no such file or folder" in cli("who", nothing, code=3).stderr
        )
    assert "names a version" in cli("who", "refart://data:v0", code=2).stderr
    Path("mine").touch()
    assert cli("who", "mine").stderr.startswith("no version holds file://")
    assert cli("who", f"file://{Path('dta').absolute()}").stderr.startswith("no version holds file://")
    (folder / "labels.json").unlink()
    assert "default/data:v0" in cli("who", "data/labels.json").stdout


def test_who_refuses_a_secret(cli: Calls, folder: Path) -> None:
    cli("put", "-r", "data")
    error = json.loads(cli("who", "https://ada:secret@host/x", "--json", code=2).stderr)["error"]
    assert "secret" not in error["message"]
