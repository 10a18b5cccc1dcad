"""Entries of other versions in a draft: what is copied, what is recorded, and what is not touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart import Artifact, Workspace, names
from refart.entries import Entry
from refart.errors import ConflictError, InvalidInputError, NotFoundError
from refart.testing import Lake, S3Requests
from tests.footprints import blobs


@pytest.fixture
def photos(refart_workspace: Workspace, versioned_lake: Lake, tmp_path: Path) -> Artifact:
    """Version `photos:v0` of references and managed files."""
    (tmp_path / "notes.txt").write_bytes(b"managed")
    draft = Artifact("photos", "dataset")
    draft.add_reference(f"{versioned_lake.uri}/raw", "train")
    draft.add_file(tmp_path / "notes.txt", "docs/notes.txt")
    draft.add_file(tmp_path / "notes.txt", "train.txt")
    with refart_workspace.init() as run:
        return run.log_artifact(draft)


def logged(workspace: Workspace, draft: Artifact) -> Artifact:
    with workspace.init(job_type="derive") as run:
        return run.log_artifact(draft)


def plain(artifact: Artifact, prefix: str = "") -> list[Entry]:
    """The entries below a folder, by their path in it."""
    rows = [(e.path.removeprefix(prefix), e) for e in artifact.entries() if e.path.startswith(prefix)]
    return [Entry(path, e.size, e.content_id, e.uri, e.pin) for path, e in rows]


@pytest.mark.parametrize(
    "uri", ["refart://photos", "REFART://photos:v0", "refart://photos:v0", "refart://default/photos:latest"]
)
def test_a_whole_version(refart_workspace: Workspace, photos: Artifact, uri: str) -> None:
    """Where entries point, how they are pinned and what is known of their bytes is what it was."""
    draft = Artifact("copy", "dataset")
    assert len(draft.add_reference(uri)) == photos.file_count
    assert plain(draft) == plain(photos)
    assert draft.digest == photos.digest


def test_a_folder_of_a_version_is_whole_components(refart_workspace: Workspace, photos: Artifact) -> None:
    """`train` is not `train.txt`; the entries' paths are the rest below it."""
    draft = Artifact("train", "dataset")
    draft.add_reference("refart://photos:v0/train")
    assert plain(draft) == plain(photos, "train/")
    draft.add_reference("refart://photos:v0/train/", "again")
    assert plain(draft, "again/") == plain(photos, "train/")


def test_one_entry(refart_workspace: Workspace, photos: Artifact) -> None:
    draft = Artifact("one", "dataset")
    draft.add_reference("refart://photos:v0/train/labels.json")
    draft.add_reference("refart://photos:v0/train.txt", "renamed/notes")
    assert [entry.path for entry in draft.entries()] == ["labels.json", "renamed/notes"]


def test_patterns_and_limits(refart_workspace: Workspace, photos: Artifact) -> None:
    """As for references: patterns match below what was asked for, and a limit is an error."""
    draft = Artifact("some", "dataset")
    draft.add_reference("refart://photos:v0/train", include="/2026", exclude="b.csv")
    assert [entry.path for entry in draft.entries()] == ["2026/a.csv"]
    with pytest.raises(InvalidInputError, match="max_objects=1"):
        draft.add_reference("refart://photos:v0", "more", max_objects=1)
    with pytest.raises(NotFoundError, match="allow_empty"):
        draft.add_reference("refart://photos:v0/train", "more", include="*.png")
    assert len(draft) == 1


def test_nothing_is_copied_and_the_lineage_knows_where_it_came_from(
    refart_workspace: Workspace,
    photos: Artifact,
    versioned_lake: Lake,
    s3_requests: S3Requests,
    tmp_path: Path,
) -> None:
    """No request to the source, no new blob; the derived version downloads from the original places."""
    before = blobs(refart_workspace)
    s3_requests.clear()
    draft = Artifact("derived", "dataset")
    draft.add_reference("refart://photos")
    derived = logged(refart_workspace, draft)
    assert s3_requests.count() == 0
    assert blobs(refart_workspace) == before
    run = derived.logged_by()
    assert run is not None
    assert [used.qualified_name for used in run.used_artifacts()] == ["default/photos:v0"]
    versioned_lake.put("raw/labels.json", b"moved on")
    root = Path(derived.download(tmp_path / "root"))
    assert (root / "train/labels.json").read_bytes() == b'["cat", "dog"]\n'
    assert (root / "docs/notes.txt").read_bytes() == b"managed"


