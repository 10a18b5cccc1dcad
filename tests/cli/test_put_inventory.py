"""`refart put --inventory`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.calls import Calls
from tests.ops import inventories
from tests.ops.inventories import MANIFEST


@pytest.fixture
def manifest(cli: Calls) -> str:
    """Of two folders, on disk."""

    def put(key: str, data: bytes) -> None:
        Path(key).parent.mkdir(parents=True, exist_ok=True)
        Path(key).write_bytes(data)

    rows = [{"key": key, "size": 1, "e_tag": "0" * 32} for key in ("images/a", "images/b", "masks/a")]
    inventories.write(put, [rows])
    return MANIFEST


def test_what_lies_below_a_source_is_taken_from_the_inventory(cli: Calls, manifest: str) -> None:
    put = cli("put", "s3://lake/images", "--inventory", manifest, "--at", "x", "--json").document
    assert (put["name"], put["entries"]) == ("default/images:v0", 2)
    entries = cli("ls", "images:v0", "--json").documents
    assert [(entry["path"], entry["uri"]) for entry in entries] == [
        ("x/a", "s3://lake/images/a"),
        ("x/b", "s3://lake/images/b"),
    ]


def test_all_of_it_needs_a_name(cli: Calls, manifest: str) -> None:
    assert "needs --name" in cli("put", "--inventory", manifest, code=2).stderr
    put = cli("put", "--inventory", manifest, "-n", "lake", "--exclude", "masks/", "--json").document
    assert put["entries"] == 2


@pytest.mark.parametrize("option", [("--checksum", "sha256"), ("-r",), ("--strip-signature",)])
def test_rows_are_taken_as_they_are(cli: Calls, manifest: str, option: tuple[str, ...]) -> None:
    assert (
        "taken as they are" in cli("put", "s3://lake/images", "--inventory", manifest, *option, code=2).stderr
    )


def test_it_does_not_go_with_refresh(cli: Calls, manifest: str) -> None:
    cli("put", "s3://lake/images", "--inventory", manifest)
    assert "or --refresh" in cli("put", "--refresh", "images", "--inventory", manifest, code=2).stderr
