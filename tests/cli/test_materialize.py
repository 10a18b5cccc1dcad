"""`refart materialize`"""

from __future__ import annotations

from refart.testing import Lake
from tests.cli.calls import Calls


def test_a_new_version_has_the_bytes_in_the_store(cli: Calls, versioned_lake: Lake) -> None:
    cli("put", f"{versioned_lake.uri}/raw", "-n", "raw")
    versioned_lake.put("raw/labels.json", b"[]")
    risky = cli("materialize", "raw", "--at-risk", "--json").document
    assert (risky["version"], risky["stored_files"], risky["managed_bytes"]) == ("v1", 1, 15)
    told = cli("materialize", "raw:v0").stdout
    assert told.startswith("default/raw:v2 created\n")
    assert cli("show", "raw:v2", "--json").document["referenced_bytes"] == 0
    again = cli("materialize", "raw:v2", "--json").document
    assert (again["created"], again["version"], again["stored_files"]) == (False, "v2", 0)
    assert again["run"] is None
    assert cli("materialize", "raw:v2").stdout.startswith("default/raw:v2 unchanged: nothing was logged\n")
    again = cli("materialize", "raw:v0", "--json").document
    assert (again["created"], again["stored_files"], again["kept_files"]) == (False, 0, 3)
    assert cli("materialize", "raw:v0").stdout.startswith(
        "default/raw:v2 unchanged: this content is logged already, no version was made\n"
    )


def test_what_is_lost_can_stay_a_reference(cli: Calls, unversioned_lake: Lake) -> None:
    cli("put", f"{unversioned_lake.uri}/raw", "-n", "raw")
    unversioned_lake.put("raw/labels.json", b"[]")
    assert "labels.json" in cli("materialize", "raw", code=5).stderr
    told = cli("materialize", "raw", "--allow-missing", "--json")
    assert told.document["lost"] == ["labels.json"]
    assert told.document["entries"] == 3
    assert (
        "the bytes of 1 references are gone or were overwritten; they stay references, first 'labels.json'"
        in cli("materialize", "raw:v0", "--allow-missing").stderr
    )


def test_an_old_version_moves_latest_only_where_something_was_stored(
    cli: Calls, versioned_lake: Lake
) -> None:
    """It does by a version of old content, which a note tells; one that is stored already logs nothing."""
    cli("put", f"{versioned_lake.uri}/raw", "-n", "raw")
    cli("materialize", "raw")
    versioned_lake.put("raw/labels.json", b"[]")
    cli("put", f"{versioned_lake.uri}/raw", "-n", "raw")
    told = cli("materialize", "raw:v1", "--json").document
    assert (told["run"], told["name"], told["aliases"]) == (None, "default/raw:v1", [])
    made = cli("materialize", "raw:v0", "--path", "labels.json")
    assert made.stderr == "latest: v2 → v3 (made from v0)\n"
