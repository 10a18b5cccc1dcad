"""Reading the files that drivers open."""

from __future__ import annotations

import io
from contextlib import closing
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFile

from refart.sources.pinned import CHUNK_BYTES


def open_file(fs: Any, path: str) -> BinaryIO:
    """A file to read from its beginning, of one's own: all readers of one in memory get the same object, position
    included."""
    file: Any = fs.open(path, "rb")
    return io.BytesIO(file.getvalue()) if isinstance(file, MemoryFile) else file


def read_chunk(file: BinaryIO, position: int, size: int | None) -> bytes:
    """The next bytes, `b""` at the end; `position` is where the last ones ended."""
    if size is not None and position < size and hasattr(file, "readv"):
        return _readv(file, position, min(size - position, CHUNK_BYTES))
    return file.read(CHUNK_BYTES)


def read_range(fs: Any, path: str, start: int, stop: int) -> bytes:
    """The bytes from `start` to `stop`."""
    if type(fs).cat_file is not AbstractFileSystem.cat_file:
        data: bytes = fs.cat_file(path, start, stop)
        return data
    with closing(open_file(fs, path)) as file:
        if hasattr(file, "readv"):
            return _readv(file, start, stop - start)
        file.seek(start)
        return file.read(stop - start)


def _readv(file: Any, start: int, count: int) -> bytes:
    """paramiko asks for 32 KiB and waits, 32 KiB and waits, unless it is told what will be wanted."""
    [data] = file.readv([(start, count)])
    return bytes(data)
