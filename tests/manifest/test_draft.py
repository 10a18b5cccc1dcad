"""A draft behaves like a dict of entries, keeps untouched shards of its base unread, and leaves nothing behind."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from refart.entries import SCHEMA, Entry, Page, entries_of, page_of
from refart.errors import ConflictError, InvalidInputError, NotFoundError, StoreError
from refart.manifest import draft as draft_module
from refart.manifest import runs
from refart.manifest.draft import Draft
from refart.manifest.index import KeptShard, ManifestIndex, ShardInfo
from refart.manifest.runs import Row, batch_of
from tests.manifest.spills import linux_only, spilled_files
from tests.manifest.support import FolderStore, listed, small_shards
from tests.strategies import entries, few_paths, in_order, lake_pages, managed, paged, sorted_entries

TINY = 2_000
"""A memory bound of a few rows: every run is spilled."""


class FakeBase:
    """A manifest of tiny shards in memory that counts how often each is read."""

    def __init__(self, rows: list[Entry], shard_rows: int) -> None:
        self._shards: dict[str, list[Entry]] = {}
        infos = []
        for start in range(0, len(rows), shard_rows):
            part = rows[start : start + shard_rows]
            self._shards[str(start)] = part
            infos.append(ShardInfo(str(start), "", "", part[0].path, part[-1].path, len(part), 0, 0, 0, 0))
        self.index = ManifestIndex(tuple(infos))
        self.read: list[ShardInfo] = []

    def shard_pages(self, shard: ShardInfo) -> Iterator[Page]:
        self.read.append(shard)
        return paged(self._shards[shard.key], 2)

    def get(self, path: str) -> Entry | None:
        found = (row for rows in self._shards.values() for row in rows if row.path == path)
        return next(found, None)


def flat(segments: Iterable[Page | KeptShard]) -> list[Entry]:
    """All entries of a stream for the writer."""
    pages = (p for s in segments for p in (s.pages() if isinstance(s, KeptShard) else [s]))
    return [entry for page in pages for entry in entries_of(page)]


def below(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


def content(entry: Entry) -> tuple[int | None, str, str | None]:
    """What may not change without `overwrite`: everything but the path and the pin."""
    return entry.size, entry.content_id, entry.uri


few_entries = entries(few_paths)
few_managed = managed(few_paths)
prefixes = st.sampled_from(["a", "b", "é"]) | few_paths
several = st.lists(few_entries, max_size=14)


class DraftModel(RuleBasedStateMachine):
    """The same changes to a draft and to a dict; bounds so small that every step flushes, spills or merges."""

    readers: Bundle[tuple[Iterator[Page], list[Entry]]] = Bundle("readers")

    @initialize(
        rows=st.none() | sorted_entries(few_paths),
        shard_rows=st.integers(1, 5),
        table_rows=st.integers(1, 6),
        memory_bytes=st.sampled_from([TINY, 1 << 20]),
    )
    def begin(self, rows: list[Entry] | None, shard_rows: int, table_rows: int, memory_bytes: int) -> None:
        patches = [patch.object(runs, "BLOCK_ROWS", 3), patch.object(draft_module, "FEW_ROWS", 2)]
        patches.append(patch.object(draft_module, "LOOKUPS_BEFORE_COPY", 1))
        patches.append(patch.object(draft_module, "SHARD_COPIES", 2))
        for each in patches:
            each.start()
        self.patches = patches
        self.base = FakeBase(rows, shard_rows) if rows is not None else None
        self.draft = Draft(self.base, table_rows=table_rows, memory_bytes=memory_bytes)
        self.model = {row.path: Row(row) for row in rows or []}
        self.touched: set[str] = set()
        self.revisions = {self.draft.revision}

    def teardown(self) -> None:
        if hasattr(self, "patches"):
            self.draft.close()
            for each in self.patches:
                each.stop()

    # --- changes

    @rule(entry=few_managed | few_entries, local=st.booleans(), overwrite=st.booleans())
    def put(self, entry: Entry, local: bool, overwrite: bool) -> None:
        row = Row(entry, "/data/" + entry.path if local and not entry.is_reference else None)
        if self.clashes([row], overwrite):
            with pytest.raises(ConflictError):
                self.draft.put(row.entry, row.local_path)
        else:
            self.draft.put(row.entry, row.local_path, overwrite=overwrite)
            self.changed([row])

    @rule(rows=several, overwrite=st.booleans(), page_rows=st.integers(1, 6))
    def add(self, rows: list[Entry], overwrite: bool, page_rows: int) -> None:
        self.add_rows([Row(row) for row in rows], overwrite, page_rows)

    @rule(rows=st.lists(few_managed, max_size=14), overwrite=st.booleans())
    def add_files(self, rows: list[Entry], overwrite: bool) -> None:
        self.add_rows([Row(row, "/data/" + row.path) for row in rows], overwrite, 4)

    @rule(data=st.data())
    def add_again(self, data: st.DataObject) -> None:
        """Rows that are there, with other pins: no conflict, and the newer pin is kept."""
        paths = data.draw(st.sets(st.sampled_from(sorted(self.model)))) if self.model else set()
        there = [self.model[path].entry for path in sorted(paths)]
        self.add_rows([Row(Entry(row.path, *content(row), "version:new")) for row in there], False, 3)

    @rule(rows=st.lists(few_entries, min_size=1, max_size=14, unique_by=lambda e: e.path))
    def add_what_breaks_off(self, rows: list[Entry]) -> None:
        def broken() -> Iterator[Page]:
            yield from paged(rows, 3)
            raise ConnectionError("the listing broke")

        with pytest.raises(ConnectionError):
            self.draft.add(broken(), overwrite=True)

    @rule(path=few_paths)
    def remove(self, path: str) -> None:
        if path in self.model:
            self.draft.remove(path)
            del self.model[path]
            self.changed([], removed=[path])
        else:
            with pytest.raises(NotFoundError, match="no entry"):
                self.draft.remove(path)

    @rule(prefix=prefixes)
    def remove_prefix(self, prefix: str) -> None:
        gone = [path for path in self.model if below(prefix, path)]
        assert self.draft.remove_prefix(prefix) == len(gone)
        for path in gone:
            del self.model[path]
        if gone:
            self.changed([], removed=gone)

    @rule(step=st.integers(2, 4))
    def remove_all(self, step: int) -> None:
        gone = sorted(self.model, key=str.encode)[::step]
        self.draft.remove_all(page_of([self.model[path].entry]).select(["path"]) for path in gone)
        for path in gone:
            del self.model[path]
        if gone:
            self.changed([], removed=gone)

    # --- reading

    @rule(prefix=st.none() | prefixes)
    def pages(self, prefix: str | None) -> None:
        found = list(self.draft.pages(prefix))
        assert all(page.schema.equals(SCHEMA) for page in found)
        wanted = [row for row in self.rows() if prefix is None or below(prefix, row.path)]
        assert listed(found) == wanted

    @rule()
    def segments(self) -> None:
        if self.base is not None:
            self.base.read.clear()
        segments = list(self.draft.segments())
        kept = [segment.info for segment in segments if isinstance(segment, KeptShard)]
        assert kept == self.untouched()
        if self.base is not None:
            assert not set(self.base.read) & set(kept)
        assert flat(segments) == self.rows()

    @rule()
    def local_files(self) -> None:
        found = [tuple(row.values()) for batch in self.draft.local_files() for row in batch.to_pylist()]
        wanted = [(r.path, r.content_id, r.size, self.model[r.path].local_path) for r in self.rows()]
        assert found == [row for row in wanted if row[3] is not None]

    @rule(target=readers)
    def begin_to_read(self) -> tuple[Iterator[Page], list[Entry]]:
        return self.draft.pages(), self.rows()

    @rule(reader=consumes(readers))
    def read_what_was_there(self, reader: tuple[Iterator[Page], list[Entry]]) -> None:
        """An iterator yields the state at its call, whatever changed since."""
        pages, wanted = reader
        assert listed(pages) == wanted

    @rule(path=few_paths)
    def get(self, path: str) -> None:
        row = self.model.get(path)
        assert self.draft.get(path) == (row.entry if row is not None else None)
        assert self.draft.local_path(path) == (row.local_path if row is not None else None)

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "draft"):
            assert len(self.draft) == len(self.model)

    @invariant()
    def keeps_few_runs(self) -> None:
        if hasattr(self, "draft"):
            tiers = [draft_module._tier(run) for run in self.draft._layers.runs]
            assert len(tiers) <= (draft_module.RUNS_A_TIER - 1) * (max(tiers, default=0) + 1)

    # --- the model

    def rows(self) -> list[Entry]:
        return in_order(row.entry for row in self.model.values())

    def clashes(self, rows: list[Row], overwrite: bool) -> bool:
        there = ((self.model.get(row.entry.path), row) for row in rows)
        return not overwrite and any(old and content(old.entry) != content(new.entry) for old, new in there)

    def add_rows(self, rows: list[Row], overwrite: bool, page_rows: int) -> None:
        pages = [batch_of(rows[i : i + page_rows]) for i in range(0, len(rows), page_rows)]
        by_path = {row.entry.path: row for row in rows}
        if any(content(row.entry) != content(by_path[row.entry.path].entry) for row in rows):
            with pytest.raises(InvalidInputError):
                self.draft.add(pages, overwrite=overwrite)
        elif self.clashes(rows, overwrite):
            with pytest.raises(ConflictError):
                self.draft.add(pages, overwrite=overwrite)
        else:
            added = self.draft.add(pages, overwrite=overwrite)
            assert list(added) == in_order(row.entry for row in by_path.values())
            if rows:
                self.changed(by_path.values())

    def changed(self, rows: Iterable[Row], removed: Iterable[str] = ()) -> None:
        self.model.update((row.entry.path, row) for row in rows)
        self.touched.update([row.entry.path for row in rows], removed)
        assert self.draft.revision not in self.revisions
        self.revisions.add(self.draft.revision)

    def untouched(self) -> list[ShardInfo]:
        """The shards of the base with no touched path behind the shard before and up to their end."""
        shards = self.base.index.shards if self.base is not None else ()
        kept = []
        for number, shard in enumerate(shards):
            lo = shards[number - 1].last_path if number else ""
            is_last = number == len(shards) - 1
            if not any(lo < path and (is_last or path <= shard.last_path) for path in self.touched):
                kept.append(shard)
        return kept


TestDraftModel = DraftModel.TestCase
TestDraftModel.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


def entry(path: str, digit: str = "0") -> Entry:
    return Entry(path, 1, "sha256:" + digit * 64)


def many(count: int, digit: str = "0") -> list[Entry]:
    return [entry(f"f/{i:04d}", digit) for i in range(count)]


class TestConflicts:
    """Re-adding a path with other bytes is an error unless `overwrite=True`; the same bytes again are fine."""

    @pytest.mark.parametrize("count", [1, 100], ids=["few", "many"])
    def test_name_the_path_what_is_there_and_what_came_and_add_nothing(self, count: int) -> None:
        draft = Draft()
        draft.add(paged(many(100), 10))
        revision = draft.revision
        rows = [*many(count - 1), Entry("f/0099", 7, "md5:" + "1" * 32, "s3://lake/x")]
        rows += [entry(f"new/{i}") for i in range(count)]
        with pytest.raises(
            ConflictError, match=r"'f/0099'.*sha256:000.*s3://lake/x.*md5:111.*overwrite=True"
        ):
            draft.add(paged(rows, 10))
        assert listed(draft.pages()) == many(100)
        assert (len(draft), draft.revision) == (100, revision)

    def test_put_names_the_local_files(self) -> None:
        draft = Draft()
        draft.put(entry("a", "1"), "/data/one")
        with pytest.raises(ConflictError, match=r"/data/one.*/data/two"):
            draft.put(entry("a", "2"), "/data/two")
        assert draft.get("a") == entry("a", "1")

    @pytest.mark.parametrize("other", [{"size": 2}, {"uri": "s3://lake/b"}, {"content_id": "etag:2"}])
    def test_are_size_uri_and_content_id(self, other: dict[str, object]) -> None:
        draft = Draft()
        known = {"path": "a", "size": 1, "content_id": "etag:1", "uri": "s3://lake/a"}
        draft.put(Entry(**known))
        with pytest.raises(ConflictError):
            draft.put(Entry(**{**known, **other}))

    def test_reading_a_base_skips_shards_that_have_no_new_row(self) -> None:
        base = FakeBase(many(100), 10)
        draft = Draft(base)
        draft.add(paged([entry(f"f/{i:04d}x") for i in (20, *range(21, 29), 71)], 100))
        assert [shard.first_path for shard in base.read] == ["f/0020", "f/0070"]

    def test_overwrite_replaces_and_counts_once(self) -> None:
        draft = Draft(FakeBase(many(100), 10))
        draft.add(paged([*many(50, "1"), entry("new")], 9), overwrite=True)
        assert len(draft) == 101
        assert draft.get("f/0049") == entry("f/0049", "1")
        assert draft.get("f/0050") == entry("f/0050")


class TestLookups:
    def test_in_a_base_read_a_shard_once_however_many_they_are(self) -> None:
        base = FakeBase(many(100), 10)
        draft = Draft(base)
        assert [draft.get(row.path) for row in many(100)] == many(100)
        assert [draft.get(row.path + "x") for row in many(100)] == [None] * 100
        assert sorted(shard.first_path for shard in base.read) == [f"f/{i:04d}" for i in range(0, 100, 10)]

    def test_few_in_a_base_read_no_whole_shard(self) -> None:
        base = FakeBase(many(100), 100)
        draft = Draft(base)
        assert [draft.get(row.path) for row in many(3)] == many(3)
        assert base.read == []

    @linux_only
    def test_keep_a_bounded_number_of_copies(self, tmp_path: Path) -> None:
        few = {"COPY_BYTES": 0, "SHARD_COPIES": 3, "LOOKUPS_BEFORE_COPY": 4}
        with patch.multiple(draft_module, **few):
            draft = Draft(FakeBase(many(100), 10), folder=str(tmp_path))
            assert [draft.get(row.path) for row in many(100)] == many(100)
        assert len(spilled_files(tmp_path)) == 3


class TestBadInput:
    def test_a_prefix_that_can_be_no_path_is_an_error(self) -> None:
        draft = Draft()
        for prefix in ("a/", "", "../a"):
            with pytest.raises(InvalidInputError, match="path prefix"):
                draft.pages(prefix)
            with pytest.raises(InvalidInputError, match="path prefix"):
                draft.remove_prefix(prefix)

    @pytest.mark.parametrize(
        ("row", "local_path"),
        [
            (entry("../a"), None),
            (entry("a\udcff"), None),
            (Entry("a", 1, "none", "s3://lake/\udcff"), None),
            (entry("a"), "/data/\udcff"),
        ],
    )
    def test_text_that_cannot_be_stored_is_refused_at_once(self, row: Entry, local_path: str | None) -> None:
        draft = Draft()
        with pytest.raises(InvalidInputError):
            draft.put(row, local_path)
        assert len(draft) == 0

    def test_a_path_that_no_entry_can_have_is_not_found(self) -> None:
        draft = Draft(FakeBase(many(3), 1))
        draft.add(paged(many(20), 20))
        assert draft.get("a\udcff") is None
        with pytest.raises(NotFoundError):
            draft.remove("a\udcff")

    def test_a_closed_draft_refuses_everything(self) -> None:
        """It must not look empty."""
        draft = Draft()
        draft.put(entry("a"))
        draft.close()
        draft.close()
        for use in (
            lambda: draft.add([page_of([entry("a")])]),
            lambda: draft.put(entry("a")),
            lambda: draft.remove("a"),
            lambda: draft.remove_prefix("a"),
            lambda: draft.remove_all([]),
            lambda: draft.get("a"),
            lambda: draft.local_path("a"),
            draft.pages,
            draft.segments,
            draft.local_files,
        ):
            with pytest.raises(InvalidInputError, match="closed"):
                use()

    def test_a_full_or_missing_spill_folder_changes_nothing(self, tmp_path: Path) -> None:
        draft = Draft(folder=str(tmp_path / "missing"), table_rows=5, memory_bytes=TINY)
        for row in many(5):
            draft.put(row)
        with pytest.raises(StoreError, match="TMPDIR"):
            draft.add(lake_pages(200))
        assert [draft.get(row.path) for row in many(5)] == many(5)
        assert len(draft) == 5


class TestPrefixes:
    def test_cover_whole_components(self) -> None:
        draft = Draft()
        for path in ("a", "a!", "a-b", "a/b", "a/\U0010ffff", "a0", "a1", "ab/c", "A"):
            draft.put(entry(path))
        assert [row.path for row in listed(draft.pages("a"))] == ["a", "a/b", "a/\U0010ffff"]
        assert draft.remove_prefix("a") == 3
        assert [row.path for row in listed(draft.pages())] == ["A", "a!", "a-b", "a0", "a1", "ab/c"]


class TestKeeping:
    def test_the_newest_of_many_changes_is_what_get_gives(self) -> None:
        """Whether it lies in the table, or in a run below."""
        draft = Draft(table_rows=3)
        for digit in "0123456789":
            for path in ("a", "b"):
                draft.put(entry(path, digit), f"/data/{digit}", overwrite=True)
                assert draft.get(path) == entry(path, digit)
                assert draft.local_path(path) == f"/data/{digit}"

    def test_a_file_and_a_folder_of_one_name_may_both_be_there(self) -> None:
        draft = Draft()
        draft.put(entry("a"))
        draft.put(entry("a/b"))
        assert [row.path for row in listed(draft.pages("a"))] == ["a", "a/b"]

    def test_an_empty_addition_is_no_change(self) -> None:
        draft = Draft()
        assert not draft.add([])
        assert not draft.add([page_of([])])
        assert draft.revision == 0

    def test_what_was_added_stays_readable_after_changes_and_close(self) -> None:
        draft = Draft(memory_bytes=TINY)
        added = draft.add(paged(many(100), 10))
        draft.remove_prefix("f")
        draft.close()
        assert list(added) == many(100)

    def test_tombstones_vanish_when_nothing_lies_below_them(self) -> None:
        draft = Draft(table_rows=4)
        for row in many(100):
            draft.put(row)
            draft.remove(row.path)
        assert sum(len(run) for run in draft._layers.runs) < 16

    def test_threads_lose_no_change(self) -> None:
        draft = Draft(table_rows=7)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(draft.put, many(500)))
        assert len(draft) == 500
        assert listed(draft.pages()) == many(500)

    def test_a_manifest_of_segments_is_that_of_all_entries(self, tmp_path: Path) -> None:
        """Kept shards and new ones make the digests that writing from nothing makes; few are new."""
        store = FolderStore(tmp_path)
        with small_shards():
            base = store.manifest(paged(many(200), 50))
            draft = Draft(base)
            draft.put(entry("f/0100", "1"), overwrite=True)
            draft.remove(base.index.shards[3].last_path)
            draft.put(entry("g"))
            built = store.write(draft.segments())
            whole = store.write(draft.pages())
        assert built.index == whole.index
        assert 0 < len(built.new_shards) <= 4 < len(base.index.shards) / 2


class TestTemporaryFiles:
    @linux_only
    def test_end_with_close_or_with_the_last_reference(self, tmp_path: Path) -> None:
        for close in (True, False):
            draft = Draft(folder=str(tmp_path), memory_bytes=TINY)
            draft.add(lake_pages(200, page_rows=10))
            assert len(spilled_files(tmp_path)) == 1
            assert list(tmp_path.iterdir()) == []
            if close:
                draft.close()
            else:
                del draft
            gc.collect()
            assert spilled_files(tmp_path) == []

    @linux_only
    def test_end_with_an_addition_that_failed(self, tmp_path: Path) -> None:
        draft = Draft(folder=str(tmp_path), memory_bytes=TINY)
        draft.put(next(entries_of(next(lake_pages(1)))))
        with pytest.raises(ConflictError):
            draft.add(lake_pages(200, page_rows=10, prefix="s3://other/"))
        gc.collect()
        assert spilled_files(tmp_path) == []

    @linux_only
    def test_are_few_however_many_additions(self, tmp_path: Path) -> None:
        draft = Draft(folder=str(tmp_path), memory_bytes=TINY)
        for number in range(60):
            draft.add(paged([entry(f"{i:04d}/{number}") for i in range(20)], 20))
        assert len(draft) == 1200
        assert len(spilled_files(tmp_path)) < 10
