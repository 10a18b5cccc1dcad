"""Shard files: a run of consecutive entries as Parquet, written group by group and read the same way.

| column       | type   | holds                                                                        |
| ------------ | ------ | ---------------------------------------------------------------------------- |
| `path`       | string | as in a page                                                                 |
| `size`       | int64  | as in a page                                                                 |
| `content_id` | string | as in a page                                                                 |
| `uri_base`   | string | with `uri_skip`: the URI is `uri_base` + the path from byte `uri_skip` on    |
| `uri_skip`   | int32  | null where `uri_base` is null                                                |
| `uri`        | string | the URI where it does not follow from the path; both null for a managed file |
| `pin`        | string | as in a page                                                                 |

The encoding of URIs saves most of their bytes and is no part of any digest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from refart import checksums
from refart.entries import BATCH_ROWS, PAGE_ROWS, SCHEMA, Page, check_page, check_shape
from refart.errors import FormatError, InvalidInputError, NotFoundError, StoreError
from refart.manifest.canonical import RowDigest
from refart.manifest.index import ShardInfo
from refart.manifest.runs import concat
from refart.manifest.uris import UriRange, UriRanges

MAX_GROUP_ROWS: Final = PAGE_ROWS
"""Rows after which a row group ends, whatever the paths."""

MAX_URI_BASES: Final = 16
"""Pairs of `uri_base` and `uri_skip` in one row group; more prefixes than these are spelled out in `uri`."""

FILE_SCHEMA: Final[pa.Schema] = pa.schema(
    [
        SCHEMA.field("path"),
        SCHEMA.field("size"),
        SCHEMA.field("content_id"),
        pa.field("uri_base", pa.string()),
        pa.field("uri_skip", pa.int32()),
        SCHEMA.field("uri"),
        SCHEMA.field("pin"),
    ]
)

_PARQUET_OPTIONS: Final = {
    "compression": "zstd",
    "compression_level": 1,  # of random hex digits, higher levels make no less
    "use_dictionary": ["uri_base", "uri_skip"],
    "column_encoding": {
        "path": "DELTA_BYTE_ARRAY",
        "size": "DELTA_BINARY_PACKED",
        "content_id": "DELTA_BYTE_ARRAY",
        "uri": "DELTA_BYTE_ARRAY",
        "pin": "DELTA_BYTE_ARRAY",
    },
    "write_statistics": ["path"],  # what a lookup prunes by
    "write_page_checksum": True,
    "store_schema": False,
}


def exact_sum(sizes: pa.Int64Array) -> int:
    """The sum as a Python integer: Arrow adds int64 modulo 2**64."""
    low = pc.sum(pc.bit_wise_and(sizes, 0xFFFFFFFF), min_count=0).as_py()
    high = pc.sum(pc.shift_right(sizes, 32), min_count=0).as_py()
    return int(low) + (int(high) << 32)


class ShardTally:
    """Digests, bounds and totals of consecutive pages: everything an index states about a shard."""

    def __init__(self) -> None:
        self._digest = RowDigest()
        self._first_path = self._last_path = ""
        self._rows = self._size_bytes = self._managed_bytes = self._weak_rows = 0

    def update(self, page: Page) -> None:
        """Append a page that is not empty."""
        self._digest.update(page)
        if self._rows == 0:
            self._first_path = page["path"][0].as_py()
        self._last_path = page["path"][-1].as_py()
        self._rows += page.num_rows
        self._size_bytes += exact_sum(page["size"])
        self._managed_bytes += exact_sum(page["size"].filter(page["uri"].is_null()))
        weak = pc.match_substring_regex(page["content_id"], checksums.WEAK_PATTERN)
        self._weak_rows += pc.sum(weak, min_count=0).as_py()

    def info(self, file_bytes: int) -> ShardInfo:
        """The shard of all rows so far."""
        return ShardInfo(
            key=self._digest.hexdigest("key"),
            content_digest=self._digest.hexdigest("content"),
            manifest_digest=self._digest.hexdigest("manifest"),
            first_path=self._first_path,
            last_path=self._last_path,
            rows=self._rows,
            file_bytes=file_bytes,
            size_bytes=self._size_bytes,
            referenced_bytes=self._size_bytes - self._managed_bytes,
            managed_bytes=self._managed_bytes,
            weak_rows=self._weak_rows,
        )


class ShardWriter:
    """Writes one shard file into a folder, holding no more than a row group and a page.

    The file has a temporary name until `close` knows the shard's key.
    """

    def __init__(self, folder: Path) -> None:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="shard-", suffix=".tmp", delete=False) as file:
            self._path = Path(file.name)
        self._file = pq.ParquetWriter(self._path, FILE_SCHEMA, **_PARQUET_OPTIONS)
        self._tally = ShardTally()
        self._uris = UriRanges()
        self._open: list[Page] = []
        self._open_rows = 0

    def add(self, page: Page, group_ends: Iterable[int]) -> None:
        """Append a page that is not empty; its paths follow those of the pages before.

        `group_ends` are the numbers of rows after which a row group ends, ascending: those behind `canonical.ends`.
        """
        self._tally.update(page)
        self._uris.add(page["uri"])
        start = 0
        for end in group_ends:
            self._append(page.slice(start, end - start))
            self._write_group()
            start = end
        self._append(page.slice(start))

    def close(self) -> tuple[ShardInfo, Path]:
        """Finish the file; it is named by the key of the shard."""
        self._write_group()
        self._file.close()
        info = self._tally.info(self._path.stat().st_size)
        return info, self._path.replace(self._path.with_name(f"{info.key}.parquet"))

    def uri_ranges(self) -> tuple[UriRange, ...]:
        """Which URIs the rows so far have."""
        return self._uris.ranges()

    def discard(self) -> None:
        """Remove the unfinished file."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _append(self, rows: Page) -> None:
        # Groups have the same rows however they came in: one writer makes equal files of equal shards.
        while self._open_rows + rows.num_rows > MAX_GROUP_ROWS:
            count = MAX_GROUP_ROWS - self._open_rows
            self._open.append(rows.slice(0, count))
            self._write_group()
            rows = rows.slice(count)
        if rows.num_rows:
            self._open.append(rows)
            self._open_rows += rows.num_rows

    def _write_group(self) -> None:
        if self._open:
            self._file.write_batch(_encode(concat(self._open)))
            self._open, self._open_rows = [], 0


