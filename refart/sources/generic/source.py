"""Whatever fsspec has a driver for: SFTP, WebDAV, SMB, HDFS, the Hugging Face Hub, archives, memory …

No two of these agree on what identifies a file, and none can pin one. So every identity is weak unless it is a hash of
the bytes, and everything read is held against what the driver says before and after.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Final

import pyarrow as pa
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem

from refart import checksums, names
from refart.checksums import StreamHasher
from refart.entries import SCHEMA, Entry, Page, page_of
from refart.errors import (
    InvalidInputError,
    NotFoundError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.sources.base import Fetched, Identify, Keep, Opened, Scan
from refart.sources.findings import Finding
from refart.sources.generic import identity as generic_identity
from refart.sources.generic.drivers import Drivers, Lease, Look, size_of
from refart.sources.generic.files import open_file, read_chunk, read_range
from refart.sources.generic.places import Place
from refart.sources.pinned import named, uri_of
from refart.sources.ranged import FIRST_BYTES, open_ranges

PAGE_ROWS: Final = 8_192


class GenericSource:
    """The source of every scheme that has a driver of fsspec and no source of its own, and of chains such as
    `zip://inside::file:///an/archive.zip`.

    `options` are the driver's own, passed on as they are; what fsspec's configuration says lies beneath.

    A URI is `scheme://authority/` as the driver reads it, and a path exactly as the driver lists it: nothing is
    percent-decoded, `#` and `?` mean themselves. A name that would not lead back to itself is an error.

    | the driver tells                            | content id     |
    | ------------------------------------------- | -------------- |
    | a SHA-256 or MD5 of the file                | that           |
    | an ETag, or a tag that follows the content  | `etag:W/…`     |
    | when the file was modified                  | `stat:…`       |
    | none of these                               | `none`         |

    All but the first are weak. They are as fine as the driver's clock (SFTP: a second), so that a change of the same
    size within one tick goes unnoticed; `checksum="sha256"` notices it. Nothing is pinned.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._drivers = Drivers(options)

    def scan(
        self,
        uri: str,
        *,
        identify: Identify = "best",
        keep: Keep | None = None,
        on_page: Callable[[int], None] | None = None,
    ) -> Scan:
        """See `Source.scan`.

        Drivers without a listing of a whole tree are walked folder by folder; the others collect it in memory before
        the first page. One request more is made for each file that the listing does not identify, each symbolic link,
        and each name with `%`, `?`, `#` or a control character. A link to a folder is an error (it may lead in
        circles), as is a folder that cannot be listed, and a file that is listed but cannot be found.

        Raises `InvalidInputError` also for `identify="stat"` where the driver tells no modified time.
        """
        place = self._drivers.place(uri)
        with self._drivers.borrow(place) as lease:
            found = lease.look()
        if found.is_folder:
            return Scan(False, self._below(place, identify, keep, on_page))
        if place.must_be_folder:
            raise NotFoundError(f"{uri} is no folder: without the slash at the end it is a file")
        page = page_of([_entry(place, found, identify)])
        if on_page is not None:
            on_page(1)
        return Scan(True, iter([page if keep is None else keep(page)]))

    def stat(self, uri: str) -> Entry | None:
        """See `Source.stat`; None for a folder too."""
        place = self._drivers.place(uri)
        try:
            with self._drivers.borrow(place) as lease:
                found = lease.look()
        except NotFoundError:
            return None
        return None if found.is_folder or place.must_be_folder else _entry(place, found, "best")

    @contextmanager
    def fetch(self, entry: Entry) -> Iterator[Fetched]:
        """See `Source.fetch`. A weak identity must be what it was, before the first byte and after the last; where a
        hash is recorded, the hash decides, and is for the caller to compare."""
        place = self._place_of(entry)
        with self._borrowed(place, entry) as lease:
            before = _found(lease, entry)
            with _missing(entry):
                file = lease.call(lambda fs: open_file(fs, place.path))
            with closing(file):
                yield Fetched(
                    _chunks(lease, file, entry, before), before.size, "current", _stated(entry, before)
                )

    def open(self, entry: Entry) -> Opened:
        """See `Source.open`: ranged reads, after each of which the driver must say what it said when the file was
        opened.

        Ranges cannot be compared with a hash, so where one is recorded the file as a whole is read and compared first.
        """
        place = self._place_of(entry)
        with self._borrowed(place, entry) as lease:
            before = _found(lease, entry)
        size = before.size
        if size is None or (size > FIRST_BYTES and not before.content_ids):
            why = (
                "how large the file is"
                if size is None
                else "when a file changes, so that ranges could be of two"
            )
            raise SourceError(f"{named(entry)}: the driver does not say {why}; download it instead")
        if _has_hash(entry):
            self._compare(entry)

        def read(start: int, stop: int) -> bytes:
            with _missing(entry), self._drivers.borrow(place) as lease:
                data = lease.call(lambda fs: read_range(fs, place.path, start, stop))
                _check_same(entry, before, lease.look())
            if len(data) != stop - start:
                raise SourceError(
                    f"{named(entry)}: the driver gave {len(data):,} bytes instead of {stop - start:,}",
                    transient=True,
                )
            return data

        first = read(0, min(size, FIRST_BYTES)) if size else b""
        return Opened(open_ranges(place.uri, size, first, read), "current")

    def diagnose(self, uri: str) -> Iterator[Finding]:
        """See `DiagnosableSource`."""
        from refart.sources.generic import doctor as generic_doctor  # here, since nothing else needs it

        return generic_doctor.diagnose(self._drivers, self._drivers.place(uri))

    def _compare(self, entry: Entry) -> None:
        algo, _ = checksums.split(entry.content_id)
        hasher = StreamHasher(algo)
        with self.fetch(entry) as fetched:
            for chunk in fetched.chunks:
                hasher.update(chunk)
        if hasher.content_id(algo) != entry.content_id:
            raise _changed(entry, hasher.content_id(algo), hasher.size_bytes)

    def _borrowed(self, place: Place, entry: Entry) -> Lease:
        with _missing(entry):
            return self._drivers.borrow(place)

    def _place_of(self, entry: Entry) -> Place:
        uri = uri_of(entry)
        if entry.pin is not None:
            raise InvalidInputError(f"{named(entry)} is pinned to {entry.pin}, and its driver has no pins")
        return self._drivers.place(uri)

    def _below(
        self, place: Place, identify: Identify, keep: Keep | None, on_page: Callable[[int], None] | None
    ) -> Iterator[Page]:
        with self._drivers.borrow(place) as lease:
            lease.look()
            rows = lease.call(lambda fs: _files(fs, place))
            while group := lease.call(lambda _: list(islice(rows, PAGE_ROWS))):
                if on_page is not None:
                    on_page(len(group))
                yield _page(lease, place, group, identify, keep)


