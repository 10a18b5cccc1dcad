"""A store in a local folder."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from refart import files, names
from refart.errors import PermissionDeniedError, RefartError, StoreError
from refart.store.base import TEMPORARY, Store, StoredObject, check_kind, check_unchanged, key_of, name_of


class FolderStore(Store):
    """A store in a local folder. Every object appears whole (a link to a synced temporary file), read-only.

    Names are synced together, by `sync`: a folder takes as long for a thousand names as for one. Objects found there
    count, too: whoever put them may not have synced them yet.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        path = url[len("file://") :] if names.uri_scheme(url) == "file" else os.path.expanduser(url)
        self._root = os.path.abspath(path)
        self._temporary = os.path.join(self._root, TEMPORARY)
        self._unsynced: set[str] = set()
        """Folders with names that a power failure could take."""
        self._syncing = threading.Lock()

    def probe(self) -> None:
        with self._failing("write", "a trial"):
            os.makedirs(self._temporary, exist_ok=True)
            with files.temporary_file(self._temporary):
                pass

    def sync(self) -> None:
        with self._syncing:  # a second caller waits, since the first may be busy with its folders
            while self._unsynced:
                folder = self._unsynced.pop()  # before it is synced: the next name in it counts again
                try:
                    with self._failing("sync", os.path.relpath(folder, self._root)):
                        files.sync_folder(folder)
                except BaseException:
                    self._unsynced.add(folder)
                    raise

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

    def for_arrow(self, kind: str, keys: Iterable[str]) -> tuple[list[str], Any]:
        from pyarrow.fs import LocalFileSystem  # here, since nothing else in a store needs pyarrow

        return [os.path.join(self._root, name_of(kind, key)) for key in keys], LocalFileSystem()

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
        target = os.path.join(self._root, name)
        folder = os.path.dirname(target)
        if stored is not None and (sha256 is None or stored == size):
            self._to_sync(folder)
            return False
        with self._failing("write", name):
            os.makedirs(self._temporary, exist_ok=True)
            os.makedirs(folder, exist_ok=True)
            with files.temporary_file(self._temporary, mode=files.READ_ONLY) as temporary:
                check_unchanged(source, files.copy_hashed(source, temporary), sha256)
                files.sync(temporary)
                if stored is not None:
                    os.replace(temporary.name, target)
                    created = True
                else:
                    created = files.place_new(temporary.name, target)
        self._to_sync(folder)
        return created

    def _to_sync(self, folder: str) -> None:
        """Note a folder with a name that may be new, and those above it, in which it may be new itself."""
        self._unsynced.add(folder)
        while folder != self._root:
            folder = os.path.dirname(folder)
            self._unsynced.add(folder)

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


def _listed(folder: str) -> list[os.DirEntry[str]]:
    """What lies in a folder; nothing where there is no folder."""
    try:
        with os.scandir(folder) as listing:
            return list(listing)
    except (FileNotFoundError, NotADirectoryError):
        return []