class Extent(NamedTuple):
    """A part of a shard file."""

    start: int
    length: int
    shape: tuple[tuple[int, str, int], ...]
    """What a reader must know to decode it: of each column the number of values, the compression, the length."""


class ShardFile:
    """An open shard file. Every page read is decoded, its checksums and its rows are checked.

    Raises `FormatError` that names the shard for a file that is no shard, was cut short or rotted,
    `NotFoundError` where the file is missing, `StoreError` where it cannot be read.
    """

    def __init__(self, source: str | pa.Buffer, key: str) -> None:
        self.name = f"shard {key}"
        with self._reading():
            self._bytes = pa.OSFile(source) if isinstance(source, str) else pa.BufferReader(source)
            self._file = pq.ParquetFile(self._bytes, page_checksum_verification=True)
            found = self._file.schema_arrow
        if _columns(found) != _columns(FILE_SCHEMA):
            raise FormatError(
                f"{self.name}: expected the columns {_columns(FILE_SCHEMA)}, found {_columns(found)}"
            )

    @property
    def group_count(self) -> int:
        return int(self._file.num_row_groups)

    def bounds(self, group: int) -> tuple[str, str] | None:
        """The first and last path of a row group, where the file states them."""
        with self._reading():
            statistics = self._file.metadata.row_group(group).column(0).statistics
            if statistics is None or not statistics.has_min_max:
                return None
            return statistics.min, statistics.max

    def extent(self, group: int) -> Extent | None:
        """Where the bytes of a row group lie, without its pins; None where its columns do not lie one behind the
        other."""
        with self._reading():
            columns = [self._file.metadata.row_group(group).column(n) for n in range(len(FILE_SCHEMA) - 1)]
        start = end = _first_byte(columns[0])
        shape = []
        for column in columns:
            if _first_byte(column) != end:
                return None
            end += column.total_compressed_size
            shape.append((column.num_values, column.compression, column.total_compressed_size))
        return Extent(start, end - start, tuple(shape))

    def may_hold(self, group: int, bounds: Sequence[tuple[str, str]]) -> bool:
        """Whether a row group may hold a URI from the first of a pair up to but without the second. Reads how its URIs
        follow from its paths, and spells none of them."""
        with self._reading():
            table = self._file.read_row_group(group, columns=["uri_base", "uri_skip", "uri"])
        reaches = []
        if table["uri"].null_count < table.num_rows:
            spelled = pc.min_max(table["uri"])
            reaches.append((spelled["min"].as_py().encode(), spelled["max"].as_py().encode()))
        bases, skips = (table[name].unique().drop_null().to_pylist() for name in ("uri_base", "uri_skip"))
        paths = self.bounds(group)
        reaches += [_reach(*rule, paths) for rule in product(map(str.encode, bases), skips)]
        wanted = [(first.encode(), after.encode()) for first, after in bounds]
        return any(low < after and high >= first for low, high in reaches for first, after in wanted)

    def read(self, extent: Extent) -> bytes:
        """The bytes of a row group. Groups of one shape and with equal bytes hold equal entries, but for pins; that
        equal entries are equal bytes, only one writer of both can promise."""
        with self._reading():
            return bytes(self._bytes.read_at(extent.length, extent.start))

    def pages(self, groups: Iterable[int] | None = None, *, check: bool = True) -> Iterator[Page]:
        """The rows of these row groups (numbers ascend; default: all), in pages of at most `BATCH_ROWS`
        or one group. With `check=False`, `checked` is for the caller, before a row is handed on."""
        together: list[int] = []
        rows = 0
        for group in range(self.group_count) if groups is None else groups:
            count = self._file.metadata.row_group(group).num_rows
            if not 0 < count <= MAX_GROUP_ROWS:
                raise FormatError(
                    f"{self.name}: row group {group} has {count:,} rows, expected 1 to {MAX_GROUP_ROWS:,}"
                )
            if together and rows + count > BATCH_ROWS:
                yield self._page(together, check)
                together, rows = [], 0
            together.append(group)
            rows += count
        if together:
            yield self._page(together, check)

    def _page(self, groups: list[int], check: bool) -> Page:
        with self._reading():
            table = self._file.read_row_groups(groups, use_threads=len(groups) > 1).combine_chunks()
            table.validate(full=True)  # Parquet readers take the words "UTF-8" and "offset" on trust
            (batch,) = table.to_batches()
            page = _decode(batch, most_rules=MAX_URI_BASES * len(groups))
        return checked(page, self.name) if check else check_shape(page, self.name)

    def close(self) -> None:
        self._file.close()
        self._bytes.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise NotFoundError(f"{self.name} is missing from the store") from None
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise StoreError(f"{self.name} cannot be read: {error}") from error
            raise FormatError(f"{self.name} is damaged: {error}") from error


