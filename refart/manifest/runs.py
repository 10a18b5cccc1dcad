"""External sorting: entries as sorted runs, in memory while small, in temporary files beyond; merging them.

Rows stay in Arrow; none becomes a Python object. The order is the format's: by the UTF-8 bytes of the path.
Temporary files never have a name (`tempfile.TemporaryFile`): nothing is left behind however the process ends.
"""

from __future__ import annotations

import tempfile
import threading
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, overload

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums
from refart.entries import PAGE_ROWS, SCHEMA, Entry, Page, entries_of, page_of
from refart.errors import FormatError, InvalidInputError, StoreError

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


class _Blocks(Protocol):
    """The blocks of one run, by number. Safe to read from many threads."""

    def block(self, number: int) -> pa.RecordBatch: ...

    def paths(self, number: int) -> pa.StringArray: ...


class _Kept:
    """Blocks in memory."""

    def __init__(self, blocks: list[pa.RecordBatch]) -> None:
        self._blocks = blocks

    def block(self, number: int) -> pa.RecordBatch:
        return self._blocks[number]

    def paths(self, number: int) -> pa.StringArray:
        return self._blocks[number].column(0)


class _Spilled:
    """Blocks in a temporary file (Arrow IPC, zstd): first written one after the other, then sealed and read.

    Read, not memory-mapped: mapped pages count as resident memory until the system is short of it.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        with self._errors():
            # Closed by the finalizer below: the file lives exactly as long as somebody can read it.
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._writer = pa.ipc.new_file(
            self._file, DRAFT_SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")
        )

    def append(self, block: pa.RecordBatch) -> None:
        with self._errors():
            self._writer.write_batch(block)

    def seal(self) -> None:
        with self._errors():
            self._writer.close()
            self._file.flush()
        self._whole = pa.ipc.open_file(self._file)
        self._paths = pa.ipc.open_file(self._file, options=pa.ipc.IpcReadOptions(included_fields=[0]))

    def block(self, number: int) -> pa.RecordBatch:
        with self._lock, self._errors():
            return self._whole.get_batch(number)

    def paths(self, number: int) -> pa.StringArray:
        with self._lock, self._errors():
            return self._paths.get_batch(number).column(0)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            folder = self._folder or tempfile.gettempdir()
            raise StoreError(
                f"entries that are being sorted cannot be kept in {folder}: {error}; free space there, or let"
                " TMPDIR name a folder that has some"
            ) from error


class SortedRun(Sequence[Entry]):
    """Rows in the order of the format, each path once; immutable. Made by `sort_pages` and `collect`.

    To a person it is a sequence of entries; work in bulk takes `pages()` or, with the columns of a draft,
    `batches()`, both as often as wanted. A run too large for memory lies in a temporary file, which goes when
    the last reference to the run goes. Any number of threads may read.
    """

    def __init__(self, blocks: _Blocks, starts: list[bytes], ends: list[int], last: bytes) -> None:
        self._blocks = blocks
        self._starts = starts  # first path of each block
        self._ends = ends  # rows up to the end of each block
        self._last = last
        self._probed: tuple[int, _Keys] | None = (
            None  # the last block whose paths, or whose rows, were wanted
        )
        self._read: tuple[int, pa.RecordBatch] | None = None

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
        block = self._block(number)
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
        self, lo: bytes = b"", hi: bytes | None = None, *, touching: SortedRun | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a range, block by block. With `touching`, blocks between whose ends that run has no row
        are left out unread."""
        for number in range(self._number_of(lo), len(self._starts)):
            start, end = self._bounds(number)
            if hi is not None and start >= hi:
                return
            if touching is None or touching.touches(start, end):
                batch = cut(self._blocks.block(number), lo, hi)
                if batch.num_rows:
                    yield batch

    def touches(self, lo: bytes, hi: bytes | None) -> bool:
        """True where the run has a row in the range."""
        if not self._starts or lo > self._last or (hi is not None and hi <= self._starts[0]):
            return False
        number = self._number_of(lo)
        keys = self._keys(number)
        position = bisect_left(keys, lo)
        key = keys[position] if position < len(keys) else self._starts[number + 1]
        return hi is None or key < hi

    def get(self, path: str) -> Row | None:
        """The row of a path, tombstones included; None where there is none."""
        key = key_of(path)
        if not self._starts or not self._starts[0] <= key <= self._last:
            return None
        number = self._number_of(key)
        keys = self._keys(number)
        position = bisect_left(keys, key)
        if position == len(keys) or keys[position] != key:
            return None
        return next(rows_of(self._block(number).slice(position, 1)))

    def _number_of(self, key: bytes) -> int:
        """The block in which `key` lies, if anywhere."""
        return max(0, bisect_right(self._starts, key) - 1)

    def _bounds(self, number: int) -> tuple[bytes, bytes]:
        following = number + 1
        end = self._starts[following] if following < len(self._starts) else after(self._last)
        return self._starts[number], end

    def _block(self, number: int) -> pa.RecordBatch:
        read = self._read
        if read is None or read[0] != number:
            read = self._read = (number, self._blocks.block(number))
        return read[1]

    def _keys(self, number: int) -> _Keys:
        probed = self._probed  # read once: another thread may replace it
        if probed is None or probed[0] != number:
            probed = self._probed = (number, _Keys(self._blocks.paths(number)))
        return probed[1]