@dataclass(frozen=True, slots=True)
class _File:
    """One file of a listing."""

    name: str
    size: int | None
    content_ids: tuple[str, ...]
    is_link: bool
    problem: str | None
    """Why it cannot be an entry."""


def _files(fs: Any, place: Place) -> Iterator[_File]:
    """What lies below a folder, without folders and their markers."""
    for name, info in _listing(fs, place.path):
        if info.get("type") == "directory" or name.rstrip("/") == place.path.rstrip("/"):
            continue
        size = size_of(info)
        if name.endswith("/") and not size:
            continue
        if not name.startswith(place.folder):
            raise SourceError(
                f"{place.uri}: the driver lists {name!r}, which does not lie below {place.folder!r}"
            )
        yield _File(
            name,
            size,
            generic_identity.of_info(info),
            info.get("type") == "link",
            place.problem_of(name, type(fs)),
        )


def _listing(fs: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and `info` of everything below.

    By the driver's own `find`, if it has one. fsspec's, which most inherit, leaves out folders that it cannot list (it
    hands `on_error` to none but the first).
    """
    is_async = isinstance(fs, AsyncFileSystem)
    inherited = (
        type(fs)._find is AsyncFileSystem._find if is_async else type(fs).find is AbstractFileSystem.find
    )
    if inherited:
        yield from _walk(fs, path)
        return
    found = fs.find(path, detail=True)
    yield from found.items() if isinstance(found, Mapping) else ((info["name"], info) for info in found)


def _walk(fs: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    folders = [path]
    while folders:
        folder = folders.pop()
        for info in fs.ls(folder, detail=True):
            name = info["name"]
            if name.rstrip("/") == folder.rstrip("/"):
                continue  # some list the folder itself
            if info["type"] == "directory":
                folders.append(name)
            else:
                yield name, info


def _page(lease: Lease, place: Place, files: list[_File], identify: Identify, keep: Keep | None) -> Page:
    """A page of those files that are wanted. Only these are asked about, where the listing did not say enough."""
    by_uri = {place.uri_of(file.name): file for file in files}
    page = page_of(
        Entry(names.path_from_key(file.name[len(place.folder) :]), file.size, checksums.NONE, uri)
        for uri, file in by_uri.items()
    )
    if keep is not None:
        page = keep(page)
    path, _, _, uri, pin = page.columns
    looks = [(uri, _settled(lease, uri, by_uri[uri], identify)) for uri in page.column("uri").to_pylist()]
    sizes = pa.array([look.size for _, look in looks], pa.int64())
    content_ids = pa.array([_content_id(uri, look, identify) for uri, look in looks], pa.string())
    return pa.RecordBatch.from_arrays([path, sizes, content_ids, uri, pin], schema=SCHEMA)


def _settled(lease: Lease, uri: str, file: _File, identify: Identify) -> Look:
    """What is known about a listed file; asked for where the listing does not say it, or may say it of a link.

    So is a name that a driver might take for part of a URL: what is listed must be found again under its name.
    """
    if file.problem is not None:
        raise InvalidInputError(f"{file.problem}; exclude= leaves it out")
    is_told = identify == "none" or (file.content_ids and file.size is not None)
    if is_told and not file.is_link and not _IN_URLS.search(file.name):
        return Look(False, file.size, file.content_ids)
    try:
        found = lease.look(file.name)
    except (NotFoundError, SourceError) as error:
        if isinstance(error, SourceError) and error.transient:
            raise
        raise InvalidInputError(
            f"{uri} is listed but cannot be found: it is a link that leads nowhere, or a name that the driver takes for"
            " another; exclude= leaves it out"
        ) from error
    if found.is_folder:
        raise InvalidInputError(
            f"{uri} is a link to a folder, which may lead in circles: exclude= leaves it out, and a reference of its"
            " own covers what lies there"
        )
    return found


_IN_URLS: Final = re.compile(r"[%?#\x00-\x1f\x7f]")


def _entry(place: Place, found: Look, identify: Identify) -> Entry:
    content_id = _content_id(place.uri, found, identify)
    return Entry(names.path_from_key(place.name), found.size, content_id, place.uri)


def _content_id(uri: str, found: Look, identify: Identify) -> str:
    if identify == "none":
        return checksums.NONE
    wanted = "stat:" if identify == "stat" else ""
    content_id = next((one for one in found.content_ids if one.startswith(wanted)), None)
    if content_id is None and identify == "stat":
        raise InvalidInputError(f"{uri}: checksum='stat' needs a modified time, and the driver tells none")
    return content_id or checksums.NONE


def _chunks(lease: Lease, file: BinaryIO, entry: Entry, before: Look) -> Iterator[bytes]:
    count = 0

    def following(_: object) -> bytes:
        return read_chunk(file, count, before.size)

    while chunk := lease.call(following):
        count += len(chunk)
        yield chunk
    with _missing(entry):
        after = lease.look()
    if not _has_hash(entry):
        _check_same(entry, before, after)
    if after == before and before.size not in (None, count):
        raise SourceError(
            f"{named(entry)}: the stream ended at byte {count:,} of {before.size:,}", transient=True
        )


def _found(lease: Lease, entry: Entry) -> Look:
    """What lies there now, which may be what was recorded."""
    with _missing(entry):
        found = lease.look()
    if found.is_folder:
        raise ReferenceMissingError(f"{named(entry)} is a folder now; expected {entry.content_id}")
    algo, _ = checksums.split(entry.content_id)
    states_another = any(checksums.split(one)[0] == algo for one in found.content_ids)
    is_same = entry.content_id in (checksums.NONE, *found.content_ids) or (
        _has_hash(entry) and not states_another
    )
    if not is_same or (None not in (entry.size, found.size) and entry.size != found.size):
        raise _changed(entry, ", ".join(found.content_ids) or checksums.NONE, found.size)
    return found


def _stated(entry: Entry, found: Look) -> str:
    if entry.content_id in found.content_ids:
        return entry.content_id
    return found.content_ids[0] if found.content_ids else checksums.NONE


def _has_hash(entry: Entry) -> bool:
    return checksums.can_compute(checksums.split(entry.content_id)[0])


def _check_same(entry: Entry, before: Look, after: Look) -> None:
    if after != before:
        raise ReferenceChangedError(
            f"{named(entry)} was overwritten while it was being read; expected {entry.content_id}, before it was"
            f" {_said(before)}, found {_said(after)}"
        )


def _said(look: Look) -> str:
    size = "size unknown" if look.size is None else f"{look.size:,} bytes"
    return f"{', '.join(look.content_ids) or checksums.NONE} ({size})"


@contextmanager
def _missing(entry: Entry) -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise ReferenceMissingError(
            f"{named(entry)} is gone; expected {entry.content_id}: bring it back, or log a version without it"
        ) from error


def _changed(entry: Entry, found: str, size: int | None) -> ReferenceChangedError:
    sizes = ["size unknown" if one is None else f"{one:,} bytes" for one in (entry.size, size)]
    return ReferenceChangedError(
        f"{named(entry)} has changed; expected {entry.content_id}, {sizes[0]}; found {found}, {sizes[1]}: bring the old"
        " bytes back, or log the new ones as a version"
    )
