"""Transactions on SQLite and PostgreSQL: how they begin, how long they wait, and what is tried again.

Each call runs in one transaction. A transaction that met a lock, a deadlock or a lost connection is run
again, after a jittered pause, until a deadline; so the work handed in must be safe to run again (writes that
are not by nature leave a request id in the audit log). A plain loop does it: SQLAlchemy retries nothing by
itself.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, Pool, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from refart.catalog import faults, proc
from refart.errors import CatalogError, InvalidInputError, NotFoundError, NotInstalledError, RefartError

DEADLINE_S: Final = 60.0
"""How long a call goes on trying while the database is locked or cannot be reached."""

_BUSY_TIMEOUT_S: Final = 1.0  # SQLite waits in C, deaf to Ctrl-C: so never for long at a time
_CONNECT_TIMEOUT_S: Final = 10

Result = TypeVar("Result")
Work = Callable[[Connection], Result]


class Database:
    """An open database. Safe for threads; a forked child opens its own connections."""

    def __init__(self, url: URL, *, deadline_s: float) -> None:
        self.sqlite_path = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
        self.shown = str(self.sqlite_path) if self.sqlite_path else _without_secrets(url)
        self._deadline_s = deadline_s
        if self.sqlite_path is not None:
            self.engine = _sqlite_engine(url, deadline_s)
            # One view for the several statements of a read, also beside a writer.
            self._reader = self.engine.execution_options(refart_begin=("BEGIN",))
            # FULL is one fsync a transaction. NORMAL could lose the last commits in a power failure, and with them
            # a version number that was already told to someone and would be given again.
            # IMMEDIATE takes the write lock at once: a reader that becomes a writer could only fail.
            self._writer, self._hasty = (
                self.engine.execution_options(refart_begin=(f"PRAGMA synchronous={each}", "BEGIN IMMEDIATE"))
                for each in ("FULL", "NORMAL")
            )
        else:
            self.engine = _postgres_engine(url, deadline_s)
            self._reader = self.engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            # Not the server's default, whatever that is: after waiting for a lock, commits must be visible.
            self._writer = self._hasty = self.engine.execution_options(isolation_level="READ COMMITTED")
        _open.add(self)
        # Dropped without close(), it must not leave open connections to the garbage collector.
        weakref.finalize(self, self.engine.dispose)

    def read(self, work: Work[Result]) -> Result:
        """Run `work` in a transaction that sees one state of the database."""
        return self._run(work, self._reader)

    def write(self, work: Work[Result], *, durable: bool = True) -> Result:
        """Run `work` in a transaction and commit it. `work` may be run several times, and may have landed
        before.

        With `durable`, a power failure afterwards takes nothing of it back. Without, nobody waits for the disk:
        it is there for all to read, and the next durable write takes it to the disk along with itself.
        """
        return self._run(work, self._writer if durable else self._hasty, writing=True, durable=durable)

    def probe(self) -> None:
        """Connect once, without waiting: a wrong address should not take a minute to say so."""
        try:
            self.engine.connect().close()
        except SQLAlchemyError as error:
            raise self._explain(error) from error

    def close(self) -> None:
        self.engine.dispose()

    def _explain(self, error: Exception) -> RefartError:
        return faults.explain(error, self.shown, self.sqlite_path)

    def _run(
        self, work: Work[Result], engine: Engine, *, writing: bool = False, durable: bool = True
    ) -> Result:
        give_up_s = time.monotonic() + self._deadline_s
        attempt = 0
        while True:
            try:
                with engine.begin() as connection:
                    if writing and self.sqlite_path is None:
                        milliseconds = max(1, int((give_up_s - time.monotonic()) * 1000))
                        begin = _BEGIN_POSTGRES if durable else _BEGIN_HASTY_POSTGRES
                        connection.execute(begin, {"limit": f"{milliseconds}ms"})
                    return work(connection)
            except (SQLAlchemyError, UnicodeEncodeError, OverflowError, CatalogError) as error:
                fault = error if isinstance(error, CatalogError) else self._explain(error)
                pause_s = random.uniform(0.5, 1.0) * 0.01 * 2 ** min(attempt, 7)  # noqa: S311 - only jitter
                in_time = time.monotonic() + pause_s < give_up_s
                if not (in_time and isinstance(fault, CatalogError) and fault.transient):
                    raise fault from (None if fault is error else error)
            attempt += 1
            time.sleep(pause_s)


_open: weakref.WeakSet[Database] = weakref.WeakSet()
_inherited: list[Pool] = []


def _after_fork() -> None:
    """Begin with no connections in a forked child, but never close the parent's.

    SQLite forbids it, and a PostgreSQL server would take it for the parent's goodbye: so they are kept.
    """
    for database in _open:
        _inherited.append(database.engine.pool)
        database.engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def connect(url: str | Path, *, create: bool, deadline_s: float) -> Database:
    """Open `sqlite:///path`, a path, or `postgresql://…`. What is behind it is checked, but not yet its
    schema.

    `InvalidInputError` for another kind of URL or a SQLite file on a network file system; `NotFoundError` for
    a SQLite file that does not exist, where `create` is False (or its folder, where it is True).
    """
    parsed = URL.create("sqlite", database=str(url)) if isinstance(url, Path) else _parse(url)
    if parsed.get_backend_name() == "sqlite":
        _check_sqlite_file(parsed, create=create)
        return Database(parsed, deadline_s=deadline_s)
    database = Database(parsed, deadline_s=deadline_s)
    try:
        database.probe()
    except BaseException:
        database.close()
        raise
    return database


def _parse(url: str) -> URL:
    usage = "use sqlite:///path/to/catalog.db or postgresql://user@host:5432/database"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Not chained: their messages quote the URL, which may hold a password.
        raise InvalidInputError(f"the catalog URL cannot be read: {usage}") from None
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite":
        raise InvalidInputError(f"a catalog cannot live at {parsed.drivername}://: {usage}")
    if parsed.host or parsed.query or parsed.database in (None, "", ":memory:"):
        raise InvalidInputError(f"a SQLite catalog needs the path of a file and no options: {usage}")
    return parsed


def _without_secrets(url: URL) -> str:
    """The URL to show: the password hidden, and no query (libpq takes a password there, too)."""
    return url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)


def _check_sqlite_file(url: URL, *, create: bool) -> None:
    path = Path(url.database or "")
    if not path.exists():
        if not create:
            raise NotFoundError(f"there is no catalog at {path}")
        if not path.absolute().parent.is_dir():
            raise NotFoundError(f"the folder of the catalog {path} does not exist: create it first")
    elif not path.is_file():
        raise InvalidInputError(f"the catalog {path} must be a file, but something else is there")
    network = proc.network_mount(path)
    if network is not None:
        kind, mount_point = network
        raise InvalidInputError(
            f"the catalog {path} would lie on {kind} (mounted at {mount_point}), where SQLite loses data when"
            " two machines write: keep it on a local disk, or use a PostgreSQL catalog"
        )


def _sqlite_engine(url: URL, deadline_s: float) -> Engine:
    engine = create_engine(
        url,
        # None: sqlite3 begins no transaction by itself, so that ours decide when they lock.
        connect_args={"timeout": min(_BUSY_TIMEOUT_S, deadline_s), "isolation_level": None},
        pool_timeout=deadline_s,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        # Readers go on while one writes. Stays set in the file: once it is, this asks for no lock.
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError(f"the file system offers no write-ahead log (got {mode})")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        for statement in connection.get_execution_options().get("refart_begin", ("BEGIN",)):
            connection.exec_driver_sql(statement)

    return engine


def _postgres_engine(url: URL, deadline_s: float) -> Engine:
    arguments: dict[str, Any] = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "application_name": "refart",
        "keepalives_idle": 60,  # notice within minutes, not hours, that the network is gone
    }
    defaults = {key: value for key, value in arguments.items() if key not in url.query}
    try:
        return create_engine(
            url,
            # Prepared statements would tie us to one server session, which poolers such as PgBouncer do not keep.
            connect_args={"prepare_threshold": None, **defaults},
            pool_pre_ping=True,
            pool_timeout=deadline_s,
            hide_parameters=True,
        )
    except ImportError as error:
        raise NotInstalledError.of("a catalog in PostgreSQL", error, extra="postgres") from error


_BEGIN_POSTGRES: Final = text("SELECT set_config('lock_timeout', :limit, true)")
_BEGIN_HASTY_POSTGRES: Final = text(
    "SELECT set_config('lock_timeout', :limit, true), set_config('synchronous_commit', 'off', true)"
)
