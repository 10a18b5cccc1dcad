"""A small SQLite file on this machine that may vanish at any time: it only saves work, and never fails it."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

BUSY_TIMEOUT_S: Final = 5.0
REST_S: Final = 60.0
"""How long a file that failed is left alone, so that work does not wait for it again and again."""

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

Result = TypeVar("Result")


class LocalDb:
    """One SQLite file for all threads of a process, beside other processes (WAL; writers wait up to 5 s).

    Opened on first use. A damaged file is replaced by an empty one; where it cannot be opened, read or
    written (a read-only home, a full disk, a lock held too long), work gets its default instead of an error.
    A file whose tables changed their meaning needs another name.
    """

    def __init__(self, path: Path, schema: str) -> None:
        """`schema` is run on every opening: `CREATE … IF NOT EXISTS`."""
        self.path = path
        self._schema = schema
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._close: Callable[[], object] = lambda: None
        self._pid = os.getpid()
        self._rests_until_s = 0.0

    def read(self, work: Callable[[sqlite3.Connection], Result], default: Result) -> Result:
        """The result of `work`, or `default` where the file is of no use."""
        return self._run("BEGIN", work, default)

    def write(self, work: Callable[[sqlite3.Connection], Result], default: Result) -> Result:
        """Like `read`, in a transaction that holds the write lock from its start; an error rolls it back."""
        return self._run("BEGIN IMMEDIATE", work, default)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _run(self, begin: str, work: Callable[[sqlite3.Connection], Result], default: Result) -> Result:
        if self._pid != os.getpid():
            self._forget_parent()
        with self._lock:
            if time.monotonic() < self._rests_until_s:
                return default
            for is_last in (False, True):
                try:
                    return self._transact(begin, work)
                except (sqlite3.Error, OSError) as error:
                    damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
                    if is_last or not damaged or not self._remove():
                        break
            self._rests_until_s = time.monotonic() + REST_S
            return default

    def _transact(self, begin: str, work: Callable[[sqlite3.Connection], Result]) -> Result:
        connection = self._connection or self._connect()
        connection.execute(begin)
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return result

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            # In WAL mode, NORMAL syncs at checkpoints only: a power failure may lose the last rows, no more.
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(self._schema)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._close = weakref.finalize(self, connection.close)
        return connection

    def _drop(self) -> None:
        self._close()
        self._connection = None

    def _remove(self) -> bool:
        self._drop()
        for suffix in ("", "-wal", "-shm"):
            try:
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            except OSError:
                return False
        return True

    def _forget_parent(self) -> None:
        """After a fork: the connection (and perhaps the lock) belong to the parent; leave them alone."""
        self._lock = threading.Lock()
        _of_parents.append(self._connection)
        if isinstance(self._close, weakref.finalize):
            self._close.detach()
        self._connection = None
        self._pid = os.getpid()


_of_parents: list[sqlite3.Connection | None] = []
