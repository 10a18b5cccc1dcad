"""Artifacts: a draft that is built, a version that stands, and what of it can still be edited."""

from __future__ import annotations

import io
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from refart import Artifact, ArtifactEntry, Workspace
from refart.catalog.base import VersionKey
from refart.errors import (
    ChecksumError,
    ConflictError,
    FinalizedError,
    InvalidInputError,
    NotFoundError,
)
from tests.ops.support import content_id, tree, write

FILES = {"a.txt": b"a", "data/b.txt": b"bb", "data/deep/c.txt": b"ccc"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source", FILES)


@pytest.fixture
def draft(refart_workspace: Workspace, source: Path) -> Artifact:
    """Two managed files, and a reference to a third."""
    draft = refart_workspace.draft("cats", "images", description="Cats", metadata={"n": 1})
    draft.add_file(source / "a.txt")
    draft.add_reference(source / "data", "data")
    return draft


@pytest.fixture
def logged(refart_workspace: Workspace, draft: Artifact) -> Artifact:
    return log(refart_workspace, draft, aliases=["best"], tags=["ok"])


def log(workspace: Workspace, draft: Artifact, **labels: Any) -> Artifact:
    with workspace.init() as run:
        return run.log_artifact(draft, **labels)


def again(workspace: Workspace, artifact: Artifact) -> Artifact:
    """The same version, as another process sees it."""
    return workspace.artifact(artifact.qualified_name)


def text_of(workspace: Workspace, name: str, text: str) -> Artifact:
    draft = workspace.draft(name)
    with draft.new_file("text") as file:
        file.write(text)
    return log(workspace, draft)


# -- from draft to version ----------------------------------------------------------------------------------


def test_a_draft_says_what_it_holds(draft: Artifact) -> None:
    assert (draft.name, draft.type, draft.state, draft.created) == ("cats", "images", "draft", False)
    assert (draft.file_count, draft.size, draft.referenced_size, draft.stored_size) == (3, 6, 5, 1)
    assert repr(draft) == "<Artifact cats (draft), type images>"


@pytest.mark.parametrize(
    "attribute", ["version", "project", "qualified_name", "created_at", "source_version"]
)
def test_a_draft_is_no_version_yet(draft: Artifact, attribute: str) -> None:
    with pytest.raises(ConflictError, match=r"cats is a draft; log_artifact\(\) makes it a version first"):
        getattr(draft, attribute)


@pytest.mark.parametrize(
    "method", ["save", "delete", "wait", "logged_by", "used_by", "lineage", "download", "verify"]
)
def test_a_draft_cannot_do_what_a_version_can(draft: Artifact, method: str, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="is a draft"):
        getattr(draft, method)()


def test_a_version_says_what_it_is(refart_workspace: Workspace, draft: Artifact) -> None:
    before = datetime.now(UTC)
    digests = draft.digest, draft.manifest_digest
    draft.aliases, draft.tags, draft.ttl = ["mine"], ["raw"], timedelta(days=30)
    logged = log(refart_workspace, draft, aliases=["best"], tags=["ok"])
    assert logged is draft, "the draft became the version"
    assert (logged.state, logged.created, logged.version) == ("logged", True, "v0")
    assert (logged.project, logged.qualified_name) == ("default", "default/cats:v0")
    assert (logged.digest, logged.manifest_digest) == digests
    assert (logged.file_count, logged.size, logged.referenced_size, logged.stored_size) == (3, 6, 5, 1)
    assert (logged.aliases, logged.tags) == (["best", "latest", "mine"], ["ok", "raw"])
    assert (logged.description, logged.metadata, logged.ttl) == ("Cats", {"n": 1}, timedelta(days=30))
    assert before <= logged.created_at <= datetime.now(UTC)
    assert logged.source_version is None
    assert repr(logged) == "<Artifact default/cats:v0, type images>"
    assert logged.wait() is logged


def test_another_process_sees_the_same(refart_workspace: Workspace, logged: Artifact) -> None:
    found = again(refart_workspace, logged)
    assert not found.created
    for attribute in (
        *("name", "type", "state", "version", "qualified_name", "created_at", "digest", "manifest_digest"),
        *(
            "file_count",
            "size",
            "referenced_size",
            "stored_size",
            "aliases",
            "tags",
            "description",
            "metadata",
        ),
    ):
        assert getattr(found, attribute) == getattr(logged, attribute), attribute
    assert list(found.entries()) == list(logged.entries())


def test_the_digest_of_a_draft_follows_its_entries(draft: Artifact, source: Path) -> None:
    first = draft.digest
    draft.add_file(source / "data/b.txt", "more")
    second = draft.digest
    draft.remove("more")
    assert draft.digest == first != second


def test_the_same_bytes_elsewhere_have_the_same_digest(
    refart_workspace: Workspace, source: Path, tmp_path: Path
) -> None:
    copy = write(tmp_path / "copy", FILES)
    managed, here, there = (refart_workspace.draft("x") for _ in range(3))
    managed.add_dir(source)
    here.add_reference(source)
    there.add_reference(f"file://{copy}")
    assert managed.digest == here.digest == there.digest
    assert len({managed.manifest_digest, here.manifest_digest, there.manifest_digest}) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda a, p: a.add_file(p / "a.txt", "x"),
        lambda a, p: a.add_dir(p),
        lambda a, p: a.add_reference(p),
        lambda a, p: a.add_references([f"file://{p}/a.txt"]),
        lambda a, p: a.remove("a.txt"),
        lambda a, p: a.new_file("x").__enter__(),
    ],
)
def test_a_version_cannot_change(logged: Artifact, source: Path, change: Any) -> None:
    with pytest.raises(FinalizedError, match=r"default/cats:v0 is logged and cannot change; new_draft\(\)"):
        change(logged, source)


