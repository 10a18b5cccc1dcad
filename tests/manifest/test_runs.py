"""Sorting outside memory gives what sorting in memory gives, within its bounds, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given

from refart.entries import PAGE_ROWS, SCHEMA, Entry, Page, entries_of, page_of
from refart.errors import FormatError, InvalidInputError, StoreError
from refart.manifest import runs
from refart.manifest.runs import DRAFT_SCHEMA, Row, collect, managed_page, merge, sort_pages
from refart.manifest.spill import Kept, Spill
from tests.manifest.spills import linux_only, spilled_files
from tests.strategies import entries, few_paths, in_order, lake_pages, paged, sorted_entries

TINY = 2_000
"""A memory bound of a few rows: every chunk becomes a run, and every run is spilled."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few dozen rows make many blocks and several levels of merging."""
    monkeypatch.setattr(runs, "BLOCK_ROWS", 3)
    monkeypatch.setattr(runs, "FAN_IN", 2)


def numbered(rows: int) -> list[Entry]:
    return [Entry(f"a/{i:03d}", 1, "none", f"s3://lake/a/{i:03d}") for i in range(rows)]


class TestSorting:
    @given(
        rows=st.lists(entries(), max_size=40, unique_by=lambda e: e.path),
        page_rows=st.integers(1, 9),
        memory_bytes=st.sampled_from([TINY, 1 << 20]),
    )
    def test_gives_the_order_of_utf8_bytes(
        self, rows: list[Entry], page_rows: int, memory_bytes: int
    ) -> None:
        """Whatever the batch sizes, in memory or spilled, and as often as one looks."""
        run = sort_pages(paged(rows, page_rows), memory_bytes=memory_bytes)
        assert list(run) == in_order(rows)
        assert list(run) == in_order(rows)
        assert len(run) == len(rows)
        assert (run.first_path, run.last_path) == (
            (in_order(rows)[0].path, in_order(rows)[-1].path) if rows else (None, None)
        )

    @given(rows=st.lists(entries(few_paths), max_size=40), memory_bytes=st.sampled_from([TINY, 1 << 20]))
    def test_keep_last_keeps_the_last_row_of_each_path(self, rows: list[Entry], memory_bytes: int) -> None:
        run = sort_pages(paged(rows, 2), memory_bytes=memory_bytes, keep_last=True)
        assert list(run) == in_order({row.path: row for row in rows}.values())

    @given(rows=sorted_entries(few_paths), memory_bytes=st.sampled_from([TINY, 1 << 20]))
    def test_the_same_row_again_is_one_row(self, rows: list[Entry], memory_bytes: int) -> None:
        assert list(sort_pages(paged(rows + rows, 4), memory_bytes=memory_bytes)) == rows

    @given(rows=sorted_entries(few_paths))
    def test_the_same_row_at_the_edge_of_two_chunks_is_one_row(self, rows: list[Entry]) -> None:
        twice = [row for row in rows for _ in range(2)]
        assert list(sort_pages(paged(twice, 1), memory_bytes=3)) == rows

    @pytest.mark.parametrize("memory_bytes", [TINY, 1 << 20], ids=["spilled", "in memory"])
    def test_two_objects_that_meet_in_one_path_are_an_error_that_names_both(self, memory_bytes: int) -> None:
        """Also where the two lie in chunks that were sorted apart."""
        others = [Entry(f"a/{i:03d}", 1, "none", f"s3://lake/a/{i:03d}") for i in range(100)]
        one = Entry("b/%2F", 1, "none", "s3://lake/b//")
        two = Entry("b/%2F", 1, "none", "s3://lake/b/%2F")
        with pytest.raises(InvalidInputError, match=r"'s3://lake/b//'.*'s3://lake/b/%2F'.*meet.*'b/%2F'"):
            sort_pages(paged([one, *others, two], 5), memory_bytes=memory_bytes)

    def test_two_local_files_that_meet_are_named(self) -> None:
        rows = [Row(Entry("a", 1, "sha256:" + d * 64), f"/data/{d}") for d in "12"]
        with pytest.raises(InvalidInputError, match=r"/data/1.*/data/2"):
            sort_pages([runs.batch_of(rows)])

    def test_an_object_that_changed_while_it_was_listed_is_an_error(self) -> None:
        rows = [Entry("a", 1, f"etag:{tag}", "s3://lake/a") for tag in "12"]
        with pytest.raises(InvalidInputError, match=r"'a' was found twice.*etag:1.*etag:2.*try again"):
            sort_pages([page_of(rows)])

    def test_other_columns_are_refused(self) -> None:
        with pytest.raises(FormatError, match="columns"):
            sort_pages([pa.record_batch({"path": ["a"]})])

    def test_pages_in_order_are_not_merged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A listing that arrives sorted is written once."""
        monkeypatch.setattr(runs, "merge", None)
        rows = numbered(100)
        assert list(sort_pages(paged(rows, 7), memory_bytes=TINY)) == rows

    def test_pages_of_several_ranges_are_not_merged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Several readers of one listing, each somewhere else in it, make blocks that need only be arranged."""
        monkeypatch.setattr(runs, "merge", None)
        monkeypatch.setattr(runs, "BLOCK_ROWS", 8)
        rows = numbered(300)
        ranges = [list(paged(rows[start : start + 60], 5)) for start in range(0, 300, 60)]
        arriving = [page for pages in zip(*ranges, strict=True) for page in pages]
        run = sort_pages(arriving, memory_bytes=TINY)
        assert list(run) == rows
        assert max(block.count for block in run.blocks) <= 8

    @given(
        rows=st.lists(entries(few_paths), max_size=60, unique_by=lambda e: e.path),
        page_rows=st.integers(1, 5),
        turns=st.randoms(use_true_random=False),
    )
    def test_pages_of_several_ranges_in_any_order(
        self, rows: list[Entry], page_rows: int, turns: random.Random
    ) -> None:
        """Also where sorted pages meet those of another range, or lie within its gaps."""
        pages = list(paged(in_order(rows), page_rows))
        turns.shuffle(pages)
        assert list(sort_pages(pages, memory_bytes=TINY)) == in_order(rows)

    def test_tiny_pages_do_not_make_tiny_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runs, "BLOCK_ROWS", 64)
        rows = numbered(256)
        pages = list(paged(rows, 1))
        run = sort_pages(pages[::2] + pages[1::2])
        assert list(run) == rows
        assert min(block.count for block in run.blocks) >= 8


