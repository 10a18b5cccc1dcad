"""The store: content-addressed bytes under one URL, where refart writes managed files and manifests.

| kind        | name under the URL              | key                                             |
| ----------- | ------------------------------- | ----------------------------------------------- |
| `blobs`     | `blobs/ab/abcd…`                | SHA-256 of the bytes of a managed file          |
| `shards`    | `shards/ab/abcd….parquet`       | digest of the rows (see `docs/format.md`)       |
| `manifests` | `manifests/ab/abcd….json`       | digest of the manifest index                    |

`refart-store.json` says that a folder is a store, and of which format. Objects are written once and never
changed, so that writers need no lock: whoever comes second finds what it was about to write. That holds even
on servers that ignore a conditional write, since one key never stands for two contents.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import fsspec

from refart import files, names
from refart.errors import (
    ConflictError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    RefartError,
    StoreError,
)
from refart.files import StrPath

FORMAT: Final = 1
MARKER: Final = "refart-store.json"
SUFFIXES: Final = {"blobs": "", "shards": ".parquet", "manifests": ".json"}
KINDS: Final = tuple(SUFFIXES)

PART_BYTES: Final = 16 << 20  # 16 MiB: up to here a file is sent in one request, a larger one in such parts
MAX_PARTS: Final = 9_000  # S3 takes 10,000
RANGE_BYTES: Final = 8 << 20
CHECKED_BYTES: Final = 1 << 20
"""An object this small is read back whole where it is unclear who wrote it; a larger one is known by its
size."""

_TEMPORARY: Final = "tmp"
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_PROTOCOLS: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})


class StoredObject(NamedTuple):
    """One object of a listing."""

    key: str
    size: int
    modified_s: float
    """Seconds since 1970, by the clock of the storage."""


def open_store(url: str, storage_options: Mapping[str, Any] | None = None, *, create: bool = True) -> Store:
    """Open the store at a folder (a path or `file://`), or at an fsspec URL (`s3://`, `gs://`, `az://`,
    `abfs://`).

    An empty or missing folder becomes a store where `create` is true. `storage_options` are those of the
    fsspec driver. Drivers that cannot write an object as a whole (SFTP, SMB, …) are not accepted.

    Raises `InvalidInputError` for a URL that cannot be a store or carries credentials, and for a folder that
    holds other things; `NotFoundError` where there is no store and `create` is false; `FormatError` for one
    that a newer refart wrote; `PermissionDeniedError` and `StoreError` where the storage says no.
    """
    names.check_not_secret(url, "the store's URL")
    scheme = names.uri_scheme(url)
    store: Store
    if scheme == "file" or (scheme is None and "::" not in url):
        if storage_options:
            raise InvalidInputError(
                f"a store in a folder takes no storage options: {', '.join(storage_options)}"
            )
        store = FolderStore(url)
    elif scheme in _PROTOCOLS and "::" not in url:
        store = ObjectStore(url, storage_options or {})
    else:
        raise InvalidInputError(
            f"{url!r} cannot hold a store, which needs exclusive, whole writes: use a folder, or one of"
            f" {', '.join(sorted(p + '://' for p in _PROTOCOLS))}"
        )
    store.check_marker(create=create)
    return store


class Store(ABC):
    """Content-addressed bytes of the kinds `blobs`, `shards` and `manifests`; for any number of threads.

    Keys are 64 lower-case hex digits; any other is an `InvalidInputError`. Every method raises
    `NotFoundError` for an object that is not there, `PermissionDeniedError` and `StoreError` where the
    storage fails.
    """

    url: str

    def has(self, kind: str, key: str) -> bool:
        """Whether the object is there."""
        return self._size(_name(kind, key)) is not None

    def size(self, kind: str, key: str) -> int:
        """Bytes of the object."""
        size = self._size(_name(kind, key))
        if size is None:
            raise self._missing(_name(kind, key))
        return size

    def put_file(self, kind: str, key: str, path: StrPath, *, sha256: bool = True) -> bool:
        """Store a local file; returns whether it was not there yet.

        With `sha256`, the key is the SHA-256 of the bytes, and they are hashed while they are copied: a file
        that has other bytes by now is a `ConflictError`, and nothing is stored. An object that is there
        already with the right size is not written again; one of another size is damaged, and replaced.
        """
        name = _name(kind, key)
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
        return self._put(_name(kind, key), io.BytesIO(data), len(data), None)

    def read(self, kind: str, key: str) -> bytes:
        """All bytes of one object."""
        return self._read(_name(kind, key))

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
    def keys(self, kind: str) -> Iterator[StoredObject]:
        """All objects of a kind, in no order. What is not an object of refart is left out."""

    def check_marker(self, *, create: bool) -> None:
        """Make sure that this is a store of a format we know; `open_store` has called it."""
        try:
            data = self._read(MARKER)
        except NotFoundError:
            if not create:
                raise NotFoundError(f"there is no refart store at {self.url}") from None
            if not self._is_empty():
                raise InvalidInputError(
                    f"{self.url} holds other things and is no refart store (it has no {MARKER}):"
                    " name an empty place"
                ) from None
            marker = json.dumps({"format": FORMAT}).encode()
            self._put(MARKER, io.BytesIO(marker), len(marker), None)
            data = self._read(MARKER)
        try:
            version = json.loads(data)["format"]
        except (ValueError, TypeError, KeyError):
            raise FormatError(f'{self.url}/{MARKER} is damaged: it must say {{"format": {FORMAT}}}') from None
        if version != FORMAT:
            raise FormatError(
                f"{self.url} has store format {version!r}, this refart knows {FORMAT}: upgrade refart"
            )

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


class FolderStore(Store):
    """A store in a local folder. Every object appears whole (a link to a synced temporary file),
    read-only."""

    def __init__(self, url: str) -> None:
        self.url = url
        path = url[len("file://") :] if names.uri_scheme(url) == "file" else os.path.expanduser(url)
        self._root = os.path.abspath(path)
        self._temporary = os.path.join(self._root, _TEMPORARY)

    def open(self, kind: str, key: str) -> BinaryIO:
        name = _name(kind, key)
        with self._failing("read", name):
            return Path(self._root, name).open("rb")

    def chunks(self, kind: str, key: str) -> Iterator[bytes]:
        with self.open(kind, key) as file, self._failing("read", _name(kind, key)):
            while chunk := file.read(files.CHUNK_BYTES):
                yield chunk

    def local_path(self, kind: str, key: str) -> str | None:
        return os.path.join(self._root, _name(kind, key))

    def keys(self, kind: str) -> Iterator[StoredObject]:
        with self._failing("list", kind):
            for folder in _listed(os.path.join(self._root, _kind(kind))):
                for item in _listed(folder.path):
                    key = _key_of(kind, item.name)
                    if key is not None:
                        found = item.stat()
                        yield StoredObject(key, found.st_size, found.st_mtime)

    def _size(self, name: str) -> int | None:
        with self._failing("read", name):
            try:
                return os.stat(os.path.join(self._root, name)).st_size
            except FileNotFoundError:
                return None

    def _read(self, name: str) -> bytes:
        with self._failing("read", name):
            return Path(self._root, name).read_bytes()

    def _put(self, name: str, source: BinaryIO, size: int, sha256: str | None) -> bool:
        stored = self._size(name)
        if stored is not None and (sha256 is None or stored == size):
            return False
        target = os.path.join(self._root, name)
        with self._failing("write", name):
            _make_folder(self._temporary)
            with files.temporary_file(self._temporary, mode=files.READ_ONLY) as temporary:
                _check(source, files.copy_hashed(source, temporary), sha256)
                files.sync(temporary)
                _make_folder(os.path.dirname(target))
                if stored is not None:
                    os.replace(temporary.name, target)
                    created = True
                else:
                    created = _link(temporary.name, target)
            files.sync_folder(os.path.dirname(target))
        return created

    def _is_empty(self) -> bool:
        with self._failing("list", "the folder"):
            # Another process may be making the same store right now: it has begun with the temporary folder.
            return all(item.name == _TEMPORARY for item in _listed(self._root))

    @contextmanager
    def _failing(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except RefartError:
            raise
        except FileNotFoundError as error:
            if doing == "read":
                raise self._missing(name) from error
            raise StoreError(f"cannot {doing} {name} in the store at {self.url}: {error.strerror}") from error
        except OSError as error:
            where = f"cannot {doing} {name} in the store at {self.url}: {error.strerror or error}"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreError(f"{where}; nothing was stored: free space there and try again") from error
            if error.errno == errno.EROFS:
                raise PermissionDeniedError(f"{where}; name a store that can be written") from error
            if isinstance(error, PermissionError):
                raise PermissionDeniedError(f"{where}; get access to that folder") from error
            raise StoreError(where) from error


class ObjectStore(Store):
    """A store behind an fsspec driver. Objects appear whole, because the server makes them so."""

    def __init__(self, url: str, storage_options: Mapping[str, Any]) -> None:
        self.url = url
        # A listing kept from earlier, or an instance shared with other code, would hide what others wrote.
        self._options = {**storage_options, "use_listings_cache": False, "skip_instance_cache": True}
        self._opened_in, self._opened = os.getpid(), self._open_driver()

    def _open_driver(self) -> tuple[Any, str]:
        try:
            fs, root = fsspec.core.url_to_fs(self.url, **self._options)
        except (ImportError, TypeError, ValueError) as error:
            raise InvalidInputError(f"the store at {self.url} cannot be opened: {error}") from error
        return fs, str(root).rstrip("/")

    @property
    def _fs(self) -> Any:
        """The driver. A forked child opens its own: event loops and sockets are its parent's."""
        if self._opened_in != os.getpid():  # two threads may open it twice, which does no harm
            self._opened = self._open_driver()
            self._opened_in = os.getpid()
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    def open(self, kind: str, key: str) -> BinaryIO:
        name = _name(kind, key)
        with self._failing("read", name):
            file: BinaryIO = self._fs.open(self._path(name), "rb", block_size=RANGE_BYTES)
            return file

    def chunks(self, kind: str, key: str) -> Iterator[bytes]:
        name, size = _name(kind, key), self.size(kind, key)
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
        _name(kind, key)
        return None

    def keys(self, kind: str) -> Iterator[StoredObject]:
        with self._failing("list", kind):
            try:
                listing = self._fs.find(self._path(_kind(kind)), detail=True)
            except FileNotFoundError:
                return
            for path, info in listing.items():
                key = _key_of(kind, path.rsplit("/", 1)[-1])
                if key is not None:
                    yield StoredObject(key, info["size"], _modified_s(info))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

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
        # A small object costs less to send than to ask for.
        if size > CHECKED_BYTES and self._is_there(name, size, sha256):
            return False
        if size > PART_BYTES:
            return self._create(
                name, size, sha256, lambda mode: self._send_parts(name, source, size, sha256, mode)
            )
        data = b"".join(files.chunks(source))
        _check(source, hashlib.sha256(data).hexdigest(), sha256)
        path = self._path(name)
        return self._create(name, len(data), sha256, lambda mode: self._fs.pipe_file(path, data, mode=mode))

    def _create(self, name: str, size: int, sha256: str | None, send: Callable[[str], object]) -> bool:
        """Send an object under a condition that it does not exist, and find out what became of it.

        When the answer is an error, the bytes may have landed all the same (the answer to a first try got
        lost, and the retry met our own object), or someone else's, which are the same. So the error counts
        only where the object is not there. What is there with the wrong size is damaged, and replaced.
        """
        with self._failing("write", name):
            try:
                send("create")
            except RefartError:
                raise
            except Exception as error:
                there = False
                with suppress(RefartError):  # the first error says more
                    there = self._is_there(name, size, sha256)
                if there:
                    return False
                if not _is_lost_condition(error):
                    raise
                send("overwrite")
        return True

    def _is_there(self, name: str, size: int, sha256: str | None) -> bool:
        stored = self._size(name)
        if stored is None or sha256 is None:
            return stored is not None
        if stored != size:
            return False
        return size > CHECKED_BYTES or hashlib.sha256(self._read(name)).hexdigest() == sha256

    def _send_parts(self, name: str, source: BinaryIO, size: int, sha256: str | None, mode: str) -> None:
        source.seek(0)
        part_bytes = max(PART_BYTES, size // MAX_PARTS)
        upload = self._fs.open(self._path(name), "xb" if mode == "create" else "wb", block_size=part_bytes)
        try:
            _check(source, files.copy_hashed(source, upload), sha256)
            upload.close()
        except BaseException:
            # Not completed, the parts never become an object. A driver's file that is not marked as closed
            # would complete it when it is collected.
            with suppress(Exception):
                upload.discard()
            upload.closed = True
            raise

    def _is_empty(self) -> bool:
        with self._failing("list", "the folder"):
            try:
                listing = self._fs.ls(self._root, detail=False)
                return all(
                    path.rstrip("/") == self._root for path in listing
                )  # a marker of the folder itself
            except FileNotFoundError:
                return True

    @contextmanager
    def _failing(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except RefartError:
            raise
        except FileNotFoundError as error:
            if doing == "read":
                raise self._missing(name) from error
            raise StoreError(
                f"cannot {doing} {name} in the store at {self.url}: the bucket or container does not exist;"
                " create it"
            ) from error
        except Exception as error:
            # Drivers let errors of their clients through: botocore, aiohttp, google-auth, of no common base.
            where = f"cannot {doing} {name} in the store at {self.url}: {type(error).__name__}: {error}"
            if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
                raise PermissionDeniedError(
                    f"{where}; check the credentials and their rights there"
                ) from error
            raise StoreError(where) from error


def _kind(kind: str) -> str:
    if kind not in SUFFIXES:
        raise InvalidInputError(f"kind {kind!r} is none of {', '.join(KINDS)}")
    return kind


def _name(kind: str, key: str) -> str:
    if not _KEY.fullmatch(key):
        raise InvalidInputError(f"store key {key[:80]!r} is not 64 lower-case hex digits")
    return f"{_kind(kind)}/{key[:2]}/{key}{SUFFIXES[kind]}"


def _key_of(kind: str, file_name: str) -> str | None:
    key = file_name[:64]
    return key if _KEY.fullmatch(key) and file_name[64:] == SUFFIXES[kind] else None


def _check(source: BinaryIO, found: str, sha256: str | None) -> None:
    if sha256 is not None and found != sha256:
        raise ConflictError(
            f"{os.fspath(source.name)!r} changed since it was added: expected sha256:{sha256},"
            f" found sha256:{found}; nothing was stored: add it again"
        )


def _link(temporary: str, target: str) -> bool:
    """Give a finished file its name, unless the name is taken; returns whether it was not."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        # No hard links here (FAT, some network file systems). A rename over the same bytes does no harm.
        os.replace(temporary, target)
    return True


def _make_folder(path: str) -> None:
    if not os.path.isdir(path):
        os.makedirs(path, exist_ok=True)
        files.sync_folder(os.path.dirname(path))


def _listed(folder: str) -> list[os.DirEntry[str]]:
    """What lies in a folder; nothing where there is no folder."""
    try:
        with os.scandir(folder) as listing:
            return list(listing)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_lost_condition(error: BaseException | None) -> bool:
    """Whether a server refused to create what exists (412), or saw two writers at once (409).

    s3fs says `FileExistsError` only where the server's answer names the condition; else the answer is the
    cause.
    """
    while error is not None:
        response = getattr(error, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        if isinstance(error, FileExistsError) or code in ("PreconditionFailed", "ConditionalRequestConflict"):
            return True
        error = error.__cause__
    return False


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
