"""A store in a local folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from refart import files, names
from refart.errors import PermissionDeniedError, RefartError, StoreError
from refart.store.base import TEMPORARY, Store, StoredObject, check_kind, check_unchanged, key_of, name_of


class FolderStore(Store):
    """A store in a local folder. Every object appears whole (a link to a synced temporary file),
    read-only."""

    def __init__(self, url: str) -> None:
        self.url = url
        path = url[len("file://") :] if names.uri_scheme(url) == "file" else os.path.expanduser(url)
        self._root = os.path.abspath(path)
        self._temporary = os.path.join(self._root, TEMPORARY)

    def open(self, kind: str, key: str) -> BinaryIO:
        name = name_of(kind, key)
        with self._failing("read", name):
            return Path(self._root, name).open("rb")

    def chunks(self, kind: str, key: str) -> Iterator[bytes]:
        with self.open(kind, key) as file, self._failing("read", name_of(kind, key)):
            while chunk := file.read(files.CHUNK_BYTES):
                yield chunk

    def local_path(self, kind: str, key: str) -> str | None:
        return os.path.join(self._root, name_of(kind, key))

    def keys(self, kind: str) -> Iterator[StoredObject]:
        with self._failing("list", kind):
            for folder in _listed(os.path.join(self._root, check_kind(kind))):
                for item in _listed(folder.path):
                    key = key_of(kind, item.name)
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
        folder = os.path.dirname(target)
        with self._failing("write", name):
            changed = [*_make_folder(self._temporary), *_make_folder(folder), folder]
            with files.temporary_file(self._temporary, mode=files.READ_ONLY) as temporary:
                check_unchanged(source, files.copy_hashed(source, temporary), sha256)
                files.sync(temporary)
                if stored is not None:
                    os.replace(temporary.name, target)
                    created = True
                else:
                    created = _link(temporary.name, target)
            # Together, at the end: the first sync takes most file systems' whole journal to the disk.
            for each in changed:
                files.sync_folder(each)
        return created

    def _creates_exclusively(self) -> bool:
        return True  # a link is

    def _is_empty(self) -> bool:
        with self._failing("list", "the folder"):
            # Another process may be making the same store right now: it has begun with the temporary folder.
            return all(item.name == TEMPORARY for item in _listed(self._root))

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


def _make_folder(path: str) -> list[str]:
    """Make a folder and those above it where they are missing; returns the folders that have a new one to sync."""
    if os.path.isdir(path):
        return []
    parent = os.path.dirname(path)
    above = _make_folder(parent)
    with suppress(FileExistsError):
        os.mkdir(path)
    return [*above, parent]


def _listed(folder: str) -> list[os.DirEntry[str]]:
    """What lies in a folder; nothing where there is no folder."""
    try:
        with os.scandir(folder) as listing:
            return list(listing)
    except (FileNotFoundError, NotADirectoryError):
        return []
