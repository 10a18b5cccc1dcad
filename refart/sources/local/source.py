"""Files of this machine as a source: `file://` URIs and plain paths, identified by SHA-256 or by size and time."""

from __future__ import annotations

import io
import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

import pyarrow as pa
import pyarrow.compute as pc

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
from refart.parallel import Lanes, Pace, available_cores, thread_pool
from refart.receipts import Reading, Receipts
from refart.sources.base import Fetched, Identify, Keep, Opened, Scan
from refart.sources.findings import Finding
from refart.sources.local import pages as local_pages
from refart.sources.local.pages import FILE_PREFIX, grouped
from refart.sources.local.walk import Found, alone, problem_of, stat_path, walk

PAGE_FILES: Final = 8_192
PAGE_BYTES: Final = 1 << 30
"""1 GiB: a killed process keeps the receipts of its finished pages. Only where files are read."""

PAGES_AHEAD: Final = 8
"""Pages whose files are being read."""


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
            with thread_pool(self._threads) as walkers, thread_pool(self._threads) as readers:
                listed = (
                    walk(root, walkers, width=self._threads, follow_symlinks=follow_symlinks)
                    if is_folder
                    else alone(root, found)
                )
                with closing(listed), closing(self._pages(listed, identify, keep, readers)) as identified:
                    for page, count in identified:
                        if on_page is not None:
                            on_page(count)
                        yield page

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
        return Entry(names.path_from_key(os.path.basename(path)), size, content_id, FILE_PREFIX + path)

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

    def diagnose(self, uri: str) -> Iterator[Finding]:
        """See `DiagnosableSource`."""
        from refart.sources.local import doctor as local_doctor  # here, since nothing else needs it

        return local_doctor.diagnose(_path_of(uri), self._receipts)

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

    def _pages(
        self, listed: Iterable[Found], identify: Identify, keep: Keep | None, pool: Executor
    ) -> Generator[tuple[Page, int], None, None]:
        """Pages, and how many files were looked at for each. Threads read on while pages are taken, so that no core
        waits for the last file of a page."""
        begun: deque[_Begun] = deque()
        lanes = Lanes(Pace(available_cores(), self._threads))
        try:
            for group in grouped(listed, PAGE_FILES, PAGE_BYTES if identify == "best" else None):
                begun.append(self._begin(group, identify, keep, pool, lanes))
                while begun and (begun[0].is_read or len(begun) > PAGES_AHEAD):
                    yield begun.popleft().finish()
            while begun:
                yield begun.popleft().finish()
        finally:
            for page in begun:
                page.stop()

    def _begin(
        self, group: Sequence[Found], identify: Identify, keep: Keep | None, pool: Executor, lanes: Lanes
    ) -> _Begun:
        found = [some.files for some in group]
        count = sum(some.rows for some in found)
        if identify != "best":
            ids = local_pages.stat_ids(group) if identify == "stat" else local_pages.no_ids(count)
            return _Begun(local_pages.page_of(group, ids, keep), count)
        page = local_pages.page_of(group, local_pages.digest_ids(self._receipts.recall(found)), keep)
        unread = pc.equal(page.column("content_id"), checksums.NONE)
        if not pc.any(unread, min_count=0).as_py():
            return _Begun(page, count)
        rows = page.filter(unread)
        paths = [uri[len(FILE_PREFIX) :] for uri in rows.column("uri").to_pylist()]
        return _Begun(
            page,
            count,
            unread,
            self._receipts.begin_reading(paths, rows.column("size").to_pylist(), pool, lanes),
        )


@dataclass(frozen=True, slots=True)
class _Begun:
    """A page of files of which some are being read."""

    page: Page
    count: int
    unread: Any = None
    reading: Reading | None = None

    @property
    def is_read(self) -> bool:
        return self.reading is None or self.reading.is_done

    def finish(self) -> tuple[Page, int]:
        """The page with the SHA-256 and the size of what was read."""
        if self.reading is None:
            return self.page, self.count
        receipts = self.reading.finish()
        path, size, content_id, uri, pin = self.page.columns
        size = pc.replace_with_mask(size, self.unread, pa.array([r.size for r in receipts], pa.int64()))
        ids = pa.array([f"sha256:{r.sha256}" for r in receipts], pa.string())
        content_id = pc.replace_with_mask(content_id, self.unread, ids)
        return pa.RecordBatch.from_arrays([path, size, content_id, uri, pin], schema=SCHEMA), self.count

    def stop(self) -> None:
        if self.reading is not None:
            self.reading.stop()


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


def canonical_uri(uri: str) -> str:
    """`file://` and the absolute path that a URI or a plain path names."""
    return FILE_PREFIX + _path_of(uri)


def _path_of(uri: str) -> str:
    """The absolute path that a URI or a plain path names."""
    names.check_uri(uri)
    if names.uri_scheme(uri) != "file":
        # `..` after a symbolic link does not lead where it seems to: only the system can tell.
        path = os.path.expanduser(uri)
        path = os.path.realpath(path) if ".." in path.split("/") else os.path.abspath(path)
        return names.check_uri(path)  # the current folder may have a name that is not UTF-8
    path = uri[len(FILE_PREFIX) :]
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
