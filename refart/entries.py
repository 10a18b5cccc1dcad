"""Entries and pages: the one schema that sources, manifests and verbs share.

A *page* is a `pyarrow.RecordBatch` of at most `PAGE_ROWS` rows with exactly `SCHEMA`:

| column       | type    | meaning                                                                                 |
| ------------ | ------- | --------------------------------------------------------------------------------------- |
| `path`       | string  | where the entry stands in the artifact (see `names.check_path`)                          |
| `size`       | int64   | bytes; null where the source cannot tell                                                |
| `content_id` | string  | `algo:value`, see `checksums`                                                           |
| `uri`        | string  | the locator of a reference; null for a managed file (its bytes are in the store)        |
| `pin`        | string  | `version:ID`, `generation:N` or `etag:TAG`: selects the exact object; null where nothing |
|              |         | does, or where the content id is itself the ETag to ask for                             |

Bulk work carries pages. An `Entry` exists only when a person asks for one, or for the moment its bytes move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums, names
from refart.errors import FormatError, InvalidInputError

PAGE_ROWS: Final = 65_536
"""The most rows of a page."""
BATCH_ROWS: Final = 16_384
"""Rows of the pages that bulk work makes of smaller ones: with less, calls cost more than rows; more takes memory."""

SCHEMA: Final[pa.Schema] = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("pin", pa.string()),
    ]
)

Page: TypeAlias = pa.RecordBatch
"""At most `PAGE_ROWS` rows of `SCHEMA`."""

PIN_PATTERN: Final = r"^(version|generation|etag):[^\x00-\x1f\x7f]+$"
MAX_PIN_BYTES: Final = 2048


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of an artifact as plain data; the columns of `SCHEMA` as attributes."""

    path: str
    size: int | None
    content_id: str = checksums.NONE
    uri: str | None = None
    pin: str | None = None

    @property
    def is_reference(self) -> bool:
        """True where the bytes lie at `uri`, False for a managed file."""
        return self.uri is not None

    @property
    def is_weak(self) -> bool:
        """True where other bytes can have the same content id without anyone's intent (see `checksums.is_weak`)."""
        return checksums.is_weak(self.content_id)


def page_of(entries: Iterable[Entry]) -> Page:
    """One page of a few entries (no more than `PAGE_ROWS`), in the given order."""
    rows = list(entries)
    return pa.RecordBatch.from_arrays(
        [pa.array([getattr(e, f.name) for e in rows], f.type) for f in SCHEMA], schema=SCHEMA
    )


def entries_of(page: Page) -> Iterator[Entry]:
    """The rows of a page as `Entry` objects, one at a time."""
    columns = [page.column(f.name).to_pylist() for f in SCHEMA]
    return (Entry(*row) for row in zip(*columns, strict=True))


def paths_of(keys: pa.StringArray) -> pa.StringArray:
    """`names.path_from_key` of a column: nearly always the column itself."""
    bad = pc.match_substring_regex(keys, names.BAD_PATH_PATTERN)
    if not pc.any(bad, min_count=0).as_py():
        return keys
    mended = map(names.path_from_key, keys.filter(bad).to_pylist())
    return pc.replace_with_mask(keys, bad, pa.array(mended, pa.string()))


def prefixed(prefix: str, texts: pa.StringArray, pool: pa.MemoryPool | None = None) -> pa.StringArray:
    """Each text of a column behind the same beginning, in memory of this pool (default: Arrow's)."""
    return pc.binary_join_element_wise(pa.scalar(prefix), texts, "", memory_pool=pool)


