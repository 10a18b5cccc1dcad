"""The entries of an artifact that is being built: a base, sorted runs above it, and a table of single rows.

A small log-structured merge tree. Each layer hides the paths of the layers below it; reading merges them page
by page, and the shards of the base that no layer touches are handed on unread.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from refart import names
from refart.entries import Entry, Page
from refart.errors import ConflictError, InvalidInputError, NotFoundError
from refart.manifest import runs
from refart.manifest.index import KeptShard, ShardInfo
from refart.manifest.roots import Root, joined
from refart.manifest.runs import Row, SortedRun, after, key_of

Added: TypeAlias = SortedRun
"""What `Draft.add` added: a sequence of entries, and their pages. It outlives changes of the draft."""

TABLE_ROWS: Final = 8192
"""Rows that single changes gather before they become a run."""
FEW_ROWS: Final = 8
"""Additions up to this size are compared row by row; a merge would read whole blocks for them."""
RUNS_A_TIER: Final = 4
"""So many runs of one size (or smaller) at the top are merged into one."""
LOOKUPS_BEFORE_COPY: Final = 16
"""Lookups in one shard of the base before it is copied into a run, which costs as much as so many."""
SHARD_COPIES: Final = 32
"""Such copies that are kept (files of some 4 MB each)."""
COPY_BYTES: Final = 8 << 20
"""Memory bound of a copy, as `runs.collect` takes it: all but the smallest are spilled."""


class BaseIndex(Protocol):
    @property
    def shards(self) -> tuple[ShardInfo, ...]:
        """All shards, in the order of their paths."""

    @property
    def roots(self) -> tuple[Root, ...]:
        """What was listed for them."""


class BaseManifest(Protocol):
    """The entries a draft starts from: what it needs of a `reader.Manifest`. Immutable, for any thread."""

    @property
    def index(self) -> BaseIndex: ...

    def shard_pages(self, shard: ShardInfo) -> Iterator[Page]:
        """The rows of one shard."""

    def get(self, path: str) -> Entry | None:
        """The entry at exactly this path."""


class Draft:
    """The mutable entries of one artifact.

    The entries `a` and `a/b` may both be there, as object stores allow it; it is for a download to refuse
    what a file system cannot hold. A lock serialises changes. An iterator yields the state at the call that
    made it, whatever happens meanwhile. Memory holds at most `TABLE_ROWS` single rows and small runs; the
    rest is in temporary files without a name, which end with the draft.

    `revision` is another number after each change.
    """

    def __init__(
        self,
        base: BaseManifest | None = None,
        *,
        folder: str | None = None,
        table_rows: int = TABLE_ROWS,
        memory_bytes: int = runs.SORT_BYTES,
    ) -> None:
        """Start from the entries of `base`, or none. Temporary files go to `folder` (default: TMPDIR)."""
        self.revision = 0
        self.roots: tuple[Root, ...] = base.index.roots if base is not None else ()
        """What its entries were listed from, those of `base` included."""
        self.unkept: set[str] = set()
        """Buckets of references that were added and that no version pins (see `ops.pins`)."""
        self._layers = _Layers(_Base(base, folder) if base is not None else None, ())
        self._table: dict[str, Row] = {}
        self._count = self._layers.base.rows if self._layers.base is not None else 0
        self._folder = folder
        self._table_rows = table_rows
        self._memory_bytes = memory_bytes
        self._lock = threading.RLock()
        self._closed = False

    # --- changing

    def add(
        self, pages: Iterable[pa.RecordBatch], *, overwrite: bool = False, roots: tuple[Root, ...] = ()
    ) -> Added:
        """Add all rows of `pages` (of entries, or of `runs.managed_page`), or none of them; `roots` is what they were
        listed from.

        All pages are taken and sorted before the draft is looked at, so an error raised by `pages` changes
        nothing. Rows are trusted: `entries.check_page` is the caller's.

        Raises `ConflictError` where a path is there with another size, content id or URI, unless `overwrite`;
        the same again is fine, and the newer pin and local path are kept. Raises `InvalidInputError` where
        rows that differ meet in one path, `StoreError` where the temporary files cannot be written.
        """
        with self._locked():
            pass  # a closed draft is refused before the work
        run = runs.sort_pages(pages, self._folder, memory_bytes=self._memory_bytes)
        with self._locked():
            if len(run) <= FEW_ROWS:
                self._put([row for batch in run.batches() for row in runs.rows_of(batch)], overwrite)
            else:
                self._flush()
                replaced = self._replaced(run, overwrite)
                self._push(run)
                self._count += len(run) - replaced
                self.revision += 1
            self.add_roots(roots)
        return run

    def add_roots(self, roots: tuple[Root, ...]) -> None:
        """Remember what entries were listed from."""
        with self._locked():
            if (several := joined(self.roots, roots)) != self.roots:
                self.roots = several
                self.revision += 1

    def put(self, entry: Entry, local_path: str | None = None, *, overwrite: bool = False) -> None:
        """Add one entry; `local_path` is the file that holds the bytes of a managed one.

        Raises `ConflictError` as `add` does, `InvalidInputError` for a path that is not acceptable or text
        that is not valid Unicode.
        """
        names.check_path(entry.path)
        try:
            "".join((entry.content_id, entry.uri or "", entry.pin or "", local_path or "")).encode()
        except UnicodeEncodeError:
            raise InvalidInputError(
                f"{entry.path!r}: its URI or local path is not valid Unicode (lone surrogates): rename it"
            ) from None
        with self._locked():
            self._put([Row(entry, local_path)], overwrite)

    def remove(self, path: str) -> None:
        """Remove one entry. Raises `NotFoundError` where there is none at exactly this path."""
        with self._locked():
            if self._find(path) is None:
                raise NotFoundError(f"there is no entry {path!r} to remove")
            self._set([runs.tombstone(path)])
            self._count -= 1
            self.revision += 1

    def remove_prefix(self, prefix: str) -> int:
        """Remove the entry `prefix` and all below `prefix/`; returns how many. `a` never covers `ab`.

        Raises `InvalidInputError` for a prefix that can be no path.
        """
        scope = _scope(prefix)
        with self._locked():
            self._flush()
            return self._hide(self._layers.batches(scope))

    def remove_all(self, pages: Iterable[pa.RecordBatch]) -> None:
        """Remove the entries at the paths of `pages`, in order, all of which are there."""
        with self._locked():
            self._flush()
            self._hide(pages)

    def update(self, pages: Iterable[pa.RecordBatch], removed: Iterable[pa.RecordBatch]) -> None:
        """Add all rows of `pages` in place of what is there, and remove the entries at the paths of `removed` (others,
        see `remove_all`); or, where an error is raised, neither."""
        with self._locked():
            self._flush()
            before = self._layers, self._count, self.revision
            try:
                self.add(pages, overwrite=True)
                self.remove_all(removed)
            except BaseException:
                self._table = {}
                self._layers, self._count, self.revision = before
                raise

    def close(self) -> None:
        """Let go of all entries and their temporary files. Afterwards every other call is an error."""
        with self._lock:
            self._closed = True
            self._layers = _Layers(None, ())
            self._table = {}

    # --- reading

    def __len__(self) -> int:
        return self._count

    def get(self, path: str) -> Entry | None:
        """The entry at exactly this path, or None."""
        with self._locked():
            row = self._find(path)
        return row.entry if row is not None else None

    def local_path(self, path: str) -> str | None:
        """The local file that holds the bytes of a managed entry added to this draft; None for others."""
        with self._locked():
            row = self._find(path)
        return row.local_path if row is not None else None

    def pages(self, prefix: str | None = None) -> Iterator[Page]:
        """All entries in the order of their paths, or those that `remove_prefix` would remove."""
        scope = _scope(prefix)
        return map(runs.entry_columns, self._snapshot().batches(scope))

    def segments(self) -> Iterator[Page | KeptShard]:
        """All entries in the order of their paths, for `writer.write_manifest`.

        A shard of the base is handed on unread where no change lies behind the shard before it and up to its
        own last path (for the last shard: up to the end).
        """
        return self._snapshot().segments()

    def local_files(self) -> Iterator[pa.RecordBatch]:
        """Managed files whose bytes are still local: `path`, `content_id`, `size`, `local_path`, by path."""
        return self._snapshot().local_files()

    # --- inside

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise InvalidInputError("the draft is closed: its entries are gone; begin another")
            yield

    def _snapshot(self) -> _Layers:
        with self._locked():
            self._flush()
            return self._layers

    def _find(self, path: str) -> Row | None:
        row = self._table.get(path) or self._layers.get(path)
        return None if row is None or row.removed else row

    def _put(self, rows: Sequence[Row], overwrite: bool) -> None:
        there = [self._find(row.entry.path) for row in rows]
        if not overwrite:
            for old, new in zip(there, rows, strict=True):
                if old is not None and _content(old.entry) != _content(new.entry):
                    raise _conflict(old, new)
        if rows:
            self._set(rows)
            self._count += there.count(None)
            self.revision += 1

    def _set(self, rows: Sequence[Row]) -> None:
        if len(self._table) >= self._table_rows:
            self._flush()
        self._table.update((row.entry.path, row) for row in rows)

    def _hide(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Lay tombstones over entries that are there; returns how many."""
        tombstones = map(runs.tombstones, batches)
        run = runs.collect(tombstones, self._folder, memory_bytes=self._memory_bytes)
        if run:
            self._push(run)
            self._count -= len(run)
            self.revision += 1
        return len(run)

    def _flush(self) -> None:
        """Make a run of the table."""
        if self._table:
            rows = sorted(self._table.values(), key=lambda row: key_of(row.entry.path))
            batch = runs.batch_of(rows)
            self._push(runs.collect([batch], self._folder, memory_bytes=self._memory_bytes))
            self._table = {}

    def _push(self, run: SortedRun) -> None:
        """Lay a run on top, and merge runs while there are many of about one size: each row is rewritten a
        logarithmic number of times, and a lookup meets a logarithmic number of runs."""
        base, stack = self._layers.base, (*self._layers.runs, run)
        while (start := _merge_from(stack)) < len(stack):
            # With nothing below, nothing is left for a tombstone to hide.
            bottom = base is None and start == 0
            merged = runs.join(
                stack[start:], self._folder, memory_bytes=self._memory_bytes, drop_removed=bottom
            )
            stack = (*stack[:start], merged) if merged else stack[:start]
        self._layers = _Layers(base, stack)

    def _replaced(self, run: SortedRun, overwrite: bool) -> int:
        """How many entries the run replaces; raises `ConflictError` where it must not. Blocks and shards in
        which it has no row are not read."""
        scope = [(key_of(run.first_path or ""), after(key_of(run.last_path or "")))]
        count = 0
        old = self._layers.batches(scope, touching=run)
        for batch in runs.collate([old, run.batches(touching=self._layers)]):
            old, new = runs.equal_pairs(batch)
            count += old.num_rows
            clash = -1 if overwrite else pc.index(runs.differ(old, new), True).as_py()
            if clash >= 0:
                raise _conflict(*(next(runs.rows_of(rows.slice(clash, 1))) for rows in (old, new)))
        return count


