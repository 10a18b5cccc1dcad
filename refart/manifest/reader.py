"""Reading a manifest from a store: whole, below a prefix, or one entry."""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from refart.entries import PAGE_ROWS, Entry, Page, entries_of
from refart.errors import FormatError
from refart.manifest.canonical import first_out_of_order
from refart.manifest.index import ByteStore, ManifestIndex, ShardInfo
from refart.manifest.shards import ShardFile, ShardTally
from refart.names import check_path

CACHED_ROWS: Final = 2 * PAGE_ROWS
"""Rows of decoded row groups a manifest keeps for lookups: some 30 MB of long paths and URIs."""


class Manifest:
    """The entries of one version, read from the store as they are asked for. Any number of threads may
    share it."""

    def __init__(self, store: ByteStore, index: ManifestIndex) -> None:
        self.index = index
        self._store = store
        self._cached: OrderedDict[tuple[str, int], Page] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, store: ByteStore, address: str) -> Manifest:
        """Open the manifest whose index has this address (hex SHA-256 of its bytes).

        Raises `NotFoundError` where the store has no such index, `FormatError` where its bytes are not those
        that the address names, or not an index this refart can read.
        """
        data = store.read("manifests", address)
        found = hashlib.sha256(data).hexdigest()
        if found != address:
            raise FormatError(
                f"manifest {address} is damaged: its {len(data):,} bytes have the sha256 {found};"
                " restore it from a backup"
            )
        return cls(store, ManifestIndex.from_json(data))

    def pages(self, prefix: str | None = None) -> Iterator[Page]:
        """All entries in the order of their paths, or those at `prefix` and below it.

        A prefix covers whole path components: `a` is the entry `a` and everything below `a/`, never `ab`.
        Reads only what may hold such entries. Raises what `shard_pages` raises, and `InvalidInputError` for a
        prefix that can be no path.
        """
        scope = Scope.of(prefix)
        return (page for shard in self.shards(scope) for page in self.shard_pages(shard, scope))

    def shards(self, scope: Scope | None = None) -> Iterator[ShardInfo]:
        """The shards in order, all or those that may hold entries in `scope`."""
        return (s for s in self.index.shards if scope is None or scope.meets(s.first_path, s.last_path))

    def has_any(self, prefix: str) -> bool:
        """Whether an entry is at `prefix` or below it: told by the bounds of shards where they can, else by the first
        page. Raises as `pages`."""
        scope = Scope(check_path(prefix, "path prefix"))
        near = list(self.shards(scope))
        bounds = (path for shard in near for path in (shard.first_path, shard.last_path))
        return any(map(scope.has, bounds)) or next(self.pages(prefix), None) is not None

    def shard_pages(self, shard: ShardInfo, scope: Scope | None = None) -> Iterator[Page]:
        """The entries of one shard of this manifest, all or those in `scope`.

        A shard that is read whole is compared with what the index states about it before its last page is
        given out; of a part, the Parquet checksums are compared. Raises `FormatError` that names the shard
        where it rotted or was cut short, `NotFoundError` where it is missing, `StoreError` where it cannot be
        read.
        """
        with closing(self.open_shard(shard)) as file:
            yield from self.file_pages(file, shard, scope)

    def open_shard(self, shard: ShardInfo) -> ShardFile:
        """Open the file of a shard, for the caller to close."""
        return open_shard(self._store, shard.key)

    def file_pages(
        self,
        file: ShardFile,
        shard: ShardInfo,
        scope: Scope | None = None,
        *,
        without: Container[int] = (),
        check: bool = True,
    ) -> Iterator[Page]:
        """As `shard_pages`, from an open file and without some of its row groups; `check` as in `ShardFile.pages`."""
        groups = [group for group in range(file.group_count) if group not in without]
        if scope is None or scope.covers(shard.first_path, shard.last_path):
            pages = _ascending(file.pages(groups, check=check), file.name)
            return pages if len(groups) < file.group_count else _verified(pages, file, shard)

        def is_near(group: int) -> bool:
            bounds = file.bounds(group)
            return bounds is None or scope.meets(*bounds)

        found = map(scope.select, _ascending(file.pages(filter(is_near, groups), check=check), file.name))
        return (page for page in found if page.num_rows)

    def get(self, path: str) -> Entry | None:
        """The entry at exactly this path, or None. Reads one row group, or none where it was read just
        before."""
        at = bisect_left(self.index.shards, path, key=lambda shard: shard.last_path)
        if at == len(self.index.shards) or path < self.index.shards[at].first_path:
            return None
        page = self._page_around(self.index.shards[at], path)
        if page is None:
            return None
        row = pc.index(page["path"], path).as_py()
        return next(entries_of(page.slice(row, 1))) if row >= 0 else None

    def _page_around(self, shard: ShardInfo, path: str) -> Page | None:
        """The row group that may hold `path`, from the cache or the store."""
        with self._lock:
            for (key, group), page in self._cached.items():
                if key == shard.key and page["path"][0].as_py() <= path <= page["path"][-1].as_py():
                    self._cached.move_to_end((key, group))
                    return page
        with closing(self.open_shard(shard)) as file:
            for group in range(file.group_count):
                bounds = file.bounds(group)
                if bounds is not None and not bounds[0] <= path <= bounds[1]:
                    continue
                (page,) = file.pages([group])
                with self._lock:
                    self._cached[shard.key, group] = page
                    while sum(page.num_rows for page in self._cached.values()) > CACHED_ROWS:
                        self._cached.popitem(last=False)
                if path <= page["path"][-1].as_py():
                    return page
        return None


