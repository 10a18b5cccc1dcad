"""The local cache: bytes that came from far, kept by their SHA-256 up to a bound, verified whenever they are
used."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from refart import files
from refart.errors import InvalidInputError, RefartError
from refart.files import StrPath
from refart.localdb import LocalDb

Link: TypeAlias = Literal["auto", "reflink", "hardlink", "copy"]
"""How a file and its copy in the cache share their bytes.

`reflink`: shared until one is written (btrfs, XFS, …). `hardlink`: one file with two names, made read-only so
that an edit in place cannot change both unseen. `copy`: twice the space. `auto`: the first of these that
works here. A way that does not work on a file system means that the cache is not used.
"""

_WAYS: Final[dict[Link, tuple[Link, ...]]] = {
    "auto": ("reflink", "hardlink", "copy"),
    "reflink": ("reflink",),
    "hardlink": ("hardlink",),
    "copy": ("copy",),
}
_FICLONE: Final = (
    0x40049409  # ioctl_ficlone(2): share the extents of another file, copied when one is written
)

LEFT_OVER_S: Final = 86_400.0
"""An unfinished file that nobody has written to for a day was left by a process that was killed; it would never
count towards the bound."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS objects (sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL, used_ns INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS objects_by_use ON objects (used_ns);
CREATE TABLE IF NOT EXISTS total (bytes INTEGER NOT NULL);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT * FROM total);
CREATE TRIGGER IF NOT EXISTS grown AFTER INSERT ON objects
    BEGIN UPDATE total SET bytes = bytes + new.size; END;
CREATE TRIGGER IF NOT EXISTS shrunk AFTER DELETE ON objects
    BEGIN UPDATE total SET bytes = bytes - old.size; END;
