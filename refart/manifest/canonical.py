"""The canonical form of entries: where shards end, and the digests that name rows, shards and versions.

Everything here is specified to the byte in `docs/format.md` and follows from the rows alone: never from page
sizes, the order of adding, or a Parquet writer. A change of any of it, but for row groups, is a new format version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from refart.entries import SCHEMA, Page, text_of

CUT_BITS: Final = 16
"""A path whose SHA-256 starts with this many zero bits ends a shard: every 65,536th path on average."""

GROUP_BITS: Final = 11
"""A path whose SHA-256 starts with this many zero bits ends a row group of its shard: every 2,048th path on average.

Digests know nothing of row groups. Fewer bits make larger files; with more, lookups and diffs read more.
"""

DigestName = Literal["content", "manifest", "key"]

DIGEST_COLUMNS: Final[dict[DigestName, tuple[str, ...]]] = {
    "content": ("path", "size", "content_id"),
    "manifest": ("path", "size", "content_id", "uri"),
    "key": tuple(SCHEMA.names),
}
"""What each digest of a shard covers, in this order."""


def first_out_of_order(paths: pa.StringArray, after: str | None) -> str | None:
    """The first path that does not come after the one before it (`after` for the first row), else None.

    Paths are ordered by their UTF-8 bytes, which is the order of their code points.
    """
    if len(paths) and after is not None and paths[0].as_py() <= after:
        return str(paths[0])
    row = pc.index(pc.less(paths[:-1], paths[1:]), False).as_py()
    return str(paths[row + 1]) if row >= 0 else None


def is_cut(path: str) -> bool:
    """True where a shard ends after this path. Depends on the UTF-8 bytes of the path and on nothing else."""
    return hashlib.sha256(path.encode()).digest() < _limit(CUT_BITS)


def ends(paths: pa.StringArray, bits: int) -> list[int]:
    """The positions of all paths whose SHA-256 starts with so many zero bits, ascending.

    With `CUT_BITS`, those that end a shard; with `GROUP_BITS`, which is less, those that end a row group.
    """
    limit, sha256 = _limit(bits), hashlib.sha256
    rows = paths.cast(pa.binary()).to_pylist()
    return [row for row, path in enumerate(rows) if sha256(path).digest() < limit]


def _limit(bits: int) -> bytes:
    """The least digest without so many leading zero bits; bytes compare as big-endian numbers."""
    return (1 << (256 - bits)).to_bytes(32, "big")


class RowDigest:
    """Running digests over consecutive pages of one shard, column by column.

    How the rows are divided into pages does not matter: the bytes hashed for a column are the same.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._hashes = {
            field.name: tuple(hashlib.sha256() for _ in range(2 if field.type == pa.string() else 1))
            for field in SCHEMA
        }

    def update(self, page: Page) -> None:
        """Append the rows of a page."""
        self._rows += page.num_rows
        for field, column in zip(SCHEMA, page.columns, strict=True):
            parts = _string_parts(column) if field.type == pa.string() else (_int_bytes(column),)
            for digest, part in zip(self._hashes[field.name], parts, strict=True):
                digest.update(part)

    def hexdigest(self, name: DigestName) -> str:
        """The digest of all rows so far over the columns of `name`, as 64 hex digits."""
        digest = hashlib.sha256(b"refart/1 shard %b\n" % name.encode())
        digest.update(self._rows.to_bytes(8, "little"))
        for column in DIGEST_COLUMNS[name]:
            for part in self._hashes[column]:
                digest.update(part.digest())
        return digest.hexdigest()


def root_digest(name: DigestName, shard_digests: Iterable[str]) -> str:
    """`sha256:…` over the hex digests of a version's shards, in the order of their paths."""
    digests = [bytes.fromhex(digest) for digest in shard_digests]
    root = hashlib.sha256(b"refart/1 root %b\n" % name.encode())
    root.update(len(digests).to_bytes(8, "little"))
    root.update(b"".join(digests))
    return f"sha256:{root.hexdigest()}"


def _int_bytes(column: pa.Array) -> pa.Buffer:
    """The values of an integer column as little-endian bytes, null as -1 (in no column a valid value)."""
    if column.null_count:
        column = column.fill_null(-1)
    width = column.type.byte_width
    return column.buffers()[1].slice(column.offset * width, len(column) * width)


def _string_parts(column: pa.StringArray) -> tuple[pa.Buffer, pa.Buffer]:
    """The lengths of a string column (uint32, null as 0xFFFFFFFF) and its values end to end."""
    lengths = _int_bytes(pc.binary_length(column))
    if column.null_count:  # a null may hide bytes of its own: leave them out
        column = column.drop_null()
    return lengths, text_of(column)