def open_shard(store: ByteStore, key: str) -> ShardFile:
    """Open a shard file of whatever manifest, for the caller to close."""
    local = store.local_path("shards", key)
    return ShardFile(local if local is not None else pa.py_buffer(store.read("shards", key)), key)


def _ascending(pages: Iterable[Page], name: str) -> Iterator[Page]:
    """The pages of a shard. Raises `FormatError` where paths do not ascend: lookups and diffs rely on it."""
    last_path: str | None = None
    for page in pages:
        wrong = first_out_of_order(page["path"], last_path)
        if wrong is not None:
            raise FormatError(f"{name}: {wrong[:200]!r} does not come after the path before it")
        last_path = page["path"][-1].as_py()
        yield page


def _verified(pages: Iterable[Page], file: ShardFile, shard: ShardInfo) -> Iterator[Page]:
    """All pages of a shard. Raises `FormatError` before the last one where they are not what the index states."""
    tally = ShardTally()
    page: Page | None = None
    for following in pages:
        if page is not None:
            yield page
        page = following
        tally.update(page)
    if page is None:
        raise FormatError(f"{file.name} holds no rows, the index states {shard.rows:,}")
    # `file_bytes` may differ: the store keeps the first file of a key, whoever wrote it.
    found = tally.info(shard.file_bytes)
    if shard.weak_rows is None:
        found = replace(found, weak_rows=None)
    if found != shard:
        raise FormatError(f"{file.name} is damaged: its rows are not those that the manifest index states")
    yield page


@dataclass(frozen=True, slots=True)
class Scope:
    """A path and everything below it. In sorted paths these are two runs: `a`, then (after `a!…`) `a/…`."""

    path: str

    @classmethod
    def of(cls, prefix: str | None) -> Scope | None:
        """The scope of a path prefix, None for everything; `InvalidInputError` for what can be no path."""
        return None if prefix is None else cls(check_path(prefix, "path prefix"))

    def meets(self, first: str, last: str) -> bool:
        """True where some path from `first` to `last` may be in scope."""
        below, after = self._below()
        return first <= self.path <= last or (first < after and below <= last)

    def covers(self, first: str, last: str) -> bool:
        """True where every path from `first` to `last` is in scope."""
        below, after = self._below()
        return below <= first and last < after

    def has(self, path: str) -> bool:
        """True for a path in scope."""
        return path == self.path or path.startswith(f"{self.path}/")

    def select(self, page: Page) -> Page:
        """The rows in scope."""
        below, after = self._below()
        paths = page["path"]
        inside = pc.and_(pc.greater_equal(paths, below), pc.less(paths, after))
        return page.filter(pc.or_(pc.equal(paths, self.path), inside))

    def _below(self) -> tuple[str, str]:
        return f"{self.path}/", f"{self.path}0"  # "0" follows "/"
