"""Bring files of this machine back: a file system keeps nothing of what was overwritten; the store or the cache may."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Final, TypeAlias

from refart import checksums, files
from refart.context import Context, Local
from refart.entries import Entry
from refart.errors import ConflictError, PermissionDeniedError, SourceError
from refart.manifest.roots import Root
from refart.ops import seen, targets
from refart.ops.shards import Worker
from refart.ops.stream import stream
from refart.sources.writing import changed, check_same

_FILE: Final = "file://"

Tidy: TypeAlias = Callable[[str], None]
"""See `working`."""


def folders_of(roots: Iterable[Root]) -> frozenset[str]:
    """The paths of those roots that lie on this machine."""
    return frozenset(_path_of(root.uri).rstrip("/") or "/" for root in roots if root.uri.startswith(_FILE))


def link_to(uri: str, folders: frozenset[str], *, itself: bool) -> str | None:
    """The symbolic link that leads to a file, below the folder among these that holds it; None without one.

    Whatever lies beyond a link is not what was logged as this file: another folder, or the same by another path.
    `itself` counts the file too, where that is a link. What lies in no such folder was logged by its own path.
    """
    path = at = _path_of(uri)
    link = None
    while at not in folders:
        if at == os.path.dirname(at):
            return None
        if (itself or at != path) and os.path.islink(at):
            link = at
        at = os.path.dirname(at)
    return link


@contextmanager
def working(folders: frozenset[str]) -> Iterator[Tidy]:
    """Say that this process writes below these folders: see `targets.Root.working`.

    Yields what takes the URI of a file, and removes what killed processes left unfinished beside it.
    """
    with ExitStack() as stack:
        roots = {
            folder: targets.Root(Path(folder), folds_case=False)
            for folder in folders
            if os.path.isdir(folder)
        }
        for root in roots.values():
            stack.enter_context(root.working())
        done: set[str] = set()

        def tidy(uri: str) -> None:
            folder = at = os.path.dirname(_path_of(uri))
            while at not in roots and at != os.path.dirname(at):
                at = os.path.dirname(at)
            if at in roots and folder not in done:
                done.add(folder)
                roots[at].remove_dead(folder)

        yield tidy


def kept(context: Context | Worker, entry: Entry) -> Entry | None:
    """A managed file of the same bytes as this entry, where the store or the cache of this machine has them."""
    sha256 = seen.sha256_of(context.local.cache, entry)
    if sha256 is None or not (context.local.cache.has(sha256) or context.store.has("blobs", sha256)):
        return None
    return Entry(entry.path, entry.size, f"sha256:{sha256}")


def write(
    context: Context, entry: Entry, uri: str, *, over: Entry | None, folders: frozenset[str] = frozenset()
) -> None:
    """Write the bytes of an entry to a file: by rename (a link, for a new one), when they are right and `over` still
    lies there.

    A file that is replaced gives its mode to the new one. Raises `ConflictError` where something else lies there, or a
    link below one of `folders` leads there; `PermissionDeniedError`, `SourceError`, and the errors of a stream.
    """
    _check_reached(uri, folders, itself=True)
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
            with files.open_for_reading(temporary) as file:
                files.sync(file)
            check_same(uri, over, context.local.sources.for_uri(uri).stat(uri))
            if over is not None:
                os.replace(temporary, path)
            elif not files.place_new(temporary, path):
                raise changed(uri)  # only just now
            files.sync_folder(os.path.dirname(path))
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        if isinstance(error, (PermissionDeniedError, SourceError)):
            raise
        raise _failed(error, path) from error


def delete(local: Local, found: Entry, folders: frozenset[str] = frozenset()) -> None:
    """Delete a file that is still what was found; of a link, the link. Raises as `write`."""
    uri = str(found.uri)
    _check_reached(uri, folders, itself=False)
    check_same(uri, found, local.sources.for_uri(uri).stat(uri))
    try:
        os.unlink(_path_of(uri))
    except OSError as error:
        raise _failed(error, _path_of(uri)) from error


def _check_reached(uri: str, folders: frozenset[str], *, itself: bool) -> None:
    if (link := link_to(uri, folders, itself=itself)) is not None:
        raise ConflictError(f"{_path_of(uri)!r} is reached through the symbolic link {link!r} now")


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
