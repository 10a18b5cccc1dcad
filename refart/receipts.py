"""Receipts: what a local file held when it was last read, so that an unchanged file is not read again."""

from __future__ import annotations

import os
import sqlite3
import stat
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from refart import files
from refart.errors import ConflictError, InvalidInputError
from refart.files import StrPath
from refart.localdb import LocalDb
from refart.parallel import map_bounded

SETTLE_NS: Final = 20_000_000
"""A file's modified time moves in ticks (1 to 10 ms on Linux). Bytes that are read within one tick of a write
can be changed again in the same tick, unseen; two ticks later they cannot."""

COARSE_NS: Final = 2_000_000_000
"""The tick of file systems that keep whole seconds (two on FAT): there, a young file is read, not
remembered."""

_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, facts BLOB NOT NULL) WITHOUT ROWID"
_FACTS: Final = struct.Struct("<qqQ32s")  # size, mtime_ns, inode, sha256
_SEAL: Final = struct.Struct("<I")
_BATCH: Final = 900  # below the oldest limit of variables in SQLite, 999


class Receipt(NamedTuple):
    """What the file at an absolute path was like when its bytes had this SHA-256 (hex)."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    sha256: str

    @classmethod
    def of(cls, path: StrPath, sha256: str, found: os.stat_result | None = None) -> Receipt:
        """The receipt of a file that is known to hold these bytes now. `found` is its stat result, if at
        hand."""
        found = os.stat(path) if found is None else found
        return cls(os.path.abspath(path), found.st_size, found.st_mtime_ns, found.st_ino, sha256)

    def holds(self, found: os.stat_result) -> bool:
        """True where size, modified time and inode are all the same: older is as different as newer."""
        now = (found.st_size, found.st_mtime_ns, found.st_ino)
        return (self.size, self.mtime_ns, self.inode) == now


class Receipts:
    """A memory of receipts by absolute path, in one SQLite file shared by threads and processes.

    It is only a memory: where its file is damaged, locked or cannot be written, files are read again. Each
    row is sealed by a checksum of its own, because SQLite does not notice a flipped bit.

    On a network file system a receipt is as good as what the mount says of a file. NFS answers from memory for up to
    a minute (nfs(5), `acregmax`), so an edit by another machine may show that late, and a server whose clock is
    more than two seconds behind makes a young file look settled. Where inode numbers change with each mount, files
    are read again.
    """

    def __init__(self, path: Path | None) -> None:
        """Without a path nothing is remembered, and every file is read every time."""
        self._db = LocalDb(path, _SCHEMA) if path is not None else None

    def hash_file(self, path: StrPath, *, force: bool = False) -> tuple[str, int]:
        """The content id (`sha256:…`) and the size of a local file; symbolic links are followed.

        A file whose receipt holds is not read, unless `force`; what was read is remembered. A file written
        within the last 20 ms is read a moment later (see `SETTLE_NS`).

        Raises `NotFoundError`, `PermissionDeniedError`, `InvalidInputError` for anything that is not a
        regular file, `ConflictError` for a file that changes while it is read, `SourceError` where reading
        fails.
        """
        absolute = os.path.abspath(path)
        found = _stat(absolute)
        receipt = None if force else self.lookup([absolute]).get(absolute)
        if receipt is None or not receipt.holds(found):
            receipt, settled = _read(absolute)
            if settled:
                self.remember([receipt])
        return f"sha256:{receipt.sha256}", receipt.size

    def hash_files(
        self, paths: Sequence[str], executor: Executor, *, window: int = 64
    ) -> list[tuple[str, int]]:
        """`hash_file` of many absolute paths, in their order: one look-up for all, up to `window` read at a
        time.

        The first error is raised; what was read before it is remembered all the same.
        """
        known = self.lookup(paths)
        receipts = [known.get(path) for path in paths]
        found = [_stat(path) for path in paths]
        unread = [
            i
            for i, (receipt, now) in enumerate(zip(receipts, found, strict=True))
            if receipt is None or not receipt.holds(now)
        ]
        learnt: list[Receipt] = []
        try:
            results = map_bounded(executor, _read, (paths[i] for i in unread), window=window)
            for i, (receipt, settled) in zip(unread, results, strict=True):
                receipts[i] = receipt
                if settled:
                    learnt.append(receipt)
        finally:
            self.remember(learnt)
        return [(f"sha256:{receipt.sha256}", receipt.size) for receipt in receipts if receipt is not None]

    def current(self, paths: Iterable[str]) -> dict[str, str]:
        """The SHA-256 (hex) of those files whose receipt holds now. Reads no file; a missing one is left
        out."""
        current = {}
        for path, receipt in self.lookup(paths).items():
            try:
                if receipt.holds(os.stat(path)):
                    current[path] = receipt.sha256
            except OSError:
                continue
        return current

    def lookup(self, paths: Iterable[str]) -> dict[str, Receipt]:
        """The receipts of those absolute paths that have one. Whether one still holds is for the caller to
        ask."""
        keys = [os.fsencode(path) for path in paths]

        def select(connection: sqlite3.Connection) -> dict[str, Receipt]:
            found = {}
            for batch in _batches(keys):
                marks = ",".join("?" * len(batch))
                query = f"SELECT path, facts FROM files WHERE path IN ({marks})"
                for key, facts in connection.execute(query, batch):
                    receipt = _unseal(key, facts)
                    if receipt is not None:
                        found[receipt.path] = receipt
            return found

        return self._db.read(select, {}) if keys and self._db is not None else {}

    def remember(self, receipts: Iterable[Receipt]) -> None:
        """Keep these receipts, in place of earlier ones of the same paths."""
        self._write_many(
            "INSERT OR REPLACE INTO files VALUES (?, ?)", [_seal(receipt) for receipt in receipts]
        )

    def forget(self, paths: Iterable[str]) -> None:
        """Drop the receipts of these absolute paths, where there are any."""
        self._write_many("DELETE FROM files WHERE path = ?", [(os.fsencode(path),) for path in paths])

    def forget_below(self, folder: StrPath) -> None:
        """Drop the receipts of all files below a folder."""
        prefix = os.fsencode(os.path.abspath(folder)).rstrip(b"/")
        # '0' is the character after '/'.
        self._write_many("DELETE FROM files WHERE path > ? AND path < ?", [(prefix + b"/", prefix + b"0")])

    def close(self) -> None:
        """Close the file; it opens again when it is needed."""
        if self._db is not None:
            self._db.close()

    def _write_many(self, statement: str, rows: Sequence[tuple[bytes, ...]]) -> None:
        if rows and self._db is not None:
            self._db.write(lambda connection: connection.executemany(statement, rows), None)


def _read(path: str) -> tuple[Receipt, bool]:
    """Hash a file. The flag says whether any later write is sure to show in its modified time."""
    with files.open_for_reading(path) as file:
        before = os.fstat(file.fileno())
        age_ns = time.time_ns() - before.st_mtime_ns
        if 0 <= age_ns <= SETTLE_NS:
            time.sleep((SETTLE_NS - age_ns + 1_000_000) / 1e9)
            before = os.fstat(file.fileno())
            age_ns = time.time_ns() - before.st_mtime_ns
        settled = age_ns > (COARSE_NS if before.st_mtime_ns % 1_000_000_000 == 0 else SETTLE_NS)
        receipt = Receipt.of(path, files.sha256_of(file), before)
        unchanged = file.tell() == receipt.size and receipt.holds(os.fstat(file.fileno()))
    if not unchanged or not receipt.holds(_stat(path)):
        raise ConflictError(f"{path!r} changed while it was read; try again when nothing writes to it")
    return receipt, settled


def _stat(path: str) -> os.stat_result:
    try:
        found = os.stat(path)
    except OSError as error:
        raise files.reading_error(error, path) from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInputError(f"{path!r} is no regular file (but a folder, device, socket or pipe)")
    return found


def _seal(receipt: Receipt) -> tuple[bytes, bytes]:
    key = os.fsencode(receipt.path)
    facts = _FACTS.pack(receipt.size, receipt.mtime_ns, receipt.inode, bytes.fromhex(receipt.sha256))
    return key, facts + _SEAL.pack(zlib.crc32(facts, zlib.crc32(key)))


def _unseal(key: bytes, value: object) -> Receipt | None:
    if not isinstance(value, bytes) or len(value) != _FACTS.size + _SEAL.size:
        return None
    facts, seal = value[: _FACTS.size], value[_FACTS.size :]
    if _SEAL.unpack(seal)[0] != zlib.crc32(facts, zlib.crc32(key)):
        return None
    size, mtime_ns, inode, digest = _FACTS.unpack(facts)
    return Receipt(os.fsdecode(key), size, mtime_ns, inode, digest.hex())


def _batches(keys: Sequence[bytes]) -> Iterator[list[bytes]]:
    rest = iter(keys)
    while batch := list(islice(rest, _BATCH)):
        yield batch
