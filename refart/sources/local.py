"""Files of this machine as a source: `file://` URIs and plain paths, identified by SHA-256."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, NamedTuple

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
from refart.sources.base import Fetched, Keep, Opened, Scan

PAGE_FILES: Final = 8_192
PAGE_BYTES: Final = 4 << 30  # 4 GiB: an interrupted scan keeps the receipts of its finished pages
_PREFIX: Final = "file://"


class LocalSource:
    """Reads files and folders of this machine.

    A URI is `file://` and an absolute path exactly as the file system knows it: nothing is percent-decoded,
    `#` and `?` mean themselves. A plain path may be relative, or begin with `~`. Stored URIs have the first
    form.

    Symbolic links are followed, to files and to folders, and recorded under the path by which they were
    reached. A link back to a folder it lies in is an error, as are links that lead nowhere, and sockets,
    pipes and devices: a folder is taken whole or not at all.
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
        identify: bool = True,
        keep: Keep | None = None,
        on_page: Callable[[int], None] | None = None,
    ) -> Scan:
        """See `Source.scan`. With `identify`, each file's SHA-256 is taken from its receipt or computed."""
        root = _path_of(uri)
        found = _stat(root)
        if stat.S_ISDIR(found.st_mode):
            listed: Iterator[_Found] = _walk(root, found)
        else:
            listed = iter([_checked(_Found(os.path.basename(root), root, found))])
        return Scan(
            is_object=not stat.S_ISDIR(found.st_mode), pages=self._pages(listed, identify, keep, on_page)
        )

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
        """See `Source.fetch`. A file has no pin: the caller compares the hash. A changed size, and a file
        that changes while it is read, are noticed here."""
        with self._opened(entry) as file:
            before = os.fstat(file.fileno())

            def chunks() -> Iterator[bytes]:
                yield from files.chunks(file)
                after = os.fstat(file.fileno())
                if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                    raise _changed(entry, "an unchanged file", "one that changed while it was read")

            yield Fetched(chunks(), before.st_size, held="local", content_id=checksums.NONE)

    def open(self, entry: Entry) -> Opened:
        """See `Source.open`. Ranges cannot be checked against a hash, so the file as a whole is, before it is
        opened: by its receipt, or by reading it once."""
        file = self._opened(entry)
        try:
            if entry.content_id.startswith("sha256:"):
                path = _path_of(entry.uri or "")
                content_id, _ = self._receipts.hash_file(path)
                if content_id != entry.content_id:
                    raise _changed(entry, entry.content_id, content_id)
                if not os.path.samestat(_stat(path), os.fstat(file.fileno())):
                    raise _changed(entry, "one file", "another that took its place while it was opened")
        except BaseException:
            file.close()
            raise
        return Opened(file, "local")

    def _opened(self, entry: Entry) -> BinaryIO:
        """The file of an entry, which is there and has the recorded size."""
        if entry.uri is None:
            raise InvalidInputError(f"{entry.path!r} is a managed file, not a reference")
        path = _path_of(entry.uri)
        try:
            size = _checked(_Found(entry.path, path, _stat(path))).stat.st_size
            if entry.size is not None and size != entry.size:
                raise _changed(entry, f"{entry.size:,} bytes", f"{size:,} bytes")
            return files.open_for_reading(path)
        except PermissionDeniedError as error:
            raise PermissionDeniedError(f"{entry.path!r}: {error}") from error
        except (NotFoundError, InvalidInputError) as error:
            raise ReferenceMissingError(
                f"{entry.path!r}: no file lies at {entry.uri!r} any more; put it back, or log a version"
                " without it"
            ) from error

    def _pages(
        self,
        listed: Iterator[_Found],
        identify: bool,
        keep: Keep | None,
        on_page: Callable[[int], None] | None,
    ) -> Iterator[Page]:
        with thread_pool(self._threads) as pool:
            for group in _groups(listed):
                if on_page is not None:
                    on_page(len(group))
                page = _page(group) if keep is None else keep(_page(group))
                yield self._identified(page, pool) if identify else page

    def _identified(self, page: Page, pool: Executor) -> Page:
        """The page with the SHA-256 of each file, and the size of what was hashed."""
        paths = [uri[len(_PREFIX) :] for uri in page.column("uri").to_pylist()]
        identified = self._receipts.hash_files(paths, pool, window=4 * self._threads)
        path, _, _, uri, pin = page.columns
        size = pa.array([size for _, size in identified], pa.int64())
        content_id = pa.array([content_id for content_id, _ in identified], pa.string())
        return pa.RecordBatch.from_arrays([path, size, content_id, uri, pin], schema=SCHEMA)


