"""Bring files of this machine back: a file system keeps nothing of what was overwritten; the store or the cache may."""

from __future__ import annotations

import os
from contextlib import suppress
from io import FileIO
from typing import Final

from refart import checksums, files
from refart.context import Context, Local
from refart.entries import Entry
from refart.errors import ConflictError, PermissionDeniedError, SourceError
from refart.ops import seen
from refart.ops.stream import stream
from refart.sources.writing import check_same

_FILE: Final = "file://"


def kept(context: Context, entry: Entry) -> Entry | None:
    """A managed file of the same bytes as this entry, where the store or the cache of this machine has them."""
    sha256 = seen.sha256_of(context.local.cache, entry)
    if sha256 is None or not (context.local.cache.has(sha256) or context.store.has("blobs", sha256)):
        return None
    return Entry(entry.path, entry.size, f"sha256:{sha256}")


def write(context: Context, entry: Entry, uri: str, *, over: Entry | None) -> None:
    """Write the bytes of an entry to a file: by rename, when they are right and `over` still lies there.

    A file that is replaced gives its mode to the new one. Raises `ConflictError` where something else lies there,
    `PermissionDeniedError`, `SourceError`, and the errors of a stream.
    """
    path = _path_of(uri)
    if os.path.islink(path):  # the link stays, and leads to the bytes
        path = os.path.realpath(path)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = files.temporary_name(os.path.dirname(path))
        try:
            _bring(context, entry, temporary)
            if over is not None:
                os.chmod(temporary, os.stat(path).st_mode & 0o7777)
            check_same(uri, over, context.local.sources.for_uri(uri).stat(uri))
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        if isinstance(error, (PermissionDeniedError, SourceError)):
            raise
        raise _failed(error, path) from error


def delete(local: Local, found: Entry) -> None:
    """Delete a file that is still what was found. Raises as `write`."""
    uri = str(found.uri)
    check_same(uri, found, local.sources.for_uri(uri).stat(uri))
    try:
        os.unlink(_path_of(uri))
    except OSError as error:
        raise _failed(error, _path_of(uri)) from error


def _bring(context: Context, entry: Entry, temporary: str) -> None:
    sha256 = checksums.split(entry.content_id)[1] if entry.uri is None else None
    if sha256 is not None and context.local.cache.get(sha256, temporary, "copy"):
        return
    with stream(context.local, context.store, entry) as chunks, FileIO(temporary, "xb") as file:
        for chunk in chunks:
            files.write_all(file, chunk)


def _path_of(uri: str) -> str:
    return uri.removeprefix(_FILE)


def _failed(error: OSError, path: str) -> ConflictError | PermissionDeniedError | SourceError:
    if isinstance(error, (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)):
        return ConflictError(f"{path!r} cannot be written where it was: {error.strerror}")
    if isinstance(error, PermissionError):
        return PermissionDeniedError(f"{path!r} cannot be written: {error.strerror}; get access to it")
    return SourceError(f"{path!r} cannot be written: {error.strerror or error}")
