"""Parts of a version: what is chosen, that it stays chosen, and what logging them records."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refart.artifact import Artifact
from refart.entries import Entry, Page
from refart.errors import InvalidInputError, NotFoundError
from refart.ops import subset
from refart.s3server import S3Requests
from refart.testing import Lake
from refart.workspace import Workspace
from tests.manifest.support import listed, pages_of, reference
from tests.ops.support import paths, write


def many(count: int, start: int = 0) -> list[Entry]:
    return [reference(f"{n:05d}.jpg") for n in range(start, start + count)]


class FakeManifest:
    """Entries in pages of a few rows."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.index = type("Index", (), {"entry_count": len(entries)})

    def pages(self, prefix: str | None = None) -> list[Page]:
        return pages_of(self.entries, 64)


def sampled(entries: list[Entry], sample: object, seed: int = 0) -> list[str]:
    pages = subset.chosen(
        FakeManifest(entries),
        "data:v0",
        path_prefix=None,
        include=None,
        exclude=None,
        sample=sample,
        seed=seed,
    )
    return paths(pages())


def parts_of(entries: list[Entry], parts: dict[str, float], seed: int = 0) -> dict[str, list[str]]:
    drafts = subset.split(lambda: iter(pages_of(entries, 64)), "data:v0", parts, seed)
    return {name: [entry.path for entry in listed(draft.pages())] for name, draft in drafts.items()}


@given(count=st.integers(1, 300), seed=st.integers(), data=st.data())
@settings(max_examples=30)
def test_a_number_is_met_exactly_and_larger_samples_hold_smaller_ones(
    count: int, seed: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, count))
    found = sampled(many(count), size, seed)
    assert len(found) == size
    assert found == sorted(found)
    assert set(found) <= set(sampled(many(count), data.draw(st.integers(size, count)), seed))


def test_a_fraction_is_met_about_and_of_each_entry_decided_alone() -> None:
    """An entry that is added changes nothing about the others."""
    found = sampled(many(4000), 0.25)
    assert 900 < len(found) < 1100
    assert [path for path in sampled(many(5000), 0.25) if path < "04000"] == found
    assert sampled(many(4000), 1.0) == [entry.path for entry in many(4000)]
    assert sampled(many(4000), 0.25, seed=1) != found
    assert set(sampled(many(4000), 0.1)) < set(found)


def test_a_sample_is_the_same_for_ever() -> None:
    """Whatever changes here, versions that were split before must split the same again."""
    assert sampled(many(100), 3) == ["00000.jpg", "00010.jpg", "00095.jpg"]
    assert parts_of(many(10), {"a": 0.5, "b": 0.5}, 7)["a"] == [
        "00000.jpg",
        "00001.jpg",
        "00004.jpg",
        "00007.jpg",
        "00008.jpg",
    ]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers())
@settings(max_examples=30)
def test_parts_are_disjoint_and_complete(weights: list[int], seed: int) -> None:
    parts = {f"p{n}": weight / sum(weights) for n, weight in enumerate(weights)}
    try:
        found = parts_of(many(700), parts, seed)
    except NotFoundError:
        return  # one is so small that nothing fell to it
    assert sorted(path for part in found.values() for path in part) == [entry.path for entry in many(700)]


def test_an_entry_stays_in_its_part() -> None:
    before = parts_of(many(1000), {"train": 0.8, "val": 0.1, "test": 0.1})
    after = parts_of(many(1500, 500), {"train": 0.8, "val": 0.1, "test": 0.1})
    for name, found in before.items():
        assert [path for path in found if path >= "00500"] == [path for path in after[name] if path < "01000"]


def test_a_sample_is_split_into_all_parts() -> None:
    """Which entries are sampled says nothing about the part they fall to."""
    entries = [reference(path) for path in sampled(many(2000), 0.2)]
    assert {name: len(part) > 150 for name, part in parts_of(entries, {"a": 0.5, "b": 0.5}).items()} == {
        "a": True,
        "b": True,
    }


@pytest.mark.parametrize("sample", [0, -1, 1.5, 0.0, float("nan"), float("inf"), True, "3"])
def test_a_sample_that_is_none_is_refused(sample: object) -> None:
    with pytest.raises(InvalidInputError):
        sampled(many(5), sample)


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="sample=6 asks for more entries than the 5 of data:v0"):
        sampled(many(5), 6)


@pytest.mark.parametrize(
    "parts", [{}, {"a": 0.5}, {"a": 0.8, "b": 0.3}, {"a": 1.0, "b": 0.0}, {"a/b": 1.0}, {"a": True}, ["a"]]
)
def test_parts_that_are_not_one_whole_are_refused(parts: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        parts_of(many(5), parts)


def test_a_part_without_an_entry_is_an_error() -> None:
    with pytest.raises(NotFoundError, match="no entry of data:v0 for 'b' was chosen"):
        parts_of(many(5), {"a": 0.999_999, "b": 0.000_001})


@pytest.fixture
def version(refart_workspace: Workspace, versioned_lake: Lake, tmp_path: Path) -> Artifact:
    """Three references and a managed file."""
    with refart_workspace.init() as run:
        draft = refart_workspace.draft("data", "images")
        draft.add_reference(f"{versioned_lake.uri}/raw")
        draft.add_dir(write(tmp_path / "own", {"2026/own.csv": b"own"}))
        return run.log_artifact(draft)


def test_a_selection_points_where_its_version_does(
    refart_workspace: Workspace, version: Artifact, s3_requests: S3Requests, tmp_path: Path
) -> None:
    """No request to the source, no byte in the store; and the lineage knows."""
    s3_requests.clear()
    draft = version.select("csv", include="*.csv", exclude="b.csv")
    with refart_workspace.init() as run:
        selected = run.log_artifact(draft)
    assert s3_requests.operations == []
    assert (selected.qualified_name, selected.type) == ("default/csv:v0", "images")
    assert [entry.path for entry in selected.entries()] == ["2026/a.csv", "2026/own.csv"]
    assert [(e.uri, e.pin, e.content_id) for e in selected.entries()] == [
        (e.uri, e.pin, e.content_id) for e in (version["2026/a.csv"], version["2026/own.csv"])
    ]
    assert selected.description == "default/data:v0: include='*.csv', exclude='b.csv'"
    assert [used.qualified_name for used in selected.logged_by().used_artifacts()] == ["default/data:v0"]
    assert Path(selected.download(tmp_path / "root"), "2026/own.csv").read_bytes() == b"own"


def test_parts_have_names_of_their_own(refart_workspace: Workspace, version: Artifact) -> None:
    drafts = version.split({"train": 0.5, "val": 0.5}, seed=3)
    assert {part: draft.name for part, draft in drafts.items()} == {"train": "data-train", "val": "data-val"}
    assert sum(draft.file_count for draft in drafts.values()) == version.file_count
    with refart_workspace.init() as run:
        logged = [run.log_artifact(draft) for draft in drafts.values()]
    assert [used.qualified_name for used in run.used_artifacts()] == ["default/data:v0"]
    assert logged[0].description == "train of default/data:v0: seed=3, parts={'train': 0.5, 'val': 0.5}"


def test_a_typing_error_is_no_empty_selection(version: Artifact) -> None:
    with pytest.raises(NotFoundError, match=r"has no entry for include='\*.png'"):
        version.select(include="*.png")
    with pytest.raises(NotFoundError, match="no entry of default/data:v0 was chosen"):
        version.select(exclude="*")
    with pytest.raises(InvalidInputError, match="artifact name"):
        version.select("a/b")
