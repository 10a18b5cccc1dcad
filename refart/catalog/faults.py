"""Driver errors in refart's words: what failed, at which catalog, and what to do.

Only the driver's own message is quoted; SQLAlchemy's would carry the statement and its parameters.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy import exc

from refart.catalog import proc
from refart.errors import CatalogError, FormatError, InvalidInputError, PermissionDeniedError, RefartError


def explain(error: Exception, shown: str, sqlite_path: Path | None) -> RefartError:
    """The refart error for what a statement or a connection raised. `CatalogError.transient` says: try
    again."""
    cause = getattr(error, "orig", None) or error
    if isinstance(error, exc.TimeoutError):
        return CatalogError(
            f"all connections of this process to the catalog {shown} stayed busy", transient=True
        )
    if not isinstance(error, exc.DBAPIError):  # encoding a parameter failed, before any statement ran
        return InvalidInputError(f"the catalog {shown} cannot store a value: {cause}")
    message = " ".join(str(cause).split())
    if sqlite_path is not None:
        return _sqlite(cause, message, sqlite_path)
    return _postgres(error, message, shown)


def _sqlite(cause: BaseException, message: str, path: Path) -> RefartError:
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            holder = proc.lock_holder(path, Path(f"{path}-shm")) or "another process"
            return CatalogError(
                f"the catalog {path} is locked by {holder}: wait for it or end it, then try again",
                transient=True,
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return PermissionDeniedError(
                f"the catalog {path} is read-only for this user: get write access to the file and its folder"
            )
        case sqlite3.SQLITE_CANTOPEN if not (_writable(path.parent) and _writable(path)):
            return PermissionDeniedError(
                f"the catalog {path} cannot be opened: get read and write access to the file and its folder"
            )
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return FormatError(
                f"{path} is not a SQLite database, or is damaged ({message}): restore it from a backup"
            )
        case sqlite3.SQLITE_ERROR:
            return FormatError(f"{path} does not hold the tables of a refart catalog: {message}")
        case sqlite3.SQLITE_FULL:
            return CatalogError(f"the disk that holds the catalog {path} is full: make room, then try again")
        case _:
            return CatalogError(f"the catalog {path} failed: {message}")


def _writable(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)


_TRANSIENT: Final = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "53300",  # too_many_connections
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
    }
)

# The server gives no SQLSTATE for a connection it refuses, only English text (or the server's language; then
# the error is a CatalogError that quotes it).
_DENIED: Final = (
    "authentication failed",
    "no pg_hba.conf entry",
    "no password supplied",
    "permission denied",
    "role ",
)


def _postgres(error: exc.DBAPIError, message: str, shown: str) -> RefartError:
    state = getattr(error.orig, "sqlstate", None) or ""
    if state == "55P03":  # lock_not_available
        return CatalogError(
            f"the catalog {shown} stayed locked by another session: pg_stat_activity on the server shows"
            " which one",
            transient=True,
        )
    if state in _TRANSIENT:
        return CatalogError(f"the catalog {shown} is busy or restarting: {message}", transient=True)
    if error.connection_invalidated:
        return CatalogError(
            f"the connection to the catalog {shown} was lost: {message}; a call that was saving may be made"
            " again, nothing is saved twice",
            transient=True,
        )
    if not state and isinstance(error, exc.OperationalError):  # could not connect
        if any(text in message for text in _DENIED):
            return PermissionDeniedError(f"the catalog {shown} refuses the login: {message}")
        if "FATAL:" in message and "too many" not in message and "starting up" not in message:
            return CatalogError(f"the catalog {shown} cannot be opened: {message}")
        return CatalogError(f"the catalog {shown} cannot be reached: {message}", transient=True)
    if state in ("42501", "25006"):  # insufficient_privilege, read_only_sql_transaction
        return PermissionDeniedError(
            f"the catalog {shown} may not be written by this user or server: {message}"
        )
    if state.startswith("22") or isinstance(error, exc.DataError):
        return InvalidInputError(f"the catalog {shown} cannot store a value: {message}")
    if state.startswith("42"):
        return FormatError(f"{shown} does not hold the tables of a refart catalog: {message}")
    return CatalogError(f"the catalog {shown} failed: {message}")