def test_a_part_of_a_version_that_several_build_records_its_inputs_too(
    refart_workspace: Workspace, photos: Artifact
) -> None:
    draft = Artifact("together", "dataset")
    draft.add_reference("refart://photos:v0/train")
    with refart_workspace.init() as part:
        part.upsert_artifact(draft, distributed_id="night")
    with refart_workspace.init() as last:
        version = last.finish_artifact(Artifact("together", "dataset"), distributed_id="night")
    assert version.file_count == len(draft)
    assert [used.qualified_name for used in part.used_artifacts()] == ["default/photos:v0"]


def test_a_later_version_changes_nothing_here(refart_workspace: Workspace, photos: Artifact) -> None:
    draft = Artifact("derived", "dataset")
    draft.add_reference("refart://photos:latest")
    changed = photos.new_draft()
    changed.remove("train.txt")
    assert logged(refart_workspace, changed).version == "v1"
    assert logged(refart_workspace, draft).digest == photos.digest


def test_managed_files_stay_in_their_workspace(
    refart_workspace: Workspace, photos: Artifact, tmp_path: Path
) -> None:
    """A version elsewhere would point at bytes that its store does not have."""
    draft = Artifact("derived", "dataset")
    draft.add_reference("refart://photos")
    with Workspace.open(tmp_path / "other") as other, other.init() as run:
        with pytest.raises(ConflictError, match="belongs to the workspace"):
            run.log_artifact(draft)
        with pytest.raises(NotFoundError):
            other.draft("derived").add_reference("refart://photos")


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("refart://nothing", NotFoundError),
        ("refart://photos:v7", NotFoundError),
        ("refart://photos:v0/no/such", NotFoundError),
        ("refart://photos:v0/../x", InvalidInputError),
        ("refart://a/b/c:v0", InvalidInputError),
        ("refart://", InvalidInputError),
        ("refart://photos:", InvalidInputError),
    ],
)
def test_what_is_not_there_is_an_error_and_adds_nothing(
    refart_workspace: Workspace, photos: Artifact, uri: str, error: type[Exception]
) -> None:
    draft = Artifact("derived", "dataset")
    with pytest.raises(error):
        draft.add_reference(uri)
    assert len(draft) == 0


@pytest.mark.parametrize(
    "refused",
    [
        lambda draft: draft.add_reference("refart://photos", checksum="sha256"),
        lambda draft: draft.add_reference("refart://photos", follow_symlinks=False),
        lambda draft: draft.add_references(["refart://photos/train.txt"]),
    ],
)
def test_what_makes_no_sense_is_refused(
    refart_workspace: Workspace, photos: Artifact, refused: Callable[[Artifact], object]
) -> None:
    with pytest.raises(InvalidInputError):
        refused(Artifact("derived", "dataset"))


name = st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True).filter(lambda text: text not in (".", ".."))
alias = st.one_of(st.integers(0, 99).map(lambda n: f"v{n}"), st.sampled_from(["best", "a b", "größte"]))
path = (
    st.lists(
        st.text(
            st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=5
        ),
        min_size=1,
        max_size=3,
    )
    .map("/".join)
    .filter(lambda text: names.BAD_PATH_PATTERN and not names._BAD_PATH.search(text))
)


@given(st.none() | name, name, st.none() | alias, st.none() | path)
def test_every_name_version_and_path_is_read_back(
    project: str | None, artifact: str, version: str | None, below: str | None
) -> None:
    """Paths may hold colons: only the first colon is the one before the version."""
    uri = f"refart://{project}/{artifact}" if project else f"refart://{artifact}"
    if version is not None:
        uri += f":{version}" + (f"/{below}" if below else "")
    ref, found = names.parse_version_uri(uri, "home")
    assert (ref.project, ref.name) == (project or "home", artifact)
    shown = f"v{ref.selector}" if isinstance(ref.selector, int) else ref.selector
    assert shown == (version or "latest")
    assert found == (below if version is not None else None)
