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

TIME_LIMIT_NS: Final = (1 << 63) - 1
"""Modified times that are not between this and its negative (1677 to 2262) stand for others, and no receipt is kept."""

NUMBER_BYTES: Final = 8

Facts: TypeAlias = tuple[int, int, int, bytes]
"""Size, modified time in ns, inode, digest."""


class Files(NamedTuple):
    """Files of one folder as they were looked up. Packed at once: so many small objects cost more than the look."""

    folder: str
    """Absolute, with a slash at the end."""
    names: str
    """In their order, joined by slashes."""
    numbers: bytes
    """All sizes, all modified times (ns), all inodes: `NUMBER_BYTES` each."""
    size_bytes: int

    @classmethod
    def of(
        cls,
        folder: str,
        names: Sequence[str],
        sizes: Sequence[int],
        mtimes_ns: Sequence[int],
        inodes: Sequence[int],
    ) -> Files:
        try:
            numbers = _packed((sizes, mtimes_ns, inodes))
        except struct.error:
            limited = [max(-TIME_LIMIT_NS, min(mtime_ns, TIME_LIMIT_NS)) for mtime_ns in mtimes_ns]
            numbers = _packed((sizes, limited, inodes))
        return cls(folder, "/".join(names), numbers, sum(sizes))

    @classmethod
    def joined(cls, parts: Sequence[Files]) -> Files:
        """Parts of one folder, which follow each other, as one."""
        if len(parts) == 1:
            return parts[0]
        numbers = b"".join(part.column(i) for i in range(len(_COLUMNS)) for part in parts)
        names = "/".join(part.names for part in parts)
        return cls(parts[0].folder, names, numbers, sum(part.size_bytes for part in parts))

    @property
    def rows(self) -> int:
        """How many files there are."""
        return len(self.numbers) // (len(_COLUMNS) * NUMBER_BYTES)

    def column(self, number: int) -> bytes:
        """The sizes, the modified times or the inodes, as packed."""
        column_bytes = NUMBER_BYTES * self.rows
        return self.numbers[number * column_bytes : (number + 1) * column_bytes]

    def columns(self) -> list[tuple[int, ...]]:
        """Sizes, modified times, inodes."""
        return _unpacked(self.numbers, self.rows)

    def part(self, start: int, end: int) -> Files:
        """Some of the files, by number."""
        names = self.names.split("/")[start:end]
        return Files.of(self.folder, names, *(column[start:end] for column in self.columns()))


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
    folder, names = os.fsencode(files.folder)[:-1], os.fsencode(files.names)
    first, last = names.partition(b"/")[0], names.rpartition(b"/")[2]
    rows = connection.execute(
        f"{_SELECT} WHERE folder = ?1 AND first <= ?3 AND first >="
        " coalesce((SELECT max(first) FROM blocks WHERE folder = ?1 AND first <= ?2), ?2)",
        (folder, first, last),
    )
    at_byte = at = 0
    index: dict[bytes, tuple[int, tuple[int, ...]]] = {}
    for row in rows:
        block = _unsealed(folder, row)
        lo, hi, text = block.between(first, last)
        if lo == hi:
            continue
        found_byte = _find(names, text, at_byte)
        if found_byte >= 0:
            at += names.count(b"/", at_byte, found_byte)
            at_byte = found_byte
            if _part(files.numbers, files.rows, at, at + hi - lo) == block.numbers(lo, hi):
                recalled.note(start + at, block.digests(lo, hi))  # all of them, as nearly always
                continue
        if not index:
            each = zip(*files.columns(), strict=True)
            index = dict(zip(names.split(b"/"), enumerate(each), strict=True))
        for name, (*numbers, digest) in block.rows():
            if name in index and index[name][1] == tuple(numbers):
                recalled.note(start + index[name][0], digest)


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
            "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?)", _rows_of(folder, sorted(rows.items()))
        )


def delete_below(connection: sqlite3.Connection, folder: bytes) -> None:
    """Drop the receipts of all files in a folder and below."""
    # '0' is the character after '/'.
    connection.execute(
        "DELETE FROM blocks WHERE folder = ? OR (folder > ? AND folder < ?)",
        (folder, folder + b"/", folder + b"0"),
    )


