"""Logging a draft: what is uploaded, in which order, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refart.catalog.base import VersionFilter, VersionRow
from refart.context import Context
from refart.entries import Entry
from refart.errors import ConflictError, StoreError
from refart.manifest.draft import Draft
from refart.manifest.reader import Manifest
from refart.ops import commit
from refart.ops.add import add_dir
from refart.ops.commit import Request
from refart.workspace import Workspace
from tests.footprints import nothing_done
from tests.ops.support import content_id, sha256, write
from tests.strategies import paged

REQUEST = Request("vision", "cats", "dataset")


class Recording:
    """Notes every write to the store, and the commit; fails where told."""

    def __init__(self, context: Context, fails_at: str | None = None) -> None:
        self._context, self._fails_at = context, fails_at
        self.steps: list[str] = []

    def context(self) -> Context:
        return replace(self._context, store=self, catalog=self)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        owner = self._context.store if hasattr(self._context.store, name) else self._context.catalog
        return getattr(owner, name)

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self._fails_at:
            raise StoreError(f"{name} failed")

    def put_file(self, kind: str, *arguments: Any, **options: Any) -> bool:
        self._step(kind)
        return self._context.store.put_file(kind, *arguments, **options)

    def put_bytes(self, kind: str, *arguments: Any) -> bool:
        self._step(kind)
        return self._context.store.put_bytes(kind, *arguments)

    def sync(self) -> None:
        self._step("sync")
        self._context.store.sync()

    def commit(self, *arguments: Any) -> Any:
        self._step("commit")
        return self._context.catalog.commit(*arguments)


@pytest.fixture
def context(refart_workspace: Workspace) -> Context:
    return refart_workspace._context


@pytest.fixture
def draft(context: Context, tmp_path: Path) -> Iterator[Draft]:
    """Two managed files and a reference."""
    draft = Draft()
    add_dir(context.local, draft, write(tmp_path / "source", {"a": b"one", "b": b"two"}))
    draft.put(Entry("r", 5, "md5:" + "0" * 32, "s3://lake/r", "version:1"))
    yield draft
    draft.close()


def versions(context: Context) -> list[VersionRow]:
    return context.catalog.versions(VersionFilter(include_deleted=True))


def test_bytes_then_shards_then_index_then_catalog(context: Context, draft: Draft) -> None:
    recording = Recording(context)
    committed = commit.log(recording.context(), draft, REQUEST)
    assert recording.steps == ["blobs", "blobs", "shards", "manifests", "sync", "commit"]
    assert committed.created
    info = committed.version.manifest
    assert (info.entry_count, info.size_bytes, info.referenced_bytes, info.managed_bytes) == (3, 11, 5, 6)
    assert info == commit.info_of(commit.measure(draft))
    assert context.store.read("blobs", sha256(b"two")) == b"two"
    assert Manifest.open(context.store, info.address).get("b") == Entry("b", 3, content_id(b"two"))


def test_the_same_content_again_uploads_nothing(context: Context, draft: Draft) -> None:
    first = commit.log(context, draft, REQUEST)
    recording = Recording(context)
    again = commit.log(recording.context(), draft, replace(REQUEST, aliases=("best",)))
    assert recording.steps == ["commit"]
    assert (again.created, again.version.key) == (False, first.version.key)
    assert again.version.aliases == ("best", "latest")


def test_older_content_logged_again_moves_latest_back(context: Context, draft: Draft) -> None:
    commit.log(context, draft, REQUEST)
    draft.put(Entry("r", 6, "md5:" + "1" * 32, "s3://lake/r"), overwrite=True)
    assert commit.log(context, draft, REQUEST).version.key.number == 1
    draft.put(Entry("r", 5, "md5:" + "0" * 32, "s3://lake/r"), overwrite=True)
    back = commit.log(context, draft, REQUEST)
    assert (back.created, back.version.key.number, back.version.aliases) == (False, 0, ("latest",))


def test_a_new_pin_alone_makes_no_version_and_the_logged_pin_stays(context: Context, draft: Draft) -> None:
    first = commit.log(context, draft, REQUEST)
    draft.put(Entry("r", 5, "md5:" + "0" * 32, "s3://lake/r", "version:2"))
    again = commit.log(context, draft, REQUEST)
    assert (again.created, again.version.manifest) == (False, first.version.manifest)


def test_deleted_content_becomes_a_new_version(context: Context, draft: Draft) -> None:
    first = commit.log(context, draft, REQUEST)
    context.catalog.delete(first.version.key, delete_aliases=True, actor="ada", at=REQUEST.at)
    again = commit.log(context, draft, REQUEST)
    assert (again.created, again.version.key.number) == (True, 1)


def test_equal_bytes_are_stored_once(context: Context, draft: Draft, tmp_path: Path) -> None:
    add_dir(context.local, draft, write(tmp_path / "twins", {f"t{n}": b"one" for n in range(20)}))
    commit.log(context, draft, REQUEST)
    assert {stored.key for stored in context.store.keys("blobs")} == {sha256(b"one"), sha256(b"two")}


@pytest.mark.parametrize("step", ["blobs", "shards", "manifests", "sync", "commit"])
def test_a_failing_step_leaves_every_version_and_the_draft_as_they_were(
    context: Context, draft: Draft, step: str
) -> None:
    with pytest.raises(StoreError, match=f"{step} failed"):
        commit.log(Recording(context, fails_at=step).context(), draft, REQUEST)
    assert versions(context) == []
    assert context.catalog.collection_type("vision", "cats") is None
    assert len(draft) == 3
    assert commit.log(context, draft, REQUEST).version.key.number == 0


@pytest.mark.parametrize("change", [lambda p: p.write_bytes(b"TWO"), Path.unlink])
def test_a_file_that_changed_since_it_was_added_is_refused(
    context: Context, draft: Draft, tmp_path: Path, change: Any
) -> None:
    change(tmp_path / "source/b")
    with pytest.raises(ConflictError, match=r"source/b.* since it was added"):
        commit.log(context, draft, REQUEST)
    assert versions(context) == []


def test_another_type_is_refused_before_anything_is_stored(
    context: Context, draft: Draft, refart_workspace: Any
) -> None:
    commit.log(context, draft, REQUEST)
    draft.remove("a")
    with (
        nothing_done(refart_workspace),
        pytest.raises(ConflictError, match="has the type 'dataset', not 'model'"),
    ):
        commit.log(context, draft, replace(REQUEST, type="model"))


def test_a_version_without_entries(context: Context) -> None:
    empty = Draft()
    committed = commit.log(context, empty, REQUEST)
    assert committed.version.manifest.entry_count == 0
    assert not commit.log(context, empty, REQUEST).created
    empty.close()


def test_a_deleted_version_cannot_be_logged_again(context: Context, draft: Draft) -> None:
    logged = commit.log(context, draft, REQUEST).version
    deleted = context.catalog.delete(logged.key, delete_aliases=True, actor="ada", at=REQUEST.at)
    with pytest.raises(ConflictError, match="was deleted"):
        commit.log_again(context, deleted, REQUEST)


def test_a_link_is_a_version_of_the_same_manifest(context: Context, draft: Draft) -> None:
    logged = commit.log(
        context, draft, replace(REQUEST, tags=("ok",), description="Cats", metadata={"n": 1})
    ).version
    linked = commit.link(context, logged, "registry", "best-cats", ("prod",)).version
    assert (str(linked.key), linked.source, linked.manifest) == (
        "registry/best-cats:v0",
        logged.key,
        logged.manifest,
    )
    assert (linked.aliases, linked.tags, linked.description) == (("latest", "prod"), ("ok",), "Cats")
    onward = commit.link(context, linked, "registry", "chosen", ()).version
    assert onward.source == logged.key, "a link of a link stands for the version itself"
    assert not commit.link(context, logged, "registry", "best-cats", ()).created
    with pytest.raises(ConflictError, match="its own collection"):
        commit.link(context, logged, "vision", "cats", ())


def test_one_changed_entry_of_many_stores_one_shard(context: Context) -> None:
    """Shards are cut by content, so versions share what did not change; see the manifest's own tests."""
    many = Draft()
    rows = [Entry(f"d{n % 3}/f{n:06d}", 1, "none", f"s3://lake/{n}") for n in range(150_000)]
    many.add(paged(rows, 50_000))
    first = Recording(context)
    logged = commit.log(first.context(), many, REQUEST).version
    assert first.steps.count("shards") > 1

    changed = Draft(Manifest.open(context.store, logged.manifest.address))
    changed.put(Entry("d1/f000000", 1, "none", "s3://lake/other"), overwrite=True)
    second = Recording(context)
    commit.log(second.context(), changed, REQUEST)
    assert second.steps == ["shards", "manifests", "sync", "commit"]
    for used in (many, changed):
        used.close()
