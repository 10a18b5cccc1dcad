"""Adding to a draft: all or nothing, within limits, under the name that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refart import files
from refart.context import Local
from refart.entries import Entry, entries_of
from refart.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ReferenceChangedError,
    SourceError,
)
from refart.manifest.draft import Draft
from refart.ops.add import add_dir, add_file, add_reference, add_references
from refart.sources.base import Scan
from refart.testing import Lake, S3Requests
from refart.workspace import Workspace
from tests.ops.support import content_id, write


@pytest.fixture
def local(refart_workspace: Workspace) -> Local:
    return refart_workspace._context.local


@pytest.fixture
def draft() -> Iterator[Draft]:
    draft = Draft()
    yield draft
    draft.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "source", {"a.csv": b"a", "b.jpg": b"bb", "deep/c.csv": b"ccc"})


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files whose bytes were read, in order."""
    read: list[str] = []
    original = files.open_descriptor
    monkeypatch.setattr(
        files, "open_descriptor", lambda path: (read.append(Path(path).name), original(path))[1]
    )
    return read


def paths(draft: Draft) -> list[str]:
    return [entry.path for entry in entries(draft)]


def entries(draft: Draft) -> list[Entry]:
    return [entry for page in draft.pages() for entry in entries_of(page)]


# -- references to files ----------------------------------------------------------------------------------


def test_a_folder_is_referenced_with_its_hashes(local: Local, draft: Draft, folder: Path) -> None:
    added = add_reference(local, draft, str(folder))
    assert list(added) == entries(draft)
    assert entries(draft)[2] == Entry("deep/c.csv", 3, content_id(b"ccc"), f"file://{folder}/deep/c.csv")
    assert paths(draft) == ["a.csv", "b.jpg", "deep/c.csv"]


def test_a_name_is_a_folder_for_a_prefix_and_the_path_for_an_object(
    local: Local, draft: Draft, folder: Path
) -> None:
    add_reference(local, draft, str(folder), name="in/here")
    add_reference(local, draft, str(folder / "a.csv"), name="one/renamed.txt")
    add_reference(local, draft, str(folder / "a.csv"))
    assert paths(draft) == [
        "a.csv",
        "in/here/a.csv",
        "in/here/b.jpg",
        "in/here/deep/c.csv",
        "one/renamed.txt",
    ]


def test_a_name_and_a_path_that_are_too_long_together_are_refused(
    local: Local, draft: Draft, folder: Path
) -> None:
    """Each alone is fine; a manifest that held them could never be read again."""
    name = "/".join(["x" * 200] * 20) + "/" + "y" * 70  # 4,090 bytes
    for add in (add_reference, add_dir):
        with pytest.raises(InvalidInputError, match="is not an entry path"):
            add(local, draft, str(folder), name=name)
    assert paths(draft) == []


def test_patterns_choose_before_anything_is_read(
    local: Local, draft: Draft, folder: Path, reads: list[str]
) -> None:
    add_reference(local, draft, str(folder), include="*.csv", exclude="deep/")
    assert paths(draft) == reads == ["a.csv"]


def test_no_checksum_records_none(local: Local, draft: Draft, folder: Path) -> None:
    add_reference(local, draft, str(folder), checksum=False)
    assert {entry.content_id for entry in entries(draft)} == {"none"}


@pytest.mark.parametrize("limit", [1, 2])
def test_a_limit_that_is_hit_adds_nothing(local: Local, draft: Draft, folder: Path, limit: int) -> None:
    with pytest.raises(InvalidInputError, match=f"more than max_objects={limit} wanted objects"):
        add_reference(local, draft, str(folder), max_objects=limit)
    assert paths(draft) == []


def test_only_wanted_objects_count_for_the_limit(local: Local, draft: Draft, folder: Path) -> None:
    add_reference(local, draft, str(folder), max_objects=3)
    add_reference(local, draft, str(folder), name="csv", max_objects=2, include="*.csv")
    assert len(draft) == 5


@pytest.mark.parametrize("add", [add_reference, add_dir])
def test_nothing_found_is_an_error_unless_it_is_allowed(
    local: Local, draft: Draft, folder: Path, tmp_path: Path, add: Any
) -> None:
    (tmp_path / "empty").mkdir()
    for where, patterns in ((tmp_path / "empty", {}), (folder, {"include": "*.png"})):
        with pytest.raises(NotFoundError, match="matches no object"):
            add(local, draft, str(where), **patterns)
        assert len(add(local, draft, str(where), allow_empty=True, **patterns)) == 0
    with pytest.raises(NotFoundError):
        add(local, draft, str(tmp_path / "never"), allow_empty=True)