class TestRun:
    @given(rows=sorted_entries(), probe=few_paths, memory_bytes=st.sampled_from([TINY, 1 << 20]))
    def test_get_finds_each_path_and_no_other(self, rows: list[Entry], probe: str, memory_bytes: int) -> None:
        run = sort_pages(paged(rows, 4), memory_bytes=memory_bytes)
        by_path = {row.path: row for row in rows}
        assert [run.get(path) for path in by_path] == [Row(row) for row in rows]
        assert run.get(probe) == (Row(by_path[probe]) if probe in by_path else None)

    @given(rows=sorted_entries(few_paths), lo=few_paths, hi=st.none() | few_paths)
    def test_a_range_is_half_open(self, rows: list[Entry], lo: str, hi: str | None) -> None:
        run = sort_pages(paged(rows, 4), memory_bytes=TINY)
        start, end = lo.encode(), hi.encode() if hi is not None else None
        wanted = [r for r in rows if start <= r.path.encode() and (end is None or r.path.encode() < end)]
        found = [row.entry for batch in run.batches(start, end) for row in runs.rows_of(batch)]
        assert found == wanted
        assert run.touches(start, end) == bool(wanted)

    @given(rows=sorted_entries(few_paths), others=sorted_entries(few_paths, max_size=4))
    def test_touching_leaves_out_only_rows_that_the_other_run_has_not(
        self, rows: list[Entry], others: list[Entry]
    ) -> None:
        run, other = sort_pages(paged(rows, 4)), sort_pages(paged(others, 4))
        found = [row.entry for batch in run.batches(touching=other) for row in runs.rows_of(batch)]
        assert {row.path for row in found} <= {row.path for row in rows}
        assert {row.path for row in rows if other.get(row.path)} <= {row.path for row in found}

    def test_is_a_sequence_of_entries(self) -> None:
        rows = [Entry(f"a/{i:02d}", i, "none", "s3://lake/a") for i in range(20)]
        run = sort_pages(paged(rows, 6), memory_bytes=TINY)
        assert run[0] == rows[0]
        assert run[-1] == rows[-1]
        assert [run[i] for i in range(20)] == rows
        assert run[5:12:3] == rows[5:12:3]
        assert rows[7] in run
        assert run.index(rows[7]) == 7
        assert repr(run) == "<20 entries>"
        with pytest.raises(IndexError):
            run[20]

    def test_without_rows_it_is_false(self) -> None:
        run = sort_pages([page_of([])])
        assert not run
        assert list(run.batches()) == []
        assert run.get("a") is None
        assert (run.first_path, run.last_path) == (None, None)

    def test_pages_have_the_schema_of_entries_and_batches_that_of_drafts(self) -> None:
        run = sort_pages([page_of([Entry("a", 1, "none", "s3://lake/a")])])
        assert [page.schema for page in run.pages()] == [SCHEMA]
        assert [batch.schema for batch in run.batches()] == [DRAFT_SCHEMA]

    def test_many_threads_may_read_a_spilled_run(self) -> None:
        run = sort_pages(lake_pages(600, page_rows=50), memory_bytes=TINY)
        wanted = list(run)

        def read(start: int) -> bool:
            return list(run) == wanted and all(run.get(e.path) == Row(e) for e in wanted[start::7])

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(8)))