CREATE TABLE IF NOT EXISTS seen (content_key TEXT PRIMARY KEY, sha256 TEXT NOT NULL) WITHOUT ROWID;
"""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NEVER: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV})
"""Errors by which a file system says that it cannot do this for any file: not tried again between the two."""

BATCH_ROWS: Final = 512
BATCH_BYTES: Final = 1 << 26  # 64 MiB
BATCH_S: Final = 1.0
"""How much news of a `Cache.batch` the index waits for, at most."""

_QUERY_ROWS: Final = 900
"""Below the oldest limit of variables in SQLite, 999."""

_FOLDERS: Final = 4096
"""Whose device is remembered."""

_ALWAYS: Final = nullcontext()


class _Staged(NamedTuple):
    """Bytes that are in the folder of the cache, but not in their place yet."""

    path: str
    size: int
    used_ns: int


class _News:
    """What the index is not told yet."""

    def __init__(self) -> None:
        self.learnt: dict[str, str] = {}
        self.used: dict[str, int] = {}
        self.staged: dict[str, _Staged] = {}
        self._staged_bytes = 0
        self._since_s = time.monotonic()

    def stage(self, sha256: str, staged: _Staged) -> None:
        """Raises `FileExistsError` where another thread was faster."""
        if sha256 in self.staged:
            raise FileExistsError(staged.path)
        self.staged[sha256] = staged
        self._staged_bytes += staged.size

    def __len__(self) -> int:
        return len(self.learnt) + len(self.used) + len(self.staged)

    def is_enough(self, max_bytes: int) -> bool:
        """Whether it should be written now: it is worth a transaction, takes much room, or others may wait for it."""
        return (
            len(self) >= BATCH_ROWS
            or self._staged_bytes > min(BATCH_BYTES, max_bytes // 8)
            or time.monotonic() > self._since_s + BATCH_S
        )


class Cache:
    """A folder of verified bytes, shared by threads and processes.

    Objects lie at `objects/ab/abcd…` by their SHA-256; an index in SQLite knows sizes and last uses. It may
    be deleted at any time. Whatever fails in it (a full disk, a folder that cannot be written, a damaged
    index) means a miss, never an error of the work that asked.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """With `max_bytes` of 0 no bytes are kept, only what `learn` is told. Nothing is created before the first
        use."""
        self._objects = os.path.join(folder, "objects")
        self._temporary = os.path.join(folder, "tmp")
        self._max_bytes = max_bytes
        self._is_tidy = False
        self._impossible: set[tuple[Link, int, int]] = set()
        self._devices: dict[str, int] = {}
        self._db = LocalDb(Path(folder, "cache.sqlite"), _SCHEMA)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._batches = 0
        self._news = _News()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Write what happens inside, from any thread, to the index by a few transactions and not by one for each file.

        What is placed can be had again at once by this object, by others a second later at most.
        """
        with self._own():
            self._batches += 1
        try:
            yield
        finally:
            with self._own():
                self._batches -= 1
            self._write()

    def known(self, content_key: str) -> str | None:
        """The SHA-256 (hex) of bytes seen earlier under this key (`entries.hash_key`, `object_key`), still
        cached or not."""
        return self.known_of([content_key]).get(content_key)

    def known_of(self, content_keys: Iterable[str]) -> dict[str, str]:
        """`known` of many keys by one look-up; those that are not known are left out."""
        found: dict[str, str] = {}
        wanted: list[str] = []
        with self._own():
            for key in content_keys:
                if key.startswith("sha256:"):
                    found[key] = key.removeprefix("sha256:")
                elif (learnt := self._news.learnt.get(key)) is not None:
                    found[key] = learnt
                else:
                    wanted.append(key)

        def select(connection: sqlite3.Connection) -> list[tuple[str, str]]:
            rows: list[tuple[str, str]] = []
            for start in range(0, len(wanted), _QUERY_ROWS):
                keys = wanted[start : start + _QUERY_ROWS]
                marks = ",".join("?" * len(keys))
                query = f"SELECT content_key, sha256 FROM seen WHERE content_key IN ({marks})"
                rows += connection.execute(query, keys).fetchall()
            return rows

        if wanted:
            nothing: list[tuple[str, str]] = []
            found.update(row for row in self._db.read(select, nothing) if _SHA256.fullmatch(row[1]))
        return found

    def learn(self, content_key: str, sha256: str) -> None:
        """Remember the SHA-256 of verified bytes under a weaker key; it outlives the bytes."""
        if not content_key.startswith("sha256:") and _SHA256.fullmatch(sha256):
            self._tell(lambda news: news.learnt.update({content_key: sha256}))

    def has(self, sha256: str) -> bool:
        """Whether bytes are kept under this SHA-256; only `get` tells whether they are right."""
        return bool(self._max_bytes) and (sha256 in self._news.staged or os.path.exists(self._path(sha256)))

    def get(self, sha256: str, target: StrPath, link: Link = "auto") -> bool:
        """Place cached bytes at `target` (whose folder exists), in place of a file there; False where it
        cannot.

        The bytes are hashed every time, and appear under their name only when they are right; a cached file
        that has other bytes is removed.
        """
        cached = self._path(sha256)
        if not self._max_bytes:
            return False
        staged = self._news.staged.get(sha256)
        is_given = staged is not None and self._give(staged.path, sha256, target, link)
        if not is_given and not (os.path.exists(cached) and self._give(cached, sha256, target, link)):
            return False
        now_ns = _now_ns()
        self._tell(lambda news: news.used.update({sha256: now_ns}))
        return True

    def _give(self, cached: str, sha256: str, target: StrPath, link: Link) -> bool:
        temporary = files.temporary_name(os.path.dirname(target))
        try:
            way = self._share(cached, temporary, link, sha256, trusted=False)
            if way is None:
                return False
            if way == "hardlink":
                os.chmod(temporary, files.READ_ONLY)
            else:
                files.backdate(temporary)
            os.replace(temporary, target)
        except FileNotFoundError:
            return False
        except _OtherBytes:
            _unlink(temporary)
            self._remove(sha256)
            return False
        except (OSError, RefartError):
            _unlink(temporary)
            return False
        return True

    def place(
        self,
        temporary: StrPath,
        sha256: str,
        target: StrPath,
        link: Link = "auto",
        *,
        turn: AbstractContextManager[object] = _ALWAYS,
    ) -> None:
        """Give a verified temporary file its name `target`, in the same folder, and keep its bytes where they
        fit.

        `turn` is held while it is renamed. Only the renaming can fail, with the `OSError` of the system.
        """
        files.backdate(temporary)
        with suppress(OSError, RefartError, _OtherBytes):
            self._stage(os.fspath(temporary), sha256, link)
        with turn:
            os.replace(temporary, target)

    def _stage(self, path: str, sha256: str, link: Link) -> None:
        """Bring bytes into the folder of the cache, for `_write` to give them their place."""
        if not self._max_bytes or (size := os.stat(path).st_size) > self._max_bytes:
            return
        if sha256 in self._news.staged or os.path.exists(self._path(sha256)):
            return
        if not self._is_tidy:
            os.makedirs(self._temporary, exist_ok=True)
            files.remove_left_over(self._temporary, time.time() - LEFT_OVER_S)
            self._is_tidy = True
        temporary = files.temporary_name(self._temporary)
        try:
            way = self._share(path, temporary, link, sha256, trusted=True)
            if way is None:
                return
            if way != "hardlink":
                files.backdate(temporary)
            os.chmod(temporary, files.READ_ONLY)
            staged = _Staged(temporary, size, _now_ns())
            self._tell(lambda news: news.stage(sha256, staged))
        except BaseException as error:
            self._is_tidy = not isinstance(error, FileNotFoundError)  # somebody deleted the folder
            _unlink(temporary)
            raise

    def _share(self, source: str, target: str, link: Link, sha256: str, *, trusted: bool) -> Link | None:
        """Make `target` hold the bytes of `source`; returns the way that worked, None where none of `link` did.

        The bytes are checked, unless they are `trusted` and not moved; raises `_OtherBytes` where they are
        others.
        """
        devices = (self._device(os.path.dirname(source)), self._device(os.path.dirname(target)))
        for way in _WAYS[link]:
            if (way, *devices) in self._impossible:
                continue
            try:
                found = _DO[way](source, target)
            except FileNotFoundError:
                raise
            except OSError as error:
                _unlink(target)
                if error.errno in _NEVER:
                    self._impossible.add((way, *devices))
                continue
            if found is None and not trusted:
                with files.open_for_reading(target) as file:
                    found = files.sha256_of(file)
            if found not in (None, sha256):
                raise _OtherBytes
            return way
        return None

    def _own(self) -> threading.Lock:
        """The lock of what follows. After a fork it is a new one: the news are the parent's to write."""
        if self._pid != os.getpid():
            self._pid, self._lock, self._batches, self._news = os.getpid(), threading.Lock(), 0, _News()
        return self._lock

    def _device(self, folder: str) -> int:
        """The device of a folder, remembered: it only tells what need not be tried again."""
        device = self._devices.get(folder)
        if device is None:
            if len(self._devices) >= _FOLDERS:
                self._devices.clear()
            device = self._devices[folder] = os.stat(folder).st_dev
        return device

    def _tell(self, note: Callable[[_News], None]) -> None:
        with self._own():
            note(self._news)
            is_for_later = self._batches > 0 and not self._news.is_enough(self._max_bytes)
        if not is_for_later:
            self._write()

    def _write(self) -> None:
        """Write the news to the index, and give staged bytes their place.

        Rows come before files, so that a process that is killed between the two leaves nothing that does not count
        towards the bound.
        """
        with self._own():
            news, self._news = self._news, _News()
        left = news.staged
        if news:
            left = self._db.write(lambda connection: self._record(connection, news), left)
        if left:
            left = self._db.write(lambda connection: self._move_in(connection, left), left)
        for staged in left.values():
            _unlink(staged.path)

    def _record(self, connection: sqlite3.Connection, news: _News) -> dict[str, _Staged]:
        """Write the news down, and make room. Returns what is staged and has room."""
        if news.staged and connection.execute("SELECT 1 FROM objects LIMIT 1").fetchone() is None:
            self._adopt(connection)
        connection.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", news.learnt.items())
        used = [(used_ns, sha256) for sha256, used_ns in news.used.items()]
        connection.executemany("UPDATE objects SET used_ns = ? WHERE sha256 = ?", used)
        rows = [(sha256, staged.size, staged.used_ns) for sha256, staged in news.staged.items()]
        connection.executemany("INSERT OR IGNORE INTO objects VALUES (?, ?, ?)", rows)
        left = dict(news.staged)
        over_bytes = connection.execute("SELECT bytes FROM total").fetchone()[0] - self._max_bytes
        if over_bytes <= 0 or not left:
            return left
        gone = []
        newest = rows[-1][0]
        query = "SELECT sha256, size FROM objects WHERE sha256 != ? ORDER BY used_ns"
        for sha256, size in connection.execute(query, (newest,)):
            # Whoever reads it keeps it: an unlinked file lives on under its other names and open descriptors.
            _unlink(left.pop(sha256).path if sha256 in left else self._path(sha256))
            gone.append((sha256,))
            over_bytes -= size
            if over_bytes <= 0:
                break
        connection.executemany("DELETE FROM objects WHERE sha256 = ?", gone)
        return left

    def _move_in(self, connection: sqlite3.Connection, left: dict[str, _Staged]) -> dict[str, _Staged]:
        """Give what is staged its place, where no other process has made room since. Returns what is left over.

        The lock of the index is held, so that nobody makes room meanwhile and misses a file.
        """
        over = {}
        for sha256, staged in left.items():
            if connection.execute("SELECT 1 FROM objects WHERE sha256 = ?", (sha256,)).fetchone() is None:
                over[sha256] = staged
                continue
            try:
                _rename(staged.path, self._path(sha256))
            except OSError:
                over[sha256] = staged
                connection.execute("DELETE FROM objects WHERE sha256 = ?", (sha256,))
        return over

    def _adopt(self, connection: sqlite3.Connection) -> None:
        """Take the objects on disk into an index that is empty, because it is new or because it was lost."""
        for folder, _, names in os.walk(self._objects):
            for name in names:
                found = os.stat(os.path.join(folder, name))
                connection.execute(
                    "INSERT INTO objects VALUES (?, ?, ?)", (name, found.st_size, found.st_mtime_ns)
                )

    def _remove(self, sha256: str) -> None:
        _unlink(self._path(sha256))
        delete = "DELETE FROM objects WHERE sha256 = ?"
        self._db.write(lambda connection: connection.execute(delete, (sha256,)), None)

    def _path(self, sha256: str) -> str:
        if not _SHA256.fullmatch(sha256):
            raise InvalidInputError(f"{sha256[:80]!r} is no SHA-256: expected 64 lower-case hex digits")
        return f"{self._objects}/{sha256[:2]}/{sha256}"


