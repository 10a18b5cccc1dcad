"""`refart verify --remote` and `--bytes`; of folders, see `test_get`."""

from __future__ import annotations

import pytest

from refart.cli.status import EXIT_LOSS
from refart.errors import ChecksumError
from refart.testing import Lake
from tests.cli.calls import Calls


@pytest.fixture
def lake(cli: Calls, unversioned_lake: Lake) -> Lake:
    """A bucket of which `raw` is logged as `raw:v0`."""
    cli("put", f"{unversioned_lake.uri}/raw", "-n", "raw")
    return unversioned_lake


def test_remote(cli: Calls, lake: Lake) -> None:
    assert cli("verify", "raw", "--remote").stdout.splitlines() == [
        "the references of default/raw:v0 are good",
        "  references  3",
        "  pins        pinned = 3",
    ]
    sample = cli("verify", "raw", "--remote", "--sample", "1", "--seed", "7", "--json").document
    assert (sample["references"], sample["pins"]["pinned"]) == (1, 1)
    lake.delete("raw/labels.json")
    told = cli("verify", "raw", "--remote", code=EXIT_LOSS).stdout.splitlines()
    assert (told[0], told[-1]) == (
        "the references of default/raw:v0 are not all good",
        "  lost        labels.json",
    )
    assert cli("verify", "raw", "--remote", "--path", "2026", "--json").document["good"]


def test_bytes(cli: Calls, lake: Lake) -> None:
    assert cli("verify", "raw", "--bytes").stdout.splitlines() == [
        "the bytes of default/raw:v0 are those that were logged",
        "  ok entries       3",
        "  read             51 B",
        "  earlier entries  0",
        "  earlier          0 B",
        "  checked by       md5 3",
    ]
    again = cli("verify", "raw", "--bytes", "--since", "2026-01-01T00:00:00Z", "--json").document
    assert (again["ok_entries"], again["earlier_entries"]) == (3, 3)
    assert (again["read_bytes"], again["earlier_bytes"]) == (0, 51)
    below = cli("verify", "raw", "--bytes", "--path", "2026", "--json").document
    assert (below["ok_entries"], below["read_bytes"]) == (2, 36)
    assert "'nope' or below it" in cli("verify", "raw", "--bytes", "--path", "nope", code=3).stderr
    both = cli("verify", "raw", "--bytes", "--since", "2026-01-01T00:00:00Z", "--restart", code=2).stderr
    assert "--restart" in both
    assert "--since" in both
    lake.put("raw/labels.json", b'["cow", "dog"]\n')
    told = cli("verify", "raw", "--bytes", code=ChecksumError.exit_code)
    assert "  modified         labels.json" in told.stdout.splitlines()
    assert "1 entries have other bytes and 0 are gone, such as 'labels.json'" in told.stderr
    assert cli("verify", "raw", "--bytes", "--restart", "--json", code=6).document["modified"] == [
        "labels.json"
    ]


@pytest.mark.parametrize(
    "options",
    [
        ("--remote", "--bytes"),
        ("--remote", "--root", "x"),
        ("--sample", "3"),
        ("--path", "a"),
        ("--path", "a", "--bytes", "--sample", "3"),
        ("--since", "2026-01-01T00:00:00Z", "--remote"),
        ("--restart",),
    ],
)
def test_options_that_would_say_nothing(cli: Calls, options: tuple[str, ...]) -> None:
    cli("verify", "raw", *options, code=2)