_SELECT: Final = "SELECT first, names, facts, seal FROM blocks"
_COLUMNS: Final = "qqQ"  # of the numbers, as `struct` has them


class _Block(NamedTuple):
    first: bytes
    names: bytes
    facts: bytes

    @property
    def files(self) -> int:
        return len(self.facts) // (len(_COLUMNS) * NUMBER_BYTES + DIGEST_BYTES)

    def between(self, first: bytes, last: bytes) -> tuple[int, int, bytes]:
        """Which of its files lie between two names, and their names."""
        if self.names.partition(b"/")[0] >= first and self.names.rpartition(b"/")[2] <= last:
            return 0, self.files, self.names
        names = self.names.split(b"/")
        lo, hi = bisect_left(names, first), bisect_right(names, last)
        return lo, hi, b"/".join(names[lo:hi])

    def numbers(self, start: int, end: int) -> bytes:
        """The numbers of some files, column by column."""
        return _part(self.facts, self.files, start, end)

    def digests(self, start: int, end: int) -> bytes:
        at = len(_COLUMNS) * NUMBER_BYTES * self.files
        return self.facts[at + DIGEST_BYTES * start : at + DIGEST_BYTES * end]

    def rows(self) -> Iterator[tuple[bytes, Facts]]:
        count = self.files
        if not count:
            return iter(())
        digests = (self.digests(i, i + 1) for i in range(count))
        columns = _unpacked(self.facts, count)
        return zip(self.names.split(b"/"), zip(*columns, digests, strict=True), strict=True)


def _unsealed(folder: bytes, row: tuple[bytes, bytes, bytes, int]) -> _Block:
    """A block; an empty one where its seal tells of damage."""
    first, names, facts, seal = row
    is_whole = isinstance(names, bytes) and isinstance(facts, bytes) and seal == _seal(folder, names, facts)
    return _Block(first, names, facts) if is_whole else _Block(first, b"", b"")


def _seal(folder: bytes, names: bytes, facts: bytes) -> int:
    return zlib.crc32(facts, zlib.crc32(names, zlib.crc32(folder + b"/")))


def _rows_of(
    folder: bytes, receipts: Sequence[tuple[bytes, Facts]]
) -> Iterator[tuple[bytes, bytes, bytes, bytes, int]]:
    """Receipts in the order of their names as rows of the table; of several blocks, each has room for more."""
    number = 1 if len(receipts) <= BLOCK_FILES else -(-len(receipts) // (BLOCK_FILES * 3 // 4))
    step = -(-len(receipts) // number)
    for start in range(0, len(receipts), step):
        some = receipts[start : start + step]
        names = b"/".join(name for name, _ in some)
        *columns, digests = zip(*(facts for _, facts in some), strict=True)
        facts = _packed(columns) + b"".join(digests)
        yield folder, some[0][0], names, facts, _seal(folder, names, facts)


def _packed(columns: Sequence[Sequence[int]]) -> bytes:
    sizes, mtimes_ns, inodes = columns
    count = len(sizes)
    return struct.pack(f"={2 * count}q{count}Q", *sizes, *mtimes_ns, *inodes)


def _unpacked(numbers: bytes, count: int) -> list[tuple[int, ...]]:
    """The columns; whatever comes behind them is left alone."""
    each = struct.unpack_from(f"={2 * count}q{count}Q", numbers)
    return [each[:count], each[count : 2 * count], each[2 * count :]]


def _part(numbers: bytes, count: int, start: int, end: int) -> bytes:
    """The numbers of some of so many files, column by column."""
    if start == 0 and end == count:
        return numbers[: len(_COLUMNS) * NUMBER_BYTES * count]
    return b"".join(
        numbers[NUMBER_BYTES * (i * count + start) : NUMBER_BYTES * (i * count + end)]
        for i in range(len(_COLUMNS))
    )


def _find(names: bytes, some: bytes, at: int) -> int:
    """Where some names follow each other among others, all joined by slashes, from a position on; -1 if nowhere."""
    while (at := names.find(some, at)) >= 0:
        end = at + len(some)
        if names[max(0, at - 1) : at] in (b"", b"/") and names[end : end + 1] in (b"", b"/"):
            return at
        at += 1
    return -1


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
