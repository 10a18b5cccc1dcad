"""The promises of W&B Artifacts that people build on, each a test named after it."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart import Artifact, Run, Workspace, names
from refart.errors import ConflictError, FinalizedError, InvalidInputError, NotFoundError
from refart.testing import Lake, S3Requests
from tests.children import good, start_python
from tests.footprints import blobs, files_below, store_files


@pytest.fixture
def run(refart_workspace: Workspace) -> Iterator[Run]:
    with refart_workspace.init(job_type="test") as run:
        yield run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of three small files."""
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        (folder / name).write_text(f"content of {name}\n")
    return folder


def draft(data: Path, **options: object) -> Artifact:
    artifact = Artifact("things", "dataset", **options)  # type: ignore[arg-type]
    artifact.add_dir(data)
    return artifact


def aliases(workspace: Workspace) -> dict[str, list[str]]:
    return {a.version: sorted(a.aliases) for a in workspace.artifacts("things")}


# -- unchanged and changed content ------------------------------------------------------------------


def test_unchanged_content_uploads_nothing_and_makes_no_version(
    run: Run, data: Path, refart_workspace: Workspace
) -> None:
    first = run.log_artifact(draft(data))
    stored = store_files(refart_workspace)
    again = run.log_artifact(draft(data))
    assert (first.version, first.created) == ("v0", True)
    assert (again.version, again.created) == ("v0", False)
    assert store_files(refart_workspace) == stored


def test_changed_content_makes_the_next_version(run: Run, data: Path) -> None:
    run.log_artifact(draft(data))
    (data / "a.txt").write_text("changed\n")
    assert run.log_artifact(draft(data)).version == "v1"


def test_latest_moves_and_other_aliases_stay(run: Run, data: Path, refart_workspace: Workspace) -> None:
    run.log_artifact(draft(data), aliases=["best"])
    (data / "a.txt").write_text("changed\n")
    run.log_artifact(draft(data), aliases=["newer"])
    assert aliases(refart_workspace) == {"v0": ["best"], "v1": ["latest", "newer"]}


def test_latest_goes_back_to_content_that_is_logged_again(
    run: Run, data: Path, refart_workspace: Workspace
) -> None:
    run.log_artifact(draft(data))
    (data / "a.txt").write_text("changed\n")
    run.log_artifact(draft(data))
    (data / "a.txt").write_text("content of a.txt\n")
    assert run.log_artifact(draft(data)).version == "v0"
    assert aliases(refart_workspace) == {"v0": ["latest"], "v1": []}


# -- names ------------------------------------------------------------------------------------------

NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
TAG = re.compile(r"^[-\w]+( +[-\w]+)*$")
awkward = st.text(string.ascii_letters + string.digits + "_.-/: \n\té", max_size=12) | st.text(
    "a", max_size=130
)


def accepts(check: Callable[[object], object], value: object) -> bool:
    try:
        check(value)
    except InvalidInputError:
        return False
    return True


@given(awkward)
def test_names_are_1_to_128_letters_digits_and_a_few_marks(name: str) -> None:
    good_name = NAME.fullmatch(name) is not None and name not in (".", "..")
    assert accepts(lambda value: Artifact(str(value), "dataset"), name) == good_name
    assert accepts(lambda value: Artifact("things", str(value)), name) == good_name


@given(awkward)
def test_aliases_hold_no_slash_and_no_colon(alias: str) -> None:
    if "/" in alias or ":" in alias:
        assert not accepts(names.check_alias, alias)
    elif NAME.fullmatch(alias) and not re.fullmatch("v[0-9]+", alias):
        assert accepts(names.check_alias, alias)


@given(awkward)
def test_tags_are_words_separated_by_spaces(tag: str) -> None:
    fits = TAG.match(tag) is not None and not tag.endswith("\n") and len(tag) <= 128
    assert accepts(names.check_tag, tag) == fits


def test_aliases_shaped_like_v3_are_version_numbers(run: Run, data: Path) -> None:
    run.log_artifact(draft(data))
    assert run.use_artifact("things:v0").version == "v0"
    with pytest.raises(InvalidInputError, match=r"'v3'.*version number"):
        run.log_artifact(draft(data), aliases=["v3"])


# -- types ------------------------------------------------------------------------------------------