class _Builder:
    """Writes one run from sorted batches, in memory up to `keep_bytes` and in a temporary file beyond."""

    def __init__(self, folder: str | None, keep_bytes: int) -> None:
        self._folder = folder
        self._keep_bytes = keep_bytes
        self._kept: list[pa.RecordBatch] = []
        self._kept_bytes = 0
        self._spill: _Spilled | None = None
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._starts: list[bytes] = []
        self._ends: list[int] = []
        self.last = b""

    def append(self, batch: pa.RecordBatch) -> None:
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self.last = last_key(batch)
        if self._pending_rows >= BLOCK_ROWS:
            self._write_pending()

    def finish(self) -> SortedRun:
        if self._pending:
            self._write_pending()
        if self._spill is None:
            return SortedRun(_Kept(self._kept), self._starts, self._ends, self.last)
        self._spill.seal()
        return SortedRun(self._spill, self._starts, self._ends, self.last)

    def _write_pending(self) -> None:
        """Cut what is pending into equal blocks: many small batches must not become many small blocks."""
        rows = concat(self._pending)
        self._pending, self._pending_rows = [], 0
        number_of_blocks = -(-rows.num_rows // BLOCK_ROWS)
        for block in split(rows, -(-rows.num_rows // number_of_blocks)):
            self._starts.append(first_key(block))
            self._ends.append((self._ends[-1] if self._ends else 0) + block.num_rows)
            self._write(block)

    def _write(self, block: pa.RecordBatch) -> None:
        if self._spill is not None:
            self._spill.append(block)
            return
        self._kept.append(block)
        self._kept_bytes += block.nbytes
        if self._kept_bytes > self._keep_bytes:
            self._spill = _Spilled(self._folder)
            for kept in self._kept:
                self._spill.append(kept)
            self._kept = []


def collect(
    batches: Iterable[pa.RecordBatch], folder: str | None = None, *, memory_bytes: int = SORT_BYTES
) -> SortedRun:
    """Make a run of batches that are already in order, each path once (the output of `merge`)."""
    builder = _Builder(folder, memory_bytes // 8)
    for batch in batches:
        builder.append(batch)
    return builder.finish()


def sort_pages(
    pages: Iterable[pa.RecordBatch],
    folder: str | None = None,
    *,
    memory_bytes: int = SORT_BYTES,
    keep_last: bool = False,
) -> SortedRun:
    """Sort pages (of entries, or with the columns of a draft) by path into one run.

    About `memory_bytes` are held at once; the rest waits in unnamed temporary files in `folder` (default: the
    system's, which TMPDIR names). Pages that come in order are not sorted again. An error raised by `pages`
    goes on unchanged and leaves nothing behind.

    Rows with one path that agree in size, content id and URI become one. Others are an `InvalidInputError`
    that names both: two objects would meet in one path. `keep_last=True` keeps the later one instead.
    Raises `StoreError` when the temporary files cannot be written.
    """
    runs: list[SortedRun] = []
    builder = _Builder(folder, memory_bytes // 8)
    for chunk in _chunks(pages, memory_bytes // 3):
        rows = _newest(_in_order(chunk), unique=not keep_last)
        if first_key(rows) <= builder.last:
            runs.append(builder.finish())
            builder = _Builder(folder, memory_bytes // 8)
        builder.append(rows)
        del rows, chunk  # or they are held while the next chunk grows
    runs.append(builder.finish())
    while len(runs) > 1:
        groups = [runs[i : i + FAN_IN] for i in range(0, len(runs), FAN_IN)]
        runs.clear()
        while groups:
            group = [run.batches() for run in groups.pop(0)]
            runs.append(collect(merge(group, unique=not keep_last), folder, memory_bytes=memory_bytes))
    return runs[0]


def _chunks(pages: Iterable[pa.RecordBatch], chunk_bytes: int) -> Iterator[pa.RecordBatch]:
    pending: list[pa.RecordBatch] = []
    pending_bytes = 0
    for page in pages:
        if page.num_rows:
            pending.append(as_draft(page))
            pending_bytes += page.nbytes
        if pending_bytes >= chunk_bytes:
            chunk = concat(pending)
            pending, pending_bytes = [], 0
            yield chunk
    if pending:
        yield concat(pending)


# --- merging


def merge(layers: Iterable[Iterable[pa.RecordBatch]], *, unique: bool = False) -> Iterator[pa.RecordBatch]:
    """Merge sorted layers, oldest first, into sorted batches of at most `PAGE_ROWS` rows, each path once.

    Of rows with one path the newest layer's is kept; with `unique=True` they must agree, as in `sort_pages`.
    Each layer has each path once. Memory holds one batch a layer.
    """
    for batch in collate(layers):
        yield from split(_newest(batch, unique=unique), PAGE_ROWS)


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
