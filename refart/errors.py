"""Every error refart raises on purpose, grouped by what a caller would do about it.

    RefartError
    ├── InvalidInputError        (ValueError)         fix the argument
    ├── NotFoundError            (LookupError)        name something that exists
    │   └── ReferenceMissingError (FileNotFoundError) the object behind an entry is gone
    ├── ConflictError                                 someone else, or an earlier call, got there first
    │   └── FinalizedError                            a logged version cannot change: new_draft()
    ├── ReferenceChangedError                         the object behind an entry holds other bytes now
    ├── ChecksumError                                 bytes arrived, and they are not the recorded ones
    ├── PermissionDeniedError    (PermissionError)    get access
    ├── SourceError              (OSError)            a source failed; `transient` says whether to retry
    ├── StoreError               (OSError)            our own store failed (full, read-only, unreachable)
    ├── CatalogError                                  the catalog failed (locked, unreachable)
    ├── FormatError                                   data written by a newer refart, or damaged
    └── NotInstalledError        (ImportError)        install the package that the message names

Each class carries the exit code that the command line ends with; `docs/errors.md` has the table.
Codes are append-only: scripts match on them.
"""

from __future__ import annotations

from typing import ClassVar


class RefartError(Exception):
    """Base of all errors that refart raises on purpose."""

    exit_code: ClassVar[int] = 1


class InvalidInputError(RefartError, ValueError):
    """An argument, a name, a path or a URI is not acceptable; nothing was done."""

    exit_code = 2


class NotFoundError(RefartError, LookupError):
    """A project, artifact, version, alias, run, entry or bucket does not exist."""

    exit_code = 3


class ConflictError(RefartError):
    """The request contradicts what is already there (other type, other bytes, an alias in use)."""

    exit_code = 4


class FinalizedError(ConflictError):
    """A logged version is immutable; `new_draft()` gives an editable copy."""


class ReferenceChangedError(RefartError):
    """The object behind an entry no longer holds the bytes that were logged."""

    exit_code = 5


class ReferenceMissingError(NotFoundError, FileNotFoundError):
    """The object behind an entry is gone: neither its pin nor its key can be read."""

    exit_code = 5


class ChecksumError(RefartError):
    """Bytes were received whole, but are not the recorded ones; they were not handed over."""

    exit_code = 6


class PermissionDeniedError(RefartError, PermissionError):
    """Access to an object, a bucket, the store or the catalog is denied."""

    exit_code = 7


class SourceError(RefartError, OSError):
    """A source failed. `transient` is True when trying again may help (throttling, a lost connection)."""

    exit_code = 8

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class StoreError(RefartError, OSError):
    """The store cannot be read or written (full, read-only, unreachable)."""

    exit_code = 8


class CatalogError(RefartError):
    """The catalog cannot be reached, or stayed locked for longer than the deadline."""

    exit_code = 8

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class FormatError(RefartError):
    """A catalog, store or manifest is damaged, or was written by a newer refart."""

    exit_code = 9


class NotInstalledError(RefartError, ImportError):
    """A package is not installed that only some need: a driver of a place, or one of an extra."""

    exit_code = 8

    @classmethod
    def of(
        cls, what: str, error: ImportError, *, extra: str | None = None, advice: str | None = None
    ) -> NotInstalledError:
        """`what` needs the package that `error` misses: `extra` brings it, else `advice` says how it comes."""
        missing = error.__cause__ if isinstance(error.__cause__, ImportError) else error  # fsspec wraps it
        package = missing.name or str(missing)
        if extra is not None:
            advice = f"pip install 'refart[{extra}]'"
        return cls(f"{what} needs {package}, which is not installed: {advice or f'pip install {package}'}")