def test_a_name_has_one_type_in_its_project(run: Run, data: Path, refart_workspace: Workspace) -> None:
    run.log_artifact(draft(data))
    other = Artifact("things", "model")
    with other.new_file("weights") as file:
        file.write("1")
    with pytest.raises(ConflictError, match="default/things has the type 'dataset', not 'model'"):
        run.log_artifact(other)
    assert other.state == "draft"
    with refart_workspace.init(project="elsewhere") as there:
        assert there.log_artifact(other).type == "model"


# -- building ---------------------------------------------------------------------------------------


def test_adding_the_same_bytes_again_is_fine(data: Path) -> None:
    artifact = draft(data)
    artifact.add_file(data / "a.txt")
    assert artifact.file_count == 3


def test_adding_other_bytes_at_a_path_is_an_error_unless_overwrite(data: Path, tmp_path: Path) -> None:
    artifact = draft(data)
    other = tmp_path / "other.txt"
    other.write_text("other bytes\n")
    before = artifact.digest
    with pytest.raises(ConflictError, match=r"a\.txt"):
        artifact.add_file(other, name="a.txt")
    assert artifact.digest == before
    artifact.add_file(other, name="a.txt", overwrite=True)
    assert artifact["a.txt"].size == len("other bytes\n")
    assert artifact.file_count == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda artifact, data: artifact.add_file(data / "a.txt", name="new"),
        lambda artifact, data: artifact.add_dir(data, name="new"),
        lambda artifact, data: artifact.add_reference(data, name="new"),
        lambda artifact, data: artifact.add_references([str(data / "a.txt")]),
        lambda artifact, data: artifact.new_file("new").__enter__(),
        lambda artifact, data: artifact.remove("a.txt"),
    ],
    ids=["add_file", "add_dir", "add_reference", "add_references", "new_file", "remove"],
)
def test_a_finalized_artifact_cannot_be_changed(
    run: Run, data: Path, change: Callable[[Artifact, Path], object]
) -> None:
    artifact = run.log_artifact(draft(data))
    with pytest.raises(FinalizedError, match=r"things:v0.*new_draft\(\)"):
        change(artifact, data)
    assert [entry.path for entry in artifact.entries()] == ["a.txt", "b.txt", "sub/c.txt"]


# -- using and logging in one step ------------------------------------------------------------------


def test_using_an_artifact_object_logs_and_uses_it_any_number_of_times(
    run: Run, data: Path, refart_workspace: Workspace
) -> None:
    mine = draft(data)
    used = [run.use_artifact(mine), run.use_artifact(mine), run.use_artifact(draft(data))]
    assert {artifact.qualified_name for artifact in used} == {"default/things:v0"}
    assert [a.version for a in refart_workspace.artifacts("things")] == ["v0"]
    assert [a.qualified_name for a in run.used_artifacts()] == ["default/things:v0"]
    assert [a.qualified_name for a in run.logged_artifacts()] == ["default/things:v0"]


def test_logging_a_path_makes_the_artifact(run: Run, data: Path) -> None:
    folder = run.log_artifact(data)
    assert (folder.name, folder.type, folder.file_count) == ("data", "dataset", 3)
    assert folder.referenced_size == 0
    file = run.log_artifact(str(data / "a.txt"), name="single", type="text")
    assert (file.name, file.type) == ("single", "text")
    assert [entry.path for entry in file.entries()] == ["a.txt"]


def test_logging_a_uri_makes_the_artifact(
    run: Run, versioned_lake: Lake, refart_workspace: Workspace
) -> None:
    artifact = run.log_artifact(f"{versioned_lake.uri}/raw", name="raw-data")
    assert [entry.path for entry in artifact.entries()] == ["2026/a.csv", "2026/b.csv", "labels.json"]
    assert all(entry.is_reference for entry in artifact.entries())
    assert blobs(refart_workspace) == []


# -- deleting ---------------------------------------------------------------------------------------


def three_versions(run: Run, data: Path) -> list[Artifact]:
    versions = []
    for number in range(3):
        (data / "a.txt").write_text(f"number {number}\n")
        versions.append(run.log_artifact(draft(data)))
    return versions


