"""Receipts as they lie in SQLite: in blocks, so that those of a whole folder cost little more than one.

Receipts of a folder are kept by name. A *block* holds those from its first name up to where the next block begins; an
unchanged folder is compared a column at a time.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

DIGEST_BYTES: Final = 32

BLOCK_FILES: Final = 256
"""Receipts that are kept together: read whole, and written whole where one of them is new."""

SCHEMA: Final = """
    DROP TABLE IF EXISTS files;
    CREATE TABLE IF NOT EXISTS blocks (
        folder BLOB NOT NULL, first BLOB NOT NULL, names BLOB NOT NULL, facts BLOB NOT NULL, seal INTEGER NOT NULL,
        PRIMARY KEY (folder, first)
    )
"""
"""`folder` is absolute, and empty for the root; `first` is the first of `names`, which are joined by slashes; `facts`
are all sizes, all modified times, all inodes and all digests. Receipts were kept one by one in `files` before."""

TIME_LIMIT_NS: Final = 1 << 63
"""Modified times before 1677 or from 2262 on cannot be kept."""

Facts: TypeAlias = tuple[int, int, int, bytes]
"""Size, modified time in ns, inode, digest."""


class Files(NamedTuple):
    """Files of one folder as they were looked up: columns, in the order of the names."""

    folder: str
    """Absolute, with a slash at the end."""
    names: list[str]
    sizes: list[int]
    mtimes_ns: list[int]
    inodes: list[int]

    def part(self, start: int, end: int) -> Files:
        """Some of the files, by number."""
        folder, names, *numbers = self
        return Files(folder, names[start:end], *(column[start:end] for column in numbers))


class Recalled(NamedTuple):
    """What receipts say of files, by their number."""

    digests: bytearray
    """The SHA-256 of each, `DIGEST_BYTES` long."""
    known: bytearray
    """1 where the receipt holds; where it does not, the digest means nothing."""

    @classmethod
    def nothing(cls, count: int) -> Recalled:
        return cls(bytearray(DIGEST_BYTES * count), bytearray(count))

    def note(self, start: int, digests: bytes) -> None:
        """The digests of some files, from the number `start` on, are known."""
        count = len(digests) // DIGEST_BYTES
        self.digests[DIGEST_BYTES * start : DIGEST_BYTES * (start + count)] = digests
        self.known[start : start + count] = b"\1" * count


def recall(connection: sqlite3.Connection, files: Files, recalled: Recalled, start: int) -> None:
    """Note which of some files, numbered from `start`, still are what their receipts say."""
    if not files.names:
        return
    folder = os.fsencode(files.folder)[:-1]
    rows = connection.execute(
        f"{_SELECT} WHERE folder = ?1 AND first <= ?3 AND first >="
        " coalesce((SELECT max(first) FROM blocks WHERE folder = ?1 AND first <= ?2), ?2)",
        (folder, os.fsencode(files.names[0]), os.fsencode(files.names[-1])),
    )
    for row in rows:
        _compare(_unsealed(folder, row), files, recalled, start)


def find(
    connection: sqlite3.Connection, folder: bytes, names: Iterable[bytes]
) -> Iterator[tuple[bytes, Facts]]:
    """The receipts of those names in a folder that have one."""
    for block, some in _spans(connection, folder, sorted(names)):
        rows = dict(block.rows()) if block is not None else {}
        yield from ((name, rows[name]) for name in some if name in rows)


def insert(connection: sqlite3.Connection, folder: bytes, learnt: Mapping[bytes, Facts]) -> None:
    """Keep receipts of a folder by name, in place of earlier ones."""
    for block, names in _spans(connection, folder, sorted(learnt)):
        rows = dict(block.rows()) if block is not None else {}
        rows.update((name, learnt[name]) for name in names)
        if block is not None:
            connection.execute("DELETE FROM blocks WHERE folder = ? AND first = ?", (folder, block.first))
        connection.executemany(
            "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?)", _packed(folder, sorted(rows.items()))
        )


def delete_below(connection: sqlite3.Connection, folder: bytes) -> None:
    """Drop the receipts of all files in a folder and below."""
    # '0' is the character after '/'.
    connection.execute(
        "DELETE FROM blocks WHERE folder = ? OR (folder > ? AND folder < ?)",
        (folder, folder + b"/", folder + b"0"),
    )


_SELECT: Final = "SELECT first, names, facts, seal FROM blocks"
_COLUMNS: Final = "qqQ"  # of the numbers among the facts, as `struct` has them
_NUMBER_BYTES: Final = 8


class _Block(NamedTuple):
    first: bytes
    names: bytes
    facts: bytes

    @property
    def files(self) -> int:
        return len(self.facts) // (len(_COLUMNS) * _NUMBER_BYTES + DIGEST_BYTES)

    def numbers(self, start: int, end: int) -> bytes:
        """The numbers of some files, column by column."""
        column_bytes = _NUMBER_BYTES * self.files
        columns = range(0, len(_COLUMNS) * column_bytes, column_bytes)
        return b"".join(self.facts[at + _NUMBER_BYTES * start : at + _NUMBER_BYTES * end] for at in columns)

    def digests(self, start: int, end: int) -> bytes:
        at = len(_COLUMNS) * _NUMBER_BYTES * self.files
        return self.facts[at + DIGEST_BYTES * start : at + DIGEST_BYTES * end]

    def rows(self) -> Iterator[tuple[bytes, Facts]]:
        count = self.files
        if not count:
            return iter(())
        columns = _unpacked(self.numbers(0, count), count)
        digests = (self.digests(i, i + 1) for i in range(count))
        return zip(self.names.split(b"/"), zip(*columns, digests, strict=True), strict=True)


def _unsealed(folder: bytes, row: tuple[bytes, bytes, bytes, int]) -> _Block:
    """A block; an empty one where its seal tells of damage."""
    first, names, facts, seal = row
    is_whole = isinstance(names, bytes) and isinstance(facts, bytes) and seal == _seal(folder, names, facts)
    return _Block(first, names, facts) if is_whole else _Block(first, b"", b"")


def _seal(folder: bytes, names: bytes, facts: bytes) -> int:
    return zlib.crc32(facts, zlib.crc32(names, zlib.crc32(folder + b"/")))


def _packed(
    folder: bytes, rows: Sequence[tuple[bytes, Facts]]
) -> Iterator[tuple[bytes, bytes, bytes, bytes, int]]:
    """Rows in the order of their names as rows of the table; of several blocks, each has room for more."""
    number = 1 if len(rows) <= BLOCK_FILES else -(-len(rows) // (BLOCK_FILES * 3 // 4))
    step = -(-len(rows) // number)
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        joined = b"/".join(name for name, _ in some)
        *columns, digests = zip(*(facts for _, facts in some), strict=True)
        facts = _numbers(columns) + b"".join(digests)
        yield folder, some[0][0], joined, facts, _seal(folder, joined, facts)


def _numbers(columns: Iterable[Sequence[int]]) -> bytes:
    return b"".join(
        struct.pack(f"<{len(column)}{kind}", *column) for kind, column in zip(_COLUMNS, columns, strict=True)
    )


def _unpacked(numbers: bytes, count: int) -> Iterator[tuple[int, ...]]:
    each = range(0, len(numbers), _NUMBER_BYTES * count)
    return (
        struct.unpack_from(f"<{count}{kind}", numbers, at) for kind, at in zip(_COLUMNS, each, strict=True)
    )


def _spans(
    connection: sqlite3.Connection, folder: bytes, names: Sequence[bytes]
) -> Iterator[tuple[_Block | None, Sequence[bytes]]]:
    """Ascending names with the block in which each is, or into which it would go."""
    at = 0
    while at < len(names):
        before = f"{_SELECT} WHERE folder = ? AND first <= ? ORDER BY first DESC LIMIT 1"
        least = f"{_SELECT} WHERE folder = ? ORDER BY first LIMIT 1"
        row = connection.execute(before, (folder, names[at])).fetchone()
        row = row or connection.execute(least, (folder,)).fetchone()
        if row is None:
            yield None, names[at:]
            return
        following = "SELECT min(first) FROM blocks WHERE folder = ? AND first > ?"
        [end_name] = connection.execute(following, (folder, row[0])).fetchone()
        end = bisect_left(names, end_name, at) if isinstance(end_name, bytes) else len(names)
        end = max(end, at + 1)  # in a damaged table, blocks may be out of order
        yield _unsealed(folder, row), names[at:end]
        at = end


def _compare(block: _Block, files: Files, recalled: Recalled, start: int) -> None:
    if not block.files:
        return
    known = os.fsdecode(block.names).split("/")
    lo, hi = bisect_left(known, files.names[0]), bisect_right(known, files.names[-1])
    if lo == hi:
        return
    at = bisect_left(files.names, known[lo])
    some = files.part(at, at + hi - lo)
    if some.names == known[lo:hi] and _are(some, block.numbers(lo, hi)):  # all of them, as nearly always
        recalled.note(start + at, block.digests(lo, hi))
        return
    _, names, *columns = files
    for name, (_, (*numbers, digest)) in zip(known, block.rows(), strict=True):
        at = bisect_left(names, name)
        if at < len(names) and names[at] == name and numbers == [column[at] for column in columns]:
            recalled.note(start + at, digest)


def _are(files: Files, numbers: bytes) -> bool:
    try:
        return _numbers(files[2:]) == numbers
    except struct.error:  # a modified time that cannot be kept
        return False
