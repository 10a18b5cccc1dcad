"""The local cache: bytes that came from far, kept by their SHA-256 up to a bound, verified whenever they are
used."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

from refart import files
from refart.errors import InvalidInputError, RefartError
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

_LEARN: Final = "INSERT OR REPLACE INTO seen VALUES (?, ?)"


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
        self._db = LocalDb(Path(folder, "cache.sqlite"), _SCHEMA)

    def known(self, content_key: str) -> str | None:
        """The SHA-256 (hex) of bytes seen earlier under this key (`entries.hash_key`, `object_key`), still
        cached or not."""
        if content_key.startswith("sha256:"):
            return content_key.removeprefix("sha256:")
        query = "SELECT sha256 FROM seen WHERE content_key = ?"
        row = self._db.read(lambda connection: connection.execute(query, (content_key,)).fetchone(), None)
        return row[0] if row is not None and _SHA256.fullmatch(row[0]) else None

    def learn(self, content_key: str, sha256: str) -> None:
        """Remember the SHA-256 of verified bytes under a weaker key; it outlives the bytes."""
        if not content_key.startswith("sha256:"):
            row = (content_key, sha256)
            self._db.write(lambda connection: connection.execute(_LEARN, row), None)

    def get(self, sha256: str, target: Path, link: Link = "auto") -> bool:
        """Place cached bytes at `target` (whose folder exists), in place of a file there; False where it
        cannot.

        The bytes are hashed every time, and appear under their name only when they are right; a cached file
        that has other bytes is removed.
        """
        cached = self._path(sha256)
        if not self._max_bytes or not os.path.exists(cached):
            return False
        temporary = files.temporary_name(target.parent)
        try:
            way = self._share(cached, temporary, link, sha256, trusted=False)
            if way is None:
                return False
            if way == "hardlink":
                os.chmod(temporary, files.READ_ONLY)
            else:
                files.backdate(temporary)
            size = os.stat(temporary).st_size
            os.replace(temporary, target)
        except _OtherBytes:
            self._remove(sha256)
            return False
        except (OSError, RefartError):
            return False
        finally:
            _unlink(temporary)
        self._db.write(lambda connection: _record(connection, sha256, size), None)
        return True

    def place(self, temporary: Path, sha256: str, target: Path, link: Link = "auto") -> None:
        """Give a verified temporary file its name `target`, in the same folder, and keep its bytes where they
        fit.

        Only the renaming can fail, with the `OSError` of the system.
        """
        with suppress(OSError, RefartError, _OtherBytes):
            self._add(os.fspath(temporary), sha256, link)
        files.backdate(temporary)
        os.replace(temporary, target)

    def _add(self, path: str, sha256: str, link: Link) -> None:
        size = os.stat(path).st_size
        cached = self._path(sha256)
        if not self._max_bytes or size > self._max_bytes or os.path.exists(cached):
            return
        os.makedirs(self._temporary, exist_ok=True)
        if not self._is_tidy:
            files.remove_left_over(self._temporary, time.time() - LEFT_OVER_S)
            self._is_tidy = True
        os.makedirs(os.path.dirname(cached), exist_ok=True)
        temporary = files.temporary_name(self._temporary)
        try:
            if self._share(path, temporary, link, sha256, trusted=True) is not None:
                files.backdate(temporary)
                os.chmod(temporary, files.READ_ONLY)
                self._db.write(lambda connection: self._keep(connection, temporary, sha256, size), None)
        finally:
            _unlink(temporary)

    def _share(self, source: str, target: str, link: Link, sha256: str, *, trusted: bool) -> Link | None:
        """Make `target` hold the bytes of `source`; returns the way that worked, None where none of `link` did.

        The bytes are checked, unless they are `trusted` and not moved; raises `_OtherBytes` where they are
        others.
        """
        devices = (os.stat(source).st_dev, os.stat(os.path.dirname(target)).st_dev)
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

    def _keep(self, connection: sqlite3.Connection, temporary: str, sha256: str, size: int) -> None:
        """Name a new object, and make room for it. Files and rows change under one lock, so the bound
        holds."""
        if connection.execute("SELECT 1 FROM objects LIMIT 1").fetchone() is None:
            self._adopt(connection)
        os.replace(temporary, self._path(sha256))
        _record(connection, sha256, size)
        over_bytes = connection.execute("SELECT bytes FROM total").fetchone()[0] - self._max_bytes
        if over_bytes <= 0:
            return
        gone = []
        query = "SELECT sha256, size FROM objects WHERE sha256 != ? ORDER BY used_ns"
        for other, other_size in connection.execute(query, (sha256,)):
            # Whoever reads it keeps it: an unlinked file lives on under its other names and open descriptors.
            _unlink(self._path(other))
            gone.append((other,))
            over_bytes -= other_size
            if over_bytes <= 0:
                break
        connection.executemany("DELETE FROM objects WHERE sha256 = ?", gone)

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
        return os.path.join(self._objects, sha256[:2], sha256)


class _OtherBytes(Exception):
    """A file does not hold the bytes it stands for."""


def _record(connection: sqlite3.Connection, sha256: str, size: int) -> None:
    """Note that an object is there and was used now."""
    now_ns = _now_ns()
    connection.execute("INSERT OR IGNORE INTO objects VALUES (?, ?, ?)", (sha256, size, now_ns))
    connection.execute("UPDATE objects SET used_ns = ? WHERE sha256 = ?", (now_ns, sha256))


def _now_ns() -> int:
    return time.time_ns()


def _reflink(source: str, target: str) -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, "no reflinks here")
    with files.open_for_reading(source) as original, Path(target).open("xb") as clone:
        fcntl.ioctl(clone.fileno(), _FICLONE, original.fileno())


def _copy(source: str, target: str) -> str:
    with files.open_for_reading(source) as original, Path(target).open("xb") as copy:
        return files.copy_hashed(original, copy)


_DO: Final[dict[Link, Callable[[str, str], str | None]]] = {
    "reflink": _reflink,
    "hardlink": os.link,
    "copy": _copy,
}
"""How each way is done; a copy is hashed on its way, and returns the SHA-256."""


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