class _OtherBytes(Exception):
    """A file does not hold the bytes it stands for."""


def _now_ns() -> int:
    return time.time_ns()


def _reflink(source: str, target: str) -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, "no reflinks here")
    with files.open_for_reading(source) as original, Path(target).open("xb") as clone:
        fcntl.ioctl(clone.fileno(), _FICLONE, original.fileno())


def can_reflink(folder: StrPath) -> bool:
    """Whether two files in a folder can share their bytes until one is written; tried with two of no use."""
    target = files.temporary_name(folder)
    try:
        with files.temporary_file(folder) as source:
            _reflink(source.name, target)
        os.unlink(target)
    except (OSError, RefartError):
        with suppress(FileNotFoundError):
            os.unlink(target)
        return False
    return True


def _copy(source: str, target: str) -> str:
    with files.open_for_reading(source) as original, Path(target).open("xb") as copy:
        return files.copy_hashed(original, copy)


_DO: Final[dict[Link, Callable[[str, str], str | None]]] = {
    "reflink": _reflink,
    "hardlink": os.link,
    "copy": _copy,
}
"""How each way is done; a copy is hashed on its way, and returns the SHA-256."""


def _rename(path: str, target: str) -> None:
    """Rename into a folder that may not exist yet."""
    try:
        os.replace(path, target)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(path, target)


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
