"""What every store is.

| kind        | name under the URL              | key                                             |
| ----------- | ------------------------------- | ----------------------------------------------- |
| `blobs`     | `blobs/ab/abcd…`                | SHA-256 of the bytes of a managed file          |
| `shards`    | `shards/ab/abcd….parquet`       | digest of the rows (see `docs/format.md`)       |
| `manifests` | `manifests/ab/abcd….json`       | digest of the manifest index                    |

`refart-store.json` says that a folder is a store, of which format, and whether its server creates exclusively.
Objects are written once and never changed, so that writers need no lock: whoever comes second finds what it was
about to write. What lies under `tmp/` is in the making, or left over.
"""

from __future__ import annotations

import io
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple

from refart import files
from refart.errors import ConflictError, FormatError, InvalidInputError, NotFoundError
from refart.files import StrPath

FORMAT: Final = 1
MARKER: Final = "refart-store.json"
TEMPORARY: Final = "tmp"
SUFFIXES: Final = {"blobs": "", "shards": ".parquet", "manifests": ".json"}
KINDS: Final = tuple(SUFFIXES)

_KEY: Final = re.compile(r"[0-9a-f]{64}")
_EXCLUSIVE: Final = "exclusive_create"


class StoredObject(NamedTuple):
    """One object of a listing."""

    key: str
    size: int
    modified_s: float
    """Seconds since 1970, by the clock of the storage."""


