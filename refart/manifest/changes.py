"""Pages of changes: their columns, two streams side by side, and which entries moved.

Entries that moved are found among those that were removed and added, sorted by content in temporary files: memory is
bounded, however many changes there are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from refart.entries import SCHEMA, Page, page_of
from refart.manifest.runs import DRAFT_SCHEMA, SortedRun, collect, sort_pages, tombstones

_SIDES: Final = [
    pa.field(f"{side}_{field.name}", field.type) for field in list(SCHEMA)[1:] for side in ("old", "new")
]
_ROW: Final = [pa.field("path", pa.string(), nullable=False), pa.field("change", pa.string(), nullable=False)]

COMPARED: Final[pa.Schema] = pa.schema([*_ROW, *_SIDES])
"""`path`, `change`, and `old_` and `new_` size, content id, URI and pin; those of a side are null where it has none."""

CHANGES: Final[pa.Schema] = pa.schema([*_ROW, pa.field("old_path", pa.string()), *_SIDES])
"""The columns of a page of changes. `old_path` is where an entry that moved was; null for every other change."""

MOVABLE: Final = r"^(sha256:|md5:|etag:[0-9a-f]{32}-[0-9]+$)"
"""Content ids by which bytes are known wherever they lie: hashes, and the ETag of a multipart upload, which is one. Not
a CRC, since among a million objects of one size some have the same; nor what a server or a clock says of one object."""

SORT_BYTES: Final = 16 << 20
"""16 MiB: three sorts follow each other, the manifests being open."""

_RANK_DIGITS: Final = 12


def aligned(old_pages: Iterable[Page], new_pages: Iterable[Page]) -> Iterator[tuple[Page, Page]]:
    """Two streams of pages in the order of their first column (the path), cut so that each pair covers the same range.

    A side that has nothing there is an empty page of entries.
    """
    olds, news = iter(old_pages), iter(new_pages)
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        # Everything up to the nearer end of the two pages is here, from both sides.
        end = min(page.column(0)[-1].as_py() for page in (old, new) if page is not None)
        old_rows, old = _divide(old, end)
        new_rows, new = _divide(new, end)
        yield old_rows, new_rows
        old = next(olds, None) if old is None else old
        new = next(news, None) if new is None else new


def _divide(page: Page | None, end: str) -> tuple[Page, Page | None]:
    """The rows up to and including the path `end`, and the rest if there is any."""
    if page is None:
        return page_of([]), None
    paths = page.column(0)
    rows = bisect_right(range(page.num_rows), end, key=lambda row: paths[row].as_py())
    return page.slice(0, rows), page.slice(rows) if rows < page.num_rows else None


def rows_of_change(change: str, old: Page | None, new: Page | None) -> pa.RecordBatch:
    """Rows of `CHANGES` of one kind, from the rows of either side."""
    present = new if new is not None else old
    assert present is not None
    nothing = pa.nulls(present.num_rows, pa.string())
    columns = [present["path"], pa.repeat(change, present.num_rows), nothing]
    for field in list(SCHEMA)[1:]:
        for side in (old, new):
            columns.append(side[field.name] if side is not None else pa.nulls(present.num_rows, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=CHANGES)


def with_moves(changes: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same changes, ordered by path, in which an entry that moved is one `moved`, not one `removed`, one `added`.

    It moved where size and content id are the same, and the content id is one of `MOVABLE`. Of several entries with
    the same bytes the first that was removed became the first that was added, by path, and so on. All changes are
    taken before the first page is given out.
    """
    kept = collect(changes, memory_bytes=SORT_BYTES)
    removed, added = _by_content(kept, "removed", "old"), _by_content(kept, "added", "new")
    moved = sort_pages(_pairs(removed, added), memory_bytes=SORT_BYTES) if removed and added else None
    if not moved:
        yield from kept.batches()
        return
    for page, moves in aligned(kept.batches(), moved.batches()):
        page = _told(page, moves) if moves.num_rows else page
        if page.num_rows:
            yield page


def _by_content(kept: SortedRun, change: str, side: Literal["old", "new"]) -> SortedRun:
    """The entries of one kind of change as rows of `DRAFT_SCHEMA`, by content id, size and path: that is what stands as
    their path, and the path itself as `local_path`."""

    def pages() -> Iterator[pa.RecordBatch]:
        for page in kept.batches():
            rows = page.filter(pc.equal(page["change"], change))
            rows = rows.filter(
                pc.and_(
                    pc.is_valid(rows[f"{side}_size"]),
                    pc.match_substring_regex(rows[f"{side}_content_id"], MOVABLE),
                )
            )
            size, content_id, uri, pin = (rows[f"{side}_{name}"] for name in SCHEMA.names[1:])
            key = pc.binary_join_element_wise(content_id, size.cast(pa.string()), rows["path"], "\0")
            yield _draft_rows([key, size, content_id, uri, pin], rows["path"])

    return sort_pages(pages(), memory_bytes=SORT_BYTES)


def _draft_rows(entry: list[pa.Array], local_path: pa.StringArray) -> pa.RecordBatch:
    alive = pa.repeat(pa.scalar(False), len(local_path))
    return pa.RecordBatch.from_arrays([*entry, local_path, alive], schema=DRAFT_SCHEMA)


def _pairs(removed: SortedRun, added: SortedRun) -> Iterator[pa.RecordBatch]:
    """Of each entry that moved two rows of `DRAFT_SCHEMA`: a tombstone where it was; where it is, what it was, with its
    old path as `local_path`."""
    for old, new in aligned(_ranked(removed), _ranked(added)):
        if not old.num_rows or not new.num_rows:
            continue
        row = pc.index_in(new["path"], value_set=old["path"])
        old, new = old.take(row.drop_null()), new.filter(row.is_valid())
        _, size, content_id, uri, pin, path, _ = old.columns
        yield _draft_rows([new["local_path"], size, content_id, uri, pin], path)
        yield tombstones(pa.RecordBatch.from_arrays([path], names=["path"]))


def _ranked(run: SortedRun) -> Iterator[pa.RecordBatch]:
    """The rows by what can be equal on both sides: content id, size, and their place among those that have them."""
    last, count = None, 0
    for batch in run.batches():
        size = batch["size"].cast(pa.string())
        content = pc.binary_join_element_wise(batch["content_id"], size, "\0")
        runs = pc.run_end_encode(content, run_end_type=pa.int32())
        ranks: list[int] = []
        for value, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            start = count if value == last else 0
            last, count = value, start + end - len(ranks)
            ranks.extend(range(start, count))
        rank = pc.utf8_lpad(pa.array(ranks, pa.int64()).cast(pa.string()), _RANK_DIGITS, "0")
        yield batch.set_column(
            0, DRAFT_SCHEMA.field("path"), pc.binary_join_element_wise(content, rank, "\0")
        )


def _told(page: pa.RecordBatch, moves: pa.RecordBatch) -> pa.RecordBatch:
    """The changes of a range, with what moved there."""
    page = page.filter(pc.invert(pc.is_in(page["path"], value_set=moves["path"].filter(moves["removed"]))))
    came = moves.filter(pc.invert(moves["removed"]))
    row = pc.index_in(page["path"], value_set=came["path"])
    is_moved = row.is_valid()
    columns = {name: page[name] for name in CHANGES.names}
    columns["change"] = pc.if_else(is_moved, "moved", page["change"])
    columns["old_path"] = came["local_path"].take(row)
    for name in SCHEMA.names[1:]:
        columns[f"old_{name}"] = pc.if_else(is_moved, came[name].take(row), page[f"old_{name}"])
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=CHANGES)
