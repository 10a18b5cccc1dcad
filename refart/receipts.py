"""Receipts: what a local file held when it was last read, so that an unchanged file is not read again."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Final, NamedTuple

from refart import files, receiptblocks
from refart.errors import ConflictError, InvalidInputError
from refart.files import StrPath
from refart.localdb import LocalDb
from refart.parallel import Lanes
from refart.receiptblocks import Facts, Files, Recalled

SETTLE_NS: Final = 20_000_000
"""A file's modified time moves in ticks (1 to 10 ms on Linux). Bytes that are read within one tick of a write
can be changed again in the same tick, unseen; two ticks later they cannot."""

COARSE_NS: Final = 2_000_000_000
"""The tick of file systems that keep whole seconds (two on FAT): there, a young file is read, not
remembered."""

TASK_FILES: Final = 64
TASK_BYTES: Final = 4 << 20
"""4 MiB. Small files that one thread reads one after the other: a task of its own would cost as much as such a file."""


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

    It is only a memory: where its file is damaged, locked or cannot be written, files are read again. Each block of
    receipts is sealed by a checksum of its own, because SQLite does not notice a flipped bit.

    On a network file system a receipt is as good as what the mount says of a file. NFS answers from memory for up to
    a minute (nfs(5), `acregmax`), so an edit by another machine may show that late, and a server whose clock is
    more than two seconds behind makes a young file look settled. Where inode numbers change with each mount, files
    are read again.
    """

    def __init__(self, path: Path | None) -> None:
        """Without a path nothing is remembered, and every file is read every time."""
        self._db = LocalDb(path, receiptblocks.SCHEMA) if path is not None else None

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

    def begin_reading(
        self, paths: Sequence[str], sizes: Iterable[int], executor: Executor, lanes: Lanes
    ) -> Reading:
        """Read files (absolute paths) in threads of `executor`, as `hash_file` does, whatever receipts they have.

        `sizes` say about how large they are, so that small ones share a task; `lanes`, how many threads work at once.
        """
        return Reading(self, paths, sizes, executor, lanes)

    def recall(self, groups: Sequence[Files]) -> Recalled:
        """The digests of those files whose receipt holds for what was found of them, in their order."""
        recalled = Recalled.nothing(sum(group.rows for group in groups))

        def select(connection: sqlite3.Connection) -> None:
            start = 0
            for group in groups:
                receiptblocks.recall(connection, group, recalled, start)
                start += group.rows

        if self._db is not None:
            self._db.read(select, None)
        return recalled

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
        wanted: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for path in paths:
            folder, name = _split(path)
            wanted[folder].append(name)

        def select(connection: sqlite3.Connection) -> dict[str, Receipt]:
            found = {}
            for folder, names in wanted.items():
                for name, (size, mtime_ns, inode, digest) in receiptblocks.find(connection, folder, names):
                    path = os.fsdecode(folder + b"/" + name)
                    found[path] = Receipt(path, size, mtime_ns, inode, digest.hex())
            return found

        return self._db.read(select, {}) if wanted and self._db is not None else {}

    def remember(self, receipts: Iterable[Receipt]) -> None:
        """Keep these receipts, in place of earlier ones of the same paths."""
        learnt: defaultdict[bytes, dict[bytes, Facts]] = defaultdict(dict)
        limit_ns = receiptblocks.TIME_LIMIT_NS
        for path, size, mtime_ns, inode, sha256 in receipts:
            if -limit_ns < mtime_ns < limit_ns:
                folder, name = _split(path)
                learnt[folder][name] = size, mtime_ns, inode, bytes.fromhex(sha256)

        def insert(connection: sqlite3.Connection) -> None:
            for folder, facts in learnt.items():
                receiptblocks.insert(connection, folder, facts)

        if learnt and self._db is not None:
            self._db.write(insert, None)

    def forget_below(self, folder: StrPath) -> None:
        """Drop the receipts of all files below a folder."""
        top = os.fsencode(os.path.abspath(folder)).rstrip(b"/")
        if self._db is not None:
            self._db.write(lambda connection: receiptblocks.delete_below(connection, top), None)

    def close(self) -> None:
        """Close the file; it opens again when it is needed."""
        if self._db is not None:
            self._db.close()


class Reading:
    """Files that threads are reading. Ends by `finish` or `stop`; both remember what was learnt until then."""

    def __init__(
        self,
        receipts: Receipts,
        paths: Sequence[str],
        sizes: Iterable[int],
        executor: Executor,
        lanes: Lanes,
    ) -> None:
        self._receipts, self._lanes = receipts, lanes
        self._learnt: list[Receipt] = []
        self._futures = [executor.submit(self._read, task) for task in _tasks(paths, sizes)]

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to wait for."""
        return all(future.done() for future in self._futures)

    def finish(self) -> list[Receipt]:
        """Wait for all; what each file held, in the order of the paths. Raises the first error."""
        try:
            return [receipt for future in self._futures for receipt in future.result()]
        finally:
            self.stop()

    def stop(self) -> None:
        """Begin no more files. Those that are being read are not waited for."""
        for future in self._futures:
            future.cancel()
        learnt, self._learnt = self._learnt, []
        self._receipts.remember(learnt)

    def _read(self, paths: Sequence[str]) -> list[Receipt]:
        receipts = []
        with self._lanes.lane(len(paths)):
            for path in paths:
                receipt, settled = _read(path)
                receipts.append(receipt)
                if settled:
                    self._learnt.append(receipt)
        return receipts


def _tasks(paths: Sequence[str], sizes: Iterable[int]) -> Iterator[Sequence[str]]:
    """Paths in their order: one large file, or some small ones."""
    start = held_bytes = 0
    for end, size in enumerate(sizes):
        if end > start and (end - start == TASK_FILES or held_bytes + size > TASK_BYTES):
            yield paths[start:end]
            start, held_bytes = end, 0
        held_bytes += size
    if start < len(paths):
        yield paths[start:]


def _read(path: str) -> tuple[Receipt, bool]:
    """Hash a file. The flag says whether any later write is sure to show in its modified time."""
    descriptor = files.open_descriptor(path)
    try:
        before = os.fstat(descriptor)
        age_ns = time.time_ns() - before.st_mtime_ns
        if 0 <= age_ns <= SETTLE_NS:
            time.sleep((SETTLE_NS - age_ns + 1_000_000) / 1e9)
            before = os.fstat(descriptor)
            age_ns = time.time_ns() - before.st_mtime_ns
        settled = age_ns > (COARSE_NS if before.st_mtime_ns % 1_000_000_000 == 0 else SETTLE_NS)
        sha256, size = files.hash_rest(descriptor, path)
    finally:
        os.close(descriptor)
    receipt = Receipt(path, size, before.st_mtime_ns, before.st_ino, sha256)
    # Not less than a look at the open file: it tells as well that the path still leads to it.
    if size != before.st_size or not receipt.holds(_stat(path)):
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


def _split(path: StrPath) -> tuple[bytes, bytes]:
    """The folder (empty for the root) and the name."""
    folder, _, name = os.fsencode(path).rpartition(b"/")
    return folder, name