def checked(page: Page, name: str) -> Page:
    """The rows of a shard. Raises `FormatError` for one that is not acceptable, see `check_page`."""
    try:
        return check_page(page, name)
    except InvalidInputError as error:
        raise FormatError(str(error)) from None


def _first_byte(column: pq.ColumnChunkMetaData) -> int:
    offset = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    return int(offset)


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _encode(page: Page) -> pa.RecordBatch:
    """A page as the columns of a shard file."""
    path, size, content_id, uri, pin = page.columns
    base, skip, explicit = _split_uris(path, uri)
    return pa.RecordBatch.from_arrays([path, size, content_id, base, skip, explicit, pin], schema=FILE_SCHEMA)


def _decode(batch: pa.RecordBatch, *, most_rules: int) -> Page:
    """The exact inverse of `_encode`."""
    path, size, content_id, base, skip, explicit, pin = batch.columns
    uri = _join_uris(path, base, skip, explicit, most_rules)
    return pa.RecordBatch.from_arrays([path, size, content_id, uri, pin], schema=SCHEMA)


def _split_uris(path: pa.StringArray, uri: pa.StringArray) -> tuple[pa.Array, pa.Array, pa.Array]:
    """`(uri_base, uri_skip, uri)`: the rules that spell most URIs, and the URIs that follow none of them.

    All entries of one `add_reference` share one rule, and the longest common end of a path and its URI tells
    it: path and URI are then two fixed beginnings with the same rest.
    """
    path, uri = path.cast(pa.binary()), uri.cast(pa.binary())
    rows = len(path)
    base: pa.Array = pa.nulls(rows, pa.string())
    skip: pa.Array = pa.nulls(rows, pa.int32())
    todo = uri.is_valid()
    for _ in range(MAX_URI_BASES):
        row = pc.index(todo, True).as_py()
        if row < 0:
            break
        rule = _rule_of(path[row].as_py(), uri[row].as_py())
        one_base, one_skip = pa.scalar(rule[0].decode()), pa.scalar(rule[1], pa.int32())
        follows = pc.equal(uri, _skip(path, rule[1], rule[0]))
        if follows.true_count == rows:  # as nearly always: most row groups come from one prefix
            return pa.repeat(one_base, rows), pa.repeat(one_skip, rows), pa.nulls(rows, pa.string())
        follows = pc.and_(todo, follows.fill_null(False))
        base = pc.if_else(follows, one_base, base)
        skip = pc.if_else(follows, one_skip, skip)
        todo = pc.and_not(todo, follows)
    return base, skip, pc.if_else(todo, uri, None).cast(pa.string())


