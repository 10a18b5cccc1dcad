"""`refart restore`"""

from __future__ import annotations

import pytest

from refart.cli import common
from refart.testing import Lake, S3Requests
from tests.cli.calls import Calls


@pytest.fixture
def lake(cli: Calls, versioned_lake: Lake) -> Lake:
    """A bucket of which `raw` was logged as `raw:v0`, and that moved on since."""
    cli("put", f"{versioned_lake.uri}/raw", "-n", "raw")
    versioned_lake.put("raw/labels.json", b"[]")
    versioned_lake.put("raw/new", b"new")
    return versioned_lake


def test_a_dry_run_shows_the_plan_and_writes_nothing(cli: Calls, lake: Lake, s3_requests: S3Requests) -> None:
    told = cli("restore", "raw:v0", "--dry-run", "--delete")
    assert told.stdout.splitlines() == [
        f"copy    15 B  {lake.uri}/raw/labels.json",
        f"delete  3 B   {lake.uri}/raw/new",
    ]
    assert told.stderr.endswith("default/raw:v0: 1 to copy (15 B), 1 to delete (3 B)\n")
    assert s3_requests.count("CopyObject", "DeleteObject") == 0
    actions = [row["action"] for row in cli("restore", "raw:v0", "--dry-run", "--json").documents]
    assert actions == ["copy", "new"]


def test_it_asks_and_then_says_what_it_did(cli: Calls, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--yes" in cli("restore", "raw:v0", code=2).stderr
    monkeypatch.setattr(common, "is_interactive", lambda: True)
    declined = cli("restore", "raw:v0", typed="n\n", code=130)
    assert "1 to copy (15 B), 1 not recorded, which stay (3 B)" in declined.stderr
    assert cli("restore", "raw:v0", typed="y\n").stdout.startswith("default/raw:v0 is restored\n")
    done = cli("restore", "raw:v0", "--yes", "--json").document
    assert (done["restored_files"], done["unchanged_files"], done["new_files"]) == (0, 3, 1)
    cli("restore", "raw:v0", "--delete", "--yes")
    cli("status", "raw:v0")


def test_the_question_names_what_would_be_deleted(
    cli: Calls, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "is_interactive", lambda: True)
    asked = cli("restore", "raw:v0", "--delete", typed="n\n", code=130).stderr
    assert f"  delete {lake.uri}/raw/new\n" in asked
    assert "more" not in asked
    for number in range(6):
        lake.put(f"raw/new{number}", b"new")
    asked = cli("restore", "raw:v0", "--delete", typed="n\n", code=130).stderr
    assert (asked.count(f"  delete {lake.uri}/raw/new"), "  and 2 more\n" in asked) == (5, True)


def test_what_is_lost_ends_with_a_code_of_its_own(cli: Calls, unversioned_lake: Lake) -> None:
    cli("put", f"{unversioned_lake.uri}/raw", "-n", "raw")
    unversioned_lake.put("raw/labels.json", b"[]")
    told = cli("restore", "raw:v0", "--yes", code=5).stderr
    assert "labels.json" in told
    assert "allow_missing=True (--allow-missing)" in told
    rehearsed = cli("restore", "raw:v0", "--dry-run", code=5)
    assert rehearsed.stdout.startswith("impossible  15 B  ")
    assert "labels.json" in rehearsed.stderr
    assert [row["action"] for row in cli("restore", "raw:v0", "--dry-run", "--json", code=5).documents] == [
        "impossible"
    ]
    cli("restore", "raw:v0", "--dry-run", "--allow-missing")
    done = cli("restore", "raw:v0", "--yes", "--allow-missing", "--json").document
    assert done["impossible"] == ["labels.json"]


def test_what_fails_is_named_after_what_was_done(cli: Calls, lake: Lake) -> None:
    where = {"Bucket": lake.bucket, "Key": "raw/labels.json"}
    lake.client.put_object(**where, Body=b"{}", StorageClass="GLACIER")
    cli("put", f"{lake.uri}/raw", "-n", "raw")
    for key in ("labels.json", "new"):
        lake.put(f"raw/{key}", b"other")
    told = cli("restore", "raw:v1", "--yes", "--json", code=8)
    assert told.document["restored_files"] == 1
    assert "is archived (GLACIER)" in told.document["failed"]["labels.json"]
    told = cli("restore", "raw:v1", "--yes", code=8)
    assert told.stdout.startswith("default/raw:v1 is restored in part\n")
    assert "is archived (GLACIER): restore it first" in told.stderr
