"""Writing a manifest: a stream of sorted pages becomes shard files and an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from refart.entries import BATCH_ROWS, Page
from refart.errors import InvalidInputError
from refart.manifest import canonical
from refart.manifest.index import MAX_COUNT, KeptShard, ManifestIndex, ShardInfo
from refart.manifest.roots import Root
from refart.manifest.runs import concat
from refart.manifest.shards import ShardWriter
from refart.manifest.uris import UriRange


@dataclass(frozen=True, slots=True)
class Built:
    """A manifest that is ready to be stored: its index, and the shards that no earlier manifest handed in."""

    index: ManifestIndex
    new_shards: tuple[tuple[ShardInfo, Path], ...]
    """Files in the folder given to `write_manifest`. The store may already have some of them under their
    key."""
    uri_ranges: Mapping[str, tuple[UriRange, ...]]
    """Key of a new shard → which URIs it holds."""


def write_manifest(pages: Iterable[Page | KeptShard], folder: Path, roots: tuple[Root, ...] = ()) -> Built:
    """Cut strictly ascending pages into shards and write those that are new into `folder`.

    A `KeptShard` is taken over unread where the cut rule gives exactly that shard again: it begins after a
    cut, and ends at one or at the end of the stream. Otherwise its rows are read and cut anew. Holds about
    two pages, however many there are. `roots` is what was listed for them.

    Rows are trusted, as in `Draft.add`: `entries.check_page` is for who takes them from outside. Raises
    `InvalidInputError` for sizes that no index can state the sum of, and `ValueError` for a path that does not
    come after the one before it, which is a mistake of the caller. After any error, also one of `pages`, no
    file is left.
    """
    cutter = _Cutter(folder, roots)
    try:
        for item, is_last in _marking_last(_joined(pages)):
            if not isinstance(item, KeptShard):
                cutter.add(item)
            elif cutter.can_keep(item.info, is_last=is_last):
                cutter.keep(item.info)
            else:
                for page in item.pages():
                    cutter.add(page)
        return cutter.finish()
    except BaseException:
        cutter.discard()
        raise


def _joined(items: Iterable[Page | KeptShard]) -> Iterator[Page | KeptShard]:
    """The same rows with small pages joined, or each call of what follows would cost more than its rows; without
    pages that have none."""
    waiting: list[Page] = []
    rows = 0
    for item in items:
        more = 0 if isinstance(item, KeptShard) else item.num_rows
        if waiting and (isinstance(item, KeptShard) or rows + more > BATCH_ROWS):
            yield concat(waiting)
            waiting, rows = [], 0
        if isinstance(item, KeptShard):
            yield item
        elif more:
            waiting.append(item)
            rows += more
    if waiting:
        yield concat(waiting)


def _marking_last(items: Iterable[Page | KeptShard]) -> Iterator[tuple[Page | KeptShard, bool]]:
    """Each item, and whether it is the last."""
    waiting = None
    for item in items:
        if waiting is not None:
            yield waiting, False
        waiting = item
    if waiting is not None:
        yield waiting, True


class _Cutter:
    def __init__(self, folder: Path, roots: tuple[Root, ...]) -> None:
        self._folder = folder
        self._roots = roots
        self._shards: list[ShardInfo] = []
        self._new: list[tuple[ShardInfo, Path]] = []
        self._uri_ranges: dict[str, tuple[UriRange, ...]] = {}
        self._open: ShardWriter | None = None
        self._last_path: str | None = None

    def add(self, page: Page) -> None:
        paths = page["path"]
        self._check_order(canonical.first_out_of_order(paths, self._last_path))
        self._last_path = paths[-1].as_py()
        start = 0
        group_ends: list[int] = []
        for row in canonical.ends(paths, canonical.GROUP_BITS):
            group_ends.append(row + 1 - start)
            if canonical.is_cut(paths[row].as_py()):
                self._append(page.slice(start, row + 1 - start), group_ends)
                self._close()
                start, group_ends = row + 1, []
        if start < page.num_rows:
            self._append(page.slice(start), group_ends)

    def can_keep(self, shard: ShardInfo, *, is_last: bool) -> bool:
        return self._open is None and (is_last or canonical.is_cut(shard.last_path))

    def keep(self, shard: ShardInfo) -> None:
        if self._last_path is not None and shard.first_path <= self._last_path:
            self._check_order(shard.first_path)
        self._shards.append(shard)
        self._last_path = shard.last_path

    def finish(self) -> Built:
        if self._open is not None:
            self._close()
        index = ManifestIndex(tuple(self._shards), self._roots)
        if max(index.entry_count, index.size_bytes) > MAX_COUNT:
            raise InvalidInputError(
                f"the sizes of all entries add up to {index.size_bytes:,} bytes;"
                f" a manifest holds at most {MAX_COUNT:,}"
            )
        return Built(index, tuple(self._new), self._uri_ranges)

    def discard(self) -> None:
        if self._open is not None:
            self._open.discard()
        for _, path in self._new:
            path.unlink(missing_ok=True)

    def _append(self, rows: Page, group_ends: list[int]) -> None:
        if self._open is None:
            self._open = ShardWriter(self._folder)
        self._open.add(rows, group_ends)

    def _close(self) -> None:
        assert self._open is not None
        shard, path = self._open.close()
        self._uri_ranges[shard.key] = self._open.uri_ranges()
        self._open = None
        self._shards.append(shard)
        self._new.append((shard, path))

    def _check_order(self, wrong: str | None) -> None:
        if wrong is not None:
            raise ValueError(
                f"manifest pages must ascend: {wrong[:200]!r} does not come after {self._last_path!r}"
            )
