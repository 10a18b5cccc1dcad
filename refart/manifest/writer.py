"""Writing a manifest: a stream of sorted pages becomes shard files and an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from refart.entries import Page, check_page
from refart.errors import InvalidInputError
from refart.manifest import canonical
from refart.manifest.index import MAX_COUNT, KeptShard, ManifestIndex, ShardInfo
from refart.manifest.shards import ShardWriter


@dataclass(frozen=True, slots=True)
class Built:
    """A manifest that is ready to be stored: its index, and the shards that no earlier manifest handed in."""

    index: ManifestIndex
    new_shards: tuple[tuple[ShardInfo, Path], ...]
    """Files in the folder given to `write_manifest`. The store may already have some of them under their
    key."""


def write_manifest(pages: Iterable[Page | KeptShard], folder: Path) -> Built:
    """Cut strictly ascending pages into shards and write those that are new into `folder`.

    A `KeptShard` is taken over unread where the cut rule gives exactly that shard again: it begins after a
    cut, and ends at one or at the end of the stream. Otherwise its rows are read and cut anew. Holds about
    two pages, however many there are.

    Raises `InvalidInputError` for a row that is not acceptable (see `entries.check_page`) and `ValueError`
    for a path that does not come after the one before it, which is a mistake of the caller. After any error,
    also one of `pages`, no file is left.
    """
    cutter = _Cutter(folder)
    try:
        for item, is_last in _marking_last(pages):
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


def _marking_last(items: Iterable[Page | KeptShard]) -> Iterator[tuple[Page | KeptShard, bool]]:
    """Each item that holds rows, and whether it is the last."""
    waiting = None
    for item in items:
        if not isinstance(item, KeptShard) and item.num_rows == 0:
            continue
        if waiting is not None:
            yield waiting, False
        waiting = item
    if waiting is not None:
        yield waiting, True


class _Cutter:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: list[ShardInfo] = []
        self._new: list[tuple[ShardInfo, Path]] = []
        self._open: ShardWriter | None = None
        self._last_path: str | None = None

    def add(self, page: Page) -> None:
        check_page(page, "manifest")
        paths = page["path"]
        self._check_order(canonical.first_out_of_order(paths, self._last_path))
        self._last_path = paths[-1].as_py()
        start = 0
        for row in canonical.cuts(paths):
            self._append(page.slice(start, row + 1 - start))
            self._close()
            start = row + 1
        if start < page.num_rows:
            self._append(page.slice(start))

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
        index = ManifestIndex(tuple(self._shards))
        if max(index.entry_count, index.size_bytes) > MAX_COUNT:
            raise InvalidInputError(
                f"the sizes of all entries add up to {index.size_bytes:,} bytes;"
                f" a manifest holds at most {MAX_COUNT:,}"
            )
        return Built(index, tuple(self._new))

    def discard(self) -> None:
        if self._open is not None:
            self._open.discard()
        for _, path in self._new:
            path.unlink(missing_ok=True)

    def _append(self, rows: Page) -> None:
        if self._open is None:
            self._open = ShardWriter(self._folder)
        self._open.add(rows)

    def _close(self) -> None:
        assert self._open is not None
        shard, path = self._open.close()
        self._open = None
        self._shards.append(shard)
        self._new.append((shard, path))

    def _check_order(self, wrong: str | None) -> None:
        if wrong is not None:
            raise ValueError(
                f"manifest pages must ascend: {wrong[:200]!r} does not come after {self._last_path!r}"
            )