_Range: TypeAlias = tuple[bytes, bytes | None]
_ALL: Final[list[_Range]] = [(b"", None)]


class _Base:
    """A base manifest as the lowest layer. `get` is called under the draft's lock; the rest from any thread."""

    def __init__(self, manifest: BaseManifest, folder: str | None) -> None:
        self.manifest = manifest
        self._folder = folder
        self._lookups: Counter[int] = Counter()
        self._copies: OrderedDict[int, SortedRun] = OrderedDict()
        self.shards = manifest.index.shards
        self.rows = sum(shard.rows for shard in self.shards)
        self._lasts = [key_of(shard.last_path) for shard in self.shards]

    def get(self, path: str) -> Row | None:
        """One entry. A shard that is looked into again and again is copied into a run, which costs a hundredth."""
        number = bisect_left(self._lasts, key_of(path))
        if number == len(self.shards) or path < self.shards[number].first_path:
            return None
        self._lookups[number] += 1
        if self._lookups[number] <= LOOKUPS_BEFORE_COPY:
            entry = self.manifest.get(path)
            return Row(entry) if entry is not None else None
        if number not in self._copies:
            pages = map(runs.as_draft, self.manifest.shard_pages(self.shards[number]))
            self._copies[number] = runs.collect(pages, self._folder, memory_bytes=COPY_BYTES)
        self._copies.move_to_end(number)
        if len(self._copies) > SHARD_COPIES:
            self._copies.popitem(last=False)
        return self._copies[number].get(path)

    def batches(
        self, lo: bytes, hi: bytes | None, touching: SortedRun | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a range, as `SortedRun.batches` gives them."""
        for number in range(bisect_left(self._lasts, lo), len(self.shards)):
            shard = self.shards[number]
            start, end = key_of(shard.first_path), after(self._lasts[number])
            if hi is not None and start >= hi:
                return
            if touching is None or touching.touches(start, end):
                for page in self.manifest.shard_pages(shard):
                    batch = runs.cut(page, lo, hi)
                    if batch.num_rows:
                        yield runs.as_draft(batch)

    def touches(self, lo: bytes, hi: bytes | None) -> bool:
        """True where a shard has a part in the range."""
        number = bisect_left(self._lasts, lo)
        return number < len(self.shards) and (hi is None or key_of(self.shards[number].first_path) < hi)

    def gaps(self) -> Iterator[tuple[ShardInfo, _Range]]:
        """Each shard with the range in which a change may touch it; together they cover every path."""
        lo = b""
        for number, shard in enumerate(self.shards):
            hi = after(self._lasts[number]) if number + 1 < len(self.shards) else None
            yield shard, (lo, hi)
            lo = hi or b""


@dataclass(frozen=True, slots=True)
class _Layers:
    """One state of a draft: the base, and runs from the oldest to the newest. Immutable."""

    base: _Base | None
    runs: tuple[SortedRun, ...]

    def get(self, path: str) -> Row | None:
        for run in reversed(self.runs):
            row = run.get(path)
            if row is not None:
                return row
        return self.base.get(path) if self.base is not None else None

    def touches(self, lo: bytes, hi: bytes | None) -> bool:
        """False only where there is no row in the range; tombstones count."""
        return any(run.touches(lo, hi) for run in self.runs) or (
            self.base is not None and self.base.touches(lo, hi)
        )

    def batches(
        self, scope: Iterable[_Range] = _ALL, *, touching: SortedRun | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows that are there, in the ranges of `scope`, with the columns of a draft."""
        for lo, hi in scope:
            layers = [run.batches(lo, hi, touching=touching) for run in self.runs if run.touches(lo, hi)]
            if self.base is not None:
                layers.insert(0, self.base.batches(lo, hi, touching))
            yield from runs.alive(runs.merge(layers))

    def segments(self) -> Iterator[Page | KeptShard]:
        if self.base is None or not self.base.shards:
            yield from map(runs.entry_columns, self.batches())
            return
        for shard, (lo, hi) in self.base.gaps():
            if any(run.touches(lo, hi) for run in self.runs):
                yield from map(runs.entry_columns, self.batches([(lo, hi)]))
            else:
                yield KeptShard(shard, partial(self.base.manifest.shard_pages, shard))

    def local_files(self) -> Iterator[pa.RecordBatch]:
        for batch in runs.merge(run.batches() for run in self.runs):
            local = batch.filter(pc.is_valid(batch.column("local_path")))
            if local.num_rows:
                yield local.select(["path", "content_id", "size", "local_path"])


def _scope(prefix: str | None) -> list[_Range]:
    """The ranges of a path prefix: the path itself, then (after `a!`, `a-b` …) all that begins with `a/`."""
    if prefix is None:
        return _ALL
    key = key_of(names.check_path(prefix, "path prefix"))
    return [(key, after(key)), (key + b"/", key + b"0")]  # "0" follows "/"


def _merge_from(stack: Sequence[SortedRun]) -> int:
    """Where the topmost runs begin that are to be merged; the height of the stack where none are."""
    if not stack:
        return 0
    tier = _tier(stack[-1])
    start = len(stack)
    while start and _tier(stack[start - 1]) <= tier:
        start -= 1
    return start if len(stack) - start >= RUNS_A_TIER else len(stack)


def _tier(run: SortedRun) -> int:
    """The size of a run in powers of four."""
    return len(run).bit_length() // 2


def _content(entry: Entry) -> tuple[int | None, str, str | None]:
    return entry.size, entry.content_id, entry.uri


def _conflict(old: Row, new: Row) -> ConflictError:
    return ConflictError(
        f"{old.entry.path!r} is there already, as {runs.described(old)}; now comes {runs.described(new)}:"
        " pass overwrite=True to replace it, or give it another name"
    )