def check_page(page: Page, origin: str) -> Page:
    """Check a page that came from outside (a source, a manifest file): the one gate for hostile rows.

    Raises `FormatError` for a wrong schema or too many rows, `InvalidInputError` for a row whose path, content id,
    pin, size or URI is not acceptable; the message names `origin` and the first such path. Vectorised.
    """
    check_shape(page, origin)
    check_paths(page, origin)
    _, size, content_id, uri, pin = page.columns
    wrong = pc.or_(
        pc.invert(pc.match_substring_regex(content_id, checksums.CONTENT_ID_PATTERN)),
        pc.greater(pc.binary_length(content_id), checksums.MAX_CONTENT_ID_BYTES),
    )
    _reject(page, wrong, origin, "content_id", "is not algo:value")
    _reject(page, pc.less(size, 0), origin, "size", "is negative")
    wrong = pc.or_(
        pc.invert(pc.match_substring_regex(pin, PIN_PATTERN)),
        pc.greater(pc.binary_length(pin), MAX_PIN_BYTES),
    )
    _reject(page, wrong, origin, "pin", "is not kind:value")
    wrong = pc.or_(pc.greater(pc.binary_length(uri), names.MAX_URI_BYTES), pc.equal(pc.binary_length(uri), 0))
    if b"\0" in text_of(uri).to_pybytes():  # of all at once: one by one, this would cost as much as a pattern
        wrong = pc.or_(wrong, pc.match_substring(uri, "\0"))
    why = f"is empty, holds a NUL character or is longer than {names.MAX_URI_BYTES:,} bytes"
    _reject(page, wrong, origin, "uri", why)
    managed = pc.and_(pc.is_null(uri), pc.invert(pc.starts_with(content_id, "sha256:")))
    _reject(page, managed, origin, "content_id", "must be a sha256 where there is no URI")
    return page


def check_shape(page: Page, origin: str) -> Page:
    """Check what a page is without a look at its values; `FormatError` as of `check_page`."""
    if not page.schema.equals(SCHEMA):
        raise FormatError(f"{origin}: expected the columns {SCHEMA.names}, found {page.schema.names}")
    if page.num_rows > PAGE_ROWS:
        raise FormatError(f"{origin}: a page holds at most {PAGE_ROWS:,} rows, found {page.num_rows:,}")
    if page.column("path").null_count or page.column("content_id").null_count:
        raise FormatError(f"{origin}: path and content_id must not be null")
    return page


def check_paths(page: Page, origin: str) -> Page:
    """Check the paths of a page that were made anew from such as had been checked; errors as of `check_page`."""
    path = page.column("path")
    wrong = pc.or_(
        pc.match_substring_regex(path, names.BAD_PATH_PATTERN),
        pc.greater(pc.binary_length(path), names.MAX_PATH_BYTES),
    )
    _reject(page, wrong, origin, "path", "is not an entry path")
    return page


def text_of(column: pa.StringArray) -> pa.Buffer:
    """The values of a column end to end, no copy; a null may hide bytes of its own among them."""
    _, offsets, values = column.buffers()
    if values is None or len(column) == 0:
        return pa.py_buffer(b"")
    bounds = memoryview(offsets).cast("i")
    first, last = bounds[column.offset], bounds[column.offset + len(column)]
    return values.slice(first, last - first)


def _reject(page: Page, wrong: pa.Array, origin: str, column: str, why: str) -> None:
    if not pc.any(wrong, min_count=0).as_py():
        return
    row = pc.index(wrong.fill_null(False), True).as_py()
    value = page.column(column)[row].as_py()
    where = "" if column == "path" else f" of {str(page.column('path')[row].as_py())[:200]!r}"
    raise InvalidInputError(f"{origin}: {column} {str(value)[:200]!r}{where} {why}")


def hash_key(entry: Entry) -> str | None:
    """The key of bytes that were compared with the recorded hash: the hash itself, whatever object holds them.

    None where no hash is recorded by which bytes are known; a CRC is none, since many contents share one.
    """
    algo, _ = checksums.split(entry.content_id)
    return entry.content_id if algo in checksums.IDENTIFYING else None


def object_key(entry: Entry) -> str | None:
    """The key of bytes that only a server vouched for; None where nothing fixes them.

    Its word speaks of one object, so URI and pin are part of the key. That holds for the `md5:` of an encrypted
    object too: its bytes have another MD5, and must not be taken for those of an object that has this one.
    """
    if checksums.is_weak(entry.content_id) and entry.pin is None:
        return None
    text = "\0".join((entry.content_id, str(entry.size), entry.uri or "", entry.pin or ""))
    return "object:" + hashlib.sha256(text.encode()).hexdigest()
