"""External sorting: entries as sorted runs, in memory while small, in temporary files beyond; merging them.

Rows stay in Arrow; none becomes a Python object. The order is the format's: by the UTF-8 bytes of the path.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Final, Protocol, overload

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums
from refart.entries import PAGE_ROWS, SCHEMA, Entry, Page, entries_of, page_of
from refart.errors import FormatError, InvalidInputError
from refart.manifest.spill import Block, Kept, Rows, Spill

DRAFT_SCHEMA: Final[pa.Schema] = pa.schema(
    [*SCHEMA, pa.field("local_path", pa.string()), pa.field("removed", pa.bool_(), nullable=False)]
)
"""The rows of a draft: an entry, and two columns that no manifest has.

`local_path` is the file that still holds the bytes of a managed entry, else null. Where `removed` is true the
row is a tombstone that hides its path in older layers: size, uri and pin are null, the content id is `none`.
"""

SORT_BYTES: Final = 64 << 20  # 64 MiB
BLOCK_ROWS: Final = 4096
"""Rows of one block of a run: what a merge holds of each run, and what a lookup reads."""
FAN_IN: Final = 32
"""Runs merged at once; with more, groups of runs are merged first."""

_FILE: Final = "file://"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `DRAFT_SCHEMA`, for the moment in which a single path is looked at."""

    entry: Entry
    local_path: str | None = None
    removed: bool = False


def tombstone(path: str) -> Row:
    """The row that hides `path`."""
    return Row(Entry(path, None), removed=True)


def batch_of(rows: Sequence[Row]) -> pa.RecordBatch:
    """A few rows as one batch, in the given order."""
    page = page_of(row.entry for row in rows)
    local_paths = pa.array([row.local_path for row in rows], pa.string())
    removed = pa.array([row.removed for row in rows], pa.bool_())
    return pa.RecordBatch.from_arrays([*page.columns, local_paths, removed], schema=DRAFT_SCHEMA)


def rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    """The rows of a batch, one object each."""
    extra = (batch.column(name).to_pylist() for name in ("local_path", "removed"))
    return map(Row, entries_of(entry_columns(batch)), *extra)


def managed_page(page: Page) -> pa.RecordBatch:
    """A page of references to local files (`file:///…`) as managed files whose bytes still lie there."""
    uri = page.column("uri")
    if not pc.all(pc.starts_with(uri, _FILE), min_count=0, skip_nulls=False).as_py():
        raise InvalidInputError(f"only {_FILE} references can become managed files")
    local_paths = pc.utf8_slice_codeunits(uri, len(_FILE))
    nothing = pa.nulls(page.num_rows, pa.string())
    columns = dict(zip(page.schema.names, page.columns, strict=True)) | {"uri": nothing, "pin": nothing}
    return _extended(pa.RecordBatch.from_arrays(list(columns.values()), schema=SCHEMA), local_paths)


def _extended(page: Page, local_paths: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [*page.columns, local_paths, pa.repeat(pa.scalar(False), page.num_rows)], schema=DRAFT_SCHEMA
    )


def as_draft(page: pa.RecordBatch) -> pa.RecordBatch:
    """A page in the columns of a draft; one that has them already is returned as it is."""
    if page.schema.equals(DRAFT_SCHEMA):
        return page
    if not page.schema.equals(SCHEMA):
        raise FormatError(f"a page has the columns {SCHEMA.names}, found {page.schema.names}")
    return _extended(page, pa.nulls(page.num_rows, pa.string()))


