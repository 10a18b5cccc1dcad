"""Files of this machine as a source: `file://` URIs and plain paths, identified by SHA-256 or by size and time."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from typing import Any, BinaryIO, Final, cast

import pyarrow as pa

from refart import checksums, files, names
from refart.config import default_threads
from refart.entries import SCHEMA, Entry, Page
from refart.errors import (
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ReferenceChangedError,
    ReferenceMissingError,
)
from refart.parallel import thread_pool
from refart.receipts import Receipts
from refart.sources.base import Fetched, Identify, Keep, Opened, Scan
from refart.sources.local_walk import Found, problem_of, stat_path, walk

PAGE_FILES: Final = 8_192
PAGE_BYTES: Final = 4 << 30
"""4 GiB: an interrupted scan keeps the receipts of its finished pages. Only where files are read."""

_PREFIX: Final = "file://"


class LocalSource:
    """Reads files and folders of this machine, and of network file systems that it mounts.

    A URI is `file://` and an absolute path exactly as the file system knows it: nothing is percent-decoded,
    `#` and `?` mean themselves. A plain path may be relative, or begin with `~`. Stored URIs have the first
    form.

    Symbolic links are followed, to files and to folders, wherever they lead, and recorded under the path by
    which they were reached; `scan(follow_symlinks=False)` leaves them out instead. A link back to a folder it
    lies in is an error, as is one that leads nowhere, a folder that cannot be read, and what vanishes while it
    is listed: a folder is taken whole or not at all. Sockets, pipes, devices and files whose name is not UTF-8
    cannot be entries; they are an error too, unless patterns leave them out. (Patterns see a name that is not
    UTF-8 with U+FFFD for what cannot be decoded.) Hard links are files like any other; the holes of a sparse
    file are read as the zeros that they stand for.
    """

    def __init__(self, options: Mapping[str, Any] | None = None, receipts: Receipts | None = None) -> None:
        """`options` must be empty: local files have none. Without `receipts`, every file is read every
        time."""
        if options:
            raise InvalidInputError(f"local files take no storage option {next(iter(options))!r}; remove it")
        self._receipts = receipts if receipts is not None else Receipts(None)
        self._threads = default_threads()

    def scan(
        self,
        uri: str,
        *,
        identify: Identify = "best",
        keep: Keep | None = None,
        on_page: Callable[[int], None] | None = None,
        follow_symlinks: bool = True,
    ) -> Scan:
        """See `Source.scan`. "best" takes each file's SHA-256 from its receipt or reads the file; "stat" and
        "none" open no file.

        `follow_symlinks=False` leaves links out, and with them whatever they lead to; `uri` itself may be one.
        """
        root = _path_of(uri)
        found = stat_path(root)
        is_folder = stat.S_ISDIR(found.st_mode)
        if not is_folder and (problem := problem_of(root, found)) is not None:
            raise InvalidInputError(problem)

        def pages() -> Iterator[Page]:
            with thread_pool(self._threads) as pool:
                listed = (
                    walk(root, pool, width=self._threads, follow_symlinks=follow_symlinks)
                    if is_folder
                    else (file for file in [Found.of(os.path.basename(root), root, found)])
                )
                with closing(listed):
                    for group in _groups(listed, PAGE_BYTES if identify == "best" else None):
                        if on_page is not None:
                            on_page(len(group))
                        page = _page(group, identify, keep)
                        yield self._hashed(page, pool) if identify == "best" else page

        return Scan(is_object=not is_folder, pages=pages())

    def stat(self, uri: str) -> Entry | None:
        """See `Source.stat`; None for a folder too. Reads the file where no receipt holds."""
        path = _path_of(uri)
        try:
            if os.path.isdir(path):
                return None
            content_id, size = self._receipts.hash_file(path)
        except NotFoundError:
            return None
        return Entry(names.path_from_key(os.path.basename(path)), size, content_id, _PREFIX + path)

    @contextmanager
    def fetch(self, entry: Entry) -> Iterator[Fetched]:
        """See `Source.fetch`. A file has no pin: the caller compares the hash. A changed size, with a `stat:` id a
        changed modified time, and a file that changes while it is read, are noticed here."""
        with self._opened(entry) as file:
            before = _details(file)

            def chunks() -> Iterator[bytes]:
                yield from files.chunks(file)
                _check_unchanged(entry, before, file)

            content_id = _stat_id(before.st_mtime_ns) if _has_stat_id(entry) else checksums.NONE
            yield Fetched(chunks(), before.st_size, held="local", content_id=content_id)

    def open(self, entry: Entry) -> Opened:
        """See `Source.open`. Ranges cannot be checked against a hash, so the file as a whole is, before it is
        opened: by its receipt, or by reading it once. A file that changes while it is open is noticed."""
        file = self._opened(entry)
        try:
            steady = _SteadyFile(file, entry)
            if entry.content_id.startswith("sha256:"):
                path = _path_of(entry.uri or "")
                content_id, _ = self._receipts.hash_file(path)
                if content_id != entry.content_id:
                    raise _changed(entry, entry.content_id, content_id)
                if not os.path.samestat(stat_path(path), _details(file)):
                    raise _changed(entry, "one file", "another that took its place while it was opened")
        except BaseException:
            file.close()
            raise
        # typeshed's BinaryIO is no protocol, so a RawIOBase is one by agreement only.
        return Opened(cast(BinaryIO, steady), "local")

    def _opened(self, entry: Entry) -> BinaryIO:
        """The file of an entry, which is there and has the recorded size, and modified time where that is
        recorded."""
        if entry.uri is None:
            raise InvalidInputError(f"{entry.path!r} is a managed file, not a reference")
        if entry.pin is not None or entry.content_id.startswith(("etag:", "generation:")):
            raise InvalidInputError(
                f"{entry.path!r}: {entry.uri!r} is a file, and no file has what the entry records,"
                f" {entry.pin or entry.content_id}"
            )
        path = _path_of(entry.uri)
        try:
            found = stat_path(path)
            if (problem := problem_of(path, found)) is not None:
                raise InvalidInputError(problem)
            _check_recorded(entry, found)
            file = files.open_for_reading(path)
        except PermissionDeniedError as error:
            raise PermissionDeniedError(f"{entry.path!r}: {error}") from error
        except (NotFoundError, InvalidInputError) as error:
            raise ReferenceMissingError(
                f"{entry.path!r}: no file lies at {entry.uri!r} any more; put it back, or log a version"
                " without it"
            ) from error
        try:
            _check_recorded(entry, _details(file))  # another may have taken its place before it was opened
        except BaseException:
            file.close()
            raise
        return file

    def _hashed(self, page: Page, pool: Executor) -> Page:
        """The page with the SHA-256 of each file, and the size of what was hashed."""
        paths = [uri[len(_PREFIX) :] for uri in page.column("uri").to_pylist()]
        identified = self._receipts.hash_files(paths, pool, window=4 * self._threads)
        path, _, _, uri, pin = page.columns
        size = pa.array([size for _, size in identified], pa.int64())
        content_id = pa.array([content_id for content_id, _ in identified], pa.string())
        return pa.RecordBatch.from_arrays([path, size, content_id, uri, pin], schema=SCHEMA)


class _SteadyFile(io.RawIOBase):
    """A file that raises `ReferenceChangedError` once its size or modified time is not what it was when it was
    opened: what was written meanwhile is never handed over beside what lay there before."""

    def __init__(self, file: BinaryIO, entry: Entry) -> None:
        self._file, self._entry = file, entry
        self._before = _details(file)
        self.name = file.name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any writable buffer
        try:
            count: int = self._file.readinto(buffer)  # type: ignore[attr-defined]  # unbuffered, so a FileIO
        except OSError as error:
            raise files.reading_error(error, self.name) from error
        _check_unchanged(self._entry, self._before, self._file)
        return count

    def close(self) -> None:
        try:
            self._file.close()
        finally:
            super().close()


def _page(group: Sequence[Found], identify: Identify, keep: Keep | None) -> Page:
    """A page of those files that are wanted; nobody has read them yet.

    Raises `InvalidInputError` for a wanted one that cannot be an entry. Until then it has no URI.
    """
    with_stat = identify == "stat"
    paths = [_shown(found.key) for found in group]
    columns = {
        "path": paths,
        "size": [found.size for found in group],
        "content_id": [_stat_id(found.mtime_ns) if with_stat else checksums.NONE for found in group],
        "uri": [_PREFIX + found.path if found.problem is None else None for found in group],
        "pin": [None] * len(group),
    }
    page = pa.RecordBatch.from_pydict(columns, schema=SCHEMA)
    page = page if keep is None else keep(page)
    if page.column("uri").null_count:
        wanted = page.filter(page.column("uri").is_null()).column("path")[0].as_py()
        raise InvalidInputError(
            next(
                f"{found.problem}; exclude= leaves it out"
                for path, found in zip(paths, group, strict=True)
                if found.problem is not None and path == wanted
            )
        )
    return page


def _shown(key: str) -> str:
    """The path of a file, as patterns see it where its name is not UTF-8."""
    return names.path_from_key(os.fsencode(key).decode(errors="replace"))


def _groups(listed: Iterator[Found], size_bytes: int | None) -> Iterator[list[Found]]:
    """Files by the page: `PAGE_FILES`, or fewer where they hold `size_bytes`."""
    group: list[Found] = []
    held_bytes = 0
    for found in listed:
        group.append(found)
        held_bytes += found.size
        if len(group) >= PAGE_FILES or (size_bytes is not None and held_bytes >= size_bytes):
            yield group
            group, held_bytes = [], 0
    if group:
        yield group


def _path_of(uri: str) -> str:
    """The absolute path that a URI or a plain path names."""
    names.check_uri(uri)
    if names.uri_scheme(uri) != "file":
        # `..` after a symbolic link does not lead where it seems to: only the system can tell.
        path = os.path.expanduser(uri)
        path = os.path.realpath(path) if ".." in path.split("/") else os.path.abspath(path)
        return names.check_uri(path)  # the current folder may have a name that is not UTF-8
    path = uri[len(_PREFIX) :]
    if not path.startswith("/"):
        raise InvalidInputError(f"{uri!r} names no absolute path: write file:///folder/file, or a plain path")
    return path.rstrip("/") or "/"


def _stat_id(mtime_ns: int) -> str:
    return f"stat:{mtime_ns}"


def _has_stat_id(entry: Entry) -> bool:
    return entry.content_id.startswith("stat:")


def _details(file: BinaryIO) -> os.stat_result:
    try:
        return os.fstat(file.fileno())
    except OSError as error:
        raise files.reading_error(error, file.name) from error


def _check_recorded(entry: Entry, found: os.stat_result) -> None:
    if entry.size is not None and found.st_size != entry.size:
        raise _changed(entry, f"{entry.size:,} bytes", f"{found.st_size:,} bytes")
    if _has_stat_id(entry) and _stat_id(found.st_mtime_ns) != entry.content_id:
        raise _changed(entry, entry.content_id, _stat_id(found.st_mtime_ns))


def _check_unchanged(entry: Entry, before: os.stat_result, file: BinaryIO) -> None:
    after = _details(file)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _changed(entry, "an unchanged file", "one that changed while it was read")


def _changed(entry: Entry, expected: str, found: str) -> ReferenceChangedError:
    return ReferenceChangedError(
        f"{entry.path!r}: the file at {entry.uri!r} changed since it was logged: expected {expected},"
        f" found {found}; put the logged file back, or log a new version"
    )
