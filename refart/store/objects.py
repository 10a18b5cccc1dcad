"""A store behind an fsspec driver."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, BinaryIO, Final, NamedTuple

import fsspec

from refart import files, names
from refart.errors import InvalidInputError, NotInstalledError, PermissionDeniedError, RefartError, StoreError
from refart.store import drivers
from refart.store.base import TEMPORARY, Store, StoredObject, check_kind, check_unchanged, key_of, name_of

PART_BYTES: Final = 16 << 20  # 16 MiB: up to here a file is sent in one request, a larger one in such parts
MAX_PARTS: Final = 9_000  # S3 takes 10,000
RANGE_BYTES: Final = 8 << 20
CHECKED_BYTES: Final = 1 << 20
"""An object this small is read back whole where it is unclear who wrote it; a larger one is known by its
size."""


class _Opened(NamedTuple):
    process: int
    fs: Any
    root: str
    driver: drivers.Driver


class ObjectStore(Store):
    """A store behind an fsspec driver. Objects appear whole, because the server makes them so."""

    def __init__(self, url: str, storage_options: Mapping[str, Any]) -> None:
        self.url = url
        # A listing kept from earlier, or an instance shared with other code, would hide what others wrote.
        self._options = {**storage_options, "use_listings_cache": False, "skip_instance_cache": True}
        self._opened = self._open()

    def _open(self) -> _Opened:
        kind = drivers.DRIVERS[names.uri_scheme(self.url) or ""]
        try:
            fs, root = fsspec.core.url_to_fs(self.url, **self._options)
        except ImportError as error:
            raise NotInstalledError.of(f"the store at {self.url}", error, extra=kind.extra) from error
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"the store at {self.url} cannot be opened: {error}") from error
        return _Opened(os.getpid(), fs, str(root).rstrip("/"), kind(fs))

    @property
    def _driver(self) -> drivers.Driver:
        return self._current().driver

    @property
    def _fs(self) -> Any:
        return self._current().fs

    def _current(self) -> _Opened:
        """The driver. A forked child opens its own: event loops and sockets are its parent's."""
        if self._opened.process != os.getpid():  # two threads may open it twice, which does no harm
            self._opened = self._open()
        return self._opened

    def open(self, kind: str, key: str) -> BinaryIO:
        name = name_of(kind, key)
        with self._failing("read", name):
            file: BinaryIO = self._fs.open(self._path(name), "rb", block_size=RANGE_BYTES)
            return file

    def chunks(self, kind: str, key: str) -> Iterator[bytes]:
        name, size = name_of(kind, key), self.size(kind, key)
        with self._failing("read", name):
            for start in range(0, size, RANGE_BYTES):
                end = min(start + RANGE_BYTES, size)
                chunk: bytes = self._fs.cat_file(self._path(name), start=start, end=end)
                if len(chunk) != end - start:
                    raise StoreError(
                        f"{name} in the store at {self.url} ended early, at {start + len(chunk):,} bytes"
                    )
                yield chunk

    def local_path(self, kind: str, key: str) -> str | None:
        name_of(kind, key)
        return None

    def for_arrow(self, kind: str, keys: Iterable[str]) -> tuple[list[str], Any]:
        from pyarrow.fs import FSSpecHandler, PyFileSystem  # here, see `FolderStore`

        return [self._path(name_of(kind, key)) for key in keys], PyFileSystem(FSSpecHandler(self._fs))

    def keys(self, kind: str) -> Iterator[StoredObject]:
        with self._failing("list", kind):
            try:
                listing = self._fs.find(self._path(check_kind(kind)), detail=True)
            except FileNotFoundError:
                return
            for path, info in listing.items():
                key = key_of(kind, path.rsplit("/", 1)[-1])
                if key is not None:
                    yield StoredObject(key, info["size"], _modified_s(info))

    def _path(self, name: str) -> str:
        return f"{self._opened.root}/{name}"

    def _size(self, name: str) -> int | None:
        with self._failing("read", name):
            try:
                info = self._fs.info(self._path(name))
            except FileNotFoundError:
                return None
            return int(info["size"]) if info["type"] == "file" else None

    def _read(self, name: str) -> bytes:
        with self._failing("read", name):
            data: bytes = self._fs.cat_file(self._path(name))
            return data

    def _put(self, name: str, source: BinaryIO, size: int, sha256: str | None) -> bool:
        # A small object costs less to send than to ask for, where the server refuses to write it again.
        if (size > CHECKED_BYTES or not self.exclusive) and self._is_there(name, size, sha256):
            return False
        if size > PART_BYTES:
            return self._create(
                name,
                size,
                sha256,
                lambda exclusive: self._send_parts(name, source, size, sha256, exclusive=exclusive),
            )
        data = b"".join(files.chunks(source))
        check_unchanged(source, hashlib.sha256(data).hexdigest(), sha256)
        path = self._path(name)
        return self._create(
            name, len(data), sha256, lambda exclusive: self._driver.send(path, data, exclusive=exclusive)
        )

    def _create(self, name: str, size: int, sha256: str | None, send: Callable[[bool], object]) -> bool:
        """Send an object under a condition that it does not exist, and find out what became of it.

        When the answer is an error, the bytes may have landed all the same (the answer to a first try got
        lost, and the retry met our own object), or someone else's, which are the same. So the error counts
        only where the object is not there. What is there with the wrong size is damaged, and replaced.
        """
        with self._failing("write", name):
            try:
                send(self.exclusive)
            except RefartError:
                raise
            except Exception as error:
                there = False
                with suppress(RefartError):  # the first error says more
                    there = self._is_there(name, size, sha256)
                if there:
                    return False
                if not drivers.is_taken(error):
                    raise
                send(False)
        return True

    def _is_there(self, name: str, size: int, sha256: str | None) -> bool:
        stored = self._size(name)
        if stored is None or sha256 is None:
            return stored is not None
        if stored != size:
            return False
        return size > CHECKED_BYTES or hashlib.sha256(self._read(name)).hexdigest() == sha256

    def _send_parts(
        self, name: str, source: BinaryIO, size: int, sha256: str | None, *, exclusive: bool
    ) -> None:
        source.seek(0)
        part_bytes = max(PART_BYTES, size // MAX_PARTS)
        digest, sent_bytes = hashlib.sha256(), 0
        upload = self._driver.begin(self._path(name), part_bytes, exclusive=exclusive)
        try:
            for part in _parts(source, part_bytes):
                digest.update(part)
                sent_bytes += len(part)
                upload.add(part)
            check_unchanged(source, digest.hexdigest(), sha256)
            upload.complete()
        except BaseException:
            upload.abort()
            raise
        stored = self._size(name)
        if stored != sent_bytes:
            raise StoreError(
                f"{name} did not arrive whole in the store at {self.url}: expected {sent_bytes:,} bytes, found"
                f" {stored}; try again"
            )

    def _creates_exclusively(self) -> bool:
        name = f"{TEMPORARY}/trial-{secrets.token_hex(8)}"
        path = self._path(name)
        with self._failing("write", name):
            try:
                self._driver.send(path, b"first", exclusive=True)
                self._driver.send(path, b"second", exclusive=True)
            except Exception as error:
                if drivers.is_not_implemented(error):
                    return False
                # A first one that is refused has met itself: its answer was lost, and the driver tried again.
                if not drivers.is_taken(error):
                    raise
                return True
            finally:
                with suppress(Exception):  # whoever may not delete keeps a few bytes under `tmp/`
                    self._fs.rm_file(path)
        return False

    def _is_empty(self) -> bool:
        root = self._opened.root
        # Another process may be making the same store right now: it has begun with a trial.
        ours = (root, f"{root}/{TEMPORARY}")
        with self._failing("list", "the folder"):
            try:
                return all(path.rstrip("/") in ours for path in self._fs.ls(root, detail=False))
            except FileNotFoundError as error:
                if drivers.is_missing_bucket(error):  # which some servers make on the first write
                    raise self._no_bucket("list", "the folder") from error
                return True

    def _no_bucket(self, doing: str, name: str) -> StoreError:
        return StoreError(
            f"cannot {doing} {name} in the store at {self.url}: the bucket or container does not exist; create it"
        )

    @contextmanager
    def _failing(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except RefartError:
            raise
        except Exception as error:
            where = f"cannot {doing} {name} in the store at {self.url}: {drivers.summary(error)}"
            if drivers.is_denied(error):
                raise PermissionDeniedError(
                    f"{where}; check the credentials and their rights there"
                ) from error
            if drivers.is_missing(error):
                raise (self._missing(name) if doing == "read" else self._no_bucket(doing, name)) from error
            if drivers.is_unreachable(error):
                raise StoreError(f"{where}; check the address, and the network") from error
            raise StoreError(where) from error


def _parts(source: BinaryIO, part_bytes: int) -> Iterator[bytes]:
    """The rest of a file in parts of equal size, but for the last."""
    part = bytearray()
    for chunk in files.chunks(source):
        part += chunk
        while len(part) >= part_bytes:
            yield bytes(part[:part_bytes])
            del part[:part_bytes]
    if part:
        yield bytes(part)


def _modified_s(info: Mapping[str, Any]) -> float:
    for key in ("LastModified", "last_modified", "updated", "mtime", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, str):
            return datetime.fromisoformat(value).timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    raise StoreError(f"the driver tells no modified time of {info.get('name')}")
