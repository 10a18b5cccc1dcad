"""`refart get` and `refart verify`"""

from __future__ import annotations

from pathlib import Path

import pytest

from refart.cli import common
from refart.testing import Lake
from refart.workspace import Workspace
from tests.cli.calls import Calls


def files(root: str) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file()
    }


@pytest.fixture
def logged(cli: Calls, folder: Path) -> dict[str, bytes]:
    """The bytes of `data:v0`."""
    cli("put", "data")
    return files("data")


def test_get_brings_the_bytes_once(cli: Calls, logged: dict[str, bytes]) -> None:
    first = cli("get", "data", "--json").document
    assert files("artifacts/data-v0") == logged
    assert first["name"] == "default/data:v0"
    assert first["root"] == "./artifacts/data-v0"
    assert (first["files"], first["kept_files"], first["moved_bytes"]) == (3, 0, 17)
    assert (first["missing"], first["unverified"], first["removed"]) == ([], [], [])
    again = cli("get", "data", "--json").document
    assert (again["files"], again["kept_files"], again["moved_bytes"]) == (3, 3, 0)


def test_get_records_the_use_in_a_run(
    cli: Calls, logged: dict[str, bytes], refart_workspace: Workspace
) -> None:
    run = refart_workspace.run(cli("get", "data", "--json").document["run"])
    assert (run.job_type, run.state) == ("get", "finished")
    assert [version.qualified_name for version in run.used_artifacts()] == ["default/data:v0"]


def test_get_of_s3_brings_what_was_logged_although_the_bucket_moved_on(
    cli: Calls, versioned_lake: Lake
) -> None:
    cli("put", f"{versioned_lake.uri}/raw", "-n", "raw")
    versioned_lake.put("raw/labels.json", b"other bytes")
    versioned_lake.delete("raw/2026/a.csv")
    done = cli("get", "raw:v0", "--root", "out", "--json").document
    assert (done["files"], done["confirmed_by_server"]) == (3, 0)
    assert files("out")["labels.json"] == b'["cat", "dog"]\n'


def test_what_only_the_server_confirms_and_what_nothing_confirms_is_told(
    cli: Calls, versioned_lake: Lake, folder: Path
) -> None:
    cli("put", versioned_lake.uri, "-n", "lake", "--checksum", "none")
    assert cli("get", "lake", "--json").document["confirmed_by_server"] == 4
    cli("put", "-r", "data", "-n", "loose", "--checksum", "none")
    done = cli("get", "loose", code=0)
    assert "nothing confirms the bytes of 3 files" in done.stderr
    assert cli("get", "loose", "--root", "x", "--json").document["unverified"] != []


def test_a_missing_reference_is_an_error_or_told(cli: Calls, versioned_lake: Lake) -> None:
    version = versioned_lake.put("raw/gone.txt", b"soon gone")
    cli("put", f"{versioned_lake.uri}/raw", "-n", "raw")
    versioned_lake.delete("raw/gone.txt", version)
    assert cli("get", "raw", "--json", code=5).error["type"] == "ReferenceMissingError"
    done = cli("get", "raw", "--allow-missing", "--json").document
    assert (done["missing"], done["files"]) == (["gone.txt"], 3)
    assert "1 references are gone" in cli("get", "raw", "--allow-missing").stderr


def test_path_include_and_exclude_choose_files(cli: Calls, logged: dict[str, bytes]) -> None:
    cli("get", "data", "--root", "a", "--path", "train")
    assert set(files("a")) == {"train/a.txt", "train/b.txt"}
    cli("get", "data", "--root", "b", "--include", "*.txt", "--exclude", "b.*")
    assert set(files("b")) == {"train/a.txt"}
    assert "has no entry" in cli("get", "data", "--path", "nothing", code=3).stderr


def test_link_copy_gives_files_of_your_own(cli: Calls, logged: dict[str, bytes]) -> None:
    cli("get", "data", "--root", "out", "--link", "copy")
    file = Path("out/labels.json")
    file.write_text("edited")
    assert file.stat().st_nlink == 1


# -- prune ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(cli: Calls, logged: dict[str, bytes]) -> Path:
    """A file in the download folder that is no entry."""
    cli("get", "data", "--root", "out")
    foreign = Path("out/mine/notes.txt")
    foreign.parent.mkdir()
    foreign.write_text("mine")
    return foreign


def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it look as if a person sat at the terminal."""
    monkeypatch.setattr(common, "is_interactive", lambda: True)


def test_foreign_files_stay_without_prune(cli: Calls, foreign: Path) -> None:
    cli("get", "data", "--root", "out")
    assert foreign.exists()


def test_prune_refuses_where_nobody_can_be_asked(cli: Calls, foreign: Path) -> None:
    assert "--yes" in cli("get", "data", "--root", "out", "--prune", code=2).stderr
    assert foreign.exists()


def test_prune_with_json_never_asks(cli: Calls, foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch)
    cli("get", "data", "--root", "out", "--prune", "--json", code=2, typed="y\n")
    assert foreign.exists()


def test_prune_lists_and_asks(cli: Calls, foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch)
    declined = cli("get", "data", "--root", "out", "--prune", typed="n\n", code=130)
    assert "mine/notes.txt" in declined.stderr
    assert foreign.exists()
    agreed = cli("get", "data", "--root", "out", "--prune", typed="y\n")
    assert "mine/notes.txt" in agreed.stdout
    assert not foreign.parent.exists()
    assert len(files("out")) == 3


def test_prune_with_yes_tells_what_it_removed(cli: Calls, foreign: Path) -> None:
    done = cli("get", "data", "--root", "out", "--prune", "--yes", "--json").document
    assert done["removed"] == ["mine/notes.txt"]
    assert not foreign.exists()


def test_prune_of_the_current_folder_is_refused_before_anything_is_written(
    cli: Calls, logged: dict[str, bytes]
) -> None:
    before = files(".")
    assert "removes no files" in cli("get", "data", "--root", ".", "--prune", "--yes", code=2).stderr
    assert files(".") == before


# -- verify ---------------------------------------------------------------------------------------------------------


def test_verify_reads_every_byte(cli: Calls, logged: dict[str, bytes]) -> None:
    cli("get", "data")
    done = cli("verify", "data", "--json").document
    assert (done["good"], done["ok_files"], done["read_bytes"], done["foreign_files"]) == (True, 3, 17, 0)


def test_verify_names_what_is_wrong_and_ends_with_6(cli: Calls, logged: dict[str, bytes]) -> None:
    cli("get", "data", "--root", "out", "--link", "copy")
    Path("out/train/a.txt").write_text("X")
    Path("out/labels.json").unlink()
    told = cli("verify", "data", "--root", "out", "--json", code=6)
    assert told.document["good"] is False
    assert (told.document["modified"], told.document["missing"]) == (["train/a.txt"], ["labels.json"])
    assert told.error["type"] == "ChecksumError"
    shown = cli("verify", "data", "--root", "out", code=6)
    assert "train/a.txt" in shown.stdout
    assert "1 files are modified and 1 are missing" in shown.stderr


def test_verify_of_a_folder_that_is_not_there_ends_with_3(cli: Calls, logged: dict[str, bytes]) -> None:
    cli("verify", "data", "--root", "nowhere", code=3)