def tombstones(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A tombstone for each path of the batch."""
    rows = batch.num_rows
    known = {
        "path": batch.column("path"),
        "content_id": pa.repeat(pa.scalar(checksums.NONE), rows),
        "removed": pa.repeat(pa.scalar(True), rows),
    }
    columns = [known[f.name] if f.name in known else pa.nulls(rows, f.type) for f in DRAFT_SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=DRAFT_SCHEMA)


def entry_columns(batch: pa.RecordBatch) -> Page:
    """The page inside a batch of draft rows."""
    return pa.RecordBatch.from_arrays(batch.columns[: len(SCHEMA)], schema=SCHEMA)


# --- keys: positions and ranges of paths are UTF-8 bytes, half open: lo <= path < hi, hi None without end


def key_of(path: str) -> bytes:
    """The bytes by which a path is ordered. A lone surrogate, which no entry has, stays comparable."""
    return path.encode(errors="surrogatepass")


def after(key: bytes) -> bytes:
    """The least key greater than `key`."""
    return key + b"\0"


class _Keys(Sequence[bytes]):
    """The paths of a batch as bytes: what `bisect` probes, a fifth of the cost of Arrow's scalars."""

    def __init__(self, paths: pa.StringArray) -> None:
        _, offsets, data = paths.buffers()
        self._offsets = memoryview(offsets).cast("i")[paths.offset :]
        self._data = memoryview(data if data is not None else b"")
        self._length = len(paths)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        return self._data[self._offsets[index] : self._offsets[index + 1]].tobytes()


def first_key(batch: pa.RecordBatch) -> bytes:
    return key_of(batch.column(0)[0].as_py())


def last_key(batch: pa.RecordBatch) -> bytes:
    return key_of(batch.column(0)[-1].as_py())


def cut(batch: pa.RecordBatch, lo: bytes, hi: bytes | None) -> pa.RecordBatch:
    """The rows of a sorted batch that lie in a range (no copy)."""
    keys = _Keys(batch.column(0))
    start = bisect_left(keys, lo)
    end = len(keys) if hi is None else bisect_left(keys, hi, lo=start)
    return batch.slice(start, end - start)


# --- runs


class Touchable(Protocol):
    """Rows of which it is known where there are any."""

    def touches(self, lo: bytes, hi: bytes | None) -> bool:
        """False only where there is no row in the range."""


class SortedRun(Sequence[Entry]):
    """Rows in the order of the format, each path once; immutable. Made by `sort_pages`, `collect`, `join`.

    To a person it is a sequence of entries; work in bulk takes `pages()` or, with the columns of a draft,
    `batches()`, both as often as wanted. A run too large for memory lies in a temporary file, which goes when
    the last reference to the run goes. Any number of threads may read.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks
        """In order, and without a common path."""
        self._starts = [block.first for block in blocks]
        self._ends = list(accumulate(block.count for block in blocks))  # rows up to the end of each block
        self._last = blocks[-1].last if blocks else b""
        self._read: tuple[int, pa.RecordBatch, _Keys] | None = None  # the last block that was looked into

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Entry]:
        for page in self.pages():
            yield from entries_of(page)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        number = bisect_right(self._ends, position)
        block, _ = self._look(number)
        row = block.slice(position - self._ends[number] + block.num_rows, 1)
        return next(entries_of(entry_columns(row)))

    def __repr__(self) -> str:
        return f"<{len(self):,} entries>"

    @property
    def first_path(self) -> str | None:
        """The least path; None for a run without rows."""
        return self._starts[0].decode() if self._starts else None

    @property
    def last_path(self) -> str | None:
        """The greatest path; None for a run without rows."""
        return self._last.decode() if self._starts else None

    def pages(self) -> Iterator[Page]:
        """All rows as pages of entries."""
        return map(entry_columns, self.batches())

    def batches(
        self, lo: bytes = b"", hi: bytes | None = None, *, touching: Touchable | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a range, block by block. With `touching`, blocks between whose ends that has no row are
        left out unread."""
        for number in range(self._number_of(lo), len(self.blocks)):
            block = self.blocks[number]
            if hi is not None and block.first >= hi:
                return
            if touching is None or touching.touches(block.first, after(block.last)):
                batch = cut(block.rows.read(), lo, hi)
                if batch.num_rows:
                    yield batch

    def touches(self, lo: bytes, hi: bytes | None) -> bool:
        """True where the run has a row in the range."""
        if not self.blocks or lo > self._last or (hi is not None and hi <= self._starts[0]):
            return False
        number = self._number_of(lo)
        if lo <= self._starts[number]:
            key = self._starts[number]
        elif lo > self.blocks[number].last:
            key = self._starts[number + 1]
        else:
            _, keys = self._look(number)
            key = keys[bisect_left(keys, lo)]
        return hi is None or key < hi

    def get(self, path: str) -> Row | None:
        """The row of a path, tombstones included; None where there is none."""
        key = key_of(path)
        number = self._number_of(key)
        if not self.blocks or not self._starts[number] <= key <= self.blocks[number].last:
            return None
        block, keys = self._look(number)
        position = bisect_left(keys, key)
        return next(rows_of(block.slice(position, 1))) if keys[position] == key else None

    def _number_of(self, key: bytes) -> int:
        """The last block that does not begin after `key`, or the first."""
        return max(0, bisect_right(self._starts, key) - 1)

    def _look(self, number: int) -> tuple[pa.RecordBatch, _Keys]:
        read = self._read  # once: another thread may replace it
        if read is None or read[0] != number:
            batch = self.blocks[number].rows.read()
            read = self._read = (number, batch, _Keys(batch.column(0)))
        return read[1:]


class _Builder:
    """Makes the blocks of one run from sorted batches: in memory up to `keep_bytes`, in `spill` beyond."""

    def __init__(self, spill: Spill, keep_bytes: int) -> None:
        self._spill = spill
        self._keep_bytes = keep_bytes
        self._blocks: list[Block] = []
        self._kept_bytes = 0
        self._spills = False
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self.last = b""

    def append(self, batch: pa.RecordBatch) -> None:
        """Append rows."""
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self.last = last_key(batch)
        if self._pending_rows >= BLOCK_ROWS:
            self._write_pending()

    def end_block(self) -> None:
        """Let no block reach over this place, unless it would be a tiny one."""
        if self._pending_rows >= BLOCK_ROWS // 8:
            self._write_pending()

    def take(self, block: Block) -> None:
        """Append a block as it is."""
        self._write_pending()
        self._blocks.append(replace(block, rows=self._settled(block.rows)))
        self.last = block.last

    def finish(self) -> SortedRun:
        self._write_pending()
        return SortedRun(self._blocks)

    def _write_pending(self) -> None:
        """Cut what is pending into equal blocks: many small batches must not become many small blocks."""
        if not self._pending:
            return
        rows = concat(self._pending)
        self._pending, self._pending_rows = [], 0
        number_of_blocks = -(-rows.num_rows // BLOCK_ROWS)
        for piece in split(rows, -(-rows.num_rows // number_of_blocks)):
            settled = self._settled(Kept(piece))
            self._blocks.append(Block(first_key(piece), last_key(piece), piece.num_rows, settled))

    def _settled(self, rows: Rows) -> Rows:
        """The rows of a block where they stay: in memory, until that is more than it may be."""
        if not isinstance(rows, Kept):
            return rows
        if not self._spills:
            self._kept_bytes += rows.batch.nbytes
            if self._kept_bytes <= self._keep_bytes:
                return rows
            self._spills = True
            self._blocks[:] = [replace(block, rows=self._settled(block.rows)) for block in self._blocks]
        return self._spill.append(rows.batch)


def collect(
    batches: Iterable[pa.RecordBatch], folder: str | None = None, *, memory_bytes: int = SORT_BYTES
) -> SortedRun:
    """Make a run of batches that are already in order, each path once (the output of `merge`)."""
    builder = _Builder(Spill(folder), memory_bytes // 8)
    for batch in batches:
        builder.append(batch)
    return builder.finish()


def join(
    runs: Sequence[SortedRun],
    folder: str | None = None,
    *,
    memory_bytes: int = SORT_BYTES,
    drop_removed: bool = False,
) -> SortedRun:
    """Make one run of several, oldest first. Of rows with one path the newest is kept, as `merge` does it.

    A block that lies between those of the other runs is taken over unread. Where blocks overlap their rows are
    merged, with `drop_removed` without tombstones.
    """
    builder = _Builder(Spill(folder), memory_bytes // 8)
    return _joined(runs, builder, drop_removed=drop_removed)


def _joined(
    runs: Sequence[SortedRun], builder: _Builder, *, unique: bool = False, drop_removed: bool = False
) -> SortedRun:
    for layers in _overlapping(runs):
        if len(layers) == 1:
            builder.take(layers[0][0])
        else:
            batches = merge(map(_rows_of_blocks, layers), unique=unique)
            for batch in alive(batches) if drop_removed else batches:
                builder.append(batch)
    return builder.finish()


def _overlapping(runs: Sequence[SortedRun]) -> Iterator[list[list[Block]]]:
    """The blocks of all runs in groups that do not overlap: of each group those of each run that has some."""
    group: dict[int, list[Block]] = {}
    reach = b""
    blocks = ((block, age) for age, run in enumerate(runs) for block in run.blocks)
    for block, age in sorted(blocks, key=lambda each: each[0].first):
        if group and block.first > reach:
            yield [group[age] for age in sorted(group)]
            group = {}
        group.setdefault(age, []).append(block)
        reach = max(reach, block.last)
    if group:
        yield [group[age] for age in sorted(group)]


def _rows_of_blocks(blocks: Iterable[Block]) -> Iterator[pa.RecordBatch]:
    return (block.rows.read() for block in blocks)


def sort_pages(
    pages: Iterable[pa.RecordBatch],
    folder: str | None = None,
    *,
    memory_bytes: int = SORT_BYTES,
    keep_last: bool = False,
) -> SortedRun:
    """Sort pages (of entries, or with the columns of a draft) by path into one run.

    About `memory_bytes` are held at once; the rest waits in unnamed temporary files in `folder` (default: the
    system's, which TMPDIR names). Sorted pages that do not overlap are written once, in whatever order they
    come: a listing that several threads read at several places is not merged. An error raised by `pages`
    goes on unchanged and leaves nothing behind.

    Rows with one path that agree in size, content id and URI become one. Others are an `InvalidInputError`
    that names both: two objects would meet in one path. `keep_last=True` keeps the later one instead.
    Raises `StoreError` when the temporary files cannot be written.
    """
    runs: list[SortedRun] = []
    spill = Spill(folder)
    builder = _Builder(spill, memory_bytes // 8)
    for chunk in _chunks(pages, memory_bytes // 3):
        for rows, ends_block in _arranged(chunk, unique=not keep_last):
            if first_key(rows) <= builder.last:
                runs.append(builder.finish())
                builder = _Builder(spill, memory_bytes // 8)
            builder.append(rows)
            if ends_block:
                builder.end_block()
            del rows
        chunk.clear()  # or it is held while the next one grows
        pa.default_memory_pool().release_unused()
    runs.append(builder.finish())
    while len(runs) > 1:
        # A file for each round: that of the last one goes when no block of it is needed any more.
        spill = Spill(folder)
        groups = [runs[i : i + FAN_IN] for i in range(0, len(runs), FAN_IN)]
        runs.clear()
        while groups:
            builder = _Builder(spill, memory_bytes // 8)
            runs.append(_joined(groups.pop(0), builder, unique=not keep_last))
    return runs[0]


def _chunks(pages: Iterable[pa.RecordBatch], chunk_bytes: int) -> Iterator[list[pa.RecordBatch]]:
    pending: list[pa.RecordBatch] = []
    pending_bytes = 0
    for page in pages:
        if page.num_rows:
            pending.append(as_draft(page))
            pending_bytes += page.nbytes
        if pending_bytes >= chunk_bytes:
            yield pending
            pending, pending_bytes = [], 0
    if pending:
        yield pending


def _arranged(pages: list[pa.RecordBatch], *, unique: bool) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """The rows of the pages in order, in pieces; with each, whether a block should end there.

    It should between two pages that did not come one after the other: pages that are yet to come may belong there.
    """
    order = sorted(range(len(pages)), key=lambda number: first_key(pages[number]))
    paths = pa.concat_arrays([pages[number].column(0) for number in order])
    if pc.all(pc.less(paths.slice(0, len(paths) - 1), paths.slice(1)), min_count=0).as_py():
        for number, following in zip(order, [*order[1:], None], strict=True):
            yield pages[number], following != number + 1
    else:
        yield _newest(_in_order(concat(pages)), unique=unique), True


# --- merging


def merge(layers: Iterable[Iterable[pa.RecordBatch]], *, unique: bool = False) -> Iterator[pa.RecordBatch]:
    """Merge sorted layers, oldest first, into sorted batches of at most `PAGE_ROWS` rows, each path once.

    Of rows with one path the newest layer's is kept; with `unique=True` they must agree, as in `sort_pages`.
    Each layer has each path once. Memory holds one batch a layer.
    """
    layers = list(layers)
    if len(layers) == 1:
        yield from layers[0]
    else:
        for batch in collate(layers):
            yield from split(_newest(batch, unique=unique), PAGE_ROWS)


def alive(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Drop tombstones, and batches that hold nothing else."""
    for batch in batches:
        removed = batch.column("removed")
        if pc.any(removed, min_count=0).as_py():
            batch = batch.filter(pc.invert(removed))
        if batch.num_rows:
            yield batch


def collate(layers: Iterable[Iterable[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Sort layers together and keep every row: equal paths stand side by side in one batch, oldest first."""
    cursors = [cursor for cursor in map(_Cursor, layers) if cursor.rest is not None]
    while cursors:
        frontier = min(cursor.last for cursor in cursors)
        pieces = [piece for cursor in cursors if (piece := cursor.take_through(frontier)).num_rows]
        yield pieces[0] if len(pieces) == 1 else _in_order(concat(pieces))
        cursors = [cursor for cursor in cursors if cursor.rest is not None]


class _Cursor:
    """Where a merge stands in one layer: `rest` is what is left of the current batch, None at the end."""

    def __init__(self, layer: Iterable[pa.RecordBatch]) -> None:
        self._batches = iter(layer)
        self.rest: Any = None
        self._advance()

    def _advance(self) -> None:
        self.rest = next((batch for batch in self._batches if batch.num_rows), None)
        if self.rest is not None:
            self.last = last_key(self.rest)

    def take_through(self, frontier: bytes) -> pa.RecordBatch:
        """Take the rows up to and including `frontier`."""
        if self.last <= frontier:
            piece = self.rest
            self._advance()
            return piece
        count = bisect_right(_Keys(self.rest.column(0)), frontier)
        piece = self.rest.slice(0, count)
        self.rest = self.rest.slice(count)
        return piece


def differ(old: pa.RecordBatch, new: pa.RecordBatch) -> pa.Array:
    """Row by row: True where size, content id or URI differ. The pin may differ: it is not content."""

    def unequal(name: str) -> pa.Array:
        a, b = old.column(name), new.column(name)
        return pc.coalesce(pc.not_equal(a, b), pc.xor(pc.is_null(a), pc.is_null(b)))

    return pc.or_(pc.or_(unequal("size"), unequal("content_id")), unequal("uri"))


def equal_pairs(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The neighbours with equal paths in a collated batch of two layers: older rows, newer rows."""
    same = _same_as_next(batch)
    return batch.slice(0, max(0, batch.num_rows - 1)).filter(same), batch.slice(1).filter(same)


def _same_as_next(batch: pa.RecordBatch) -> pa.Array:
    """For all rows but the last: True where the next row has the same path."""
    paths = batch.column(0)
    return pc.equal(paths.slice(0, max(0, len(paths) - 1)), paths.slice(1))


def _newest(batch: pa.RecordBatch, *, unique: bool) -> pa.RecordBatch:
    """The last row of each path of a sorted batch."""
    same = _same_as_next(batch)
    if not pc.any(same, min_count=0).as_py():
        return batch
    if unique:
        older, newer = equal_pairs(batch)
        clash = pc.index(differ(older, newer), True).as_py()
        if clash >= 0:
            raise InvalidInputError(
                _meeting(*(next(rows_of(rows.slice(clash, 1))) for rows in (older, newer)))
            )
    return batch.filter(pa.concat_arrays([pc.invert(same), pa.array([True])]))


def _meeting(one: Row, other: Row) -> str:
    path = one.entry.path
    if one.entry.uri is not None and one.entry.uri == other.entry.uri:
        return (
            f"{path!r} was found twice, as {described(one)} and as {described(other)}: it changed; try again"
        )
    return f"{described(one)} and {described(other)} meet in the path {path!r}: give one of them another name"


def described(row: Row) -> str:
    """Where a row's bytes are, and what is known of them: for messages."""
    where = row.entry.uri or row.local_path or "a managed file"
    size = "size unknown" if row.entry.size is None else f"{row.entry.size:,} bytes"
    return f"{where[:500]!r} ({row.entry.content_id[:100]}, {size})"


def _in_order(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows sorted by path; rows with equal paths keep their order."""
    paths = batch.column(0)
    if pc.all(pc.less_equal(paths.slice(0, len(paths) - 1), paths.slice(1)), min_count=0).as_py():
        return batch
    return batch.take(pc.sort_indices(paths))


def concat(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    # One batch, or an error rather than lost rows: Arrow would cut a column that passes 2 GiB of text.
    (whole,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return whole


def split(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """Slices of at most `rows` rows."""
    return (batch.slice(i, rows) for i in range(0, batch.num_rows, rows))