def test_deleting_a_version_with_aliases_needs_delete_aliases(
    run: Run, data: Path, refart_workspace: Workspace
) -> None:
    v0, v1, v2 = three_versions(run, data)
    v0.delete()
    with pytest.raises(ConflictError, match="things:v2 has the aliases latest"):
        v2.delete()
    assert aliases(refart_workspace) == {"v1": [], "v2": ["latest"]}
    v2.delete(delete_aliases=True)
    assert v2.state == "deleted"
    assert aliases(refart_workspace) == {"v1": ["latest"]}
    assert v1.file_count == 3


def test_numbers_are_never_reused(run: Run, data: Path) -> None:
    for version in three_versions(run, data):
        version.delete(delete_aliases=True)
    with pytest.raises(NotFoundError, match="things"):
        run.use_artifact("things:latest")
    with pytest.raises(NotFoundError, match=r"things:v1.*deleted"):
        run.use_artifact("things:v1")
    assert run.log_artifact(draft(data)).version == "v3"


def test_referenced_bytes_are_never_deleted(run: Run, data: Path, versioned_lake: Lake) -> None:
    artifact = Artifact("mixed", "dataset")
    artifact.add_reference(versioned_lake.uri, name="lake")
    artifact.add_reference(data, name="local")
    before = files_below(data), listing(versioned_lake)
    run.log_artifact(artifact).delete(delete_aliases=True)
    assert (files_below(data), listing(versioned_lake)) == before


def listing(lake: Lake) -> list[tuple[str, str]]:
    found = lake.client.list_object_versions(Bucket=lake.bucket)
    assert "DeleteMarkers" not in found
    return [(version["Key"], version["VersionId"]) for version in found["Versions"]]


# -- drafts of versions, and versions that several processes build ----------------------------------


def test_new_draft_copies_the_entries_without_downloading(
    run: Run, versioned_lake: Lake, s3_requests: S3Requests, tmp_path: Path, refart_workspace: Workspace
) -> None:
    first = Artifact("things", "dataset")
    first.add_reference(f"{versioned_lake.uri}/raw")
    with first.new_file("notes.txt") as file:
        file.write("managed\n")
    run.log_artifact(first)
    stored = blobs(refart_workspace)

    s3_requests.clear()
    draft = run.use_artifact("things").new_draft()
    draft.remove("labels.json")
    second = run.log_artifact(draft)
    assert s3_requests.operations == []
    assert blobs(refart_workspace) == stored
    assert [entry.path for entry in second.entries()] == ["2026/a.csv", "2026/b.csv", "notes.txt"]
    assert {entry.path: entry.pin for entry in second.entries()}.items() <= {
        entry.path: entry.pin for entry in first.entries()
    }.items()
    root = Path(second.download(tmp_path / "root"))
    assert (root / "notes.txt").read_text() == "managed\n"


def test_a_new_draft_takes_its_version_along_as_input(run: Run, data: Path) -> None:
    version = run.log_artifact(draft(data))
    changed = version.new_draft()
    changed.remove("a.txt")
    run.log_artifact(changed)
    assert [a.qualified_name for a in run.used_artifacts()] == ["default/things:v0"]


PUT_PART = """
import sys, refart
number = sys.argv[1]
with refart.init(group="night", job_type="worker") as run:
    part = refart.Artifact("things", "dataset")
    with part.new_file(f"part-{number}.txt") as file:
        file.write(f"from process {number}\\n")
    run.upsert_artifact(part)
"""

FINISH = """
import refart
with refart.init(group="night", job_type="finisher") as run:
    print(run.finish_artifact(refart.Artifact("things", "dataset")).qualified_name)
"""


def test_many_processes_build_one_version(refart_workspace: Workspace, tmp_path: Path) -> None:
    workers = [start_python(PUT_PART, str(number)) for number in range(3)]
    for worker in workers:
        good(worker.finished())
    assert refart_workspace.artifacts("things") == [], "parts alone make no version"
    assert good(start_python(FINISH).finished()).strip() == "default/things:v0"

    artifact = refart_workspace.artifact("things")
    assert [entry.path for entry in artifact.entries()] == [f"part-{number}.txt" for number in range(3)]
    root = Path(artifact.download(tmp_path / "root"))
    assert (root / "part-2.txt").read_text() == "from process 2\n"
    logged_by = artifact.logged_by()
    assert logged_by is not None
    assert logged_by.job_type == "finisher"