class TestMerging:
    @given(st.lists(sorted_entries(few_paths), max_size=5))
    def test_the_newest_layer_wins(self, layers: list[list[Entry]]) -> None:
        merged = merge(sort_pages(paged(rows, 4)).batches() for rows in layers)
        newest = {row.path: row for rows in layers for row in rows}
        assert [r.entry for b in merged for r in runs.rows_of(b)] == in_order(newest.values())

    @given(st.lists(sorted_entries(few_paths), max_size=5))
    def test_collate_keeps_every_row_equal_paths_side_by_side(self, layers: list[list[Entry]]) -> None:
        batches = list(runs.collate(sort_pages(paged(rows, 4)).batches() for rows in layers))
        found = [row.entry for batch in batches for row in runs.rows_of(batch)]
        assert found == in_order(row for rows in layers for row in rows)
        lasts = [batch.column("path")[-1].as_py().encode() for batch in batches]
        firsts = [batch.column("path")[0].as_py().encode() for batch in batches]
        assert all(last < first for last, first in zip(lasts, firsts[1:], strict=False))

    @given(st.lists(sorted_entries(few_paths), min_size=1, max_size=5), st.sampled_from([TINY, 1 << 20]))
    def test_joined_runs_hold_what_merged_ones_hold(
        self, layers: list[list[Entry]], memory_bytes: int
    ) -> None:
        joined = runs.join([sort_pages(paged(rows, 4)) for rows in layers], memory_bytes=memory_bytes)
        newest = {row.path: row for rows in layers for row in rows}
        assert list(joined) == in_order(newest.values())

    def test_runs_that_do_not_overlap_are_joined_unread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = numbered(90)
        parts = [sort_pages(paged(rows[start : start + 30], 10), memory_bytes=TINY) for start in (30, 0, 60)]
        monkeypatch.setattr(Spill, "read", None)
        joined = runs.join(parts, memory_bytes=TINY)
        monkeypatch.undo()
        assert list(joined) == rows

    def test_joining_keeps_no_more_in_memory_than_sorting(self) -> None:
        """Many small runs, each of which was kept, become one that is not."""
        rows = numbered(90)
        parts = [sort_pages(paged(rows[start : start + 30], 10)) for start in range(0, 90, 30)]
        assert all(isinstance(block.rows, Kept) for part in parts for block in part.blocks)
        joined = runs.join(parts, memory_bytes=TINY)
        assert list(joined) == rows
        assert not any(isinstance(block.rows, Kept) for block in joined.blocks)

    def test_joining_drops_tombstones_with_what_they_hide(self) -> None:
        rows = numbered(20)
        old = sort_pages(paged(rows, 10))
        removed = collect(map(runs.tombstones, sort_pages(paged(rows[5:9], 2)).batches()))
        assert list(runs.join([old, removed], drop_removed=True)) == rows[:5] + rows[9:]
        assert len(runs.join([old, removed])) == 20

    def test_no_batch_exceeds_a_page(self) -> None:
        """Three pages that interleave row by row come out of one step of the merge."""
        rows = PAGE_ROWS // 2

        def layer(digit: int) -> pa.RecordBatch:
            paths = pa.array([f"{i:06d}{digit}" for i in range(rows)])
            columns = [paths, *(pa.nulls(rows, field.type) for field in SCHEMA)][: len(SCHEMA)]
            columns = [paths, pa.nulls(rows, pa.int64()), paths, paths, pa.nulls(rows, pa.string())]
            return runs.as_draft(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))

        batches = list(merge([layer(digit)] for digit in range(3)))
        assert sum(batch.num_rows for batch in batches) == 3 * rows
        assert max(batch.num_rows for batch in batches) <= PAGE_ROWS

    @given(old=entries(st.just("a")), new=entries(st.just("a")))
    def test_differ_compares_size_content_id_and_uri_but_no_pin(self, old: Entry, new: Entry) -> None:
        (found,) = runs.differ(page_of([old]), page_of([new])).to_pylist()
        assert found == ((old.size, old.content_id, old.uri) != (new.size, new.content_id, new.uri))