class Store(ABC):
    """Content-addressed bytes of the kinds `blobs`, `shards` and `manifests`; for any number of threads.

    What is put can be read at once, by everyone. Before something that must not be lost refers to it, `sync` waits
    until it would survive a power failure.

    Keys are 64 lower-case hex digits; any other is an `InvalidInputError`. Every method raises
    `NotFoundError` for an object that is not there, `PermissionDeniedError` and `StoreError` where the
    storage fails.
    """

    url: str
    exclusive = True
    """Whether an object that exists is never written again, whoever tries: False where the server cannot."""

    def has(self, kind: str, key: str) -> bool:
        """Whether the object is there."""
        return self._size(name_of(kind, key)) is not None

    def size(self, kind: str, key: str) -> int:
        """Bytes of the object."""
        size = self._size(name_of(kind, key))
        if size is None:
            raise self._missing(name_of(kind, key))
        return size

    def put_file(self, kind: str, key: str, path: StrPath, *, sha256: bool = True) -> bool:
        """Store a local file; returns whether it was not there yet.

        With `sha256`, the key is the SHA-256 of the bytes, and they are hashed while they are copied: a file
        that has other bytes by now is a `ConflictError`, and nothing is stored. An object that is there
        already with the right size is not written again; one of another size is damaged, and replaced.
        """
        name = name_of(kind, key)
        try:
            file = files.open_for_reading(path)
        except NotFoundError as error:
            raise ConflictError(
                f"{os.fspath(path)!r} is gone since it was added; put it back or add again"
            ) from error
        with file:
            return self._put(name, file, os.fstat(file.fileno()).st_size, key if sha256 else None)

    def put_bytes(self, kind: str, key: str, data: bytes) -> bool:
        """Store bytes that the caller made the key from; returns whether they were not there yet."""
        return self._put(name_of(kind, key), io.BytesIO(data), len(data), None)

    def probe(self) -> None:
        """Write a few bytes and remove them again; raises where that fails."""
        self._creates_exclusively()

    def sync(self) -> None:
        """Return only when everything that was put so far, or found there, would survive a power failure."""
        return  # an object store answers no sooner

    def read(self, kind: str, key: str) -> bytes:
        """All bytes of one object."""
        return self._read(name_of(kind, key))

    @abstractmethod
    def open(self, kind: str, key: str) -> BinaryIO:
        """A seekable, read-only stream of one object."""

    @abstractmethod
    def chunks(self, kind: str, key: str) -> Iterator[bytes]:
        """The bytes of one object, in order."""

    @abstractmethod
    def local_path(self, kind: str, key: str) -> str | None:
        """A path to read the object in place (whether it is there is not looked at); None for a remote
        store."""

    @abstractmethod
    def for_arrow(self, kind: str, keys: Iterable[str]) -> tuple[list[str], Any]:
        """Paths of objects, and the file system of pyarrow that reads them; whether they are there is not looked at."""

    @abstractmethod
    def keys(self, kind: str) -> Iterator[StoredObject]:
        """All objects of a kind, in no order. What is not an object of refart is left out."""

    def check_marker(self, *, create: bool, single_writer: bool = False) -> None:
        """Make sure that this is a store of a format we know; `open_store` has called it."""
        marker = self._marker()
        if marker is None and create and self._is_empty():
            self.exclusive = self._creates_exclusively()
            self._check_writers(single_writer)
            data = json.dumps({"format": FORMAT, _EXCLUSIVE: self.exclusive}).encode()
            self._put(MARKER, io.BytesIO(data), len(data), None)
            self.sync()
        if marker is None:
            marker = self._marker()  # ours, or that of another process which has just made the same store
        if marker is None:
            if not create:
                raise NotFoundError(f"there is no refart store at {self.url}")
            raise InvalidInputError(
                f"{self.url} holds other things and is no refart store (it has no {MARKER}): name an empty place"
            )
        self.exclusive = marker.get(_EXCLUSIVE, True)
        self._check_writers(single_writer)

    def _marker(self) -> dict[str, Any] | None:
        try:
            data = self._read(MARKER)
        except NotFoundError:
            return None
        try:
            marker: dict[str, Any] = json.loads(data)
            version, exclusive = marker["format"], marker.get(_EXCLUSIVE, True)
        except (ValueError, TypeError, KeyError, AttributeError):
            version = exclusive = None
        if version is None or (version == FORMAT and not isinstance(exclusive, bool)):
            raise FormatError(f'{self.url}/{MARKER} is damaged: it must say {{"format": {FORMAT}}}')
        if version != FORMAT:
            raise FormatError(
                f"{self.url} has store format {version!r}, this refart knows {FORMAT}: upgrade refart"
            )
        return marker

    def _check_writers(self, single_writer: bool) -> None:
        if not self.exclusive and not single_writer:
            raise InvalidInputError(
                f"the server of {self.url} ignores exclusive creation, so that two writers could replace each other's"
                " objects: keep the store elsewhere, or set single_writer (REFART_SINGLE_WRITER=true) where no two"
                " processes write to it at the same time"
            )

    @abstractmethod
    def _creates_exclusively(self) -> bool:
        """Whether the storage refuses to create what exists; leaves nothing behind."""

    @abstractmethod
    def _size(self, name: str) -> int | None: ...

    @abstractmethod
    def _read(self, name: str) -> bytes: ...

    @abstractmethod
    def _put(self, name: str, source: BinaryIO, size: int, sha256: str | None) -> bool: ...

    @abstractmethod
    def _is_empty(self) -> bool: ...

    def _missing(self, name: str) -> NotFoundError:
        return NotFoundError(f"{name} is not in the store at {self.url}")


def check_kind(kind: str) -> str:
    if kind not in SUFFIXES:
        raise InvalidInputError(f"kind {kind!r} is none of {', '.join(KINDS)}")
    return kind


def name_of(kind: str, key: str) -> str:
    """Where an object lies under the store's URL."""
    if not _KEY.fullmatch(key):
        raise InvalidInputError(f"store key {key[:80]!r} is not 64 lower-case hex digits")
    return f"{check_kind(kind)}/{key[:2]}/{key}{SUFFIXES[kind]}"


def key_of(kind: str, file_name: str) -> str | None:
    """The key of the object whose name ends so; None for what is not refart's."""
    key = file_name[:64]
    return key if _KEY.fullmatch(key) and file_name[64:] == SUFFIXES[kind] else None


def check_unchanged(source: BinaryIO, found: str, sha256: str | None) -> None:
    """Raise `ConflictError` where the bytes that were copied are not those that were added."""
    if sha256 is not None and found != sha256:
        raise ConflictError(
            f"{os.fspath(source.name)!r} changed since it was added: expected sha256:{sha256},"
            f" found sha256:{found}; nothing was stored: add it again"
        )