def test_parts_that_disagree_are_an_error_and_no_version(run: Run, refart_workspace: Workspace) -> None:
    for text in ("one", "two"):
        part = Artifact("things", "dataset")
        with part.new_file("same.txt") as file:
            file.write(text)
        run.upsert_artifact(part, distributed_id="night")
    with pytest.raises(ConflictError, match=r"two parts.*same\.txt"):
        run.finish_artifact(Artifact("things", "dataset"), distributed_id="night")
    assert refart_workspace.artifacts("things") == []


def test_finishing_without_any_part_is_an_error(run: Run) -> None:
    with pytest.raises(NotFoundError, match=r"no part.*'night'"):
        run.finish_artifact(Artifact("things", "dataset"), distributed_id="night")


# -- lineage and editable fields --------------------------------------------------------------------


def test_the_lineage_is_asked_from_both_sides(refart_workspace: Workspace, data: Path) -> None:
    with refart_workspace.init(job_type="produce") as producer:
        produced = producer.log_artifact(draft(data))
    with refart_workspace.init(job_type="consume") as consumer:
        consumer.use_artifact("things")
        consumer.log_artifact(data / "a.txt", name="derived")

    logged_by = produced.logged_by()
    assert logged_by is not None
    assert logged_by.id == producer.id
    assert [run.id for run in produced.used_by()] == [consumer.id]
    assert [a.qualified_name for a in producer.logged_artifacts()] == ["default/things:v0"]
    assert producer.used_artifacts() == []
    assert [a.qualified_name for a in consumer.used_artifacts()] == ["default/things:v0"]
    assert [a.qualified_name for a in consumer.logged_artifacts()] == ["default/derived:v0"]
    downstream = produced.lineage("downstream").versions
    assert [str(row.key) for row in downstream] == ["default/things:v0", "default/derived:v0"]


def test_description_metadata_aliases_tags_and_ttl_stay_editable(
    run: Run, data: Path, refart_workspace: Workspace
) -> None:
    version = run.log_artifact(draft(data, description="first words", metadata={"rows": 1}), tags=["raw"])
    version.description = "better words"
    version.metadata["rows"] = 2
    version.metadata["source"] = {"year": 2026}
    version.aliases.append("best")
    version.tags = ["clean", "two words"]
    version.ttl = timedelta(days=30)
    version.save()

    found = refart_workspace.artifact("things:best")
    assert found.description == "better words"
    assert found.metadata == {"rows": 2, "source": {"year": 2026}}
    assert sorted(found.aliases) == ["best", "latest"]
    assert sorted(found.tags) == ["clean", "two words"]
    assert found.ttl == timedelta(days=30)
    assert found.version == "v0"

    found.aliases.remove("best")
    found.ttl = None
    found.save()
    assert refart_workspace.artifact("things").aliases == ["latest"]
    assert refart_workspace.artifact("things").ttl is None


def test_two_who_save_at_the_same_time_both_succeed(
    run: Run, data: Path, refart_workspace: Workspace
) -> None:
    run.log_artifact(draft(data))
    mine, yours = refart_workspace.artifact("things"), refart_workspace.artifact("things")
    mine.aliases.append("mine")
    yours.aliases.append("yours")
    mine.save()
    yours.save()
    assert aliases(refart_workspace) == {"v0": ["latest", "mine", "yours"]}


# -- shared bytes -----------------------------------------------------------------------------------


def test_files_that_versions_share_are_stored_once(run: Run, data: Path, refart_workspace: Workspace) -> None:
    run.log_artifact(draft(data))
    assert len(blobs(refart_workspace)) == 3
    (data / "a.txt").write_text("changed\n")
    (data / "copy-of-b.txt").write_bytes((data / "b.txt").read_bytes())
    run.log_artifact(draft(data))
    run.log_artifact(data, name="another-name")
    assert len(blobs(refart_workspace)) == 4


def test_deleting_one_version_keeps_what_the_others_need(run: Run, data: Path, tmp_path: Path) -> None:
    three_versions(run, data)[0].delete()
    version = run.use_artifact("things:v1")
    root = Path(version.download(tmp_path / "root"))
    version.verify(root)
    assert (root / "a.txt").read_text() == "number 1\n"
    assert (root / "sub/c.txt").read_text() == "content of sub/c.txt\n"