@pytest.mark.parametrize(
    "options", [{"checksum": "md5"}, {"max_objects": 0}, {"include": "!a"}, {"name": "../up"}, {"name": ""}]
)
def test_mistakes_are_told_before_anything_is_listed(
    local: Local, draft: Draft, folder: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        add_reference(local, draft, str(folder), **options)
    assert paths(draft) == []


def test_other_bytes_at_a_path_need_overwrite(local: Local, draft: Draft, folder: Path) -> None:
    add_reference(local, draft, str(folder))
    add_reference(local, draft, str(folder))
    before = entries(draft)
    write(folder, {"a.csv": b"changed", "new.csv": b"n"})
    with pytest.raises(ConflictError, match=r"a\.csv"):
        add_reference(local, draft, str(folder))
    assert entries(draft) == before, "not even the new file was added"
    add_reference(local, draft, str(folder), overwrite=True)
    assert draft.get("a.csv").content_id == content_id(b"changed")
    assert len(draft) == 4


class Breaking:
    """A source whose listing breaks off after some pages."""

    def __init__(self, local: Local) -> None:
        self._local = local

    def for_uri(self, uri: str) -> Breaking:
        return self

    def scan(self, uri: str, **options: Any) -> Scan:
        def pages() -> Iterator[Any]:
            yield from self._local.sources.for_uri(uri).scan(uri, **options).pages
            raise SourceError("the listing broke off")

        return Scan(is_object=False, pages=pages())


def test_a_listing_that_breaks_off_adds_nothing(local: Local, draft: Draft, folder: Path) -> None:
    add_file(local, draft, folder / "a.csv", name="first")
    revision = draft.revision
    with pytest.raises(SourceError, match="broke off"):
        add_reference(replace(local, sources=Breaking(local)), draft, str(folder))  # type: ignore[arg-type]
    assert (paths(draft), draft.revision) == (["first"], revision)


# -- references to S3 -----------------------------------------------------------------------------------


def test_hashed_references_keep_what_pins_them(
    local: Local, draft: Draft, unversioned_lake: Lake, versioned_lake: Lake
) -> None:
    """The sha256 takes the place of the ETag as content id, and the ETag is kept as the pin."""
    for lake in (unversioned_lake, versioned_lake):
        add_reference(local, draft, f"{lake.uri}/README.txt", name=lake.bucket, checksum="sha256")
    data = b"A small lake.\n"
    etag = content_id(data, "md5").removeprefix("md5:")
    unversioned, versioned = draft.get("unversioned-lake"), draft.get("versioned-lake")
    assert unversioned.content_id == versioned.content_id == content_id(data)
    assert unversioned.pin == f"etag:{etag}"
    assert versioned.pin.startswith("version:")


def test_hashing_is_checked_against_what_was_listed(
    local: Local, draft: Draft, unversioned_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that changes between the listing and the reading cannot be logged under its old ETag."""
    source = local.sources.for_uri("s3://x")
    scan = source.scan

    def change_after_listing(uri: str, **options: Any) -> Scan:
        found = scan(uri, **options)
        pages = list(found.pages)
        unversioned_lake.put("raw/labels.json", b"[]")
        return Scan(found.is_object, iter(pages))

    monkeypatch.setattr(source, "scan", change_after_listing)
    with pytest.raises(ReferenceChangedError, match=r"labels\.json"):
        add_reference(local, draft, unversioned_lake.uri, checksum="sha256")
    assert paths(draft) == []


def test_single_objects_cost_one_request_each(
    local: Local, draft: Draft, versioned_lake: Lake, s3_requests: S3Requests
) -> None:
    uris = [f"{versioned_lake.uri}/raw/2026/{name}.csv" for name in "ab"]
    s3_requests.clear()
    added = add_references(local, draft, uris, base=f"{versioned_lake.uri}/raw")
    assert [entry.path for entry in added] == paths(draft) == ["2026/a.csv", "2026/b.csv"]
    assert all(entry.pin.startswith("version:") for entry in entries(draft))
    assert (
        s3_requests.count("HeadObject") == s3_requests.count() - s3_requests.count("GetBucketVersioning") == 2
    )


def test_base_names_are_the_paths_without_a_base(local: Local, draft: Draft, versioned_lake: Lake) -> None:
    uris = [f"{versioned_lake.uri}/{key}" for key in ("raw/2026/a.csv", "README.txt")]
    add_references(local, draft, iter(uris), checksum="sha256")
    assert paths(draft) == ["README.txt", "a.csv"]
    assert {entry.content_id.split(":")[0] for entry in entries(draft)} == {"sha256"}


def test_one_write_of_an_object_by_hand(local: Local, draft: Draft, versioned_lake: Lake) -> None:
    version = versioned_lake.put("a", b"old")
    versioned_lake.put("a", b"newer")
    add_references(local, draft, [f"{versioned_lake.uri}/a?versionId={version}"])
    assert entries(draft) == [
        Entry("a", 3, content_id(b"old", "md5"), "s3://versioned-lake/a", f"version:{version}")
    ]


def test_files_that_are_known_by_their_hash_are_not_read_twice(
    local: Local, draft: Draft, folder: Path, reads: list[str]
) -> None:
    add_references(local, draft, [str(folder / "a.csv"), f"file://{folder}/b.jpg"], checksum="sha256")
    assert sorted(reads) == paths(draft) == ["a.csv", "b.jpg"]


@pytest.mark.parametrize(
    ("uris", "base", "error", "message"),
    [
        (["s3://versioned-lake/README.txt", "s3://versioned-lake/never"], None, NotFoundError, "never"),
        (
            ["s3://versioned-lake/README.txt", "s3://versioned-lake/raw"],
            None,
            InvalidInputError,
            "is a prefix",
        ),
        (
            ["s3://versioned-lake/README.txt"],
            "s3://versioned-lake/raw",
            InvalidInputError,
            "not lie below base",
        ),
        (["s3://versioned-lake/README.txt"], "s3://versioned-la", InvalidInputError, "not lie below base"),
        ("s3://versioned-lake/README.txt", None, InvalidInputError, "takes a list of URIs"),
    ],
)
def test_one_wrong_reference_adds_none(
    local: Local, draft: Draft, versioned_lake: Lake, uris: Any, base: str | None, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        add_references(local, draft, uris, base=base)
    assert paths(draft) == []


def test_two_references_of_one_base_name_are_an_error(
    local: Local, draft: Draft, versioned_lake: Lake
) -> None:
    versioned_lake.put("other/a.csv", b"other")
    uris = [f"{versioned_lake.uri}/{key}" for key in ("raw/2026/a.csv", "other/a.csv")]
    with pytest.raises(InvalidInputError, match=r"a\.csv"):
        add_references(local, draft, uris)
    assert paths(draft) == []
    add_references(local, draft, uris, base=versioned_lake.uri)
    assert paths(draft) == ["other/a.csv", "raw/2026/a.csv"]


# -- managed files ------------------------------------------------------------------------------------------


def test_a_file_is_added_under_its_own_or_another_name(local: Local, draft: Draft, folder: Path) -> None:
    assert add_file(local, draft, folder / "a.csv") == Entry("a.csv", 1, content_id(b"a"))
    add_file(local, draft, str(folder / "b.jpg"), name="pictures/b")
    assert paths(draft) == ["a.csv", "pictures/b"]
    assert draft.local_path("pictures/b") == str(folder / "b.jpg")


@pytest.mark.parametrize("path", ["", "a\0b"])
@pytest.mark.parametrize("add", [add_file, add_dir])
def test_an_empty_path_is_not_the_current_folder(local: Local, draft: Draft, add: Any, path: str) -> None:
    with pytest.raises(InvalidInputError, match="is empty or holds a NUL character"):
        add(local, draft, path)
    assert len(draft) == 0


def test_a_file_of_other_bytes_needs_overwrite(local: Local, draft: Draft, folder: Path) -> None:
    add_file(local, draft, folder / "a.csv", name="x")
    with pytest.raises(ConflictError, match="'x' is there already"):
        add_file(local, draft, folder / "b.jpg", name="x")
    assert draft.get("x").size == 1
    add_file(local, draft, folder / "b.jpg", name="x", overwrite=True)
    assert draft.get("x").size == 2


def test_a_folder_of_managed_files(local: Local, draft: Draft, folder: Path) -> None:
    added = add_dir(local, draft, folder, name="in", exclude="*.jpg")
    assert [entry.path for entry in added] == ["in/a.csv", "in/deep/c.csv"]
    assert all(not entry.is_reference for entry in added)


def test_unchanged_files_are_read_again_only_by_force(
    local: Local, draft: Draft, folder: Path, reads: list[str]
) -> None:
    add_dir(local, draft, folder)
    assert sorted(reads) == ["a.csv", "b.jpg", "c.csv"]
    add_dir(local, draft, folder)
    add_file(local, draft, folder / "a.csv")
    assert len(reads) == 3
    add_file(local, draft, folder / "a.csv", force=True)
    add_dir(local, draft, folder, force=True)
    assert sorted(reads[3:]) == ["a.csv", "a.csv", "b.jpg", "c.csv"]


@pytest.mark.parametrize(
    ("add", "path", "error", "message"),
    [
        (add_file, "never", NotFoundError, "does not exist"),
        (add_file, "deep", InvalidInputError, "is a folder: add_dir adds"),
        (add_dir, "never", NotFoundError, "does not exist"),
        (add_dir, "a.csv", InvalidInputError, "is a file: add_file adds it"),
    ],
)
def test_the_error_says_what_to_do(
    local: Local, draft: Draft, folder: Path, add: Any, path: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        add(local, draft, folder / path)
    assert paths(draft) == []
