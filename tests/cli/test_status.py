"""`refart status`"""

from __future__ import annotations

from pathlib import Path

import pytest

from refart.cli.diff import EXIT_DIFFERS
from refart.cli.status import EXIT_LOSS
from refart.errors import PermissionDeniedError
from refart.sources.object_source import ObjectSource
from refart.testing import Lake
from tests.cli.calls import Calls


@pytest.fixture
def lake(cli: Calls, versioned_lake: Lake) -> Lake:
    """A bucket of which `raw` is logged as `raw:v0`."""
    cli("put", f"{versioned_lake.uri}/raw", "-n", "raw")
    return versioned_lake


def test_nothing_happened(cli: Calls, lake: Lake) -> None:
    told = cli("status", "raw")
    assert (told.stdout, told.stderr) == ("", "default/raw:v0: no drift\n")
    assert [row["pin_state"] for row in cli("status", "raw", "--all", "--json").documents] == ["pinned"] * 3


def test_drift_ends_with_a_code_of_its_own(cli: Calls, lake: Lake) -> None:
    lake.put("raw/2026/a.csv", b"id\n")
    lake.put("raw/new.csv", b"id,label\n")
    told = cli("status", "raw", code=EXIT_DIFFERS)
    assert told.stdout.splitlines() == [
        "modified  superseded  21 B → 3 B  2026/a.csv",
        "new       -           9 B         new.csv",
    ]
    assert told.stderr == "default/raw:v0: 1 modified, 1 new, 1 kept as old versions\n"
    assert cli("status", "raw", "--path", "labels.json").stdout == ""


def test_loss_is_worse_than_drift(cli: Calls, lake: Lake) -> None:
    versions = lake.client.list_object_versions(Bucket=lake.bucket, Prefix="raw/2026/b.csv")["Versions"]
    lake.delete("raw/2026/b.csv", versions[0]["VersionId"])
    told = cli("status", "raw", "--stat", code=EXIT_LOSS)
    assert told.stdout.splitlines() == [
        "default/raw:v0: 1 removed, 1 lost",
        "  entries  unchanged = 2 (36 B)",
        "           removed = 1 (15 B)",
        "  pins     pinned = 2 (36 B)",
        "           lost = 1 (15 B)",
    ]
    found = cli("status", "raw", "--stat", "--json", code=EXIT_LOSS).document
    assert (found["loss"], found["drift"], found["denied"], found["pins"]["lost"]) == (True, True, False, 1)


def test_what_may_not_be_looked_at_is_no_success(
    cli: Calls, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionDeniedError("no")

    monkeypatch.setattr(ObjectSource, "scan", denied)
    told = cli("status", "raw", code=PermissionDeniedError.exit_code)
    assert [line.split()[0] for line in told.stdout.splitlines()] == ["denied"] * 3
    assert f"{lake.uri}/raw may not be listed\n" in told.stderr


def test_a_path_that_is_nowhere_is_not_without_drift(cli: Calls, lake: Lake) -> None:
    for command in (
        ("status", "raw"),
        ("status", "raw", "--stat"),
        ("verify", "raw", "--remote"),
        ("diff", "raw", "raw", "--exit-code"),
        ("diff", "raw", "--live", "--exit-code"),
        ("materialize", "raw"),
    ):
        told = cli(*command, "--path", "nope", code=3)
        assert told.stdout == ""
        assert "'nope' or below it" in told.stderr


def test_what_the_cache_has_is_no_loss(cli: Calls, folder: Path) -> None:
    cli("put", "data", "--reference")
    cli("get", "data", "--root", "there")
    (folder / "labels.json").unlink()
    told = cli("status", "data", code=EXIT_DIFFERS)
    assert told.stdout == "removed  stored  14 B  labels.json\n"
    assert told.stderr == "default/data:v0: 1 removed, 1 kept in the store or the cache\n"
    assert "stored = 1" in cli("verify", "data", "--remote").stdout
    cli("restore", "data", "--yes")
    assert cli("status", "data").stdout == ""


def test_a_folder_drifts_too(cli: Calls, folder: Path) -> None:
    cli("put", "data", "--reference")
    (folder / "labels.json").unlink()
    assert cli("status", "data", code=EXIT_LOSS).stdout == "removed  lost  14 B  labels.json\n"