def _join_uris(
    path: pa.Array, base: pa.Array, skip: pa.Array, explicit: pa.Array, most_rules: int
) -> pa.StringArray:
    ruled = base.is_valid()
    if not ruled.equals(skip.is_valid()) or pc.any(pc.and_(ruled, explicit.is_valid()), min_count=0).as_py():
        raise pa.ArrowInvalid("a row has half a rule for its URI, or a rule and a URI")
    bases, skips = (rules.unique().drop_null().to_pylist() for rules in (base, skip))
    if max(len(bases), len(skips)) > most_rules:
        raise pa.ArrowInvalid(f"a row group has more than {MAX_URI_BASES} rules for its URIs")
    path = rest = path.cast(pa.binary())
    if len(bases) == len(skips) == 1 and base.null_count == 0:  # as nearly always
        return _skip(path, skips[0], bases[0].encode()).cast(pa.string())  # which checks the UTF-8
    for count in skips:
        rest = pc.if_else(pc.equal(skip, count), _skip(path, count), rest)
    joined = pc.binary_join_element_wise(base.cast(pa.binary()), rest, b"")
    return pc.coalesce(joined, explicit.cast(pa.binary())).cast(pa.string())


def _rule_of(path: bytes, uri: bytes) -> tuple[bytes, int]:
    """The beginning of the URI and the length in bytes of the beginning of the path that have a common
    rest."""
    same = 0
    while same < min(len(path), len(uri)) and path[-1 - same] == uri[-1 - same]:
        same += 1
    while same and path[len(path) - same] & 0xC0 == 0x80:  # inside a character: both parts must be UTF-8
        same -= 1
    return uri[: len(uri) - same], len(path) - same


def _reach(base: bytes, skip: int, bounds: tuple[str, str] | None) -> tuple[bytes, bytes]:
    """Between which URIs those lie that a rule spells of the paths between two."""
    first, last = (path.encode() for path in bounds or ("", ""))
    if bounds is not None and first[:skip] == last[:skip]:
        return base + first[skip:], base + last[skip:]
    return base, base + b"\xff"  # greater than all UTF-8


def _skip(path: pa.BinaryArray, count: int, instead: bytes = b"") -> pa.BinaryArray:
    """The paths with other bytes instead of their first ones."""
    if count < 0:
        raise pa.ArrowInvalid(f"a URI skips {count} bytes of its path")
    # Not binary_slice: without a `stop` it fails on valid input (apache/arrow#51222).
    return pc.binary_replace_slice(path, 0, count, instead)
