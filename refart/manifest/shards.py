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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from refart import checksums
from refart.entries import PAGE_ROWS, SCHEMA, Page, check_page
from refart.errors import FormatError, InvalidInputError, NotFoundError, StoreError
from refart.manifest.canonical import RowDigest
from refart.manifest.index import ShardInfo

GROUP_ROWS: Final = PAGE_ROWS
"""Rows in every row group but the last; a group is read as one page."""

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
    "compression_level": 3,
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
        self._open: list[Page] = []
        self._open_rows = 0

    def add(self, page: Page) -> None:
        """Append a page that is not empty; its paths follow those of the pages before."""
        self._tally.update(page)
        self._open.append(page)
        self._open_rows += page.num_rows
        while self._open_rows >= GROUP_ROWS:
            self._write_group(GROUP_ROWS)

    def close(self) -> tuple[ShardInfo, Path]:
        """Finish the file; it is named by the key of the shard."""
        if self._open_rows:
            self._write_group(self._open_rows)
        self._file.close()
        info = self._tally.info(self._path.stat().st_size)
        return info, self._path.replace(self._path.with_name(f"{info.key}.parquet"))

    def discard(self) -> None:
        """Remove the unfinished file."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _write_group(self, rows: int) -> None:
        # Groups have the same rows however they came in: one writer makes equal files of equal shards.
        waiting = pa.Table.from_batches(self._open)
        group = waiting.slice(0, rows).combine_chunks().to_batches()[0]
        self._file.write_batch(_encode(group), row_group_size=rows)
        self._open = waiting.slice(rows).to_batches()
        self._open_rows -= rows


class ShardFile:
    """An open shard file. Every page read is decoded, its checksums and its rows are checked.

    Raises `FormatError` that names the shard for a file that is no shard, was cut short or rotted,
    `NotFoundError` where the file is missing, `StoreError` where it cannot be read.
    """

    def __init__(self, source: str | pa.Buffer, key: str) -> None:
        self.name = f"shard {key}"
        with self._reading():
            self._file = pq.ParquetFile(source, page_checksum_verification=True)
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

    def page(self, group: int) -> Page:
        """The rows of one row group."""
        rows = self._file.metadata.row_group(group).num_rows
        if not 0 < rows <= PAGE_ROWS:
            raise FormatError(
                f"{self.name}: row group {group} has {rows:,} rows, expected 1 to {PAGE_ROWS:,}"
            )
        with self._reading():
            table = self._file.read_row_group(group).combine_chunks()
            table.validate(full=True)  # Parquet readers take the words "UTF-8" and "offset" on trust
            page = _decode(table.to_batches()[0])
        try:
            return check_page(page, self.name)
        except InvalidInputError as error:
            raise FormatError(str(error)) from None

    def close(self) -> None:
        self._file.close()

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


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _encode(page: Page) -> pa.RecordBatch:
    """A page as the columns of a shard file."""
    path, size, content_id, uri, pin = page.columns
    base, skip, explicit = _split_uris(path, uri)
    return pa.RecordBatch.from_arrays([path, size, content_id, base, skip, explicit, pin], schema=FILE_SCHEMA)


def _decode(batch: pa.RecordBatch) -> Page:
    """The exact inverse of `_encode`."""
    path, size, content_id, base, skip, explicit, pin = batch.columns
    uri = _join_uris(path, base, skip, explicit)
    return pa.RecordBatch.from_arrays([path, size, content_id, uri, pin], schema=SCHEMA)


def _split_uris(path: pa.StringArray, uri: pa.StringArray) -> tuple[pa.Array, pa.Array, pa.Array]:
    """`(uri_base, uri_skip, uri)`: the rules that spell most URIs, and the URIs that follow none of them.

    All entries of one `add_reference` share one rule, and the longest common end of a path and its URI tells
    it: path and URI are then two fixed beginnings with the same rest.
    """
    path, uri = path.cast(pa.binary()), uri.cast(pa.binary())
    base: pa.Array = pa.nulls(len(path), pa.string())
    skip: pa.Array = pa.nulls(len(path), pa.int32())
    todo = uri.is_valid()
    for _ in range(MAX_URI_BASES):
        row = pc.index(todo, True).as_py()
        if row < 0:
            break
        rule = _rule_of(path[row].as_py(), uri[row].as_py())
        follows = pc.and_(todo, pc.equal(uri, _apply(rule, path)).fill_null(False))
        base = pc.if_else(follows, rule[0].decode(), base)
        skip = pc.if_else(follows, pa.scalar(rule[1], pa.int32()), skip)
        todo = pc.and_not(todo, follows)
    return base, skip, pc.if_else(todo, uri, None).cast(pa.string())


def _join_uris(path: pa.Array, base: pa.Array, skip: pa.Array, explicit: pa.Array) -> pa.StringArray:
    ruled = base.is_valid()
    if not ruled.equals(skip.is_valid()) or pc.any(pc.and_(ruled, explicit.is_valid()), min_count=0).as_py():
        raise pa.ArrowInvalid("a row has half a rule for its URI, or a rule and a URI")
    path, uri = path.cast(pa.binary()), explicit.cast(pa.binary())
    for _ in range(MAX_URI_BASES):
        row = pc.index(ruled, True).as_py()
        if row < 0:
            return uri.cast(pa.string())  # a cast from binary checks the UTF-8
        rule = base[row].as_py().encode(), skip[row].as_py()
        follows = pc.and_(
            ruled, pc.and_(pc.equal(base, base[row]), pc.equal(skip, skip[row])).fill_null(False)
        )
        uri = pc.if_else(follows, _apply(rule, path), uri)
        ruled = pc.and_not(ruled, follows)
    if pc.any(ruled, min_count=0).as_py():
        raise pa.ArrowInvalid(f"a row group has more than {MAX_URI_BASES} rules for its URIs")
    return uri.cast(pa.string())


def _rule_of(path: bytes, uri: bytes) -> tuple[bytes, int]:
    """The beginning of the URI and the length in bytes of the beginning of the path that have a common
    rest."""
    same = 0
    while same < min(len(path), len(uri)) and path[-1 - same] == uri[-1 - same]:
        same += 1
    while same and path[len(path) - same] & 0xC0 == 0x80:  # inside a character: both parts must be UTF-8
        same -= 1
    return uri[: len(uri) - same], len(path) - same


def _apply(rule: tuple[bytes, int], path: pa.BinaryArray) -> pa.BinaryArray:
    base, skip = rule
    if skip < 0:
        raise pa.ArrowInvalid(f"a URI skips {skip} bytes of its path")
    # Not binary_slice: without a `stop` it fails on valid input (apache/arrow#51222).
    return pc.binary_replace_slice(path, 0, skip, base)
