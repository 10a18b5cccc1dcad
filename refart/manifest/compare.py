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

from refart.entries import Page
from refart.errors import InvalidInputError
from refart.manifest.changes import aligned, rows_of_change, with_moves
from refart.manifest.reader import Manifest, Scope
from refart.manifest.shards import Extent, ShardFile, checked, exact_sum

MAX_RIVALS: Final = 4
"""Shards of one side whose row groups are compared with those of one shard of the other: mostly one, more where an
entry that ended a shard came or went. They are open together."""


@dataclass(slots=True)
class DiffSummary:
    """Counts of a diff; they grow while its pages are taken. Unknown sizes count no bytes."""

    added: int = 0
    removed: int = 0
    modified: int = 0
    """Entries whose size or content id differs."""
    moved: int = 0
    """Entries with the same size and content id under another path."""
    relocated: int = 0
    """Entries with the same size and content id at another URI."""
    unknown: int = 0
    """Entries of which cannot be told whether they changed; none between two versions."""
    added_bytes: int = 0
    removed_bytes: int = 0
    old_modified_bytes: int = 0
    new_modified_bytes: int = 0
    moved_bytes: int = 0
    relocated_bytes: int = 0
    unknown_bytes: int = 0
    """What was recorded of them."""
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
    """The changes from an old side to a new one: iterate once for pages of `CHANGES`, ordered by path.

    `change` is one of

    - `added`, `removed`: the path is on one side only, and the columns of the other side are null
    - `modified`: the size or the content id differs
    - `moved`: what was removed at `old_path` and added at `path` has the same size and (strong) content id
    - `relocated`: size and content id are equal, the URI differs (or one side is a managed file)
    - `unknown`: it cannot be told whether it is the same; only of a live source or a folder

    An entry whose pin alone differs did not change. A page holds as many changes as two pages of entries can
    give.
    """

    def __init__(
        self, changes: Iterable[pa.RecordBatch], summary: DiffSummary | None = None, *, moves: bool = True
    ) -> None:
        """`changes` are pages of `CHANGES` without moves. Without `moves` they are handed on at once; with them, once
        all were taken (see `changes.with_moves`)."""
        self._summary = DiffSummary() if summary is None else summary
        self._is_read = False
        self._pages = self._counted(with_moves(changes) if moves else changes)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._pages

    @property
    def summary(self) -> DiffSummary:
        """Counts and bytes. Raises `InvalidInputError` before the last page was taken, when nothing may be counted
        yet of what changed."""
        if not self._is_read:
            raise InvalidInputError(
                "the summary is known when all pages were taken: iterate to the end first, or call read()"
            )
        return self._summary

    def read(self) -> DiffSummary:
        """The whole summary: takes the pages that are left."""
        for _ in self._pages:
            pass
        return self.summary

    def _counted(self, pages: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for page in pages:
            self._count(page)
            yield page
        self._is_read = True

    def _count(self, page: pa.RecordBatch) -> None:
        summary = self._summary
        added, removed, modified, moved, relocated, unknown = (
            page.filter(pc.equal(page["change"], change))
            for change in ("added", "removed", "modified", "moved", "relocated", "unknown")
        )
        summary.added += added.num_rows
        summary.added_bytes += exact_sum(added["new_size"])
        summary.removed += removed.num_rows
        summary.removed_bytes += exact_sum(removed["old_size"])
        summary.modified += modified.num_rows
        summary.old_modified_bytes += exact_sum(modified["old_size"])
        summary.new_modified_bytes += exact_sum(modified["new_size"])
        summary.moved += moved.num_rows
        summary.moved_bytes += exact_sum(moved["new_size"])
        summary.relocated += relocated.num_rows
        summary.relocated_bytes += exact_sum(relocated["new_size"])
        summary.unknown += unknown.num_rows
        summary.unknown_bytes += exact_sum(unknown["old_size"])


def diff(
    old: Manifest | None, new: Manifest | None, prefix: str | None = None, *, moves: bool = True
) -> Diff:
    """Compare two manifests; None is one without entries. `prefix` narrows both as in `Manifest.pages`.

    Only shards that the two do not share are read, a page of each side at a time, and of those only row groups
    that differ. Raises `InvalidInputError`
    for a prefix that can be no path; while pages are taken, what `Manifest.shard_pages` raises.
    """
    scope = Scope.of(prefix)
    # A shard of equal rows on both sides has no change, wherever it stands: no path is in two shards.
    shared = _digests(old) & _digests(new)
    one, other = (_Side(manifest, shared, scope) for manifest in (old, new))
    summary = DiffSummary()

    def rows(side: _Side, other: _Side) -> Iterator[Page]:
        for number in range(len(side.shards)):
            summary.shards_read += 1
            yield from side.pages(number, other)

    changes = (changes_between(*pages) for pages in aligned(rows(one, other), rows(other, one)))
    # Nothing can have moved where one side has nothing: then changes come as they are read.
    return Diff(filter(None, changes), summary, moves=moves and old is not None and new is not None)


def _digests(manifest: Manifest | None) -> set[str]:
    return {shard.manifest_digest for shard in manifest.index.shards} if manifest is not None else set()


def changes_between(old: Page, new: Page, *, compare_uris: bool = True) -> pa.RecordBatch | None:
    """The changes between two pages that cover the same range of paths, None where there is none."""
    old_row = pc.index_in(new["path"], value_set=old["path"])
    added = new.filter(old_row.is_null())
    removed = old.filter(pc.invert(pc.is_in(old["path"], value_set=new["path"])))
    old, new = old.take(old_row.drop_null()), new.filter(old_row.is_valid())
    modified = pc.or_(_differs(old["size"], new["size"]), _differs(old["content_id"], new["content_id"]))
    parts = [
        _changes("added", None, added),
        _changes("removed", removed, None),
        _changes("modified", old.filter(modified), new.filter(modified)),
    ]
    if compare_uris:
        relocated = pc.and_not(_differs(old["uri"], new["uri"]), modified)
        parts.append(_changes("relocated", old.filter(relocated), new.filter(relocated)))
    return in_order(parts)


def in_order(parts: list[pa.RecordBatch]) -> pa.RecordBatch | None:
    """Changes of one range of paths as one page, None where there are none."""
    changes = pa.Table.from_batches(parts)
    if changes.num_rows == 0:
        return None
    return changes.take(pc.sort_indices(changes["path"])).combine_chunks().to_batches()[0]


def _differs(old: pa.Array, new: pa.Array) -> pa.BooleanArray:
    """Row by row, null being equal to null only."""
    return pc.fill_null(pc.not_equal(old, new), pc.not_equal(old.is_null(), new.is_null()))


def _changes(change: str, old: Page | None, new: Page | None) -> pa.RecordBatch:
    """Rows of one kind, which are checked here: most of those that were compared have no change."""
    for side in filter(None, (old, new)):
        checked(side, "a manifest that is compared")
    return rows_of_change(change, old, new)