class TestManagedPage:
    def test_turns_local_references_into_managed_files(self) -> None:
        page = page_of([Entry("a", 1, "sha256:" + "0" * 64, "file:///data/ä #1?", "etag:x")])
        assert list(runs.rows_of(managed_page(page))) == [
            Row(Entry("a", 1, "sha256:" + "0" * 64), "/data/ä #1?")
        ]

    @pytest.mark.parametrize("uri", ["s3://lake/a", None])
    def test_refuses_what_is_no_local_reference(self, uri: str | None) -> None:
        with pytest.raises(InvalidInputError, match="file://"):
            managed_page(page_of([Entry("a", 1, "sha256:" + "0" * 64, uri)]))


class TestTemporaryFiles:
    @linux_only
    def test_have_no_name_and_end_with_the_run(self, tmp_path: Path) -> None:
        run = sort_pages(lake_pages(200, page_rows=10), str(tmp_path), memory_bytes=TINY)
        assert len(run) == 200
        assert spilled_files(tmp_path)
        assert list(tmp_path.iterdir()) == []
        del run
        gc.collect()
        assert spilled_files(tmp_path) == []

    @linux_only
    def test_end_with_an_error_of_the_pages(self, tmp_path: Path) -> None:
        def broken() -> Iterator[Page]:
            yield from lake_pages(200, page_rows=10)
            assert spilled_files(tmp_path)
            raise ConnectionError("the listing broke")

        with pytest.raises(ConnectionError, match="the listing broke"):
            sort_pages(broken(), str(tmp_path), memory_bytes=TINY)
        gc.collect()
        assert spilled_files(tmp_path) == []

    def test_small_runs_need_none(self, tmp_path: Path) -> None:
        assert len(sort_pages(lake_pages(200), str(tmp_path / "missing"))) == 200

    def test_that_cannot_be_written_are_a_store_error_that_says_where(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"missing.*TMPDIR"):
            sort_pages(lake_pages(200), str(tmp_path / "missing"), memory_bytes=TINY)

    def test_collect_takes_what_merge_gives(self) -> None:
        run = sort_pages(lake_pages(100, page_rows=10))
        again = collect(merge([run.batches()]), memory_bytes=TINY)
        assert list(again) == list(run)
        assert [entry for page in again.pages() for entry in entries_of(page)] == list(run)


@linux_only
def test_sorting_300_000_entries_needs_a_bounded_amount_of_memory() -> None:
    """60 MB of entries within a bound of 16 MiB: the process grows by less than the entries alone take."""
    script = """
        import resource
        from refart.manifest.runs import sort_pages
        from tests.strategies import lake_pages

        def peak_bytes():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

        sort_pages(lake_pages(20_000), memory_bytes=1 << 20)  # loads what any sort loads
        before = peak_bytes()
        run = sort_pages(lake_pages(300_000), memory_bytes=16 << 20)
        last = b""
        for batch in run.batches():
            paths = [path.encode() for path in batch.column("path").to_pylist()]
            assert [last, *paths] == sorted({last, *paths})
            last = paths[-1]
        print(len(run), peak_bytes() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},  # the others keep what was freed
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows, grown_bytes = map(int, done.stdout.split())
    assert rows == 300_000
    assert grown_bytes < 48 << 20