@pytest.mark.parametrize(
    ("name", "type", "options"),
    [
        ("a/b", "t", {}),
        ("a", "t:t", {}),
        ("a", "t", {"description": "\0"}),
        ("a", "t", {"metadata": {"x": float("nan")}}),
    ],
)
def test_a_draft_that_could_not_be_logged_cannot_be_made(
    name: str, type: str, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        Artifact(name, type, **options)


def test_a_draft_without_a_workspace_reads_with_this_machines_settings(
    refart_workspace: Workspace, source: Path
) -> None:
    artifact = Artifact("cats", "images")
    artifact.add_dir(source)
    assert len(artifact) == 3
    assert log(refart_workspace, artifact).version == "v0"


# -- new_file and remove --------------------------------------------------------------------------------------


def test_new_file_writes_text_or_bytes(refart_workspace: Workspace, tmp_path: Path) -> None:
    draft = refart_workspace.draft("x")
    with draft.new_file("text/é.txt") as file:
        file.write("größe\n")
    with draft.new_file("latin", encoding="latin-1") as file:
        file.write("größe\n")
    with draft.new_file("bytes", "wb") as file:
        file.write(b"\x00\xff")
    log(refart_workspace, draft)
    assert tree(Path(draft.download(tmp_path / "root"))) == {
        "text/é.txt": "größe\n".encode(),
        "latin": "größe\n".encode("latin-1"),
        "bytes": b"\x00\xff",
    }


def test_an_error_inside_new_file_adds_nothing(draft: Artifact) -> None:
    def fail() -> None:
        with draft.new_file("half") as file:
            file.write("half")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert "half" not in draft
    assert len(draft) == 3


@pytest.mark.parametrize(("name", "mode"), [("../up", "w"), ("", "w"), ("x", "r"), ("x", "a"), ("x", "w+")])
def test_new_file_refuses_mistakes_before_the_block(draft: Artifact, name: str, mode: Any) -> None:
    with pytest.raises(InvalidInputError), draft.new_file(name, mode):
        pytest.fail("the block must not run")


def test_new_file_does_not_replace_other_bytes(draft: Artifact) -> None:
    with pytest.raises(ConflictError, match=r"a\.txt"), draft.new_file("a.txt") as file:
        file.write("other")
    assert draft.get_entry("a.txt").content_id == content_id(b"a")


def test_remove_takes_an_entry_or_a_folder(draft: Artifact) -> None:
    assert draft.remove("data/") == 2
    assert draft.remove(draft.get_entry("a.txt")) == 1
    assert len(draft) == 0
    with pytest.raises(NotFoundError, match="no entry 'data' and nothing below it"):
        draft.remove("data")


# -- looking inside -------------------------------------------------------------------------------------------


@pytest.fixture(params=["draft", "logged"])
def either(request: pytest.FixtureRequest) -> Artifact:
    """A draft, or the version it becomes: looking inside is the same."""
    return request.getfixturevalue(request.param)


def test_entries_come_by_path(either: Artifact) -> None:
    assert [entry.path for entry in either.entries()] == [entry.path for entry in either] == list(FILES)
    assert [entry.path for entry in either.entries("data/")] == ["data/b.txt", "data/deep/c.txt"]
    assert [entry.path for entry in either.entries("a.txt")] == ["a.txt"]
    assert list(either.entries("dat")) == []
    assert len(either) == 3


def test_one_entry(either: Artifact, source: Path) -> None:
    entry = either["data/b.txt"]
    assert entry == either.get_entry("data/b.txt")
    assert isinstance(entry, ArtifactEntry)
    assert (entry.size, entry.content_id, entry.uri) == (2, content_id(b"bb"), f"file://{source}/data/b.txt")
    assert entry.ref_target() == entry.uri
    with pytest.raises(InvalidInputError, match="is a managed file, not a reference"):
        either["a.txt"].ref_target()


def test_an_entry_that_is_not_there(either: Artifact) -> None:
    with pytest.raises(NotFoundError, match=r"cats.* has no entry 'data'"):
        either["data"]
    with pytest.raises(InvalidInputError):
        either["../up"]


@pytest.mark.parametrize(
    ("item", "there"),
    [("a.txt", True), ("data", False), ("", False), ("../up", False), (3, False), ("\0", False)],
)
def test_membership_is_a_question_and_never_an_error(either: Artifact, item: object, there: bool) -> None:
    assert (item in either) == there


def test_what_was_added_is_a_sequence(draft: Artifact, source: Path) -> None:
    added = draft.add_dir(source, "more")
    paths = [f"more/{path}" for path in FILES]
    assert len(added) == 3
    assert [entry.path for entry in added] == [entry.path for entry in added] == paths
    assert (added[0].path, added[-1].path) == (paths[0], paths[-1])
    assert [entry.path for entry in added[1:]] == paths[1:]
    assert [entry.path for entry in reversed(added)] == paths[::-1]
    assert added[1] in added
    assert added.index(added[2]) == 2
    assert repr(added) == "<3 entries>"
    for index in (3, -4):
        with pytest.raises(IndexError):
            added[index]


def test_what_was_added_outlives_the_logging(
    refart_workspace: Workspace, draft: Artifact, source: Path
) -> None:
    added = draft.add_reference(source, "more")
    log(refart_workspace, draft)
    assert [entry.open().read() for entry in added] == list(FILES.values())


# -- bytes ------------------------------------------------------------------------------------------------------


def test_download_goes_to_a_folder_named_after_the_version(
    logged: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert logged.download() == "./artifacts/cats-v0"
    assert tree(tmp_path / "artifacts/cats-v0") == FILES
    assert logged.verify().ok_files == 3
    assert logged.checkout() == "./artifacts/cats-v0"


def test_download_of_a_part(logged: Artifact, tmp_path: Path) -> None:
    assert tree(Path(logged.download(tmp_path / "1", path_prefix="data/deep"))) == {"data/deep/c.txt": b"ccc"}
    assert tree(Path(logged.download(tmp_path / "2", include="*.txt", exclude=["deep/"]))) == {
        "a.txt": b"a",
        "data/b.txt": b"bb",
    }
    with pytest.raises(NotFoundError, match="no entry for path_prefix='dat'"):
        logged.download(tmp_path / "3", path_prefix="dat")
    assert not (tmp_path / "3").exists()


def test_download_of_one_entry(logged: Artifact, tmp_path: Path) -> None:
    path = logged["data/b.txt"].download(tmp_path / "root")
    assert path == f"{tmp_path}/root/data/b.txt"
    assert tree(tmp_path / "root") == {"data/b.txt": b"bb"}


def test_one_entry_is_not_what_lies_below_it(
    refart_workspace: Workspace, source: Path, tmp_path: Path
) -> None:
    """An object store may hold both `data` and `data/b.txt`; the first alone can be downloaded."""
    draft = refart_workspace.draft("both")
    draft.add_file(source / "a.txt", "data")
    draft.add_file(source / "data/b.txt", "data/b.txt")
    log(refart_workspace, draft)
    assert Path(draft["data"].download(tmp_path / "root")).read_bytes() == b"a"


def test_weak_identities_are_counted_and_told_when_they_are_logged(
    refart_workspace: Workspace, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draft = refart_workspace.draft("mixed")
    draft.add_reference(source / "a.txt", checksum="stat")
    draft.add_reference(source / "data")
    assert (draft.weak_count, draft["a.txt"].is_weak, draft["b.txt"].is_weak) == (1, True, False)
    with caplog.at_level(logging.WARNING, "refart"):
        version = log(refart_workspace, draft)
        again = refart_workspace.draft("mixed")
        again.add_reference(source / "a.txt", checksum="stat")
        again.add_reference(source / "data")
        assert log(refart_workspace, again).created is False
    [told] = [record.getMessage() for record in caplog.records]
    assert f"1 of {version.file_count} entries have a weak identity" in told
    assert refart_workspace.artifact("mixed").weak_count == 1
    report = version.download_report(tmp_path / "root")
    assert report.weakly_confirmed == 1
    assert report.checked_by == {"sha256": version.file_count - 1, "weak": 1}


def test_unverified_and_missing_files_are_told(
    refart_workspace: Workspace, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draft = refart_workspace.draft("weak")
    draft.add_reference(source, checksum=False)
    with caplog.at_level(logging.WARNING, "refart"):
        log(refart_workspace, draft)
        (source / "a.txt").unlink()
        draft.download(tmp_path / "root", allow_missing_references=True)
    told = [record.getMessage() for record in caplog.records]
    assert told.pop(0).startswith("default/weak:v0: 3 of 3 entries have a weak identity")
    assert told == [
        "default/weak:v0: 1 references are gone and were left out, first 'a.txt'",
        "default/weak:v0: 2 files could not be verified: no hash, pin or ETag was recorded, first 'data/b.txt'",
    ]


def test_checkout_removes_foreign_files_only_when_told(logged: Artifact, tmp_path: Path) -> None:
    root = write(tmp_path / "root", {"mine": b"x", "old/theirs": b"y"})
    logged.checkout(root)
    assert tree(root) == {**FILES, "mine": b"x", "old/theirs": b"y"}
    logged.checkout(root, prune=True)
    assert tree(root) == FILES


def test_a_precious_root_is_refused_before_anything_is_written(
    logged: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = write(tmp_path / "here", {"mine": b"x"})
    monkeypatch.chdir(here)
    with pytest.raises(InvalidInputError, match="refart removes no files"):
        logged.checkout(".", prune=True)
    assert tree(here) == {"mine": b"x"}


def test_verify_raises_and_names_what_is_wrong(logged: Artifact, tmp_path: Path) -> None:
    root = Path(logged.download(tmp_path / "root", link="copy"))
    (root / "a.txt").write_bytes(b"X")
    (root / "data/b.txt").unlink()
    with pytest.raises(
        ChecksumError, match=r"is not default/cats:v0: a.txt \(modified\), data/b.txt \(missing\); download"
    ):
        logged.verify(root)
    assert logged.verify_report(root).modified == ["a.txt"]
    logged.download(root)
    assert logged.verify(root).is_good


def test_file_is_for_exactly_one(refart_workspace: Workspace, logged: Artifact, tmp_path: Path) -> None:
    one = text_of(refart_workspace, "one", "text")
    assert Path(one.file(tmp_path / "root")).read_text() == "text"
    with pytest.raises(InvalidInputError, match=r"has 3 entries; file\(\) is for exactly one"):
        logged.file()


def test_open_reads_without_a_download(logged: Artifact, source: Path) -> None:
    for path, data in FILES.items():
        with logged.open(path) as file:
            assert isinstance(file, io.BufferedReader)
            assert file.read() == data
    with logged.open("data/deep/c.txt") as file:
        assert (file.seek(1), file.read()) == (1, b"cc")


def test_a_draft_entry_has_no_bytes_to_open(draft: Artifact) -> None:
    with pytest.raises(ConflictError, match="is a draft"):
        draft.open("a.txt")


def test_diff_tells_what_changed(refart_workspace: Workspace, logged: Artifact, source: Path) -> None:
    draft = logged.new_draft()
    draft.remove("data/deep")
    draft.add_file(source / "a.txt", "new.txt")
    changes = logged.diff(log(refart_workspace, draft))
    assert sum(page.num_rows for page in changes) == 2
    assert sum(page.num_rows for page in logged.diff(draft, "data/")) == 1


# -- what can be edited --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "New"),
        ("description", None),
        ("metadata", {"n": 2, "deep": [1, {"x": None}]}),
        ("metadata", {}),
        ("ttl", timedelta(hours=1)),
        ("tags", ["a", "b"]),
        ("tags", []),
        ("aliases", ["latest", "other"]),
        ("aliases", ["latest"]),
    ],
)
def test_save_writes_what_was_changed(
    refart_workspace: Workspace, logged: Artifact, field: str, value: Any
) -> None:
    others = {
        name: getattr(logged, name) for name in ("description", "metadata", "ttl", "tags", "aliases")
    } | {field: value}
    setattr(logged, field, value)
    assert logged.save() is logged
    found = again(refart_workspace, logged)
    for name, expected in others.items():
        assert getattr(found, name) == getattr(logged, name) == expected


def test_metadata_may_be_changed_in_place(refart_workspace: Workspace, logged: Artifact) -> None:
    logged.metadata["scores"] = {"f1": 0.5}
    logged.save()
    logged.metadata["scores"]["f1"] = 0.9
    assert again(refart_workspace, logged).metadata["scores"] == {"f1": 0.5}, "not before save()"
    logged.save()
    assert again(refart_workspace, logged).metadata == {"n": 1, "scores": {"f1": 0.9}}


def test_ttl_can_be_taken_back(refart_workspace: Workspace, logged: Artifact) -> None:
    logged.ttl = timedelta(days=1)
    logged.save().ttl = None
    logged.save()
    assert again(refart_workspace, logged).ttl is None


def test_two_who_add_different_aliases_both_succeed(refart_workspace: Workspace, logged: Artifact) -> None:
    other = again(refart_workspace, logged)
    logged.aliases.append("one")
    other.aliases.append("two")
    other.description = "Other"
    logged.save()
    other.save()
    found = again(refart_workspace, logged)
    assert (found.aliases, found.description) == (["best", "latest", "one", "two"], "Other")


def test_an_alias_moves_here_from_another_version(
    refart_workspace: Workspace, logged: Artifact, source: Path
) -> None:
    draft = logged.new_draft()
    draft.remove("a.txt")
    newer = log(refart_workspace, draft)
    newer.aliases.append("best")
    newer.save()
    assert again(refart_workspace, logged).aliases == []
    assert refart_workspace.artifact("cats:best").version == "v1"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("aliases", []),
        ("aliases", ["latest", "v7"]),
        ("aliases", "latest"),
        ("tags", ["a:b"]),
        ("tags", "ok"),
        ("description", 3),
        ("metadata", [1]),
        ("metadata", {"x": float("inf")}),
        ("ttl", timedelta(seconds=-1)),
        ("ttl", 3600),
    ],
)
def test_save_refuses_mistakes_and_writes_nothing(
    refart_workspace: Workspace, logged: Artifact, field: str, value: Any
) -> None:
    before = again(refart_workspace, logged)._row
    logged.description = "Changed too"
    setattr(logged, field, value)
    with pytest.raises(InvalidInputError):
        logged.save()
    assert again(refart_workspace, logged)._row == before


def test_delete_needs_the_aliases_gone(refart_workspace: Workspace, logged: Artifact) -> None:
    with pytest.raises(ConflictError, match="best"):
        logged.delete()
    assert logged.state == "logged"
    logged.delete(delete_aliases=True)
    assert (logged.state, logged.aliases, logged.version) == ("deleted", [], "v0")
    with pytest.raises(NotFoundError):
        again(refart_workspace, logged)
    with pytest.raises(NotFoundError):
        logged.save()


def test_the_number_of_a_deleted_version_is_never_given_again(
    refart_workspace: Workspace, logged: Artifact
) -> None:
    draft = logged.new_draft()
    logged.delete(delete_aliases=True)
    assert log(refart_workspace, draft).version == "v1"


def test_deleting_the_latest_makes_the_one_before_it_latest(
    refart_workspace: Workspace, logged: Artifact
) -> None:
    draft = logged.new_draft()
    draft.remove("a.txt")
    log(refart_workspace, draft).delete(delete_aliases=True)
    assert refart_workspace.artifact("cats").version == "v0"


# -- new drafts and links --------------------------------------------------------------------------------------------


def test_a_new_draft_has_the_entries_and_is_independent(
    refart_workspace: Workspace, logged: Artifact, source: Path
) -> None:
    draft = logged.new_draft()
    assert (draft.state, draft.name, draft.type) == ("draft", "cats", "images")
    assert (draft.description, draft.metadata, draft.digest) == ("Cats", {"n": 1}, logged.digest)
    draft.remove("data")
    draft.metadata["n"] = 2
    assert len(logged) == 3
    assert logged.metadata == {"n": 1}
    newer = log(refart_workspace, draft)
    assert newer.version == "v1"
    assert [entry.path for entry in newer] == ["a.txt"]


def test_logging_a_new_draft_records_where_it_came_from(
    refart_workspace: Workspace, logged: Artifact
) -> None:
    draft = logged.new_draft()
    draft.remove("a.txt")
    newer = log(refart_workspace, draft)
    assert [a.qualified_name for a in newer.logged_by().used_artifacts()] == ["default/cats:v0"]
    assert [row.key.number for row in newer.lineage("upstream").versions] == [1, 0]
    assert [run.id for run in logged.used_by()] == [newer.logged_by().id]


def test_an_unchanged_new_draft_makes_no_version(refart_workspace: Workspace, logged: Artifact) -> None:
    same = log(refart_workspace, logged.new_draft())
    assert (same.version, same.created) == ("v0", False)


def test_a_link_is_a_version_of_another_collection(
    refart_workspace: Workspace, logged: Artifact, tmp_path: Path
) -> None:
    linked = logged.link("registry/best-cats", ["production"])
    assert (linked.qualified_name, linked.source_version) == ("registry/best-cats:v0", "default/cats:v0")
    assert (linked.aliases, linked.digest, linked.created) == (["latest", "production"], logged.digest, True)
    assert tree(Path(linked.download(tmp_path / "root"))) == FILES
    assert not logged.link("registry/best-cats").created
    assert logged.qualified_name == "default/cats:v0"
    with pytest.raises(InvalidInputError):
        logged.link("registry/")
    with pytest.raises(ConflictError):
        logged.link("cats")


def test_a_deleted_version_cannot_be_linked(refart_workspace: Workspace, logged: Artifact) -> None:
    """A link would be a live version of bytes that are free to go."""
    logged.delete(delete_aliases=True)
    with pytest.raises(ConflictError, match="cats:v0 was deleted"):
        logged.link("registry/best-cats")
    assert refart_workspace.collections("registry") == []


def test_who_logged_and_who_used_it(refart_workspace: Workspace, logged: Artifact) -> None:
    with refart_workspace.init(name="reader") as run:
        run.use_artifact(logged)
        run.use_artifact(logged)
    assert [record.name for record in logged.used_by()] == ["reader"]
    assert [a.qualified_name for a in logged.logged_by().logged_artifacts()] == ["default/cats:v0"]
    assert logged.lineage("downstream").start == VersionKey("default", "cats", 0)


def test_a_run_still_tells_of_versions_that_are_deleted(
    refart_workspace: Workspace, logged: Artifact
) -> None:
    logger = logged.logged_by()
    logged.delete(delete_aliases=True)
    assert [a.state for a in logger.logged_artifacts()] == ["deleted"]
