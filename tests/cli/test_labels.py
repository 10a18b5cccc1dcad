"""`refart alias`, `tag` and `rm`"""

from __future__ import annotations

from pathlib import Path

import pytest

from refart.cli import common
from tests.cli.calls import Calls


@pytest.fixture
def data(cli: Calls, folder: Path) -> str:
    cli("put", "data")
    Path("data/new.txt").write_text("new")
    cli("put", "data")
    return "data"


def test_an_alias_moves_and_goes(cli: Calls, data: str) -> None:
    done = cli("alias", "data:v0", "golden", "best", "--json").document
    assert done == {"name": "default/data:v0", "aliases": ["best", "golden"], "tags": []}
    assert cli("alias", "data:v1", "golden", "--json").document["aliases"] == ["golden", "latest"]
    assert cli("alias", "data:v0", "best", "--remove", "--json").document["aliases"] == []
    assert "has no alias 'best'" in cli("alias", "data:v0", "best", "--remove", code=3).stderr


def test_latest_cannot_be_removed_and_a_number_is_no_alias(cli: Calls, data: str) -> None:
    cli("alias", "data:v1", "latest", "--remove", code=2)
    cli("alias", "data:v1", "v7", code=2)


def test_tags_come_and_go(cli: Calls, data: str) -> None:
    assert cli("tag", "data:v0", "reviewed", "camera 2", "--json").document["tags"] == [
        "camera 2",
        "reviewed",
    ]
    assert cli("tag", "data:v0", "reviewed", "--json").document["tags"] == ["camera 2", "reviewed"]
    assert "reviewed" not in cli("tag", "data:v0", "reviewed", "--remove").stdout
    cli("tag", "data:v0", "reviewed", "--remove", code=3)


def test_rm_deletes_one_version_for_good(cli: Calls, data: str) -> None:
    assert cli("rm", "data:v0", "--yes", "--json").document == {"name": "default/data:v0", "deleted": True}
    assert "was deleted" in cli("show", "data:v0", code=3).stderr
    assert [row["version"] for row in cli("ls", "data", "--json").documents] == ["v1"]


def test_rm_of_a_version_with_aliases_wants_to_be_told(cli: Calls, data: str) -> None:
    cli("rm", "data:latest", "--yes", code=4)
    cli("rm", "data:latest", "--yes", "--delete-aliases")
    assert cli("show", "data", "--json").document["version"] == "v0"


def test_rm_asks(cli: Calls, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--yes" in cli("rm", "data:v0", code=2).stderr
    monkeypatch.setattr(common, "is_interactive", lambda: True)
    declined = cli("rm", "data:v0", typed="n\n", code=130)
    assert "3 entries" in declined.stderr
    cli("show", "data:v0")
    cli("rm", "data:v0", typed="y\n")
    cli("show", "data:v0", code=3)


def test_rm_never_takes_a_bare_name_for_latest(cli: Calls, data: str) -> None:
    assert "data:v0" in cli("rm", "data", "--yes", "--delete-aliases", code=2).stderr
