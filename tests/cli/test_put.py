"""`refart put`"""

from __future__ import annotations

from pathlib import Path

import pytest

from refart.sources.s3 import lister as s3_lister
from refart.testing import Lake
from refart.workspace import Workspace
from tests.cli.calls import Calls
from tests.clocks import next_second


def test_a_local_folder_is_copied_and_the_same_again_makes_no_version(cli: Calls, folder: Path) -> None:
    first = cli("put", "data", "--json").document
    assert (first["name"], first["version"], first["type"]) == ("default/data:v0", "v0", "dataset")
    assert (first["created"], first["entries"], first["size_bytes"]) == (True, 3, 17)
    assert (first["managed_bytes"], first["referenced_bytes"], first["aliases"]) == (17, 0, ["latest"])
    again = cli("put", "data", "--json").document
    assert (again["name"], again["created"], again["digest"]) == (first["name"], False, first["digest"])
    assert "no version was made" in cli("put", "data").stdout


def test_a_version_is_logged_inside_a_run_of_type_put(
    cli: Calls, folder: Path, refart_workspace: Workspace
) -> None:
    run = refart_workspace.run(cli("put", "data", "--json").document["run"])
    assert (run.job_type, run.state) == ("put", "finished")
    assert [version.qualified_name for version in run.logged_artifacts()] == ["default/data:v0"]


def test_a_listing_that_leaves_old_versions_out_says_so(
    cli: Calls, versioned_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_lister, "JUDGED_FROM", 5)
    monkeypatch.setattr(s3_lister, "MAX_OLD", 0.5)
    for write in range(9):
        versioned_lake.put("d/a", b"%d" % write)
    for asked in ([], ["--quiet"]):
        told = cli("put", f"{versioned_lake.uri}/d", "-n", "d", *asked).stderr
        assert ("8 of 9 versions are old" in told) == (not asked)


def test_an_s3_prefix_is_logged_by_reference(cli: Calls, versioned_lake: Lake) -> None:
    done = cli("put", f"{versioned_lake.uri}/raw", "-n", "raw", "--json").document
    assert (done["entries"], done["managed_bytes"]) == (3, 0)
    assert done["referenced_bytes"] == done["size_bytes"] > 0
    uris = [entry["uri"] for entry in cli("ls", "raw:v0", "--json").documents]
    assert uris == [
        f"{versioned_lake.uri}/raw/{name}" for name in ("2026/a.csv", "2026/b.csv", "labels.json")
    ]


def test_a_prefix_is_logged_as_it_stood(cli: Calls, versioned_lake: Lake) -> None:
    then = next_second()
    versioned_lake.delete("raw/labels.json")
    versioned_lake.put("raw/more", b"more")
    done = cli(
        "put", f"{versioned_lake.uri}/raw", "-n", "raw", "--as-of", then.isoformat(), "--json"
    ).document
    assert done["entries"] == 3
    wrong = cli("put", f"{versioned_lake.uri}/raw", "-n", "raw", "--as-of", "2026-01-01", code=2)
    assert "needs a time with its zone" in wrong.stderr


@pytest.mark.parametrize("how", [("-r", "data"), ("file://{here}/data",)])
def test_a_local_folder_can_be_logged_where_it_lies(cli: Calls, folder: Path, how: tuple[str, ...]) -> None:
    args = [part.format(here=Path.cwd()) for part in how]
    done = cli("put", *args, "-n", "d", "--json").document
    assert (done["managed_bytes"], done["referenced_bytes"]) == (0, 17)
    assert {entry["uri"] for entry in cli("ls", "d:v0/labels.json", "--json").documents} == {
        f"file://{Path.cwd()}/data/labels.json"
    }


def test_several_sources_make_one_version_named_after_the_first(
    cli: Calls, folder: Path, versioned_lake: Lake
) -> None:
    done = cli("put", "data", f"{versioned_lake.uri}/README.txt", "--json").document
    assert (done["name"], done["entries"], done["managed_bytes"]) == ("default/data:v0", 4, 17)


