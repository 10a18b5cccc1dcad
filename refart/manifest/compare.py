"""What changed between two manifests, at a cost that follows the change and not the artifact.

Shards that both have are not opened. Of the others, row groups that are the same bytes are not decoded.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from refart.entries import SCHEMA, Page, page_of
from refart.manifest.reader import Manifest, Scope
from refart.manifest.shards import Extent, ShardFile, checked, exact_sum

MAX_RIVALS: Final = 4
"""Shards of one side whose row groups are compared with those of one shard of the other: mostly one, more where an
entry that ended a shard came or went. They are open together."""

CHANGES: Final[pa.Schema] = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("change", pa.string(), nullable=False),
        *(
            pa.field(f"{side}_{field.name}", field.type)
            for field in list(SCHEMA)[1:]
            for side in ("old", "new")
        ),
    ]
)
"""The columns of a page of changes: `path`, `change`, and `old_` and `new_` size, content id, URI and pin."""


@dataclass(slots=True)
class DiffSummary:
    """Counts of a diff; they grow while its pages are taken. Unknown sizes count no bytes."""

    added: int = 0
    removed: int = 0
    modified: int = 0
    """Entries whose size or content id differs."""
    relocated: int = 0
    """Entries with the same size and content id at another URI."""
    added_bytes: int = 0
    removed_bytes: int = 0
    old_modified_bytes: int = 0
    new_modified_bytes: int = 0
    shards_read: int = 0
    """Shards of either side that had to be opened."""


class _Side:
    """The shards of one manifest that the other does not have."""

    def __init__(self, manifest: Manifest | None, shared: set[str], scope: Scope | None) -> None:
        self._manifest = manifest
        self._scope = scope
        found = manifest.shards(scope) if manifest is not None else ()
        self.shards = [shard for shard in found if shard.manifest_digest not in shared]
        self._files: dict[int, ShardFile] = {}
        self._equal: dict[tuple[int, int], set[int]] = {}

    def pages(self, number: int, other: _Side) -> Iterator[Page]:
        """The rows of a shard, without row groups that the other side has too."""
        assert self._manifest is not None
        equal: set[int] = set()
        for rival in self._rivals(number, other):
            if number in other._rivals(rival, self):
                if (number, rival) not in self._equal:
                    self._compare_bytes(number, other, rival)
                equal |= self._equal.pop((number, rival))
        shard = self.shards[number]
        with closing(self._file(number)) as file:
            del self._files[number]
            yield from self._manifest.file_pages(file, shard, self._scope, without=equal, check=False)

    def _rivals(self, number: int, other: _Side) -> range:
        """The shards of the other side that overlap one of this side; none where they are many."""
        shard = self.shards[number]
        start = bisect_left(other.shards, shard.first_path, key=lambda rival: rival.last_path)
        end = bisect_right(other.shards, shard.last_path, key=lambda rival: rival.first_path)
        return range(start, end) if end - start <= MAX_RIVALS else range(0)

    def _compare_bytes(self, number: int, other: _Side, rival: int) -> None:
        """Find the row groups that are the same bytes in two shards: each side leaves out what the other does."""
        mine, theirs = self._file(number), other._file(rival)
        places: dict[object, list[tuple[int, Extent]]] = {}
        for group in range(theirs.group_count):
            if extent := theirs.extent(group):
                places.setdefault(extent.shape, []).append((group, extent))
        ours, others = self._equal[number, rival], other._equal[rival, number] = set(), set()
        for group in range(mine.group_count):
            extent = mine.extent(group)
            if extent is None or extent.shape not in places:
                continue
            found = mine.read(extent)
            for place, there in places[extent.shape]:  # one, but for the smallest of groups
                if found == theirs.read(there):
                    ours.add(group)
                    others.add(place)

    def _file(self, number: int) -> ShardFile:
        """The file of a shard, which stays open until its rows are read."""
        if number not in self._files:
            assert self._manifest is not None
            self._files[number] = self._manifest.open_shard(self.shards[number])
        return self._files[number]


class Diff:
    """The changes from one manifest to another: iterate once for pages of `CHANGES`, ordered by path.

    `change` is one of

    - `added`, `removed`: the path is in one manifest only, and the columns of the other side are null
    - `modified`: the size or the content id differs
    - `relocated`: size and content id are equal, the URI differs (or one side is a managed file)

    An entry whose pin alone differs did not change. A page holds as many changes as two pages of entries can
    give.
    """

    def __init__(self, old: Manifest | None, new: Manifest | None, scope: Scope | None) -> None:
        self.summary = DiffSummary()
        # A shard of equal rows on both sides has no change, wherever it stands: no path is in two shards.
        shared = _digests(old) & _digests(new)
        one, other = (_Side(manifest, shared, scope) for manifest in (old, new))
        self._old, self._new = self._rows(one, other), self._rows(other, one)
        self._pages = self._changes()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._pages

    def _rows(self, side: _Side, other: _Side) -> Iterator[Page]:
        for number in range(len(side.shards)):
            self.summary.shards_read += 1
            yield from side.pages(number, other)

    def _changes(self) -> Iterator[pa.RecordBatch]:
        for old, new in aligned(self._old, self._new):
            page = _compare(old, new)
            if page is not None:
                self._count(page)
                yield page

    def _count(self, page: pa.RecordBatch) -> None:
        summary = self.summary
        added, removed, modified, relocated = (
            page.filter(pc.equal(page["change"], change))
            for change in ("added", "removed", "modified", "relocated")
        )
        summary.added += added.num_rows
        summary.added_bytes += exact_sum(added["new_size"])
        summary.removed += removed.num_rows
        summary.removed_bytes += exact_sum(removed["old_size"])
        summary.modified += modified.num_rows
        summary.old_modified_bytes += exact_sum(modified["old_size"])
        summary.new_modified_bytes += exact_sum(modified["new_size"])
        summary.relocated += relocated.num_rows


def diff(old: Manifest | None, new: Manifest | None, prefix: str | None = None) -> Diff:
    """Compare two manifests; None is one without entries. `prefix` narrows both as in `Manifest.pages`.

    Only shards that the two do not share are read, a page of each side at a time, and of those only row groups
    that differ. Raises `InvalidInputError`
    for a prefix that can be no path; while pages are taken, what `Manifest.shard_pages` raises.
    """
    return Diff(old, new, Scope.of(prefix))


def aligned(old_pages: Iterable[Page], new_pages: Iterable[Page]) -> Iterator[tuple[Page, Page]]:
    """Two streams of pages in the order of their paths, cut so that each pair covers the same range of paths."""
    olds, news = iter(old_pages), iter(new_pages)
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        # Everything up to the nearer end of the two pages is here, from both sides.
        end = min(page["path"][-1].as_py() for page in (old, new) if page is not None)
        old_rows, old = _divide(old, end)
        new_rows, new = _divide(new, end)
        yield old_rows, new_rows
        old = next(olds, None) if old is None else old
        new = next(news, None) if new is None else new


def _digests(manifest: Manifest | None) -> set[str]:
    return {shard.manifest_digest for shard in manifest.index.shards} if manifest is not None else set()


def _divide(page: Page | None, end: str) -> tuple[Page, Page | None]:
    """The rows up to and including the path `end`, and the rest if there is any."""
    if page is None:
        return page_of([]), None
    paths = page["path"]
    rows = bisect_right(range(page.num_rows), end, key=lambda row: paths[row].as_py())
    return page.slice(0, rows), page.slice(rows) if rows < page.num_rows else None


def _compare(old: Page, new: Page) -> pa.RecordBatch | None:
    """The changes between two pages that cover the same range of paths, None where there is none."""
    old_row = pc.index_in(new["path"], value_set=old["path"])
    added = new.filter(old_row.is_null())
    removed = old.filter(pc.invert(pc.is_in(old["path"], value_set=new["path"])))
    old, new = old.take(old_row.drop_null()), new.filter(old_row.is_valid())
    modified = pc.or_(_differs(old["size"], new["size"]), _differs(old["content_id"], new["content_id"]))
    relocated = pc.and_not(_differs(old["uri"], new["uri"]), modified)
    changes = pa.Table.from_batches(
        [
            _changes("added", None, added),
            _changes("removed", removed, None),
            _changes("modified", old.filter(modified), new.filter(modified)),
            _changes("relocated", old.filter(relocated), new.filter(relocated)),
        ]
    )
    if changes.num_rows == 0:
        return None
    return changes.take(pc.sort_indices(changes["path"])).combine_chunks().to_batches()[0]


def _differs(old: pa.Array, new: pa.Array) -> pa.BooleanArray:
    """Row by row, null being equal to null only."""
    return pc.fill_null(pc.not_equal(old, new), pc.not_equal(old.is_null(), new.is_null()))


def _changes(change: str, old: Page | None, new: Page | None) -> pa.RecordBatch:
    """Rows of `CHANGES` of one kind, from the rows of either side, which are checked here: most of those that were
    compared have no change."""
    for side in filter(None, (old, new)):
        checked(side, "a manifest that is compared")
    present = new if new is not None else old
    assert present is not None
    columns = [present["path"], pa.repeat(change, present.num_rows)]
    for field in list(SCHEMA)[1:]:
        for side in (old, new):
            columns.append(side[field.name] if side is not None else pa.nulls(present.num_rows, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=CHANGES)