def _page(group: Sequence[_Found]) -> Page:
    """A page of files that nobody has read yet."""
    columns = {
        "path": [names.path_from_key(found.key) for found in group],
        "size": [found.stat.st_size for found in group],
        "content_id": [checksums.NONE] * len(group),
        "uri": [_PREFIX + found.path for found in group],
        "pin": [None] * len(group),
    }
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


class _Found(NamedTuple):
    key: str
    """Path below the scanned folder."""
    path: str
    stat: os.stat_result


def _path_of(uri: str) -> str:
    """The absolute path that a URI or a plain path names."""
    names.check_uri(uri)
    if names.uri_scheme(uri) != "file":
        # `..` after a symbolic link does not lead where it seems to: only the system can tell.
        path = os.path.expanduser(uri)
        return os.path.realpath(path) if ".." in path.split("/") else os.path.abspath(path)
    path = uri[len(_PREFIX) :]
    if not path.startswith("/"):
        raise InvalidInputError(f"{uri!r} names no absolute path: write file:///folder/file, or a plain path")
    return path.rstrip("/") or "/"


def _walk(root: str, found: os.stat_result) -> Iterator[_Found]:
    """Every file below a folder. Folders are read one after another, their entries as they come."""
    base = root if root.endswith("/") else root + "/"
    todo = [("", frozenset([(found.st_dev, found.st_ino)]))]
    while todo:
        prefix, above = todo.pop()
        folder = base + prefix
        try:
            with os.scandir(folder) as listing:
                for item in listing:
                    child = _Found(prefix + item.name, base + prefix + item.name, _stat_item(item))
                    if not stat.S_ISDIR(child.stat.st_mode):
                        yield _checked(child)
                        continue
                    identity = (child.stat.st_dev, child.stat.st_ino)
                    if identity in above:
                        raise InvalidInputError(
                            f"{child.path!r} is a symbolic link back to a folder it lies in; remove the link"
                        )
                    todo.append((child.key + "/", above | {identity}))
        except OSError as error:
            raise files.reading_error(error, folder) from error


def _stat_item(item: os.DirEntry[str]) -> os.stat_result:
    try:
        item.name.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(
            f"the name of {os.fsencode(item.path)!r} is not UTF-8, so no manifest can hold it; rename it"
        ) from None
    try:
        return item.stat()
    except OSError as error:
        if item.is_symlink() and isinstance(error, FileNotFoundError):
            raise NotFoundError(
                f"{item.path!r} is a symbolic link to {os.readlink(item.path)!r}, which does not exist"
            ) from error
        raise files.reading_error(error, item.path) from error


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno == errno.ENOENT and os.path.islink(path):
            raise NotFoundError(
                f"{path!r} is a symbolic link to {os.readlink(path)!r}, which does not exist"
            ) from error
        raise files.reading_error(error, path) from error


def _checked(found: _Found) -> _Found:
    if not stat.S_ISREG(found.stat.st_mode):
        kind = {
            stat.S_IFDIR: "a folder",
            stat.S_IFSOCK: "a socket",
            stat.S_IFIFO: "a pipe (FIFO)",
            stat.S_IFCHR: "a device",
            stat.S_IFBLK: "a device",
        }.get(stat.S_IFMT(found.stat.st_mode), "no regular file")
        raise InvalidInputError(f"{found.path!r} is {kind}: only files hold bytes that can be versioned")
    return found


def _groups(listed: Iterator[_Found]) -> Iterator[list[_Found]]:
    group: list[_Found] = []
    size_bytes = 0
    for found in listed:
        group.append(found)
        size_bytes += found.stat.st_size
        if len(group) >= PAGE_FILES or size_bytes >= PAGE_BYTES:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group


def _changed(entry: Entry, expected: str, found: str) -> ReferenceChangedError:
    return ReferenceChangedError(
        f"{entry.path!r}: the file at {entry.uri!r} changed since it was logged: expected {expected},"
        f" found {found}; put the logged file back, or log a new version"
    )