def test_labels_description_and_metadata_are_recorded(cli: Calls, folder: Path) -> None:
    cli(
        *("put", "data", "-n", "p/d", "-t", "model", "-a", "best", "-a", "golden", "--tag", "camera 2"),
        *("-d", "what it is", "-m", "epochs=3", "-m", "note=x=y", "-m", 'deep={"a": [1]}'),
    )
    shown = cli("show", "p/d:best", "--json").document
    assert (shown["name"], shown["type"], shown["description"]) == ("p/d:v0", "model", "what it is")
    assert (shown["aliases"], shown["tags"]) == (["best", "golden", "latest"], ["camera 2"])
    assert shown["metadata"] == {"epochs": 3, "note": "x=y", "deep": {"a": [1]}}


def test_a_type_given_once_is_kept_and_another_one_refused(cli: Calls, folder: Path) -> None:
    cli("put", "data", "-t", "model")
    assert cli("put", "data", "--json").document["type"] == "model"
    assert "has the type 'model'" in cli("put", "data", "-t", "dataset", code=4).stderr


def test_include_exclude_and_at_choose_what_goes_where(cli: Calls, folder: Path) -> None:
    cli("put", "data", "--include", "*.txt", "--exclude", "b.txt", "--at", "x/y")
    assert [row["path"] for row in cli("ls", "data:v0", "--json").documents] == ["x/y/train/a.txt"]
    cli("put", "data/labels.json", "-n", "one", "--at", "l.json")
    assert [row["path"] for row in cli("ls", "one:v0", "--json").documents] == ["l.json"]


