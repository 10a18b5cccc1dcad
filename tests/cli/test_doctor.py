"""`refart doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refart.cli.doctor import EXIT_FAILS
from refart.ops import pins
from refart.testing import Lake
from tests.cli.calls import Calls


def test_a_place_in_plain_words_and_as_json(cli: Calls, unversioned_lake: Lake) -> None:
    text = cli("doctor", unversioned_lake.uri).stdout
    assert "warn  versions" in text
    assert "switch versioning on" in text
    told = cli("doctor", unversioned_lake.uri, "--json").documents
    assert {row["level"] for row in told} == {"ok", "warn"}
    assert set(told[0]) == {"level", "about", "what", "why", "advice", "expires_at", "versions"}


def test_a_failure_has_its_exit_code(cli: Calls, s3: Any) -> None:
    [row] = cli("doctor", "s3://nowhere-at-all", "--json", code=EXIT_FAILS).documents
    assert (row["level"], row["about"]) == ("fail", "access")


def test_the_workspace(cli: Calls) -> None:
    assert "catalog" in cli("doctor").stdout


def test_a_place_before_there_is_a_workspace(cli: Calls, folder: Path, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "none")
    assert "SHA-256" in cli("-w", elsewhere, "doctor", str(folder)).stdout
    assert not Path(elsewhere).exists()
    cli("-w", elsewhere, "doctor", code=3)


class TestWarnings:
    """`put` tells once what a bucket does not keep."""

    @pytest.fixture(autouse=True)
    def forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pins, "_told", set())

    def test_put_tells_it_once(self, cli: Calls, unversioned_lake: Lake) -> None:
        first = cli("put", unversioned_lake.uri, "-n", "a").stderr
        assert first.count("told no version ids") == 1
        assert f"refart doctor {unversioned_lake.uri}/" in first
        assert "version ids" not in cli("put", unversioned_lake.uri, "-n", "b").stderr

    def test_versions_are_silent(self, cli: Calls, versioned_lake: Lake) -> None:
        assert "version ids" not in cli("put", versioned_lake.uri, "-n", "a").stderr

    def test_quiet_is(self, cli: Calls, unversioned_lake: Lake) -> None:
        assert cli("put", unversioned_lake.uri, "-n", "a", "--quiet").stderr == ""