@pytest.mark.parametrize(
    ("checksum", "algorithms"), [("auto", {"md5"}), ("sha256", {"sha256"}), ("none", {"none"})]
)
def test_checksum_chooses_the_content_id_of_references(
    cli: Calls, versioned_lake: Lake, checksum: str, algorithms: set[str]
) -> None:
    cli("put", versioned_lake.uri, "-n", "d", "--checksum", checksum)
    ids = [row["content_id"] for row in cli("ls", "d:v0", "--json").documents]
    assert {content_id.partition(":")[0] for content_id in ids} == algorithms


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("data", "--max-objects", "5"), 2, "--reference"),
        (("data", "--checksum", "sha256"), 2, "--reference"),
        (("data/labels.json", "--include", "*"), 2, "one file"),
        (("data", "-r", "--max-objects", "2"), 2, "max_objects=2"),
        (("data", "-m", "novalue"), 2, "KEY=VALUE"),
        (("data", "-n", "no spaces"), 2, "artifact name"),
        (("data", "-a", "v7"), 2, "version number"),
        (("data", "--tag", "!"), 2, "tag"),
        (("data", "--include", "*.zip"), 3, "matches no"),
        (("nowhere",), 3, "nowhere"),
        (("",), 2, "empty"),
        (("s3://no-such-bucket-of-ours/x",), 3, "no-such-bucket-of-ours"),
        (("s3://user:secret@host/x",), 2, "credentials"),
    ],
)
def test_what_cannot_be_logged_leaves_neither_a_version_nor_a_run(
    cli: Calls,
    folder: Path,
    s3: object,
    refart_workspace: Workspace,
    args: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    error = cli("put", *args, "--json", code=code).error
    assert says in error["message"]
    assert "secret" not in error["message"]
    assert (refart_workspace.collections(), refart_workspace.runs()) == ([], [])


def test_allow_empty_logs_nothing_at_all(cli: Calls) -> None:
    Path("empty").mkdir()
    assert cli("put", "empty", "--allow-empty", "--json").document["entries"] == 0


def test_refresh_logs_what_changed(cli: Calls, folder: Path, refart_workspace: Workspace) -> None:
    cli("put", "-r", "data", "-n", "images", "-d", "The first.", "-m", "camera=2")
    (folder / "new.txt").write_text("new")
    (folder / "labels.json").unlink()
    told = cli("put", "--refresh", "images", "-a", "fresh", "-m", "by=hand", "--json").document
    assert (told["name"], told["created"], told["aliases"]) == (
        "default/images:v1",
        True,
        ["fresh", "latest"],
    )
    assert [told[key] for key in ("kept", "added", "changed", "removed", "repinned")] == [2, 1, 0, 1, 0]
    assert (told["description"], told["metadata"]) == ("The first.", {"camera": 2, "by": "hand"})
    run = refart_workspace.run(told["run"])
    assert [version.version for version in run.used_artifacts()] == ["v0"]
    again = cli("put", "--refresh", "images:v1")
    assert "default/images:v1 unchanged" in again.stdout
    assert "kept" in again.stdout


def test_refresh_empties_nothing_unless_it_may(cli: Calls, folder: Path) -> None:
    cli("put", "-r", "data", "-n", "images")
    folder.rename("elsewhere")
    assert "--allow-empty" in cli("put", "--refresh", "images", code=3).stderr
    assert cli("put", "--refresh", "images", "--allow-empty", "--json").document["entries"] == 0


@pytest.mark.parametrize(
    "more", [("data",), ("-n", "x"), ("-t", "x"), ("--at", "x"), ("--exclude", "x"), ("--checksum", "stat")]
)
def test_refresh_keeps_what_was_logged(cli: Calls, folder: Path, more: tuple[str, ...]) -> None:
    cli("put", "-r", "data", "-n", "images")
    cli("put", "--refresh", "images", *more, code=2)


def test_there_is_something_to_log(cli: Calls) -> None:
    cli("put", code=2)
    cli("put", "--refresh", "nothing", code=3)


def test_a_refresh_without_a_change_logs_nothing(
    cli: Calls, folder: Path, refart_workspace: Workspace
) -> None:
    """Of an old version neither: `latest` stays, and only the labels that were asked for are given."""
    cli("put", "-r", "data", "-n", "images")
    cli("put", "-r", "data/train", "-n", "images")
    runs = len(refart_workspace.runs())
    told = cli("put", "--refresh", "images:v0", "-a", "kept", "-d", "Old.", "--json").document
    assert (told["name"], told["created"], told["run"]) == ("default/images:v0", False, None)
    assert (told["aliases"], told["description"]) == (["kept"], "Old.")
    assert cli("put", "--refresh", "images:v0").stdout.startswith("default/images:v0 unchanged: nothing was")
    assert refart_workspace.artifact("default/images").version == "v1"
    assert len(refart_workspace.runs()) == runs


def test_where_latest_goes_is_told_unless_it_goes_to_the_next(cli: Calls, folder: Path) -> None:
    cli("put", "-r", "data", "-n", "images")
    assert "latest" not in cli("put", "-r", "data/train", "-n", "images").stderr
    assert cli("put", "-r", "data", "-n", "images").stderr == "latest: v1 → v0\n"
    cli("put", "-r", "data/train", "-n", "images")
    (folder / "new.txt").write_text("new")
    assert cli("put", "--refresh", "images:v0").stderr == "latest: v1 → v2 (made from v0)\n"
    (folder / "newer.txt").write_text("newer")
    assert "latest" not in cli("put", "--refresh", "images").stderr


def test_lineage_that_cannot_be_sent_is_told(
    cli: Calls, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFART_OPENLINEAGE", "true")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "http")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__URL", "http://127.0.0.1:1")
    assert "an OpenLineage event could not be sent" in cli("put", "data").stderr


def test_a_description_that_cannot_be_leaves_no_run(
    cli: Calls, folder: Path, refart_workspace: Workspace
) -> None:
    cli("put", "data", "-d", "a\x00b", code=2)
    assert refart_workspace.runs() == []
